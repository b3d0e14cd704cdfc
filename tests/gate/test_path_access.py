"""Other paths of an app's host name, for whom its routes say."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from portway.host.app_config import Access, PathRoute
from portway.host.gate.path_access import PathAccess
from portway.host.routing_table import App
from tests.gate.running_gate import STREAM, Rig, Seen, Upstream, chunk, reply, rig
from tests.gate.test_sessions import run, text_until

if TYPE_CHECKING:
    from pathlib import Path

    from portway.http.http_client import Response

ROUTES: list[tuple[str, Access]] = [("/hook", "public"), ("/login/*", "app"), ("/login/admin/*", "gate")]


@pytest.mark.parametrize(
    ("access", "path", "expected"),
    [
        ("gate", "/hook", "public"),
        ("gate", "/hook/", "public"),
        ("gate", "/HOOK", "public"),
        ("gate", "/hook/below", "gate"),
        ("gate", "/hook%2Fbelow", "gate"),
        ("gate", "/h%6Fok", "public"),
        ("gate", "/login", "app"),
        ("gate", "/login/a/b", "app"),
        ("gate", "/loginx", "gate"),
        ("gate", "/login/../admin", "gate"),
        ("gate", "//login/x", "gate"),
        ("gate", "/login/%2e%2e/x", "gate"),
        ("gate", "/login\\..\\x", "gate"),
        ("public", "/login/admin", "gate"),
        ("public", "/Login/Admin/x", "gate"),
        ("public", "/login//admin", "gate"),
        ("public", "/other/", "public"),
        ("app", "/other", "app"),
        ("public", "/mcp", "public"),
        ("gate", "/MCP/", "gate"),
        ("gate", "/api/v1", "gate"),
    ],
)
def test_a_path_has_the_access_of_its_longest_route_and_an_odd_one_the_strictest(
    access: Access, path: str, expected: Access
) -> None:
    routes = [PathRoute(each, of) for each, of in ROUTES]
    assert PathAccess(App("a", 1, access, routes=routes)).of(path.encode()) == expected
    everything = [*routes, PathRoute("/*", "public")]
    found = PathAccess(App("a", 1, access, path="/api/v1", routes=everything)).of(path.encode())
    assert found == (
        "public" if expected == access and path in ("/hook/below", "/loginx", "/other/", "/other") else expected
    )


async def page(seen: Seen, writer: asyncio.StreamWriter) -> None:
    if seen.head.startswith(b"GET /hook?live"):
        writer.write(STREAM + chunk(b"data: now\n\n"))
        return
    head = b"\r\nset-cookie: a=b; Domain=localhost\r\nwww-authenticate: Basic\r\n"
    writer.write(reply(b"page", b"text/html").replace(b"\r\n", head, 1))


async def use(gate: Rig, *routes: tuple[str, Access]) -> None:
    table = json.loads(gate.paths.routes.read_text())
    for app in table["apps"].values():
        app["routes"] = [{"path": path, "access": access} for path, access in routes]
    gate.paths.routes.write_text(json.dumps(table))
    await gate.op(op="table")


async def ask(
    gate: Rig, method: str, path: str, *headers: tuple[bytes, bytes], host: str = "a.localhost", body: bytes = b""
) -> Response:
    gate.client._host_header = b"host: " + host.encode()
    return await gate.client.request(method, path, headers, body)


TOKEN, OTHER, COOKIE = (b"authorization", b"Bearer secret"), (b"authorization", b"Bearer mine"), (b"cookie", b"c=d")
PAGE = (b"origin", b"https://login.example")


def test_routes_let_requests_to_other_paths_in_and_the_gates_credentials_end_there(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(page)

        async def status(*request: object, **options: object) -> int:
            response = await ask(gate, *request, **options)  # type: ignore[arg-type]
            await response.read(1000)
            return response.status

        async with rig(tmp_path, upstream, body_bytes=100) as gate:
            assert await status("POST", "/hook", body=b"x") == 401
            await use(gate, *ROUTES)
            for path, expected in (("/hook", 200), ("/login", 200), ("/login/admin", 401), ("/other", 401)):
                assert await status("POST", path, body=b"x") == expected
            assert await status("POST", "/login/admin", TOKEN, body=b"x") == 200
            assert await status("POST", "/mcp", body=b"x") == 401
            assert await status("POST", "/hook", body=101 * b"x") == 413
            assert await status("POST", "/hook", PAGE) == 403, "what is public is not for every page"
            assert await status("GET", "/a/hook", host="localhost") == 404, "all apps share that address"
            for host, path, sent, passed in (
                ("a", "/hook?x=1", (TOKEN, COOKIE), set()),
                ("a", "/login?x=1", (OTHER, COOKIE, PAGE), {"authorization", "cookie", "origin"}),
                ("a", "/login?x=1", (TOKEN, COOKIE), {"cookie"}),
                ("p", "/login/admin", (COOKIE,), None),
                ("o", "/login/admin", (OTHER,), None),
                ("p", "/login", (TOKEN,), None),  # another app's
                ("o", "/hook", (OTHER, COOKIE), set()),
            ):
                count = len(upstream.requests)
                answer = await ask(gate, "GET", path, *sent, host=f"{host}.localhost")
                assert (answer.status == 401) is (passed is None), (host, path, sent)
                if passed is not None:
                    seen = upstream.requests[-1]
                    assert seen.head.split(b" ")[1] == path.encode()
                    assert {"authorization", "cookie", "origin"} & seen.headers.keys() == passed
                    assert (b"set-cookie" in dict(answer.headers)) is (path.startswith("/login"))
                assert len(upstream.requests) == count + (passed is not None)
            stream = await ask(gate, "GET", "/hook?live")
            assert await text_until(stream, b"now\n\n"), "as it comes"
            await use(gate)
            with pytest.raises(Exception, match="the connection ended before"):
                await text_until(stream, b"never")
            assert await status("POST", "/hook", body=b"x") == 401

    run(test())


def test_a_public_route_is_not_asked_with_the_apps_own_token(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(page)
        async with rig(tmp_path, upstream) as gate:
            await use(gate, *ROUTES)
            gate.routes.apps["a"].authorization = (b"authorization", b"Bearer theirs")
            for path, sent, got in (("/hook", (), None), ("/login", (), None), ("/x", (TOKEN,), "Bearer theirs")):
                assert (await ask(gate, "GET", path, *sent)).status == 200
                assert upstream.requests[-1].headers.get("authorization") == got

    run(test())
