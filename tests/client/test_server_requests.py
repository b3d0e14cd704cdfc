"""The client when a server asks or announces something: rounds of input, questions, resumed streams, changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from portway.client import Change, Client, ClientError, Elicitation, Root
from portway.protocol.errors import PeerError, RpcError
from tests.client.scripted_server import Reply, Request
from tests.client.test_client import Legacy, result, use

DISCOVERED = {
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {"listChanged": True}},
    "resultType": "complete",
}
FORM = {"method": "elicitation/create", "params": {"message": "Name?", "requestedSchema": {"type": "object"}}}
META = "io.modelcontextprotocol/"


class Modern:
    """A modern server. Each call gets the next of `replies`, made from the request."""

    def __init__(self, *replies: Callable[[Request], Reply]) -> None:
        self.requests: list[Request] = []
        self._replies = list(replies)

    async def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        if request.message["method"] == "server/discover":
            return Reply(result(request, DISCOVERED))
        return self._replies.pop(0)(request)


def asks(state: str | None = None, **questions: dict[str, Any]) -> Callable[[Request], Reply]:
    asking = {"resultType": "input_required", "inputRequests": questions or None, "requestState": state}
    return lambda request: Reply(result(request, {key: value for key, value in asking.items() if value is not None}))


def done(request: Request) -> Reply:
    return Reply(result(request, {"content": [{"type": "text", "text": "done"}], "resultType": "complete"}))


def test_a_modern_call_is_repeated_with_the_answers_and_the_same_state_until_it_is_complete() -> None:
    roots = {"method": "roots/list"}
    server = Modern(asks("s1=", name=FORM, where=roots), asks("s2="), done)
    together = asyncio.Barrier(2)

    async def elicit(question: Elicitation) -> str:
        await together.wait()  # the questions of a round are asked at once
        return "decline"

    async def places() -> list[str | Root]:
        await together.wait()
        return ["file:///a", Root("file:///b", "b")]

    async def scenario(client: Client) -> None:
        assert (await client.call_tool("t", {"a": 1})).text == "done"

    use(server, scenario, on_elicit=elicit, roots=places)
    first, second, third = [request.message for request in server.requests[1:]]
    assert len({message["id"] for message in (first, second, third)}) == 3
    assert all(message["params"]["arguments"] == {"a": 1} for message in (first, second, third))
    assert second["params"]["requestState"] == "s1="
    listed = {"roots": [{"uri": "file:///a"}, {"uri": "file:///b", "name": "b"}]}
    assert second["params"]["inputResponses"] == {"name": {"action": "decline"}, "where": listed}
    assert third["params"]["requestState"] == "s2="
    assert "inputResponses" not in third["params"]
    declared = {"elicitation": {"form": {}, "url": {}}, "roots": {}}
    assert first["params"]["_meta"][META + "clientCapabilities"] == declared


@pytest.mark.parametrize(
    ("replies", "handlers", "message"),
    [
        ([asks("s", name=FORM)], {}, "cannot answer: This client does not serve elicitation/create"),
        ([asks("s", name=FORM)] * 10, {"on_elicit": lambda question: {}}, "asked for input 10 times in one tools/call"),
        ([lambda r: Reply(result(r, {"resultType": "task"}))], {}, "'task', which this client cannot serve"),
        (
            [asks(x={"method": "sampling/createMessage", "params": {}})],
            {"on_sample": str},
            "Invalid params: .*messages",
        ),
    ],
)
def test_a_request_that_the_client_does_not_serve_ends_the_call(
    replies: list[Callable[[Request], Reply]], handlers: dict[str, Any], message: str
) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(ClientError, match=message):
            await client.call_tool("t")

    use(Modern(*replies), scenario, **handlers)


def test_a_modern_call_raises_what_its_handler_raises() -> None:
    def sample(question: object) -> str:
        raise KeyError("mine")

    async def scenario(client: Client) -> None:
        with pytest.raises(KeyError, match="mine"):
            await client.call_tool("t")

    use(Modern(asks(x={"method": "sampling/createMessage", "params": {"messages": []}})), scenario, on_sample=sample)


class Asking(Legacy):
    """A legacy server whose calls ask on their stream, and are answered after the client's answer."""

    def __init__(self, *questions: dict[str, Any], open_stream: bool = False) -> None:
        self.answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.questions = questions

        async def call(request: Request) -> Reply:
            return Reply([*questions, *([None] if open_stream else [result(request, {"content": []})])])

        super().__init__(tools_call=call)

    async def __call__(self, request: Request) -> Reply:
        if "method" not in request.message and "id" in request.message:
            self.answer(request.message["id"]).set_result(request.message)
            return Reply(None, 202)
        if request.verb == "GET":
            return Reply({}, 405)
        return await super().__call__(request)

    def answer(self, question: str) -> asyncio.Future[dict[str, Any]]:
        return self.answers.setdefault(question, asyncio.get_running_loop().create_future())


