"""The same requests to Portway and to the official SDK's server: the replies are equal except for `DIFFERENCES`."""

from __future__ import annotations

import copy
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.wire.dialogues import DIALOGUES
from tests.wire.differences import DIFFERENCES
from tests.wire.http_server import Client, Json, Reply, served
from tests.wire.requests import Case, legal, malformed, mutated
from tests.wire.twin_servers import official, portway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEED = 20260728
# The SDK warns of log messages, which the newest revision deprecates; here warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")


Pair = tuple[Client, Client]


@contextmanager
def paired(*, sessions: bool) -> Iterator[Pair]:
    with served(portway(sessions=sessions)) as ours, served(official(sessions=sessions)) as theirs:
        clients = Client(ours), Client(theirs, validated=False)
        yield clients
        for client in clients:
            client.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with paired(sessions=False) as clients:
        yield clients


def comparable(reply: Reply) -> Json:
    seen: Json = {"status": reply.status, "message": copy.deepcopy(reply.last) if reply.messages else None}
    drop_unspecified(seen)
    return seen


def drop_unspecified(seen: Json) -> None:
    """Remove the parts that may differ: an error's message, and its data unless the specification defines it."""
    error = (seen["message"] or {}).get("error")
    if error is not None:
        del error["message"]
        if error["code"] not in {-32021, -32022}:
            error.pop("data", None)


def compare(pair: Pair, cases: Iterable[Case], used: set[str]) -> list[str]:
    """Describe the unexpected differences in the answers to `cases`; add the names of the expected ones to `used`."""
    faults = []
    for case in cases:
        replies = [client.send(case.body, case.headers) for client in pair]
        ours, theirs = map(comparable, replies)
        if not same(case, ours, theirs, used):
            faults.append(f"{describe(case, ours, theirs)}\n  {replies[0].body[:200]!r}\n  {replies[1].body[:200]!r}")
    return faults


def compare_dialogues(pair: Pair, used: set[str]) -> list[str]:
    """Do the same for each step of the dialogues."""
    faults = []
    for name, dialogue in DIALOGUES.items():
        ours, theirs = (list(dialogue(client)) for client in pair)
        faults += [f"{name}: {len(ours)} steps, and {len(theirs)}"] if len(ours) != len(theirs) else []
        for mine, other in zip(ours, theirs, strict=False):
            for seen in (mine.seen, other.seen):
                drop_unspecified(seen)
            if not same(mine.case, mine.seen, other.seen, used):
                faults.append(f"{name}: {describe(mine.case, mine.seen, other.seen)}")
    return faults


def same(case: Case, ours: Json, theirs: Json, used: set[str]) -> bool:
    for difference in DIFFERENCES:
        before = copy.deepcopy((ours, theirs))
        difference.reconcile(case, ours, theirs)
        if before != (ours, theirs):
            used.add(difference.name)
    return ours == theirs


def describe(case: Case, ours: Json, theirs: Json) -> str:
    return f"{case.version} {case.headers}\n  {case.body[:400]!r}\n  ours   {ours}\n  theirs {theirs}"


def test_replies_are_the_same_but_for_the_listed_differences(pair):
    used: set[str] = set()
    faults = compare(pair, [*legal(), *malformed(), *mutated(500, SEED)], used)
    with paired(sessions=True) as in_sessions:
        faults += compare_dialogues(in_sessions, used)
    assert not faults, f"{len(faults)} differ\n" + "\n".join(faults[:8])
    assert {difference.name for difference in DIFFERENCES} == used, "a difference that is no more"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_thousands_of_mutations_find_no_more(pair, seed):
    faults = compare(pair, mutated(800, seed), set())
    assert not faults, f"{len(faults)} differ\n" + "\n".join(faults[:8])


def test_every_difference_cites_the_specification():
    assert all(re.match(r"(S25|S26|JSON-RPC 2\.0 §|JSON Schema 2020-12 §).+: .+\.$", one.cites) for one in DIFFERENCES)
    assert len({one.name for one in DIFFERENCES}) == len(DIFFERENCES)


def test_every_request_is_answered_with_a_message_or_an_acknowledgement(pair):
    for case in [*malformed(), *mutated(400, SEED + 1)]:
        reply = pair[0].send(case.body, case.headers)
        assert reply.status in {200, 202, 400, 404}, (case, reply)
        if reply.status == 202:
            assert reply.body == b""
            continue
        assert reply.status == 200 or "error" in reply.last, (case, reply)
        if type(case.message.get("id")) in (int, str) and reply.last.get("id") is not None:
            assert json.dumps(reply.last["id"]) == json.dumps(case.message["id"])
