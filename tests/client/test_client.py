"""The client against scripted servers: sessions that end, invalid answers, behaviour the official server lacks."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from portway.client import Client, ClientError
from portway.protocol.errors import RpcError
from portway.protocol.versions import Era
from tests.client.scripted_server import Reply, Request, scripted
from tests.support import eventually
from tests.transport.test_stdio import ended

INITIALIZED = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "s", "version": "1"},
}
Method = Callable[[Request], Awaitable[Reply]]


class Legacy:
    """A legacy server with sessions. `methods` are the answers to further methods."""

    def __init__(self, **methods: Method) -> None:
        self.requests: list[Request] = []
        self.sessions = 0
        self._methods = methods

    async def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        method, request_id = request.message.get("method", ""), request.message.get("id")
        if own := self._methods.get(method.replace("/", "_")):
            return await own(request)
        if method == "server/discover":
            return Reply({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no session"}}, 400)
        if method == "initialize":
            self.sessions += 1
            session = {"mcp-session-id": f"s{self.sessions}"}
            return Reply({"jsonrpc": "2.0", "id": request_id, "result": INITIALIZED}, headers=session)
        return Reply(None, 202) if method else Reply({})

    def seen(self) -> list[str]:
        return [request.message.get("method", request.verb) for request in self.requests]


def use(script: Method, scenario: Callable[[Client], Awaitable[None]], *, path: str = "/mcp", **options: Any) -> None:
    async def main() -> None:
        async with scripted(script) as url:
            async with Client(url.replace("/mcp", path), timeout=5, **options) as client:
                await scenario(client)
            left = [str(task) for task in asyncio.all_tasks() if "portway/client" in str(task)]
            assert not left, "tasks outlive the client"

    asyncio.run(main())


def result(request: Request, value: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request.message["id"], "result": value}


def test_a_legacy_session_is_opened_used_and_ended() -> None:
    async def tools(request: Request) -> Reply:
        return Reply(result(request, {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}))

    server = Legacy(tools_list=tools)

    async def scenario(client: Client) -> None:
        assert (client.era, client.version) == (Era.LEGACY, "2025-06-18")
        assert [tool.name for tool in await client.list_tools()] == ["t"]

    use(server, scenario, token="secret")
    assert server.seen() == ["server/discover", "initialize", "notifications/initialized", "tools/list", "DELETE"]
    assert all(request.headers["authorization"] == "Bearer secret" for request in server.requests)
    in_session = server.requests[2:]
    assert {request.headers["mcp-session-id"] for request in in_session} == {"s1"}
    assert {request.headers["mcp-protocol-version"] for request in in_session} == {"2025-06-18"}


def test_a_lost_session_is_opened_again_and_the_call_repeated() -> None:
    async def tools(request: Request) -> Reply:
        if request.headers["mcp-session-id"] == "s1":
            return Reply({"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": "gone"}}, 404)
        return Reply(result(request, {"tools": []}))

    server = Legacy(tools_list=tools)

    async def scenario(client: Client) -> None:
        assert await client.list_tools() == []

    use(server, scenario)
    assert server.sessions == 2


def test_every_page_is_read_and_a_repeated_cursor_is_an_error() -> None:
    cursors = {None: "", "": "b", "b": None}

    async def tools(request: Request) -> Reply:
        cursor = request.message["params"].get("cursor")
        page = {"tools": [{"name": f"t{cursor}"}], "nextCursor": cursors[cursor]}
        return Reply(result(request, {key: value for key, value in page.items() if value is not None}))

    async def scenario(client: Client) -> None:
        assert [tool.name for tool in await client.list_tools()] == ["tNone", "t", "tb"]
        cursors["b"] = ""
        with pytest.raises(ClientError, match="do not end"):
            await client.list_tools()

    use(Legacy(tools_list=tools), scenario)


def test_a_list_without_an_end_is_an_error() -> None:
    numbers = itertools.count()

    async def tools(request: Request) -> Reply:
        return Reply(result(request, {"tools": [], "nextCursor": str(next(numbers))}))

    async def scenario(client: Client) -> None:
        with pytest.raises(ClientError, match="the server's pages of tools/list do not end: it sent more than 1000"):
            await client.list_tools()

    use(Legacy(tools_list=tools), scenario)


def test_the_pages_of_a_list_are_no_longer_in_all_than_one_message_may_be() -> None:
    numbers = itertools.count()

    async def tools(request: Request) -> Reply:
        page = {"tools": [{"name": "t", "description": "x" * 4000}], "nextCursor": str(next(numbers))}
        return Reply(result(request, page))

    async def scenario(client: Client) -> None:
        with pytest.raises(ClientError, match="the server's pages of tools/list do not end: it sent more than 10000 b"):
            await client.list_tools()
        assert next(numbers) == 3

    use(Legacy(tools_list=tools), scenario, message_bytes=10_000)


def test_requests_of_the_server_are_answered_during_a_call() -> None:
    answers: asyncio.Queue[Request] = asyncio.Queue()

    async def call(request: Request) -> Reply:
        asked = [{"jsonrpc": "2.0", "id": f"q-{name}", "method": name} for name in ("ping", "sampling/createMessage")]
        noise = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}}
        return Reply([*asked, noise, result(request, {"content": []})])

    server = Legacy(tools_call=call)

    async def script(request: Request) -> Reply:
        if str(request.message.get("id", "")).startswith("q-"):
            answers.put_nowait(request)
            return Reply(None, 202)
        return await server(request)

    async def scenario(client: Client) -> None:
        assert (await client.call_tool("t")).content == []
        got = {r.message["id"]: r.message for r in [await answers.get(), await answers.get()]}
        assert got["q-ping"]["result"] == {}
        assert got["q-sampling/createMessage"]["error"]["code"] == -32601

    use(script, scenario)


def test_cancelling_a_legacy_call_tells_the_server() -> None:
    called, told = asyncio.Event(), asyncio.Event()

    async def call(request: Request) -> Reply:
        called.set()
        return Reply([None])

    async def cancelled(request: Request) -> Reply:
        assert request.message["params"]["requestId"] == 3
        told.set()
        return Reply(None, 202)

    async def scenario(client: Client) -> None:
        task = asyncio.create_task(client.call_tool("t"))
        await called.wait()
        task.cancel()
        await asyncio.wait_for(told.wait(), 120)

    use(Legacy(tools_call=call, notifications_cancelled=cancelled), scenario)


def _answer(body: Any, status: int = 200, **headers: str) -> Callable[[Request], Reply]:
    return lambda request: Reply(body, status, headers)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda r: Reply(result(r, {}) | {"id": 99}), ClientError, "not its reply"),
        (lambda r: Reply(result(r, {}) | {"id": str(r.message["id"])}), ClientError, "not its reply"),
        (_answer({"jsonrpc": "2.0", "id": 3}), ClientError, "neither a result nor an error"),
        (lambda r: Reply(result(r, {}) | {"error": {"code": 1, "message": "both"}}), RpcError, "both"),
        (_answer("not an object"), ClientError, "not a JSON-RPC message"),
        (lambda r: Reply(result(r, {"content": "text"})), ClientError, "malformed"),
        (_answer([{"jsonrpc": "2.0", "method": "notifications/x"}]), ClientError, "closed the stream before"),
        (_answer({"oops": 1}, 500), ClientError, "HTTP status 500"),
        (_answer(None, 401), ClientError, r"asks for a token; .*PORTWAY_TOKEN"),
        (_answer({"jsonrpc": "2.0", "error": {"code": 1000, "message": "slow down"}}, 429), RpcError, "slow down"),
        (
            _answer(None, 307, location="http://elsewhere.example/mcp"),
            ClientError,
            "http://elsewhere.example/mcp: give that",
        ),
        (_answer(None, 307, location="/mcp"), ClientError, "too often"),
        (_answer(None, 307, location="?a=b"), ClientError, "too often"),
        (_answer(None, 307, location="http://["), ClientError, r"redirects to http://\["),
        (_answer(None, 307, location="/a b"), ClientError, "redirects to /a b: give that"),
    ],
)
def test_an_invalid_answer_is_an_error_that_names_the_reason(
    answer: Callable[[Request], Reply], error: type[Exception], message: str
) -> None:
    async def call(request: Request) -> Reply:
        return answer(request)

    async def scenario(client: Client) -> None:
        with pytest.raises(error, match=message):
            await client.call_tool("t")

    use(Legacy(tools_call=call), scenario)


def test_a_silent_server_is_an_error() -> None:
    async def call(request: Request) -> Reply:
        return Reply([None])

    async def scenario(client: Client) -> None:
        client._rpc.timeout = 0.05
        with pytest.raises(ClientError, match="did not answer tools/call in"):
            await client.call_tool("t")

    use(Legacy(tools_call=call), scenario)


def test_a_redirect_to_another_path_is_followed_with_the_body() -> None:
    server = Legacy()

    async def script(request: Request) -> Reply:
        if request.target == "/old?x=1":
            return Reply(None, 308, {"location": "/mcp/"})
        assert request.target == "/mcp/"
        return await server(request)

    async def scenario(client: Client) -> None:
        assert client.server.name == "s"

    use(script, scenario, path="/old?x=1")


def test_a_modern_request_carries_its_envelope_and_headers() -> None:
    seen: list[Request] = []

    async def script(request: Request) -> Reply:
        seen.append(request)
        found: dict[str, Any] = {"supportedVersions": ["2026-07-28"], "capabilities": {}, "resultType": "complete"}
        return Reply(result(request, found if request.message["method"] == "server/discover" else {"content": []}))

    async def scenario(client: Client) -> None:
        assert client.era is Era.MODERN
        await client.call_tool("größe", {"a": 1})

    use(script, scenario)
    headers, params = seen[1].headers, seen[1].message["params"]
    assert headers["mcp-protocol-version"] == params["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert (headers["mcp-method"], headers["mcp-name"]) == ("tools/call", "=?base64?Z3LDtsOfZQ==?=")
    assert params["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://127.0.0.1:1/mcp", "cannot connect"),
        ("unix:/nonexistent/portway.sock", "cannot connect"),
        ("ftp://example.com", "is not an address"),
        (["portway-no-such-command"], "cannot start portway-no-such-command"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "exit code 3"),
        pytest.param(["sh", "-c", "exec >&-; cat >&2"], "closed its output", marks=pytest.mark.slow),
        ([sys.executable, "-c", "print('x' * 70_000_000)"], "sent a line longer than"),
    ],
)
def test_an_unreachable_server_is_an_error_that_names_it(target: str | list[str], message: str) -> None:
    async def main() -> None:
        async with Client(target):
            pytest.fail("it connected")

    with pytest.raises(ClientError, match=message):
        asyncio.run(main())


def test_a_stdio_server_that_does_not_exit_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portway.client.stdio_channel._EXIT_SECONDS", 0.2)
    # The shell stays, and so does the child it waits for, though its input ended.
    answer = '{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28"]}}'
    script = f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/pid; while read -r line; do echo '{answer}'; done; wait"

    async def main() -> None:
        async with Client(["sh", "-c", script], era="modern"):
            pass

    asyncio.run(main())
    eventually(lambda: ended(int((tmp_path / "pid").read_text())))
