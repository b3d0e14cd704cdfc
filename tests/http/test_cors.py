"""Which pages are named, and what their browsers are told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from portway.exceptions import SettingError
from portway.http.cors import Cors

if TYPE_CHECKING:
    from portway.http.asgi import Headers, Message

PAGE = b"https://app.example.com"
PREFLIGHT = [(b"origin", PAGE), (b"access-control-request-method", b"POST")]


@pytest.mark.parametrize(
    ("named", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        (" HTTPS://App.Example.com:443/ ", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("https://app.example.com:80", "https://app.example.com:80"),
        ("http://localhost:6274", "http://localhost:6274"),
        ("http://[::1]:6274", "http://[::1]:6274"),
        ("https://a", "https://a"),
    ],
)
def test_an_origin_is_named_as_browsers_write_it(named: str, origin: str) -> None:
    cors = Cors([named, "https://other.example"])
    scheme, _, host = origin.partition("://")
    others = [f"{origin}:1", f"{origin}/", f"x{origin}", f"{scheme}s://{host}", f"{scheme}://x{host}", host, "null", ""]
    assert [cors.allows(each.encode()) for each in (origin, *others)] == [True] + [False] * len(others)


@pytest.mark.parametrize(
    "entry",
    ["", "*", "null", "app.example.com", "ftp://a.example", "https://", "https://a.example/path", "https://a.example:",
     "https://a.example:123456", "https://a@b.example", "https://*.example", "xhttps://a.example", "https://-a"],
)  # fmt: skip
def test_what_is_no_origin_is_refused_by_its_text(entry: str) -> None:
    with pytest.raises(SettingError, match="is not an origin") as refused:
        Cors([f" {entry} "])
    assert f"{entry!r} is not an origin" in str(refused.value)


def test_only_named_pages_make_a_difference() -> None:
    assert (bool(Cors()), bool(Cors(["https://a"]))) == (False, True)
    assert not Cors().allows(b"")


def preflight(headers: Headers, method: str = "OPTIONS") -> dict[bytes, bytes] | None:
    answer = Cors([PAGE.decode()]).preflight({"type": "http", "method": method, "headers": headers})
    return None if answer is None else dict(answer)


def test_a_preflight_is_told_the_methods_and_headers_of_mcp_and_no_others() -> None:
    allowed = (
        b"accept authorization content-type last-event-id mcp-method mcp-name mcp-protocol-version mcp-session-id "
        b"mcp-param-region"
    ).split()
    asked = b" , ".join(name.title() for name in (*allowed, b"cookie", b"x-mcp-param-a", b""))
    assert preflight([*PREFLIGHT, (b"access-control-request-headers", asked)]) == {
        b"access-control-allow-origin": PAGE,
        b"access-control-allow-methods": b"GET, POST, DELETE",
        b"access-control-allow-headers": b", ".join(allowed),
        b"access-control-max-age": b"600",
        b"vary": b"Origin, Access-Control-Request-Headers",
    }
    without = preflight(PREFLIGHT)
    assert without is not None
    assert without[b"access-control-allow-headers"] == b""


def test_any_other_request_is_no_preflight() -> None:
    assert preflight(PREFLIGHT, method="POST") is None
    assert preflight(PREFLIGHT[:1]) is None
    assert preflight(PREFLIGHT[1:]) is None
    assert preflight([(b"origin", b"https://other.example"), *PREFLIGHT[1:]]) is None


@pytest.mark.parametrize("origin", [PAGE, b"https://other.example", None])
def test_a_named_page_may_read_a_response_and_caches_are_told_that_it_depends(origin: bytes | None) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"a")] + ([(b"origin", origin)] if origin else [])
    readable = Cors([PAGE.decode()]).sender({"type": "http", "method": "POST", "headers": headers}, send)
    body: Message = {"type": "http.response.body", "body": b"x"}
    start: Message = {"type": "http.response.start", "status": 200, "headers": [(b"allow", b"GET")]}

    async def respond() -> None:
        for message in (start, {"type": "http.response.start", "status": 204}, body):
            await readable(message)

    asyncio.run(respond())
    exposed = b"Mcp-Session-Id, WWW-Authenticate, Retry-After"
    added = [(b"vary", b"Origin")]
    if origin == PAGE:
        added += [(b"access-control-allow-origin", PAGE), (b"access-control-expose-headers", exposed)]
    assert [message.get("headers") for message in sent] == [[(b"allow", b"GET"), *added], added, None]
    assert [message.get("status") for message in sent] == [200, 204, None]
    assert start["headers"] == [(b"allow", b"GET")]
    assert sent[2] is body
