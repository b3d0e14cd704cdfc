"""Requests to send to two servers: legal ones of each method and era, and the same with random changes."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.wire.http_server import LEGACY, META, MODERN, ROUTED_BY, Json, request

if TYPE_CHECKING:
    from collections.abc import Iterator

INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"roots": {}},
    "clientInfo": {"name": "t", "version": "1"},
}
TALK = {"type": "ref/prompt", "name": "talk"}
LEGAL: tuple[tuple[str, Json], ...] = (
    ("tools/list", {}),
    ("tools/call", {"name": "add", "arguments": {"a": 1, "b": 3}}),
    ("tools/call", {"name": "add", "arguments": {"a": 1}}),
    ("tools/call", {"name": "add", "arguments": {}}),
    ("tools/call", {"name": "add", "arguments": {"a": 1, "c": 3}}),
    ("tools/call", {"name": "add", "arguments": None}),
    ("tools/call", {"name": "add", "arguments": []}),
    ("tools/call", {"name": "add", "arguments": {"a": "one"}}),
    ("tools/call", {"name": "weather", "arguments": {"city": "Žižkov"}}),
    ("tools/call", {"name": "refuse"}),
    ("tools/call", {"name": "picture", "arguments": {}}),
    ("tools/call", {"name": "absent", "arguments": {}}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "note://static"}),
    ("resources/read", {"uri": "note://bytes"}),
    ("resources/read", {"uri": "note://day/3"}),
    ("resources/read", {"uri": "note://day/a%20b"}),
    ("resources/read", {"uri": "note://absent"}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "talk", "arguments": {"topic": "tea", "tone": "wet"}}),
    ("prompts/get", {"name": "talk", "arguments": {"topic": "tea"}}),
    ("prompts/get", {"name": "talk", "arguments": {}}),
    ("prompts/get", {"name": "absent"}),
    ("tools/list", {"cursor": "made up"}),
    ("ping", {}),
    ("initialize", INITIALIZE),
    ("initialize", INITIALIZE | {"protocolVersion": "2026-07-28"}),
    ("initialize", INITIALIZE | {"protocolVersion": "1999-01-01"}),
    ("initialize", {"protocolVersion": "2025-06-18"}),
    ("server/discover", {}),
    ("no/such", {}),
    ("resources/read", {"uri": "tree://a/b.txt"}),
    ("resources/read", {"uri": "tree://a%2Fb"}),
    ("resources/read", {"uri": "tree://../b"}),
    ("resources/read", {"uri": "tree://a/%2e%2e/b"}),
    (
        "completion/complete",
        {"ref": TALK, "argument": {"name": "tone", "value": "d"}},
    ),
    ("completion/complete", {"ref": TALK, "argument": {"name": "tone"}}),
    ("completion/complete", {"ref": {"type": "ref/other", "name": "talk"}, "argument": {"name": "tone", "value": ""}}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "no"}, "argument": {"name": "tone", "value": ""}}),
    ("completion/complete", {"ref": TALK, "argument": {"name": "no", "value": ""}}),
    ("tools/call", {"name": "report"}),
    ("tools/call", {"name": "change"}),
    ("tools/call", {"name": "ask"}),
    ("logging/setLevel", {"level": "info"}),
    ("resources/subscribe", {"uri": "note://static"}),
)
MALFORMED_BODIES: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[]",
    b"3",
    b"null",
    b'"x"',
    b"\xff",
    b"{}",
    b'{"jsonrpc":"2.0"}',
    b"[" * 5000,
    b'{"a":' * 5000,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -7,
    1.5,
    2**70,
    "",
    "x",
    "2.0",
    "2025-11-25",
    "a\u0000\u2028",
    [],
    [1],
    {},
    {"x": {"y": []}},
)


@dataclass(frozen=True)
class Case:
    """One POST request of a revision."""

    version: str
    method: str
    body: bytes
    headers: dict[str, str]

    @property
    def message(self) -> Json:
        """The body as a JSON object, empty if it is not one."""
        try:
            message = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return message if isinstance(message, dict) else {}

    @property
    def params(self) -> Json:
        params = self.message.get("params")
        return params if isinstance(params, dict) else {}

    @property
    def meta(self) -> Json:
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}


def legal() -> Iterator[Case]:
    for version in (LEGACY, MODERN):
        for method, params in LEGAL:
            message, headers = request(version, method, params)
            yield Case(version, method, json.dumps(message).encode(), headers)


def malformed() -> Iterator[Case]:
    """Yield requests no client sends: invalid bytes, an incomplete envelope, a notification without a version."""
    for version in (LEGACY, MODERN):
        for body in MALFORMED_BODIES:
            yield Case(version, "", body, request(version, "ping")[1])
    message, headers = request(MODERN, "no/such", meta={META + "clientCapabilities": None})
    yield Case(MODERN, "no/such", json.dumps(message).encode(), headers)
    notification = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}'
    yield Case(MODERN, "notifications/cancelled", notification, headers | {"MCP-Protocol-Version": ""})
    unreadable = b'{"jsonrpc":"2.0","method":"notifications/initialized","params":{"_meta":7}}'
    yield Case(LEGACY, "notifications/initialized", unreadable, request(LEGACY, "ping")[1])


def mutated(count: int, seed: int) -> Iterator[Case]:
    """Yield `count` legal requests with one or two changes each, in the body or, in the modern era, in the headers."""
    rng = random.Random(seed)  # seeded, to repeat a run
    cases = list(legal())
    for _ in range(count):
        case = rng.choice(cases)
        message, headers = json.loads(case.body), dict(case.headers)
        for _ in range(rng.choice((1, 1, 2))):
            if case.version == MODERN and rng.random() < 0.4:
                change_header(rng, headers)
            else:
                change_member(rng, message)
        if rng.random() < 0.5:  # with matching headers a change reaches further into the server
            sync_headers(message, headers)
        yield Case(case.version, case.method, json.dumps(message).encode(), headers)


def change_member(rng: random.Random, message: Json) -> None:
    at: Any = message
    while True:
        keys = list(at)
        key = rng.choice([*keys, "extra"])
        inner = at.get(key)
        if isinstance(inner, dict) and inner and rng.random() < 0.7:
            at = inner
            continue
        if key in at and rng.random() < 0.4:
            del at[key]
        else:
            at[key] = copy.deepcopy(rng.choice(VALUES))
        return


def change_header(rng: random.Random, headers: dict[str, str]) -> None:
    name = rng.choice(["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"])
    value = headers.get(name, "")
    changed = rng.choice(
        [None, "", "x", value.upper(), f" {value}\t", "=?base64?eA==?=", "=?base64?eA=?=", "2025-11-25", "1999-01-01"]
    )
    if changed is None:
        headers.pop(name, None)
    else:
        headers[name] = changed


def sync_headers(message: Json, headers: dict[str, str]) -> None:
    """Set the routing headers to the values in the body, as far as a header can hold them."""
    method, params = message.get("method"), message.get("params")
    if not isinstance(method, str) or not method.isascii() or not method.isprintable() or "Mcp-Method" not in headers:
        return
    headers["Mcp-Method"] = method
    if not isinstance(params, dict):
        return
    meta = params.get("_meta")
    version = meta.get(META + "protocolVersion") if isinstance(meta, dict) else None
    name = params.get(ROUTED_BY.get(method, ""))
    headers_of_body = {"MCP-Protocol-Version": version, "Mcp-Name": name}
    headers.update(
        {
            k: v
            for k, v in headers_of_body.items()
            if isinstance(v, str) and v.isascii() and v.isprintable() and v == v.strip()
        }
    )
