"""MCP over HTTP, seen by the official client and by raw requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
import pytest
from mcp import Client

from portway import Context, Header, Server, ToolError
from portway.auth.caller_header import relay
from portway.auth.principal import ANONYMOUS, Principal
from portway.auth.tokens import NamedTokens
from portway.http.serve import Bind, LifespanError, serve
from portway.transport.configured_app import configured_app
from portway.transport.http_app import HttpApp
from tests.transport.http_client import MODERN, envelope, post
from tests.transport.http_client import served as serve_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from portway.http.http_client import HttpClient, Response


def make_server() -> Server:
    server = Server("fixture", version="9.8.7")

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def count(to: int, ctx: Context) -> int:
        for n in range(1, to + 1):
            await ctx.report_progress(n, to, f"step {n}")
        return to

    @server.tool
    def count_on_a_thread(to: int, ctx: Context) -> int:
        for n in range(1, to + 1):
            ctx.report_progress(n, to)
        return to

    @server.tool
    async def refuse() -> str:
        raise ToolError("not today")

    @server.tool
    async def crash() -> str:
        raise RuntimeError("secret-detail")

    @server.tool(scopes=["admin"])
    async def whoami(ctx: Context) -> str:
        return ctx.caller.subject

    return server


def served(scenario: Callable[[str, HttpClient], Awaitable[None]], application: HttpApp | None = None) -> None:
    """Run a scenario against `application`, or the server of this file."""
    serve_app(scenario, application or HttpApp(make_server()))


async def post_modern(client: HttpClient, tool: str, arguments: dict[str, Any], **meta: object) -> Response:
    body = envelope("tools/call", {"name": tool, "arguments": arguments}, **meta)
    return await post(client, body, mcp_protocol_version=MODERN, mcp_method="tools/call", mcp_name=tool)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_official_client_calls_tools_and_sees_progress_in_both_eras(mode: str) -> None:
    async def scenario(url: str, _: HttpClient) -> None:
        seen: list[tuple[float, float | None, str | None]] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            seen.append((progress, total, message))

        async with Client(url + "/mcp", mode=mode) as client:  # type: ignore[arg-type]
            assert {tool.name for tool in (await client.list_tools()).tools} >= {"echo", "count"}
            result = await client.call_tool("echo", {"text": "grüß"})
            assert result.structured_content == {"result": "grüß"}
            await client.call_tool("count", {"to": 3}, progress_callback=on_progress)
            await client.call_tool("count_on_a_thread", {"to": 2}, progress_callback=on_progress)
            wrong = await client.call_tool("echo", {"txt": 1})
            assert wrong.is_error
            assert "txt" in wrong.content[0].text
        assert seen == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3"), (1, 2, None), (2, 2, None)]

    served(scenario)


def test_a_tool_error_reaches_the_client_and_any_other_exception_only_as_an_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(_: str, client: HttpClient) -> None:
        refused = await (await post_modern(client, "refuse", {})).read(9999)
        assert json.loads(refused)["result"]["content"][0]["text"] == "not today"
        crashed = await (await post_modern(client, "crash", {})).read(9999)
        text = json.loads(crashed)["result"]["content"][0]["text"]
        assert b"secret-detail" not in crashed
        assert text.rpartition(" ")[2].rstrip(".") in caplog.text
        assert "secret-detail" in caplog.text

    served(scenario)


@pytest.mark.parametrize(
    "raised",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        StopIteration(),
        BaseExceptionGroup("both", [KeyboardInterrupt()]),
        ToolError("half a pair \ud83d"),
    ],
    ids=lambda raised: type(raised).__name__,
)
def test_whatever_a_handler_raises_is_answered_and_the_server_goes_on(raised: BaseException) -> None:
    server = make_server()

    @server.tool
    async def on_the_loop() -> str:
        raise raised

    @server.tool
    def on_a_thread() -> str:
        raise raised

    server.resource("data://it")(on_a_thread)
    server.prompt(on_the_loop)

    async def scenario(_: str, client: HttpClient) -> None:
        for method, params in (
            ("tools/call", {"name": "on_the_loop"}),
            ("tools/call", {"name": "on_a_thread"}),
            ("resources/read", {"uri": "data://it"}),
            ("prompts/get", {"name": "on_the_loop"}),
        ):
            body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
            reply = json.loads(await (await post(client, json.dumps(body).encode())).read(9999))
            assert reply["id"] == 7
            assert reply.get("result", {}).get("isError") or reply["error"]["code"] == -32603

    served(scenario, HttpApp(server))


def test_one_application_serves_two_loops_at_a_time_and_again_after_a_stop() -> None:
    application = HttpApp(make_server())

    async def scenario(_: str, client: HttpClient) -> None:
        done = await (await post_modern(client, "count_on_a_thread", {"to": 2})).read(9999)
        assert json.loads(done)["result"]["structuredContent"] == {"result": 2}

    async def twice(url: str, client: HttpClient) -> None:
        await scenario(url, client)
        await asyncio.to_thread(served, scenario, application)
        await scenario(url, client)

    served(twice, application)
    served(scenario, application)


def test_progress_that_json_or_the_protocol_has_no_place_for_is_left_out() -> None:
    server = make_server()
    late: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()

    @server.tool
    async def report(ctx: Context) -> str:
        for progress, total in ((float("nan"), 2), (1, float("inf")), (1, 2), (float("inf"), 2)):
            await ctx.report_progress(progress, total)

        async def outlive() -> None:
            await asyncio.sleep(0)
            await ctx.report_progress(2)

        late.put_nowait(asyncio.create_task(outlive()))
        return "done"

    async def scenario(_: str, client: HttpClient) -> None:
        events = await (await post_modern(client, "report", {}, progressToken=1)).read(9999)
        assert [json.loads(event)["params"] for event in events.split(b"data: ")[1:-1]] == [
            {"progressToken": 1, "progress": 1}
        ]
        await (await late.get())  # and it raised nothing

    served(scenario, HttpApp(server))


def test_a_resource_may_return_a_pydantic_model() -> None:
    server = make_server()

    class Hours(pydantic.BaseModel):
        monday: str

    @server.resource("config://hours")
    def hours() -> object:
        return Hours(monday="9-17")

    async def scenario(_: str, client: HttpClient) -> None:
        body = b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"config://hours"}}'
        (content,) = json.loads(await (await post(client, body)).read(9999))["result"]["contents"]
        assert (content["mimeType"], content["text"]) == ("application/json", '{"monday":"9-17"}')

    served(scenario, HttpApp(server))


def test_leaving_cancels_a_modern_call_and_not_a_legacy_one() -> None:
    server = make_server()
    events: asyncio.Queue[str] = asyncio.Queue()
    proceed = asyncio.Event()

    @server.tool
    async def wait() -> str:
        events.put_nowait("started")
        try:
            await proceed.wait()
        except asyncio.CancelledError:
            events.put_nowait("cancelled")
            raise
        events.put_nowait("finished")
        return "done"

    async def scenario(_: str, client: HttpClient) -> None:
        legacy_body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"wait"}}'
        for outcome in ("cancelled", "finished"):
            request = post_modern(client, "wait", {}) if outcome == "cancelled" else post(client, legacy_body)
            call = asyncio.ensure_future(request)
            assert await events.get() == "started"
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            if outcome == "finished":
                proceed.set()
            assert await events.get() == outcome
        assert (await (await post(client, envelope("ping"))).read(999)).startswith(b'{"jsonrpc"')

    served(scenario, HttpApp(server))


def test_a_handler_that_does_not_wait_costs_no_task_and_a_long_one_costs_one() -> None:
    server = make_server()

    @server.tool
    async def count_tasks(until: int) -> int:
        while len(asyncio.all_tasks()) < until:  # noqa: ASYNC110 - nothing tells of a new task
            await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    async def scenario(_: str, client: HttpClient) -> None:
        async def counted(until: int) -> int:
            reply = await (await post_modern(client, "count_tasks", {"until": until})).read(999)
            return int(json.loads(reply)["result"]["structuredContent"]["result"])

        quiet = await counted(0)
        assert await counted(quiet + 1) == quiet + 1
        assert await counted(0) == quiet

    served(scenario, HttpApp(server))


def test_tools_run_on_threads_at_the_same_time() -> None:
    server = Server("threads")
    barrier = threading.Barrier(4)

    @server.tool
    def meet() -> int:
        return barrier.wait(120)

    async def scenario(_: str, client: HttpClient) -> None:
        calls = await asyncio.gather(*(post_modern(client, "meet", {}) for _ in range(4)))
        numbers = [json.loads(await call.read(999))["result"]["structuredContent"]["result"] for call in calls]
        assert sorted(numbers) == [0, 1, 2, 3]

    served(scenario, HttpApp(server))


PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'
CALL = envelope("tools/call", {"name": "echo", "arguments": {"text": "x"}})
GOOD = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "echo"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (PING, {}, 200, None),
        (PING, {"mcp_protocol_version": "1999-01-01"}, 400, -32602),
        (b'{"jsonrpc":"2.0","id":7,"method":"nope"}', {}, 200, -32601),
        (b'{"jsonrpc":"2.0","method":"notifications/initialized"}', {}, 202, None),
        (b"{", {}, 400, -32700),
        (b"7", {}, 400, -32600),
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"cursor":"x"}}', {}, 200, -32602),
        (b'{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"uri":"x://y"}}', {}, 200, -32002),
        (CALL, GOOD, 200, None),
        (CALL, {}, 400, -32020),
        (CALL, GOOD | {"mcp_name": "other"}, 400, -32020),
        (CALL, GOOD | {"mcp_name": "=?base64?ZWNobw==?="}, 200, None),
        (CALL, GOOD | {"mcp_method": "TOOLS/CALL"}, 400, -32020),
        (CALL.replace(b"2026-07-28", b"2031-01-01"), GOOD | {"mcp_protocol_version": "2031-01-01"}, 400, -32022),
        (envelope("ping"), GOOD | {"mcp_method": "ping"}, 404, -32601),
        (envelope("initialize"), GOOD | {"mcp_method": "initialize"}, 404, -32601),
        (PING, {"content_type": "text/plain"}, 415, 1000),
        (PING, {"content_encoding": "gzip"}, 415, 1000),
        (PING, {"accept": "text/html"}, 406, 1000),
        (PING, {"origin": "http://evil.example"}, 403, 1000),
        (PING, {"origin": "http://localhost:3000"}, 403, 1000),
    ],
)
def test_requests_get_the_status_and_code_their_era_asks_for(
    body: bytes, headers: dict[str, str], status: int, code: int | None
) -> None:
    async def scenario(_: str, client: HttpClient) -> None:
        response = await post(client, body, **headers)
        reply = await response.read(99_999)
        assert response.status == status, reply
        assert (json.loads(reply).get("error", {}).get("code") if reply else None) == code, reply

    served(scenario)


def test_a_batch_is_answered_where_2025_03_26_may_be_spoken_and_refused_elsewhere() -> None:
    initialize = b'{"jsonrpc":"2.0","id":2,"method":"initialize"}'
    batch = b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"x"},%b]' % initialize

    async def scenario(_: str, client: HttpClient) -> None:
        for header in ({}, {"mcp_protocol_version": "2025-03-26"}):
            replies = json.loads(await (await post(client, batch, **header)).read(9999))
            assert [reply["id"] for reply in replies] == [1, 2]
            assert replies[1]["error"]["code"] == -32600
        refused = await post(client, batch, mcp_protocol_version="2025-11-25")
        assert refused.status == 400

    served(scenario)


def test_a_client_that_takes_only_event_streams_gets_one_and_one_that_takes_none_gets_json() -> None:
    async def scenario(_: str, client: HttpClient) -> None:
        stream = await post(client, PING, accept="text/event-stream")
        assert dict(stream.headers)[b"content-type"] == b"text/event-stream"
        assert await stream.read(999) == b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n'
        body = envelope("tools/call", {"name": "count", "arguments": {"to": 2}}, progressToken="p")
        headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "count"}
        plain = await post(client, body, accept="application/json", **headers)
        assert json.loads(await plain.read(999))["result"]["structuredContent"] == {"result": 2}

    served(scenario)


def test_repeated_accept_headers_are_joined_and_repeated_mcp_headers_are_refused() -> None:
    server = make_server()

    @server.tool
    async def region(where: Annotated[str, Header("Region")]) -> str:
        return where

    async def scenario(_: str, client: HttpClient) -> None:
        json_type, twice = (b"content-type", b"application/json"), (b"mcp-param-region", b"eu")
        accepts = [(b"accept", b"application/json"), (b"accept", b"text/event-stream")]
        counting = {"name": "count", "arguments": {"to": 1}, "_meta": {"progressToken": 1}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": counting}).encode()
        streamed = await client.request("POST", "/mcp", [json_type, *accepts], body)
        assert b"text/event-stream" in dict(streamed.headers)[b"content-type"]
        await streamed.close()
        routed = [(b"mcp-protocol-version", MODERN.encode()), (b"mcp-method", b"tools/call"), (b"mcp-name", b"region")]
        body = envelope("tools/call", {"name": "region", "arguments": {"where": "eu"}})
        for extra, status in (([twice], 200), ([twice, twice], 400)):
            answer = await client.request("POST", "/mcp", [json_type, *routed, *extra], body)
            assert answer.status == status
            assert (json.loads(await answer.read(9999)).get("error", {}).get("code") == -32020) is (status == 400)

    served(scenario, HttpApp(server))


def test_a_token_sent_twice_is_refused_though_one_of_them_is_good() -> None:
    async def scenario(_: str, client: HttpClient) -> None:
        one, other = (b"authorization", b"Bearer good"), (b"authorization", b"Bearer bad")
        json_type = (b"content-type", b"application/json")
        for tokens, status in (([one], 200), ([other], 401), ([one, other], 400), ([other, one], 400)):
            answer = await client.request("POST", "/mcp", [json_type, *tokens], PING)
            assert answer.status == status, await answer.read(9999)
            await answer.read(9999)

    served(scenario, HttpApp(make_server(), verifier=NamedTokens("ada:good")))


def test_tokens_from_the_environment_guard_the_server_and_its_scoped_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWAY_TOKENS", "ada:planted-token-a:admin+read, bob:planted-token-b")

    async def scenario(_: str, client: HttpClient) -> None:
        refused = 'Bearer error="invalid_token"'
        for authorization, status, said, challenge in (
            ("", 401, "bearer token", "Bearer"),
            ("Bearer wrong", 401, "bearer token", refused),
            ("Bearer planted-token-\xe4", 401, "bearer token", refused),
            ("Bearer planted-token-b", 403, "admin", 'Bearer error="insufficient_scope", scope="admin"'),
            ("bearer planted-token-a", 200, "ada", ""),
        ):
            body = envelope("tools/call", {"name": "whoami", "arguments": {}})
            headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "whoami"}
            response = await post(client, body, authorization=authorization, **headers)
            reply = (await response.read(9999)).decode()
            assert (response.status, said in reply, "planted" in reply) == (status, True, False), reply
            assert dict(response.headers).get(b"www-authenticate", b"").decode() == challenge

    served(scenario, configured_app(make_server()))


@pytest.mark.parametrize(
    ("scopes", "missing"),
    [("", "read write"), ("read", "write"), ("write", "read"), ("reader+rewrite", "read write"), ("write+x+read", "")],
)
def test_a_tool_that_needs_two_scopes_is_for_callers_with_both(scopes: str, missing: str) -> None:
    server = Server("fixture")

    @server.tool(scopes=["write", "read"])
    async def move() -> str:
        return "moved"

    async def scenario(_: str, client: HttpClient) -> None:
        headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "move"}
        response = await post(client, envelope("tools/call", {"name": "move"}), authorization="Bearer t", **headers)
        reply = json.loads(await response.read(9999))
        if missing:
            said = f"The token lacks a scope this needs: {missing}."
            needed = "read write"  # a client asks for all of them at once
            assert (response.status, reply["error"]["message"]) == (403, said)
            challenge = dict(response.headers)[b"www-authenticate"].decode()
            assert challenge == f'Bearer error="insufficient_scope", scope="{needed}"'
        else:
            assert (response.status, reply["result"]["content"][0]["text"]) == (200, "moved")

    served(scenario, HttpApp(server, verifier=NamedTokens(f"ada:t:{scopes}")))


ADA = Principal("portway", "ad\u00e0", "her-token", frozenset({"read", "admin"}))


@pytest.mark.parametrize("behind_gate", [True, False])
@pytest.mark.parametrize(
    ("header", "caller"),
    [
        (relay(ADA), ADA),
        (relay(Principal("i", "bob")), Principal("i", "bob")),
        (relay(Principal("i", "bob", expires=1.5)), Principal("i", "bob", expires=1.5)),
        (b"", ANONYMOUS),
        (b"bm90IEpTT04=", ANONYMOUS),
        (b"no base64!", ANONYMOUS),
        (None, ANONYMOUS),
    ],
)
def test_the_caller_is_whom_the_gate_names_and_without_a_gate_nobody_is_named(
    header: bytes | None, caller: Principal, behind_gate: bool
) -> None:
    seen: list[Principal] = []
    server = make_server()

    @server.tool
    async def record(ctx: Context) -> None:
        seen.append(ctx.caller)

    async def scenario(_: str, client: HttpClient) -> None:
        named = {} if header is None else {"portway_caller": header.decode()}
        for tool, allowed in (("record", True), ("whoami", behind_gate and caller is ADA)):
            headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool} | named
            response = await post(client, envelope("tools/call", {"name": tool}), **headers)
            assert response.status == (200 if allowed else 403), await response.read(9999)

    served(scenario, HttpApp(server, behind_gate=behind_gate))
    assert seen == [caller if behind_gate else ANONYMOUS]


def test_the_listener_runs_the_lifespan_and_one_that_fails_stops_the_start() -> None:
    steps: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: Server) -> AsyncIterator[None]:
        steps.append("entered")
        if len(steps) > 3:
            raise RuntimeError("no database")
        yield
        steps.append("left")

    async def scenario(_: str, client: HttpClient) -> None:
        steps.append("called")
        assert (await post(client, PING)).status == 200

    server = Server("fixture", lifespan=lifespan)
    served(scenario, HttpApp(server))
    assert steps == ["entered", "called", "left"]
    failing = serve(HttpApp(server), Bind("127.0.0.1", 0), on_ready=steps.append, stop=asyncio.Event())
    with pytest.raises(LifespanError, match="the lifespan of fixture raised RuntimeError: no database"):
        asyncio.run(failing)
