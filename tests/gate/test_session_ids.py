"""The ids of sessions that clients hold: what the gate seals, opens, refuses and forgets."""

import pytest

from portway.auth.principal import Principal
from portway.host.gate.callers import Caller
from portway.host.gate.session_ids import Session, SessionIds
from portway.protocol.errors import RpcError

SECRET = bytes(range(32))
ADA = Caller("a", Principal("portway", "ada"))
TOKEN = b"Y8YUG9Cop4XK6Vpa9y7UAUR4.i0.own.id"


def refused(ids: SessionIds, token: bytes, app: str = "a", caller: Caller = ADA) -> bool:
    try:
        ids.open(app, caller, token)
    except RpcError as error:
        return error.status == 404
    return False


def test_the_ids_of_an_earlier_gate_are_read_by_this_one() -> None:
    ids = SessionIds(SECRET)
    assert ids.seal("a", ADA, "i0", b"own.id") == TOKEN
    assert ids.open("a", ADA, TOKEN) == Session(TOKEN, b"own.id", "i0")


def test_an_id_is_good_for_one_secret_app_caller_and_instance() -> None:
    ids = SessionIds(SECRET)
    assert refused(SessionIds(bytes(32)), TOKEN)
    assert refused(ids, TOKEN, app="b")
    for principal in (Principal("portway", "bob"), Principal("other", "ada")):
        assert refused(ids, TOKEN, caller=Caller("a", principal))
    for forged in (TOKEN.replace(b"i0", b"i1"), TOKEN + b"x", TOKEN.partition(b".")[2], b"", b".", b"\xff.\xff.\xff"):
        assert refused(ids, forged)


@pytest.mark.parametrize(
    ("upstream", "good"),
    [
        (b"", False),
        (b"!", True),
        (b"~", True),
        (b"x" * 4096, True),
        (b"x" * 4097, False),
        (b"a b", False),
        (b"a\r\nb", False),
        (b"a\x7f", False),
        (b"\xe9a", False),
    ],
)
def test_an_instances_id_is_taken_if_it_is_visible_ascii(upstream: bytes, good: bool) -> None:
    assert (SessionIds(SECRET).seal("a", ADA, "i0", upstream) is not None) is good


def test_an_ended_session_is_refused_until_its_instance_gives_the_id_again() -> None:
    ids = SessionIds(SECRET)
    ids.end(ids.open("a", ADA, TOKEN))
    assert refused(ids, TOKEN)
    assert ids.seal("a", ADA, "i0", b"own.id") == TOKEN
    assert not refused(ids, TOKEN)


def test_the_sessions_that_have_ended_are_remembered_in_a_bounded_number() -> None:
    ids = SessionIds(SECRET)
    for number in range(10_002):
        ids.end(Session(b"%d" % number, b"", ""))
    ids.end(ids.open("a", ADA, TOKEN))
    assert len(ids._ended) == 10_000
    assert refused(ids, TOKEN), "the oldest are forgotten"
