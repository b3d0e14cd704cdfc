"""The same requests to a server directly and through the gate get the same replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portway.host.gate.__main__ import Gate
from tests.gate.running_gate import prepare
from tests.wire.conversation import CALLS, app
from tests.wire.dialogues import DIALOGUES
from tests.wire.http_server import VERSIONS, Client, served
from tests.wire.requests import malformed, mutated
from tests.wire.twin_servers import portway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.wire.http_server import Json, Reply
    from tests.wire.requests import Case


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[tuple[Client, Client]]:
    with served(app()) as instance:
        paths = prepare(tmp_path_factory.mktemp("gate"), [instance])
        with served(Gate(paths)) as gate:
            clients = Client(instance), Client(gate, path="/p/mcp")
            yield clients
            for client in clients:
                client.close()


def same(direct: Reply, relayed: Reply) -> bool:
    """Compare two replies; only the random error ids of failed calls may differ."""
    if b"error id" in direct.body:
        return b"error id" in relayed.body and direct.status == relayed.status
    kinds = [reply.headers.get("content-type") for reply in (direct, relayed)]
    return (direct.status, direct.messages, kinds[0]) == (relayed.status, relayed.messages, kinds[1])


@pytest.mark.parametrize("version", VERSIONS)
def test_every_method_is_answered_the_same(pair, version):
    for method, params in CALLS:
        for token in (None, 7, "t"):
            meta = {} if token is None else {"progressToken": token}
            direct, relayed = (client.ask(version, method, params, id="é 7", meta=meta) for client in pair)
            assert same(direct, relayed), (method, params, direct, relayed)


@pytest.mark.parametrize("version", VERSIONS)
def test_progress_arrives_in_order_and_with_the_clients_own_token(pair, version):
    slow = {"name": "slow", "arguments": {"steps": 5}}
    direct, relayed = (
        client.ask(version, "tools/call", slow, id=2**53, meta={"progressToken": "p"}) for client in pair
    )
    assert len(direct.messages) == 6
    assert same(direct, relayed)


def test_malformed_requests_are_refused_the_same(pair):
    cases: list[Case] = [*malformed(), *mutated(400, 7)]
    faults = []
    for case in cases:
        direct, relayed = (client.send(case.body, case.headers) for client in pair)
        if not same(direct, relayed):
            faults.append(f"{case.headers}\n  {case.body[:300]!r}\n  direct {direct}\n  relayed {relayed}")
    assert not faults, f"{len(faults)} of {len(cases)} differ\n" + "\n".join(faults[:6])


def without_gate_wording(seen: Json) -> Json:
    """Remove the message of a session error, which the gate words differently."""
    error = (seen["message"] or {}).get("error") or {}
    if error.get("code") == 1000:
        del error["message"]
    return seen


@pytest.mark.parametrize("name", DIALOGUES)
def test_sessions_questions_and_streams_are_the_same_step_by_step(name, tmp_path):
    with served(portway(sessions=True)) as instance, served(Gate(prepare(tmp_path, [instance]))) as gate:
        clients = Client(instance), Client(gate, path="/p/mcp")
        direct, relayed = ([without_gate_wording(step.seen) for step in DIALOGUES[name](client)] for client in clients)
        for client in clients:
            client.close()
    assert direct == relayed
