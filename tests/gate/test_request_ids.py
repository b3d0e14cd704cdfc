"""JSON-RPC ids at the gate: what an instance gets in place of the client's, and what its reply becomes."""

from __future__ import annotations

import json

import pytest

from portway.host.gate.request_ids import (
    is_reply,
    marker,
    restore,
    restore_resumed,
    restore_subscription,
    with_fresh_id,
    with_fresh_session_id,
)
from portway.http.http_client import BrokenResponse

ORIGINALS = [0, -1, 2**53, "", 'é".\\', "1"]
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"a":1}}'
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


def reply(answer_id: object, **said: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": answer_id, **said}).encode()


def test_a_request_keeps_all_but_its_id_and_no_id_is_given_twice() -> None:
    (one, call), (two, ping) = with_fresh_id(CALL, "tools/call"), with_fresh_id(PING, "ping")
    assert two == one + 1
    assert 2**40 < one < 2**53
    assert json.loads(call) == {"jsonrpc": "2.0", "id": one, "method": "tools/call", "params": {"a": 1}}
    assert json.loads(ping) == {"jsonrpc": "2.0", "id": two, "method": "ping"}
    assert marker(one) == b"%d" % one


@pytest.mark.parametrize("original", ORIGINALS)
def test_the_id_of_a_sessions_call_holds_the_clients_own(original: int | str) -> None:
    (one, call), (two, ping) = (
        with_fresh_session_id(CALL, "tools/call", original),
        with_fresh_session_id(PING, "ping", original),
    )
    assert one != two
    assert json.loads(call) == {"jsonrpc": "2.0", "id": one, "method": "tools/call", "params": {"a": 1}}
    assert json.loads(ping) == {"jsonrpc": "2.0", "id": two, "method": "ping", "params": {}}
    prefix = marker(one)
    assert prefix.startswith(b"portway.")
    assert prefix.count(b".") == 1
    assert prefix in reply(one, result={})
    assert prefix not in reply(two, result={})
    for said in ({"result": {"n": 1}}, {"error": {"code": -1, "message": "m"}}):
        restored = restore_resumed(reply(one, **said))
        assert restored is not None
        message, own = restored
        assert json.loads(message) == {"jsonrpc": "2.0", "id": original, **said}
        assert (own, type(own)) == (original, type(original))


@pytest.mark.parametrize(
    "message",
    [
        reply("portway.1.2"),
        reply("portway.1.x", result={}),
        reply("portway.1.[]", result={}),
        reply("xportway.1.2", result={}),
        reply(1, result="portway.1.2"),
        reply("portway.1.2", method="ping", result={}),
        reply("own", result={}),
        b'portway. {"id"',
        b"",
    ],
)
def test_what_is_no_reply_to_a_sessions_call_is_left_as_it_is(message: bytes) -> None:
    assert restore_resumed(message) is None


@pytest.mark.parametrize("original", ORIGINALS)
@pytest.mark.parametrize("fresh", [7, "portway.a.1"])
@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"result": {}}, "ok"),
        ({"result": {"isError": True}}, "isError"),
        ({"result": {"isError": False}}, "ok"),
        ({"result": {"text": 'x"isError":true', "isError": False}}, "ok"),
        ({"result": {"text": "isError", "data": {"isError": True}}}, "ok"),
        ({"result": {"data": {"isError": False}, "isError": True}}, "isError"),
        ({"error": {"code": -32602, "message": "m", "data": [1]}}, "error -32602"),
    ],
)
def test_a_reply_gets_the_clients_id_and_its_outcome_is_known(
    said: dict[str, object], outcome: str, fresh: int | str, original: int | str
) -> None:
    for message in (reply(fresh, **said), json.dumps({"id": fresh, **said}, separators=(",", ":")).encode()):
        restored = restore(message, fresh, original)
        assert restored is not None
        assert json.loads(restored[0]) == {"jsonrpc": "2.0", "id": original, **said}
        assert restored[1] == outcome


def test_an_error_without_an_id_is_the_reply_and_any_error_is_where_that_is_asked_for() -> None:
    error = {"error": {"code": 1, "message": "m"}}
    for message in (reply(None, **error), json.dumps(error).encode()):
        assert restore(message, 7, "x") is not None
    with pytest.raises(BrokenResponse, match="not the reply to this request"):
        restore(reply(8, **error), 7, "x")
    restored = restore(reply(8, **error), 7, "x", any_error=True)
    assert restored is not None
    assert (json.loads(restored[0])["id"], restored[1]) == ("x", "error 1")


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (reply(8, result={}), "not the reply"),
        (reply("7", result={}), "not the reply"),
        (reply(None, result={}), "not the reply"),
        (reply(7), "not the reply"),
        (reply(True, result={}), "not JSON-RPC"),
        (reply(7, error={"message": "no code"}), "not JSON-RPC"),
        (reply(7, result={"isError": "yes"}), "not JSON-RPC"),
        (b"{", "not JSON-RPC"),
        (b"[]", "not JSON-RPC"),
        (b"\xff", "not JSON-RPC"),
    ],
)
def test_what_is_no_reply_to_the_request_is_refused(message: bytes, fault: str) -> None:
    for any_error in (False, True):
        with pytest.raises(BrokenResponse, match=fault):
            restore(message, 7, 1, any_error=any_error)


def test_a_request_or_notification_of_an_instance_is_no_reply() -> None:
    request, notification = reply(7, method="ping"), b'{"jsonrpc":"2.0","method":"notifications/x"}'
    assert [restore(message, 7, 1) for message in (request, notification)] == [None, None]
    assert [is_reply(each) for each in (request, notification, reply(7, result={}))] == [False, False, True]


@pytest.mark.parametrize(
    "spelling", ["io.modelcontextprotocol/subscriptionId", "io.modelcontextprotocol\\/subscriptionId"]
)
def test_the_subscription_of_an_event_is_the_clients_and_text_is_left_alone(spelling: str) -> None:
    event = '{"_meta":{"%s" : %s},"text":"\\"%s\\":7"}'
    for ours in ("7", '"7"'):
        restored = restore_subscription((event % (spelling, ours, spelling)).encode(), 7, "own")
        assert restored.decode() == event % (spelling, '"own"', spelling)
    other = (event % (spelling, "77", spelling)).encode()
    assert restore_subscription(other, 7, "own") == other
