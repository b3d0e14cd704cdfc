"""MCP at the other paths of an app's host name: none for an app with policies, whatever its server takes for MCP."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING

import pytest

from tests.gate.running_gate import JSON, Rig, Upstream, call, echo, rig
from tests.gate.test_path_access import TOKEN, ask
from tests.gate.test_permissions import guarded
from tests.gate.test_sessions import minting, run

if TYPE_CHECKING:
    from pathlib import Path

INITIALIZE = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}'
OWN = "/api/v1/mcp"
SPELLINGS = [
    "/MCP",
    "/mcp/x",
    "/mcp//",
    "//mcp",
    "/x/../mcp",
    "/%4dCP/",
    "/mcp%2fx",
    "/mcp\\x",
    "/api/v1/MCP",
    f"{OWN}/x",
]
BODIES = {
    "call": call(name="named"),
    "batch": b"[" + call(name="open") + b"," + call(name="named") + b"]",
    "repeated member": call(name="named").replace(b'"params"', b'"method":"ping","params"'),
    "letter case": call(name="named").replace(b"method", b"Method").replace(b"tools/call", b"Tools/Call"),
    "escapes": call(name="named").replace(b"method", b"m\\u0065thod").replace(b"/", b"\\/"),
    "space": call(name="named").replace(b'"method":', b'"method"\n\t:\r'),
    "byte order mark": b"\xef\xbb\xbf" + call(name="named"),
    "UTF-16": call(name="named").decode().encode("utf-16"),
    "lines": b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n' + call(name="named"),
    "large": call(name="named", text="x" * 100_000),
    "list": b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
    "resource": b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"secret://one"}}',
    "prompt": b'{"jsonrpc":"2.0","method":"prompts/get"}',
    "completion": b'{"jsonrpc":"2.0","id":1,"method":"completion/complete"}',
    "listen": b'{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}',
}
TEXT = "The app has policies: its MCP endpoint is at /mcp, and at no other path."
ENCODED = "The app has policies: a body must be in UTF-8, without a Content-Encoding."


async def at_own_path(gate: Rig) -> None:
    """Let the instances have their endpoint at another path than /mcp."""
    table = json.loads(gate.paths.routes.read_text())
    for app in table["apps"].values():
        app["path"] = OWN
    gate.paths.routes.write_text(json.dumps(table))
    await gate.op(op="table")


@pytest.mark.parametrize("off", [(), ("named",)], ids=["scopes", "switched off"])
def test_no_other_path_of_an_app_with_policies_takes_mcp(tmp_path: Path, off: tuple[str, ...]) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with guarded(tmp_path, upstream, rules=[] if off else None, off=off) as gate:
            await at_own_path(gate)
            for host, token in (("a.localhost", [(b"authorization", b"Bearer none")]), ("p.localhost", [])):

                async def answer(method: str, path: str, body: bytes, *more: tuple[bytes, bytes]) -> tuple[int, str]:
                    response = await ask(gate, method, path, *more, *token, host=host, body=body)  # noqa: B023
                    found = json.loads(await response.read(1_000_000) or b"{}")
                    return response.status, found.get("error", {}).get("message", "")

                for path in SPELLINGS:
                    for method, body in (("POST", BODIES["call"]), ("GET", b""), ("POST", b"x")):
                        assert await answer(method, path, body, JSON) == (404, TEXT), (path, method)
                for case, body in BODIES.items():
                    for method, path in (("POST", "/"), ("PUT", "/messages")):
                        assert await answer(method, path, body, JSON) == (404, TEXT), case
                packed = gzip.compress(BODIES["call"])
                assert await answer("POST", "/", packed, JSON, (b"content-encoding", b"gzip")) == (415, ENCODED)
                utf7 = (b"content-type", b"application/json; charset=utf-7")
                assert await answer("POST", "/", b"+AHs-", utf7) == (415, ENCODED)
                for path in ("/mcp", OWN, f"{OWN}/"):
                    assert (await answer("POST", path, BODIES["call"], JSON))[0] != 404, "the policies stand there"
                    assert not upstream.requests, (path, "the instance hears of none of it")
                hook = b'{"action":"opened","text":"method: tools, \\"method\\":\\"tools/call\\""}'
                form = (b"content-type", b'text/plain; charset="UTF-8"')
                assert [(await answer("POST", "/hook", body, form))[0] for body in (hook, b"", b"{")] == 3 * [200]
                assert len(upstream.requests) == 3
                upstream.requests.clear()

    async def echo(seen: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    run(test())


def test_the_own_path_of_an_endpoint_is_mcp_like_the_one_at_the_gate(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(minting(b"theirs"))
        async with rig(tmp_path, upstream) as gate:
            await at_own_path(gate)
            opened = await ask(gate, "POST", OWN, JSON, TOKEN, body=INITIALIZE)
            await opened.read(10_000)
            session = dict(opened.headers)[b"mcp-session-id"]
            assert upstream.requests[-1].head.split()[1] == OWN.encode()
            for path in (f"{OWN}/", "/mcp"):
                called = await ask(gate, "POST", path, JSON, TOKEN, (b"mcp-session-id", session), body=call())
                await called.read(10_000)
                assert called.status == 200
            assert upstream.requests[-1].headers["mcp-session-id"] == "theirs" != session.decode(), (
                "it is bound to the caller"
            )
            assert (await ask(gate, "PUT", OWN, TOKEN)).status == 405
        assert [line["method"] for line in gate.lines()[1:]] == ["initialize", "tools/call", "tools/call", "PUT"]

    run(test())


def test_an_app_without_policies_gets_all_other_paths(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            for path in ("/MCP", "/mcp/x", "/x"):
                response = await ask(gate, "POST", path, JSON, TOKEN, body=call())
                await response.read(10_000)
                assert response.status == 200
                assert upstream.requests[-1].head.split()[1] == path.encode()

    run(test())