def question(name: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": name, "method": "elicitation/create", "params": {"message": name, **params}}


def test_a_handler_that_fails_is_an_error_without_details_to_a_legacy_server() -> None:
    def elicit(asked: Elicitation) -> dict[str, Any]:
        if asked.message == "fail":
            raise ValueError("secret")
        if asked.message == "peer":
            raise PeerError(-32050, "secret", {"of": "another server"})
        return {"name": "Ada"}

    server = Asking(question("fail"), question("peer"), question("name"), question("odd", requestedSchema=1))

    async def scenario(client: Client) -> None:
        await client.call_tool("t")
        failed, peer, named, odd = [await server.answer(name) for name in ("fail", "peer", "name", "odd")]
        assert (
            failed["error"]
            == peer["error"]
            == {"code": -32603, "message": "The client failed to serve elicitation/create."}
        )
        assert named["result"] == {"action": "accept", "content": {"name": "Ada"}}
        assert odd["error"]["code"] == -32602

    use(server, scenario, on_elicit=elicit)
    declared = server.requests[1].message["params"]["capabilities"]
    assert declared == {"elicitation": {"form": {}, "url": {}}}


def test_a_question_that_the_server_cancels_is_no_longer_asked() -> None:
    stopped: list[str] = []

    async def elicit(asked: Elicitation) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(asked.message)
        return {}

    taken_back = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q"}}
    server = Asking(question("q"), {"jsonrpc": "2.0", "id": "p", "method": "ping"}, taken_back)

    async def scenario(client: Client) -> None:
        await client.call_tool("t")
        assert (await server.answer("p"))["result"] == {}

    use(server, scenario, on_elicit=elicit)
    assert "q" not in server.answers


def test_a_call_does_not_time_out_while_its_question_is_open() -> None:
    clients: list[Client] = []
    answered: list[str] = []

    async def elicit(asked: Elicitation) -> dict[str, Any]:
        with pytest.raises(ClientError, match="did not answer x/silent"):
            await clients[0].request("x/silent")  # begun after the call, so its time is up later
        answered.append(asked.message)
        return {}

    async def silent(request: Request) -> Reply:
        return Reply([None])

    async def scenario(client: Client) -> None:
        clients.append(client)
        client._rpc.timeout = 0.1
        with pytest.raises(ClientError, match="did not answer tools/call"):
            await client.call_tool("t")
        assert answered == ["q"]

    server = Asking(question("q"), open_stream=True)
    server._methods["x_silent"] = silent
    use(server, scenario, on_elicit=elicit)


def test_a_stream_that_ends_before_the_reply_is_resumed_after_the_last_event() -> None:
    async def call(request: Request) -> Reply:
        return Reply([b"id: s-1\nretry: 1\ndata:\n\n"])

    server = Legacy(tools_call=call)
    rest = iter(
        [
            [b'id: s-2\ndata: {"jsonrpc":"2.0","method":"notifications/x"}\n\n', b"data: cut"],
            [b'data: {"jsonrpc":"2.0","id":3,"result":{"content":[]}}\n\n'],
        ]
    )
    resumed: list[str] = []

    async def script(request: Request) -> Reply:
        if request.verb != "GET":
            return await server(request)
        assert request.headers["mcp-session-id"] == "s1"
        assert request.headers["accept"] == "text/event-stream"
        resumed.append(request.headers["last-event-id"])
        return Reply(next(rest))

    async def scenario(client: Client) -> None:
        assert (await client.call_tool("t")).content == []

    use(script, scenario)
    assert resumed == ["s-1", "s-2"]


def test_a_listening_client_reopens_its_stream_and_subscribes_again_in_a_new_session() -> None:
    streams: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
    changed = b'id: e1\nretry: 1\ndata: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n'

    async def forget(request: Request) -> Reply:
        if request.headers["mcp-session-id"] == "s1":
            return Reply({}, 404)
        return Reply(result(request, {}))

    async def accept(request: Request) -> Reply:
        return Reply(result(request, {}))

    server = Legacy(ping=forget, resources_subscribe=accept, logging_setLevel=accept)

    async def script(request: Request) -> Reply:
        if request.verb != "GET":
            return await server(request)
        streams.put_nowait((request.headers["mcp-session-id"], request.headers.get("last-event-id")))
        return Reply([None] if "last-event-id" in request.headers else [changed])

    async def scenario(client: Client) -> None:
        assert await changes.get() == Change("tools")
        assert [await streams.get(), await streams.get()] == [("s1", None), ("s1", "e1")]
        await client.subscribe("config://x")
        await client.set_log_level("error")
        seen = len(server.requests)
        await asyncio.gather(client.request("ping"), client.request("ping"))
        assert await streams.get() == ("s2", None)
        again = [request.message for request in server.requests[seen:]]
        told = {message["method"]: message.get("params") for message in again}
        assert told["resources/subscribe"] == {"uri": "config://x"}
        assert told["logging/setLevel"] == {"level": "error"}
        assert [message["method"] for message in again].count("initialize") == 1

    changes: asyncio.Queue[Change] = asyncio.Queue()
    use(script, scenario, on_change=changes.put_nowait)


def test_a_client_that_listens_to_nothing_opens_no_stream() -> None:
    server = Legacy()

    async def scenario(client: Client) -> None:
        assert client.version == "2025-06-18"
        with pytest.raises(ClientError, match="the server does not announce changes of its lists; name resources"):
            async with client.listen():
                pytest.fail("it listens")

    use(server, scenario)
    assert "GET" not in server.seen()


def notice(method: str, listen: int | str, **params: Any) -> dict[str, Any]:
    meta = {META + "subscriptionId": listen}
    return {"jsonrpc": "2.0", "method": f"notifications/{method}", "params": {"_meta": meta, **params}}


ACKNOWLEDGED = notice("subscriptions/acknowledged", 2)


@pytest.mark.parametrize(
    ("tail", "error", "message"),
    [
        ([], ClientError, "closed the stream before"),
        ([{"jsonrpc": "2.0", "id": 2, "error": {"code": -32602, "message": "no such"}}], RpcError, "no such"),
        ([{"jsonrpc": "2.0", "id": 2, "result": {}}], StopAsyncIteration, "^$"),
    ],
)
def test_a_stream_of_changes_ends_or_raises_as_the_server_ends_it(
    tail: list[dict[str, Any]], error: type[Exception], message: str
) -> None:
    stray, change = notice("tools/list_changed", "2"), notice("resources/updated", 2, uri="config://x/y")

    async def scenario(client: Client) -> None:
        async with client.listen("config://x") as changes:
            assert await anext(changes) == Change("resource", "config://x/y")
            with pytest.raises(error, match=message):
                await anext(changes)

    server = Modern(lambda request: Reply([ACKNOWLEDGED, stray, change, change, *tail]))
    use(server, scenario)
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["config://x"]}
    assert server.requests[1].message["params"]["notifications"] == wanted


