"""Decoders of any bytes give a value, or the one error that says what is wrong."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from portway.app import Server
from portway.asking import request_state
from portway.auth.principal import ANONYMOUS
from portway.exceptions import RegistrationError
from portway.http.event_stream import EventParser
from portway.protocol.capabilities import Capability, DeclaredClient
from portway.protocol.errors import HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, RpcError
from portway.protocol.headers import decode_value, encode_value
from portway.protocol.jsonrpc import UnreadableMessage, decode, encode_error, encode_id, encode_result
from portway.protocol.sealing import Keys
from portway.protocol.versions import LEGACY_VERSIONS, Era
from portway.server.lists import Lister
from portway.server.uri_templates import UriPattern
from portway.sessions.http_sessions import Sessions
from tests.wire.random_damage import damaged

fuzz = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON,
        "id": st.integers() | st.text(max_size=5) | JSON,
        "method": st.sampled_from(["ping", "tools/call", "initialize"]) | JSON,
        "params": st.dictionaries(
            st.sampled_from(["_meta", "name", "uri", "arguments", "cursor", "protocolVersion", "requestId"]),
            st.dictionaries(
                st.sampled_from(["progressToken", "io.modelcontextprotocol/protocolVersion"]), JSON, max_size=2
            )
            | JSON,
            max_size=4,
        )
        | JSON,
        "result": JSON,
        "error": JSON,
    },
)


def judge(body: bytes) -> None:
    try:
        message = decode(body)
    except UnreadableMessage as error:
        assert error.code in (PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS)
        assert error.status == 400
        assert error.message.endswith(".")
        reply = json.loads(encode_error(error.request_id, error))
        assert reply.get("id") == error.request_id
        assert type(error.request_id) in (int, str, type(None))
    else:
        given = json.loads(body.decode(errors="replace"))  # what is skipped may hold bytes that are not UTF-8
        assert given["jsonrpc"] == "2.0"
        if isinstance(message.id, int | str) and "\ufffd" not in str(given["id"]):
            assert json.loads(encode_result(message.id, b"{}")) == {"jsonrpc": "2.0", "id": given["id"], "result": {}}


@fuzz
@given(st.binary())
@example(b"[" * 100_000)
@example(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 20_000)
@example(b'{"jsonrpc":"2.0","id":1e400,"method":"ping"}')
@example(b'{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping"}')
@example(b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}')
@example(b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}')
@example('{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"))
def test_any_bytes_decode_or_raise_an_error_with_a_sentence(body):
    judge(body)


@fuzz
@given(MEMBERS)
def test_any_members_decode_or_raise_an_error_with_a_sentence(members):
    judge(json.dumps(members).encode("utf-8", "surrogatepass"))


@fuzz
@given(st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(exclude_categories=["Cs"])))
def test_an_id_is_returned_unchanged(request_id):
    assert json.loads(encode_id(request_id)) == request_id


@fuzz
@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)), st.data())
def test_events_are_read_whatever_the_chunks(texts, data):
    stream = b"".join(b"data: %b\n\n:\n\n" % text.encode() for text in texts)
    parser, events = EventParser(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        events += parser.feed(stream[:cut])
        stream = stream[cut:]
    assert [event.data for event in events if event.data] == [text.encode() for text in texts]


@fuzz
@given(
    st.lists(
        st.sampled_from(
            [b"data:", b"data: x", b"\n", b"\r", b"\r\n", b":", b"id: 1", b"retry: 5", b"event: message", b"\xff"]
        )
    )
)
def test_an_event_stream_is_read_the_same_whole_and_byte_by_byte(pieces):
    stream = b"".join(pieces) + b"\n\n"
    parser = EventParser()
    assert [event for byte in stream for event in parser.feed(bytes([byte]))] == EventParser().feed(stream)


@fuzz
@given(st.text(st.sampled_from("abz/{}+._-:%?#é ")), st.text())
def test_any_template_compiles_or_is_refused_with_a_sentence(template, uri):
    try:
        pattern = UriPattern("x:" + template)
    except RegistrationError as error:
        assert str(error).endswith(".")
        return
    values = pattern.match(uri) or pattern.match("x:" + re.sub(r"\{[^}]*\}", "v", template))
    assert values is None or set(values) == set(pattern.names)


@fuzz
@given(st.text(st.sampled_from("ab./\\%2eEfF05c\x00é?#"), max_size=20))
@example("..")
@example("%2e%2e")
@example("..%2f..%2fetc")
@example("a%00b")
@example("%ff")
def test_no_value_of_a_template_leaves_its_folder(raw):
    for template, several in (("file://x/{name}/y", False), ("file://x/{+name}/y", True)):
        values = UriPattern(template).match(f"file://x/{raw}/y")
        if values is None:
            continue
        segments = values["name"].split("/")
        assert several or len(segments) == 1
        assert not {"..", "."} & set(segments)
        assert not any(c in "\\\x00" for c in values["name"])
        assert values["name"]
        assert not values["name"].startswith("/")


# Mutations: cheap enough for many thousands in every run, from seeds that reach deep.
MESSAGES = [
    (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":[1.5e3,"\\u00e9"]},'
        b'"_meta":{"progressToken":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        b'"io.modelcontextprotocol/clientCapabilities":{}}}}'
    ),
    b'{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"protocolVersion":"2025-11-25"}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}',
    b'{"jsonrpc":"2.0","id":2,"result":{}}',
    b'{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"m","data":[null]}}',
]
STREAM = [
    b"event: message\ndata: {}\n\n",
    b":\r\n\r\n",
    b"id: 7\rdata: a\rdata:b\r\r",
    b"data\n\nretry: 1\n\xef\xbb\xbfdata: x\n\n",
]
URIS = [b"file://x/a/y", b"file://x/%2e%2E/y", b"file://x/a%2fb/../y", b"file://x/%c3%a9%00%5c/y"]
VALUES = [b"=?base64?YWRk?=", b"=?base64?w6k=?=", b"plain", b"=?base64??="]


def judge_stream(stream: bytes) -> None:
    whole, parser = EventParser(), EventParser()
    assert whole.feed(stream) == [event for byte in stream for event in parser.feed(bytes([byte]))]


def judge_value(value: bytes) -> None:
    try:
        text = decode_value(value.decode("latin-1"))
    except RpcError as error:
        assert error.code == HEADER_MISMATCH
    else:
        assert text == value.decode("latin-1") or encode_value(text).isascii()


def judge_uri(uri: bytes) -> None:
    values = PATH.match(uri.decode("latin-1"))
    assert values is None or not {"", "..", "."} & set(values["name"].split("/")[:1])


PATH = UriPattern("file://x/{+name}/y")


@pytest.mark.parametrize(
    ("check", "seeds"), [(judge, MESSAGES), (judge_stream, STREAM), (judge_value, VALUES), (judge_uri, URIS)]
)
def test_mutations_of_valid_input_decode_or_are_refused(check, seeds):
    for text in damaged(seeds, 20_000):
        check(text)


# Sealed values: what this server gave is taken back as it was, and nothing else is taken.
KEYS = Keys.parse("A" * 43)
SESSIONS = Sessions(KEYS, bus=lambda: pytest.fail("a look-up needs no bus"))
CALL = request_state.call_digest("tools/call", "t", b"{}")
WHO = ANONYMOUS.digest()
LISTED = Server(page_size=1)
for number in range(4):
    LISTED.resource(f"x:{number}")(lambda: "")
LISTER = Lister(LISTED.resources, {Era.LEGACY: b"", Era.MODERN: b""}, KEYS, 1)


def cursors() -> list[str]:
    given = [json.loads(LISTER.result(Era.MODERN, None, ANONYMOUS))["nextCursor"]]
    while following := json.loads(LISTER.result(Era.MODERN, given[-1], ANONYMOUS)).get("nextCursor"):
        given.append(following)
    return given


def takes_session(text: str) -> bool:
    return SESSIONS.find(text, ANONYMOUS) is not None


def takes_cursor(text: str) -> bool:
    return b'"resources":[{' in LISTER.result(Era.MODERN, text, ANONYMOUS)


def takes_state(text: str) -> bool:
    return request_state.unseal(KEYS, text, principal=WHO, call=CALL, now=60).issued == 60


@pytest.mark.parametrize(
    ("takes", "given"),
    [
        (
            takes_session,
            [SESSIONS.mint(ANONYMOUS, version, DeclaredClient(Capability.FORM)).id for version in LEGACY_VERSIONS],
        ),
        (takes_cursor, cursors()),
        (takes_state, [request_state.seal(KEYS, request_state.State(WHO, CALL, 60, number)) for number in (1, 2, 3)]),
    ],
)
def test_no_mutation_of_a_sealed_value_unseals(takes, given):
    assert all(takes(text) for text in given)
    seeds = [text.encode() for text in given]
    raw = [base64.urlsafe_b64decode(text + "==") for text in given]
    texts = [text.decode("latin-1") for text in damaged(seeds, 10_000)]
    texts += [base64.urlsafe_b64encode(data).rstrip(b"=").decode() for data in damaged(raw, 10_000)]
    for text in texts:
        try:
            taken = takes(text)
        except RpcError as error:
            assert error.code == INVALID_PARAMS
            taken = False
        assert taken == (text in given), text
