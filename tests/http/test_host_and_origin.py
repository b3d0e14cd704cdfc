"""Which Host and Origin headers are accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portway.http.host_and_origin import Guard
from portway.http.response import send_bytes

if TYPE_CHECKING:
    from portway.http.asgi import Receive, Scope, Send

ALLOWED = ("API.example.com.", "*.apps.example.com", "dev.example.com:8443")


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost", None, None),
        ("LOCALHOST.:8080", None, None),
        ("weather.localhost:8080", None, None),
        ("127.0.0.1:8080", None, None),
        ("192.168.1.4", None, None),
        ("[2001:db8::1]:80", None, None),
        ("API.example.com", None, None),
        ("api.example.com:443", None, None),
        ("myapi.example.com", None, 421),
        ("a.apps.example.com", None, None),
        ("apps.example.com", None, 421),
        ("evilapps.example.com", None, 421),
        ("dev.example.com:8443", None, None),
        ("dev.example.com", None, 421),
        ("rebound.attacker.example", None, 421),
        ("1.2.3.4.attacker.example", None, 421),
        ("localhost.attacker.example", None, 421),
        ("1.2.3", None, 421),
        ("", None, 400),
        ("a b", None, 400),
        ("user@localhost", None, 400),
        ("localhost:8080:1", None, 400),
        ("localhost/path", None, 400),
        ("localhost", "http://localhost:6274", None),
        ("localhost", "http://127.0.0.1:6274", None),
        ("localhost", "http://[::1]:6274", None),
        ("localhost", "https://api.example.com", None),
        ("192.168.1.4:8080", "http://192.168.1.4:8080", None),
        ("192.168.1.4:8080", "http://192.168.1.5:8080", 403),
        ("localhost", "http://192.168.1.4", 403),
        ("localhost", "https://attacker.example", 403),
        ("localhost", "http://localhost.attacker.example", 403),
        ("localhost", "http://127.attacker.example", 403),
        ("localhost", "http://localhost@attacker.example", 403),
        ("localhost", "null", 403),
        ("localhost", "", 403),
        ("localhost", "http://localhost, http://attacker.example", 403),
        ("localhost", "file://localhost", 403),
        ("localhost", "http://localhost/path", 403),
    ],
)
def test_host_and_origin_are_judged_by_name(host: str, origin: str | None, status: int | None) -> None:
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    guard = Guard(ALLOWED)
    for _ in range(2):  # the second answer comes from the cache
        refusal = guard.check({"path": "/mcp", "headers": headers})
        assert (refusal.status if refusal else None) == status


@pytest.mark.parametrize(
    ("path", "names", "status"),
    [
        ("/", [], 400),
        ("/", [b"host", b"host"], 400),
        ("/", [b"host", b"origin", b"origin"], 403),
        ("*", [b"host"], 400),
        ("http://localhost/", [b"host"], 400),
    ],
)
def test_a_missing_or_repeated_header_or_a_target_without_a_path_is_refused(
    path: str, names: list[bytes], status: int
) -> None:
    values = {b"host": b"localhost", b"origin": b"http://localhost"}
    refusal = Guard(["*"]).check({"path": path, "headers": [(name, values[name]) for name in names]})
    assert refusal is not None
    assert refusal.status == status


def test_a_star_allows_every_name_but_not_a_null_origin() -> None:
    guard = Guard(["*"])
    host = (b"host", b"any.example")
    assert guard.check({"path": "/", "headers": [host, (b"origin", b"https://page.example")]}) is None
    refusal = guard.check({"path": "/", "headers": [host, (b"origin", b"null")]})
    assert refusal is not None
    assert refusal.status == 403


def test_the_verdict_on_a_page_is_not_that_of_the_same_page_at_another_host() -> None:
    guard = Guard()
    statuses = []
    for host in (b"localhost", b"rebound.attacker.example", b"localhost"):
        refusal = guard.check({"path": "/", "headers": [(b"host", host), (b"origin", b"http://localhost")]})
        statuses.append(refusal.status if refusal else None)
    assert statuses == [None, 421, None]


def test_the_cache_of_verdicts_is_bounded() -> None:
    guard = Guard()
    for number in range(5000):
        guard.check({"path": "/", "headers": [(b"host", b"h%d.example" % number)]})
    assert 500 < len(guard._verdicts) <= 1024
    before = set(guard._verdicts)
    for host, origin in ((b"h" * 300, b""), (b"h", b"o" * 300), (b"h" * 150, b"o" * 150)):
        guard.check({"path": "/", "headers": [(b"host", host), (b"origin", origin)]})
    assert set(guard._verdicts) == before


@pytest.mark.parametrize(
    ("target", "host", "answer"),
    [
        (b"http://api.example.com/mcp", b"rebound.attacker.example", b"200 api.example.com"),
        (b"http://rebound.attacker.example/mcp", b"api.example.com", b"421"),
        (b"http://user@api.example.com/mcp", b"api.example.com", b"400"),
        (b"http://api.example.com/mcp", b"api.example.com\r\nHost: api.example.com", b"400"),
    ],
)
def test_the_authority_of_an_absolute_target_is_judged_in_place_of_host(
    listen, target: bytes, host: bytes, answer: bytes
) -> None:
    guard = Guard(ALLOWED)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = guard.check(scope)
        body = b"" if refusal else dict(scope["headers"])[b"host"]
        await send_bytes(send, refusal.status if refusal else 200, body, [])

    request = b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (target, host)
    status, _, body = listen(app).talk(request).partition(b"\r\n\r\n")
    assert b" ".join(filter(None, (status.split()[1], body))) == answer


def test_a_request_without_host_is_refused_whatever_its_target(listen) -> None:
    guard = Guard(["*"])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = guard.check(scope)
        await send_bytes(send, refusal.status if refusal else 200, b"", [])

    answer = listen(app).talk(b"GET http://api.example.com/ HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