def test_a_refused_or_unacknowledged_stream_of_changes_raises_at_once() -> None:
    refusal = {"jsonrpc": "2.0", "id": 2, "error": {"code": 1000, "message": "no more than that"}}

    async def scenario(client: Client) -> None:
        with pytest.raises(RpcError, match="no more than that"):
            await client.subscribe("config://x")
        client._rpc.timeout = 0.05
        with pytest.raises(ClientError, match="did not answer subscriptions/listen"):
            await client.subscribe("config://x")

    use(Modern(lambda request: Reply(refusal, 429), lambda request: Reply([None])), scenario)


def test_a_client_that_takes_no_changes_learns_that_it_missed_some() -> None:
    many = [notice("resources/updated", 2, uri=f"config://x/{n}") for n in range(1025)]

    async def scenario(client: Client) -> None:
        async with client.listen("config://x") as changes:
            await all_came.wait()
            assert len({await anext(changes) for _ in range(1024)}) == 1024
            with pytest.raises(ClientError, match="more than 1024 changes were waiting"):
                await anext(changes)

    all_came = asyncio.Event()
    server = Modern(lambda request: Reply([ACKNOWLEDGED, *many, notice("message", 2, level="info"), None]))
    use(server, scenario, on_log=lambda log: all_came.set())


def test_the_log_says_when_on_change_gets_no_more_changes(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(client: Client) -> None:
        assert await heard.get() == Change("tools")

    heard: asyncio.Queue[Change] = asyncio.Queue()
    server = Modern(lambda request: Reply([ACKNOWLEDGED, notice("tools/list_changed", 2)]))
    use(server, scenario, on_change=heard.put_nowait)
    assert "on_change gets no more changes: the server closed the stream" in caplog.text


def tool(**properties: Any) -> dict[str, Any]:
    return {"name": "t", "inputSchema": {"type": "object", "properties": properties}}


def test_arguments_are_repeated_as_headers_once_the_schema_is_known(caplog: pytest.LogCaptureFixture) -> None:
    good = tool(
        city={"type": "string", "x-mcp-header": "City"},
        far={"type": "object", "properties": {"n": {"type": "boolean", "x-mcp-header": "Far-N"}}},
        none={"type": "integer", "x-mcp-header": "None"},
    )
    bad = tool(x={"type": "number", "x-mcp-header": "X"}) | {"name": "bad"}
    mismatch = {"jsonrpc": "2.0", "id": 2, "error": {"code": -32020, "message": "The header is missing."}}
    server = Modern(
        lambda request: Reply(mismatch, 400),
        lambda request: Reply(result(request, {"tools": [good, bad], "resultType": "complete"})),
        done,
        lambda request: Reply(result(request, {"tools": [good, bad], "resultType": "complete"})),
    )

    async def scenario(client: Client) -> None:
        assert (await client.call_tool("t", {"city": "Zürich", "far": {"n": True}, "none": None})).text == "done"
        assert [tool.name for tool in await client.list_tools()] == ["t"]

    use(server, scenario)
    repeated = {name: value for name, value in server.requests[3].headers.items() if name.startswith("mcp-param")}
    assert repeated == {"mcp-param-city": "=?base64?WsO8cmljaA==?=", "mcp-param-far-n": "true"}
    assert "the tool bad is left out: The argument x cannot have a header" in caplog.text
