"""What outlives a request over stdio: a legacy session, questions to its client, subscriptions of both eras."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from portway.sessions.change_bus import BURST_LIMIT
from portway.transport.stdio_connection import LISTEN_LIMIT
from tests.transport.stdio_client import ENVELOPE, Pipes, call, cancel, command, request

COMMAND = command("session_server.py")
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
ID = "io.modelcontextprotocol/subscriptionId"
TOOLS = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {}}


def updated(number: int, listen: int | str | None = None) -> dict[str, Any]:
    meta = {} if listen is None else {"_meta": {ID: listen}}
    params = {**meta, "uri": f"watched://{number}"}
    return {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params}


def subscribe(number: int, *, un: str = "") -> dict[str, Any]:
    return request(f"resources/{un}subscribe", {"uri": f"watched://{number}"})


def listen(id: int | str, *numbers: int, **lists: Any) -> dict[str, Any]:  # noqa: A002
    wanted = {**lists, "resourceSubscriptions": [f"watched://{number}" for number in numbers]}
    return request("subscriptions/listen", {"_meta": ENVELOPE, "notifications": wanted}, id=id)


def touch(number: int, last: int | None = None, **more: Any) -> Any:
    return call("touch", first=number, last=number + 1 if last is None else last, **more)


def opened(version: str = "2025-11-25", **capabilities: Any) -> Pipes:
    pipes = Pipes(*COMMAND)
    pipes.initialize(version, **capabilities)
    return pipes


def question(pipes: Pipes, id: int | str, **more: Any) -> Any:  # noqa: A002
    """Send the call `id`, and return the request it makes of the client."""
    asked = pipes.ask(
        call("ask", id=id, modern=False, method="elicitation/create", params={"message": str(id)}, **more)
    )
    assert (asked["method"], asked["params"]) == ("elicitation/create", {"message": str(id)})
    return asked


def answer(asked: dict[str, Any], **said: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": asked["id"], **said}


def value(reply: dict[str, Any]) -> Any:
    return reply["result"]["structuredContent"]


# The session


@pytest.mark.parametrize("asked", ["2026-07-28", "1999-01-01"])
def test_initialize_agrees_on_the_latest_legacy_revision_whatever_else_is_asked(asked: str) -> None:
    with Pipes(*COMMAND) as pipes:
        params = {"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        result = pipes.ask(request("initialize", params))["result"]
        assert result["protocolVersion"] == "2025-11-25"
        assert result["capabilities"]["resources"] == {"listChanged": True, "subscribe": True}
        assert result["capabilities"]["logging"] == {}


def test_a_legacy_client_hears_of_changes_once_initialized_and_of_resources_it_has_subscribed_to() -> None:
    with Pipes(*COMMAND) as pipes:
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        pipes.ask(request("initialize", params))
        assert pipes.ask(subscribe(1))["result"] == {}
        assert "result" in pipes.ask(touch(0, 3, modern=False))
        assert "result" in pipes.ask(request("ping"))
        pipes.send(INITIALIZED)
        assert pipes.receive() == updated(1)
        assert pipes.ask(call("grow", modern=False))["id"] == 1
        assert pipes.receive() == TOOLS
        assert pipes.ask(subscribe(1, un="un"))["result"] == {}
        pipes.send(touch(1, modern=False), request("ping", id="ping"))
        assert {pipes.receive()["id"], pipes.receive()["id"]} == {1, "ping"}


def test_log_messages_come_from_the_level_that_was_set() -> None:
    with opened() as pipes:
        logs = call("log", modern=False, levels=["debug", "info", "error"])
        pipes.send(logs)
        assert [pipes.receive().get("params", {}).get("level") for _ in range(3)] == ["info", "error", None]
        assert pipes.ask(request("logging/setLevel", {"level": "error"}))["result"] == {}
        pipes.send(logs)
        assert [pipes.receive().get("params", {}).get("level") for _ in range(2)] == ["error", None]
        assert pipes.ask(request("logging/setLevel", {"level": "loud"}))["error"]["code"] == -32602


def test_initialize_again_begins_a_new_session() -> None:
    with opened() as pipes:
        pipes.ask(subscribe(1))
        pipes.ask(request("logging/setLevel", {"level": "error"}))
        old = question(pipes, "old")
        modern = listen("modern", 1)
        assert pipes.ask(modern)["method"] == "notifications/subscriptions/acknowledged"
        pipes.send(
            request("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}}, id="old")
        )
        given_up, begun = sorted((pipes.receive() for _ in range(2)), key=lambda message: "result" in message)
        assert given_up["method"] == "notifications/cancelled"
        assert given_up["params"]["requestId"] == old["id"]
        assert begun["result"]["protocolVersion"] == "2025-06-18"
        pipes.send(INITIALIZED, answer(old, result={}), touch(1, modern=False))
        assert [pipes.receive() for _ in range(2)][1] == updated(1, "modern"), "the modern subscription only"
        pipes.send(call("log", id=7, modern=False, levels=["info"]))
        assert [pipes.receive().get("params", {}).get("level") for _ in range(2)] == ["info", None]


# Questions


def test_questions_are_asked_while_the_calls_go_on_and_answered_in_any_order() -> None:
    with opened(elicitation={}) as pipes:
        first, second = question(pipes, "a"), question(pipes, "b")
        assert pipes.ask(request("ping", id="p")) == {"jsonrpc": "2.0", "id": "p", "result": {}}
        assert [value(pipes.ask(answer(asked, result={"n": n}))) for n, asked in ((2, second), (1, first))] == [
            {"n": 2},
            {"n": 1},
        ]


def test_a_question_answered_with_an_error_fails_the_call() -> None:
    with opened() as pipes:
        for error, told in (
            ({"code": -1, "message": "User rejected"}, "User rejected"),
            ("no", "not a JSON-RPC response"),
        ):
            reply = pipes.ask(answer(question(pipes, 5), error=error))
            assert (reply["id"], told in str(reply)) == (5, True)


def test_a_cancelled_call_takes_its_question_back_and_no_late_answer_is_heard() -> None:
    with opened() as pipes:
        asked = question(pipes, 5)
        taken_back = pipes.ask(cancel(5))
        assert taken_back["method"] == "notifications/cancelled"
        assert taken_back["params"]["requestId"] == asked["id"]
        pipes.send(answer(asked, result={}), {"jsonrpc": "2.0", "id": 77, "result": {}})
        assert value(pipes.ask(answer(question(pipes, 5), result={"again": 1}))) == {"again": 1}


def test_cancelling_a_call_cancels_all_its_questions() -> None:
    with opened(elicitation={}, roots={}) as pipes:
        pipes.send(call("ask_two", id=5, modern=False))
        asked = {pipes.receive()["id"], pipes.receive()["id"]}
        pipes.send(cancel(5))
        assert {pipes.receive()["params"]["requestId"], pipes.receive()["params"]["requestId"]} == asked
        assert pipes.ask(request("ping", id="p"))["id"] == "p"


def test_a_question_in_a_batch_is_asked_at_once_and_may_be_answered_in_one() -> None:
    with opened("2025-03-26") as pipes:
        pipes.send([call("ask", id=1, modern=False, method="roots/list", params={}), request("ping", id=2)])
        pipes.send([answer(pipes.receive(), result={"roots": []})])
        assert {reply["id"] for reply in pipes.receive()} == {1, 2}


def test_a_client_that_leaves_with_questions_open_ends_the_server() -> None:
    with opened() as pipes:
        question(pipes, 5)
        assert pipes.close_input() == 0


def test_a_modern_client_is_sent_no_request() -> None:
    with opened() as pipes:
        reply = pipes.ask(call("ask", method="roots/list", params={}))
        assert reply["id"] == 1
        assert "This call has no client that could be asked." in str(reply)


# Subscriptions


def test_a_subscription_is_acknowledged_then_fed_and_ends_in_silence_when_cancelled() -> None:
    with opened() as pipes:
        ack = pipes.ask(listen("s", 1, 1, toolsListChanged=True, promptsListChanged=False, taskIds=["x"]))
        assert ack["method"] == "notifications/subscriptions/acknowledged"
        honoured = {"toolsListChanged": True, "resourceSubscriptions": ["watched://1"]}
        assert ack["params"] == {"_meta": {ID: "s"}, "notifications": honoured}
        assert pipes.ask(listen(7, 2))["params"]["_meta"] == {ID: 7}
        pipes.send(touch(0, 9, id="touch"))
        assert sorted((pipes.receive() for _ in range(3)), key=str) == sorted(
            [updated(1, "s"), updated(2, 7), {**value_of_none("touch")}], key=str
        )
        pipes.send(call("grow", id="grow", modern=False))
        methods = [pipes.receive() for _ in range(3)]
        assert {**TOOLS, "params": {"_meta": {ID: "s"}}} in methods
        assert TOOLS in methods, "the legacy client of the same pipe hears of it too"
        pipes.send(cancel("s"), touch(0, 9, id="touch"))
        assert [pipes.receive() for _ in range(2)][1] == updated(2, 7)
        assert pipes.ask(listen("s", 3))["params"]["_meta"] == {ID: "s"}, "the id is free again"


def value_of_none(id: str) -> dict[str, Any]:  # noqa: A002
    """Return the modern reply of a tool that returns nothing."""
    info = {"io.modelcontextprotocol/serverInfo": {"name": "fixture", "version": "0.1.0"}}
    result = {"content": [], "isError": False, "resultType": "complete", "_meta": info}
    return {"jsonrpc": "2.0", "id": id, "result": result}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"notifications": []},
        {"notifications": None},
        {"notifications": {"toolsListChanged": "yes"}},
        {"notifications": {"resourceSubscriptions": "a://1"}},
        {"notifications": {"resourceSubscriptions": [1]}},
        {"notifications": {"resourceSubscriptions": ["a" * 5000]}},
    ],
)
def test_a_bad_filter_is_refused(quiet: Pipes, params: dict[str, Any]) -> None:
    reply = quiet.ask(request("subscriptions/listen", {"_meta": ENVELOPE, **params}))
    assert (reply["id"], reply["error"]["code"]) == (1, -32602)


def test_a_filter_may_be_empty_or_null(quiet: Pipes) -> None:
    for number, wanted in enumerate(({}, {"toolsListChanged": None, "resourceSubscriptions": None})):
        params = {"_meta": ENVELOPE, "notifications": wanted}
        assert quiet.ask(request("subscriptions/listen", params, id=number))["params"]["notifications"] == {}
        quiet.send(cancel(number))


def test_subscriptions_are_counted(quiet: Pipes) -> None:
    ids = [f"s{number}" for number in range(LISTEN_LIMIT)]
    assert {quiet.ask(listen(id))["method"] for id in ids} == {"notifications/subscriptions/acknowledged"}  # noqa: A001
    text = f"No more than {LISTEN_LIMIT} subscriptions are served at a time; cancel one first."
    assert quiet.ask(listen("more"))["error"]["message"] == text
    quiet.send(*map(cancel, ids))
    assert "error" not in quiet.ask(listen("more"))


def test_a_legacy_session_has_no_subscriptions_listen() -> None:
    with opened() as pipes:
        bare = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        assert pipes.ask(bare)["error"]["code"] == -32601


def test_when_the_client_leaves_its_subscriptions_are_cancelled_then_answered() -> None:
    with Pipes(*COMMAND) as pipes:
        for id in (1, "two"):  # noqa: A001
            pipes.ask(listen(id, toolsListChanged=True))
        assert pipes.close_input() == 0
        ends = [pipes.receive() for _ in range(4)]
        for id in (1, "two"):  # noqa: A001
            cancelled, result = (message for message in ends if id in (message.get("id"), said(message, "requestId")))
            assert cancelled["method"] == "notifications/cancelled"
            assert cancelled["params"]["reason"] == "The server stops."
            assert result["result"]["resultType"] == "complete"
            assert result["result"]["_meta"][ID] == id


def test_a_client_that_does_not_read_its_notifications_loses_the_subscription() -> None:
    with Pipes(*COMMAND) as pipes:
        assert pipes.process.stderr
        pipes.ask(listen("slow", *range(400)))
        pipes.send(call("repeat", id="big", text="x", times=500_000))
        for number in range(BURST_LIMIT + 2):
            pipes.send(touch(number, 400 if number > BURST_LIMIT else number + 1, id=number))
            while b"touched" not in pipes.process.stderr.readline():
                pass
        received: list[Any] = []
        while not received or received[-1].get("id") != "slow":
            received.append(pipes.receive())
        assert received[-2]["params"]["reason"] == "The client took its notifications too slowly."
        assert updated(0, "slow") in received
        assert updated(399, "slow") not in received
        pipes.send(touch(1, id=3))
        assert pipes.receive()["id"] == 3


def said(message: dict[str, Any], name: str) -> Any:
    return message.get("params", {}).get(name)


@pytest.fixture(scope="module")
def quiet() -> Any:
    """A server for several tests in turn, each of which leaves it as it was."""
    with Pipes(*COMMAND) as pipes:
        yield pipes


def test_the_lifespan_spans_the_connection() -> None:
    with opened() as pipes:
        assert pipes.close_input() == 0
        assert pipes.process.stderr
        assert pipes.process.stderr.read().endswith(b"closed\n")
    with Pipes(*COMMAND, env={"FAIL": "1"}) as pipes:
        assert pipes.process.wait(120) == 1
        assert pipes.process.stderr
        told = pipes.process.stderr.read().decode()
        assert "portway: the lifespan of fixture raised ValueError: no database\n" in told


# The official client


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")  # what the modern era has no more
def test_the_official_client_answers_questions_logs_and_hears_of_changes() -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def elicit(_: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"said": params.message})

    async def sample(_: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        content = types.TextContent(type="text", text=f"{params.max_tokens} words")
        return types.CreateMessageResult(role="assistant", content=content, model="m")

    async def roots(_: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri="file:///a")])

    async def hear(message: Any) -> None:
        await heard.put(message)

    schema = {"type": "object", "properties": {"said": {"type": "string"}}}
    questions: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "elicitation/create": (
            {"message": "hm?", "requestedSchema": schema},
            {"action": "accept", "content": {"said": "hm?"}},
        ),
        "sampling/createMessage": (
            {"messages": [], "maxTokens": 3},
            {"role": "assistant", "content": {"type": "text", "text": "3 words"}, "model": "m"},
        ),
        "roots/list": ({}, {"roots": [{"uri": "file:///a"}]}),
    }

    async def scenario() -> None:
        client = Client(
            stdio_client(StdioServerParameters(command=COMMAND[0], args=COMMAND[1:])),
            mode="legacy",
            client_info=types.Implementation(name="official", version="2"),
            elicitation_callback=elicit,
            sampling_callback=sample,
            list_roots_callback=roots,
            message_handler=hear,
        )
        async with asyncio.timeout(120), client:
            for method, (params, expected) in questions.items():
                result = await client.call_tool("ask", {"method": method, "params": params})
                assert result.structured_content
                assert {key: result.structured_content[key] for key in expected} == expected
            assert (await client.call_tool("who", {})).content[0].text == "official 2"  # type: ignore[union-attr]
            await client.subscribe_resource("watched://4")
            await client.call_tool("touch", {"first": 0, "last": 9})
            note = await heard.get()
            assert isinstance(note, types.ResourceUpdatedNotification)
            assert note.params.uri == "watched://4"
            await client.call_tool("grow", {})
            assert isinstance(await heard.get(), types.ToolListChangedNotification)
            await client.set_logging_level("warning")
            await client.call_tool("log", {"levels": ["info", "error"]})
            message = await heard.get()
            assert isinstance(message, types.LoggingMessageNotification)
            assert (message.params.level, message.params.data) == ("error", "a text of error")

    asyncio.run(scenario())


def test_the_official_client_subscribes_in_the_modern_era() -> None:
    async def scenario() -> None:
        client = Client(stdio_client(StdioServerParameters(command=COMMAND[0], args=COMMAND[1:])))
        async with asyncio.timeout(120), client:
            for _ in range(2):
                async with client.listen(tools_list_changed=True, resource_subscriptions=["watched://4"]) as stream:
                    await client.call_tool("touch", {"first": 0, "last": 9})
                    assert "watched://4" in str(await anext(stream))
                    await client.call_tool("grow", {})
                    assert "ToolsListChanged" in type(await anext(stream)).__name__

    asyncio.run(scenario())
