"""Every message Portway sends is one the official models read and write the same."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.wire.conversation import BYTES, recorded
from tests.wire.oracle import decode_notification, decode_reply
from tests.wire.served import VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_every_message_decodes_as_its_revision_says_and_dumps_the_same(version):
    judged = 0
    for said in recorded():
        if said.version != version:
            continue
        assert said.reply.messages, f"{said.method} was not answered with a message"
        *notifications, last = said.reply.messages
        decode_reply(version, said.method, last)
        for message in notifications:
            decode_notification(version, message)
        judged += 1
    assert judged > 40


def test_the_conversation_says_all_kinds_of_things():
    replies = [said.reply for said in recorded()]
    assert {200, 400, 403, 404} == {reply.status for reply in replies}
    codes = {reply.last["error"]["code"] for reply in replies if "error" in reply.last}
    assert codes == {1000, -32002, -32020, -32022, -32600, -32601, -32602, -32603, -32700}
    assert sum(len(reply.messages) == 4 for reply in replies) == 4  # three steps of progress and the result
    assert all(b"a secret of the author" not in reply.body for reply in replies)


def test_the_oracle_refuses_what_the_schema_does_not_have():
    reply = {"jsonrpc": "2.0", "id": 1, "result": {"content": [], "isErorr": True}}
    with pytest.raises(AssertionError):
        decode_reply("2025-11-25", "tools/call", reply)
    with pytest.raises(ValidationError):
        decode_reply("2026-07-28", "tools/call", {"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
    with pytest.raises(ValidationError):
        decode_reply("2025-11-25", "ping", {"jsonrpc": "2.0", "id": None, "error": {"code": "x", "message": ""}})


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_travel_as_base64(version):
    import base64

    results = [said.reply.last.get("result", {}) for said in recorded() if said.version == version]
    blobs = [entry["blob"] for result in results for entry in result.get("contents", []) if "blob" in entry]
    blobs += [block["data"] for result in results for block in result.get("content", []) if "data" in block]
    assert len(blobs) == 5
    assert all(base64.b64decode(blob, validate=True) == BYTES for blob in blobs)
