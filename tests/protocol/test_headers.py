"""The headers of a modern request: their encoding and checks (2026-07-28, basic/transports/streamable-http)."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portway.protocol.errors import HEADER_MISMATCH, INVALID_PARAMS, UNSUPPORTED_VERSION, RpcError
from portway.protocol.headers import decode_value, encode_value, request_headers, verify
from portway.protocol.jsonrpc import decode

META = "io.modelcontextprotocol/"
ENVELOPE = {META + "protocolVersion": "2026-07-28", META + "clientCapabilities": {}}
HEADERS = {b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"tools/call", b"mcp-name": b"add"}
fuzz = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LITERAL = [
    "add",
    "=?BASE64?YWRk?=",  # an upper-case prefix is no sentinel
    "=?Base64?YWRk?=",
    "=?base64?YWRk",  # neither is half of one
    "base64?YWRk?=",
    "YWRk?=",
    "=?base64?=",  # the prefix and the suffix do not share a character
]
DECODED = {
    "=?base64?YWRk?=": "add",
    "=?base64?w6k=?=": "é",
    "=?base64??=": "",
    "=?base64?ID0/YmFzZTY0P0E9Pz0=?=": " =?base64?A=?=",
}
REFUSED = [
    "=?base64?YWRk=?=",
    "=?base64?YW Rk?=",
    "=?base64?w6k?=",
    "=?base64?_w==?=",
    "=?base64?/w==?=",
    "=?base64?é?=",
]


@pytest.mark.parametrize("value", LITERAL)
def test_an_incomplete_sentinel_is_taken_literally(value):
    assert decode_value(value) == value


@pytest.mark.parametrize(("value", "text"), DECODED.items())
def test_a_sentinel_holds_base64_of_utf_8(value, text):
    assert decode_value(value) == text


@pytest.mark.parametrize("value", REFUSED)
def test_a_sentinel_that_is_not_strict_base64_of_utf_8_is_a_header_mismatch(value):
    with pytest.raises(RpcError) as caught:
        decode_value(value)
    assert (caught.value.code, caught.value.status) == (HEADER_MISMATCH, 400)


@fuzz
@given(st.text())
def test_every_text_is_encoded_and_decoded_unchanged(text):
    value = encode_value(text)
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()
    assert decode_value(value) == text


@fuzz
@given(st.text())
def test_any_header_value_decodes_or_is_a_header_mismatch(value):
    for text in (value, f"=?base64?{value}?="):
        try:
            decode_value(text)
        except RpcError as error:
            assert error.code == HEADER_MISMATCH


# what differs from a well-formed tools/call: in the envelope, in the headers; and the code it is refused with
LADDER = [
    ({}, {}, None),
    ({}, {b"mcp-method": b" tools/call\t", b"mcp-protocol-version": b" 2026-07-28 ", b"mcp-name": b" add "}, None),
    ({}, {b"mcp-name": b"=?base64?YWRk?="}, None),
    ({META + "clientInfo": None}, {}, None),
    ({META + "protocolVersion": ...}, {}, INVALID_PARAMS),
    ({META + "protocolVersion": ...}, {b"mcp-protocol-version": b"2025-11-25"}, INVALID_PARAMS),
    ({META + "clientCapabilities": ...}, {}, INVALID_PARAMS),
    ({META + "clientCapabilities": []}, {}, INVALID_PARAMS),
    ({META + "clientCapabilities": None}, {}, INVALID_PARAMS),
    ({}, {b"mcp-protocol-version": None}, HEADER_MISMATCH),
    ({}, {b"mcp-protocol-version": b"2025-11-25"}, HEADER_MISMATCH),
    ({META + "protocolVersion": "2099-01-01"}, {}, HEADER_MISMATCH),
    ({META + "protocolVersion": "2099-01-01"}, {b"mcp-protocol-version": b"2099-01-01"}, UNSUPPORTED_VERSION),
    (
        {META + "protocolVersion": "2099-01-01"},
        {b"mcp-protocol-version": b"2099-01-01", b"mcp-method": None},
        HEADER_MISMATCH,
    ),
    ({}, {b"mcp-method": None}, HEADER_MISMATCH),
    ({}, {b"mcp-method": b"tools/list"}, HEADER_MISMATCH),
    ({}, {b"mcp-method": b"Tools/Call"}, HEADER_MISMATCH),
    ({}, {b"mcp-name": None}, HEADER_MISMATCH),
    ({}, {b"mcp-name": b"ADD"}, HEADER_MISMATCH),
    ({}, {b"mcp-name": b""}, HEADER_MISMATCH),
    ({}, {b"mcp-name": b"=?base64?YWRk=?="}, HEADER_MISMATCH),
    ({}, {b"mcp-name": b"=?BASE64?YWRk?="}, HEADER_MISMATCH),
    ({}, {b"mcp-name": b"=?base64?QURE?="}, HEADER_MISMATCH),
]


@pytest.mark.parametrize(("envelope", "headers", "code"), LADDER)
def test_the_first_failed_check_gives_the_code(envelope, headers, code):
    meta = {key: value for key, value in (ENVELOPE | envelope).items() if value is not ...}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "_meta": meta}}
    fields = {key: value for key, value in (HEADERS | headers).items() if value is not None}
    message = decode(json.dumps(body).encode())
    if code is None:
        verify(message, fields)
        return
    with pytest.raises(RpcError) as caught:
        verify(message, fields)
    assert (caught.value.code, caught.value.status) == (code, 400)


@pytest.mark.parametrize("name", ["add", "Ž", " padded ", "=?base64?YWRk?=", "two\nlines", ""])
def test_the_headers_that_a_client_writes_pass_verification(name):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "_meta": ENVELOPE}}
    verify(decode(json.dumps(body).encode()), dict(request_headers("tools/call", name, "2026-07-28")))
