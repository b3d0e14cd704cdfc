"""However a call or a stream ends, it counts towards no limit any more and holds no memory."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from portway import Context, Server, elicit
from portway.http.limits import Limits
from portway.transport.http_app import HttpApp
from tests.transport.http_client import MODERN, Events, Legacy, envelope, post, reply, request, served

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from portway.http.http_client import HttpClient, Response

CAN_BE_ASKED = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}


def make_server() -> Server:
    server = Server("endings", sessions=True)

    @server.tool(timeout=0.01)
    async def timed_out() -> None:
        await asyncio.Event().wait()

    @server.tool
    async def fail(ctx: Context) -> None:
        raise ValueError("a fault")

    @server.tool(scopes=["none-has"])
    async def forbidden() -> None: ...

    @server.tool
    async def wait(ctx: Context) -> str:
        await ctx.report_progress(1)
        await asyncio.Event().wait()
        return "never"

    @server.tool
    async def come_back(ctx: Context) -> str:
        await ctx.report_progress(1)
        await ctx.close_stream()
        return "there"

    @server.tool(asks=True)
    async def ask(ctx: Context) -> str:
        answers = await ctx.ask(one=elicit("One?", str), two=elicit("Two?", str))
        return f"{answers['one'].data} {answers['two'].data}"

    return server


async def modern(client: HttpClient, method: str, params: dict[str, Any], **headers: str) -> Response:
    named = {"mcp_name": params["name"]} if "name" in params else {}
    body = envelope(method, params, **CAN_BE_ASKED)
    return await post(client, body, mcp_protocol_version=MODERN, mcp_method=method, **named, **headers)


async def done(response: Response) -> None:
    await response.read(99_999)


async def asked(legacy: Legacy) -> tuple[Events, list[Any]]:
    events = Events(await legacy.call("ask"))
    return events, [await events.message(), await events.message()]


async def answered(legacy: Legacy) -> None:
    events, questions = await asked(legacy)
    for question in reversed(questions):
        key = next(iter(question["params"]["requestedSchema"]["properties"]))
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {key: key}}}
        assert (await legacy.raw(answer)).status == 202
        assert (await legacy.raw(answer)).status == 202, "a second time"
    assert (await events.message())["result"]["content"][0]["text"] == "one two"


async def refused_by_the_user(legacy: Legacy) -> None:
    events, questions = await asked(legacy)
    await legacy.raw({"jsonrpc": "2.0", "id": questions[0]["id"], "error": {"code": -1, "message": "no"}})
    given_up, final = await events.message(), await events.message()
    assert (given_up["method"], given_up["params"]["requestId"]) == ("notifications/cancelled", questions[1]["id"])
    assert final["result"]["isError"]


async def answered_by_no_response(legacy: Legacy) -> None:
    both = {"result": {"action": "accept", "content": {"one": "one"}}, "error": {"code": 1, "message": "no"}}
    for members in ({"error": "no"}, both):
        events, questions = await asked(legacy)
        assert (await legacy.raw({"jsonrpc": "2.0", "id": questions[0]["id"]} | members)).status == 400
        assert "not a JSON-RPC response" in json.dumps([await events.message(), await events.message()])


async def deleted_while_asking(legacy: Legacy) -> None:
    events, _ = await asked(legacy)
    assert (await request(legacy.client, "DELETE", **legacy.headers)).status == 204
    assert b"Request cancelled" in ((await events.rest())[-1].data or b"")


async def asked_after_the_delete(legacy: Legacy) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask"}}).encode()
    ended = asyncio.ensure_future(request(legacy.client, "DELETE", **legacy.headers))
    await asyncio.gather(ended, post(legacy.client, body, **legacy.headers))


async def cancelled(legacy: Legacy) -> None:
    events = Events(await legacy.call("wait", 7))
    await events.next()
    await legacy.send("notifications/cancelled", {"requestId": 7}, None)
    assert b"Request cancelled" in ((await events.rest())[-1].data or b"")


async def left_and_cancelled(legacy: Legacy) -> None:
    events = Events(await legacy.call("wait", 7))
    await events.next()
    await events.leave()
    await legacy.send("notifications/cancelled", {"requestId": 7}, None)


async def left_by_a_modern_client(legacy: Legacy) -> None:
    params = {"name": "wait", "_meta": {"progressToken": 1}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    meta = json.loads(envelope("x"))["params"]["_meta"] | {"progressToken": 1}
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "wait"}
    response = await post(legacy.client, json.dumps(body | {"params": params | {"_meta": meta}}).encode(), **headers)
    events = Events(response)
    await events.next()
    await events.leave()


async def fetched(legacy: Legacy) -> None:
    first = await Events(await legacy.call("come_back")).rest()
    final = await Events(await legacy.get(first[1].id.decode())).rest()
    assert b"there" in (final[-1].data or b"")


async def left_stream(legacy: Legacy) -> None:
    events = Events(await legacy.get())
    await events.next()
    await events.leave()


async def deleted_stream(legacy: Legacy) -> None:
    events = Events(await legacy.get())
    await events.next()
    await request(legacy.client, "DELETE", **legacy.headers)
    await events.rest()


async def left_listen(legacy: Legacy) -> None:
    filter_ = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["a://b"]}}
    events = Events(await modern(legacy.client, "subscriptions/listen", filter_))
    await events.next()
    await events.leave()


def plain(method: str, params: dict[str, Any], era: str = "both") -> Callable[[Legacy], Awaitable[None]]:
    async def ending(legacy: Legacy) -> None:
        if era != "modern":
            await done(await legacy.send(method, params))
        if era != "legacy":
            await done(await modern(legacy.client, method, params))

    return ending


ENDINGS: dict[str, Callable[[Legacy], Awaitable[Any]]] = {
    "a result": plain("tools/list", {}),
    "a fault": plain("tools/call", {"name": "fail"}),
    "a refusal": plain("tools/call", {"name": "forbidden"}),
    "no such tool": plain("tools/call", {"name": "nobody"}),
    "no such method": plain("nothing", {}),
    "its time is over": plain("tools/call", {"name": "timed_out"}),
    "a modern question": plain("tools/call", {"name": "ask"}, "modern"),
    "a bad initialize": plain("initialize", {}, "legacy"),
    "a bad filter": plain("subscriptions/listen", {"notifications": 1}, "modern"),
    "too long a URI": plain(
        "subscriptions/listen", {"notifications": {"resourceSubscriptions": ["x" * 5000]}}, "modern"
    ),
    "a listen nobody reads": lambda legacy: modern(
        legacy.client, "subscriptions/listen", {"notifications": {}}, accept="application/json"
    ),
    "a reply nobody knows": lambda legacy: legacy.get("0123456789abcdef-1-1"),
    "answers": answered,
    "no answer": refused_by_the_user,
    "an answer that is none": answered_by_no_response,
    "a session deleted while it asks": deleted_while_asking,
    "a session deleted": asked_after_the_delete,
    "cancelled": cancelled,
    "left and cancelled": left_and_cancelled,
    "left": left_by_a_modern_client,
    "fetched": fetched,
    "a stream left": left_stream,
    "a stream deleted": deleted_stream,
    "a listen left": left_listen,
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_however_a_call_ends_it_counts_towards_no_limit_any_more(ending: Callable[[Legacy], Awaitable[Any]]) -> None:
    application = HttpApp(make_server(), limits=Limits(calls=1, streams=1))

    async def free(attempt: Callable[[], Awaitable[Response]]) -> None:
        """Wait until the server has seen that a client has left."""
        async with asyncio.timeout(120):
            while (response := await attempt()).status == 503:
                await done(response)
        assert response.status == 200
        await response.close()

    async def scenario(_: str, client: HttpClient) -> None:
        legacy = await Legacy(client).initialize()
        await ending(await Legacy(client).initialize(elicitation={}))
        await free(lambda: legacy.send("ping"))
        await free(legacy.get)
        assert (await reply(await legacy.send("ping")))["result"] == {}

    served(scenario, application)
