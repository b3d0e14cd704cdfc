"""The same requests to Portway and to the official SDK's server: replies equal, but for `DIFFERENCES`."""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.wire.differences import DIFFERENCES
from tests.wire.fixture import official, portway
from tests.wire.requests import Case, hostile, legal, mutated
from tests.wire.served import Client, Json, Reply, served

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEED = 20260728


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Client, Client]]:
    with served(portway()) as ours, served(official()) as theirs:
        clients = Client(ours), Client(theirs)
        yield clients
        for client in clients:
            client.close()


def answer(reply: Reply) -> Json:
    """What of a reply is to be equal: all but the order of members, an error's sentence, and data of our own."""
    seen: Json = {"status": reply.status, "message": copy.deepcopy(reply.last) if reply.messages else None}
    error = (seen["message"] or {}).get("error")
    if error is not None:
        del error["message"]
        if error["code"] not in {-32021, -32022}:
            error.pop("data", None)
    return seen


def compare(pair: tuple[Client, Client], cases: Iterable[Case], used: set[str]) -> list[str]:
    faults = []
    for case in cases:
        replies = [client.send(case.body, case.headers) for client in pair]
        ours, theirs = map(answer, replies)
        for difference in DIFFERENCES:
            before = copy.deepcopy((ours, theirs))
            difference.forgive(case, ours, theirs)
            if before != (ours, theirs):
                used.add(difference.name)
        if ours != theirs:
            sent = f"{case.version} {case.headers}\n  {case.body[:400]!r}"
            faults.append(
                f"{sent}\n  ours   {ours}  {replies[0].body[:200]!r}\n  theirs {theirs} {replies[1].body[:200]!r}"
            )
    return faults


def test_replies_are_the_same_but_for_the_listed_differences(pair):
    used: set[str] = set()
    faults = compare(pair, [*legal(), *hostile(), *mutated(500, SEED)], used)
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


def test_whatever_comes_is_answered_with_a_message_or_an_acknowledgement(pair):
    for case in [*hostile(), *mutated(400, SEED + 1)]:
        reply = pair[0].send(case.body, case.headers)
        assert reply.status in {200, 202, 400, 404}, (case, reply)
        if reply.status == 202:
            assert reply.body == b""
            continue
        assert reply.status == 200 or "error" in reply.last, (case, reply)
        if type(case.message.get("id")) in (int, str) and "id" in reply.last:
            assert json.dumps(reply.last["id"]) == json.dumps(case.message["id"])
