"""Calls that the user confirms at the gate: real servers of two frameworks, the official client, and a scripted one."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitResult

from portway import Context, Server
from portway.host import routing_table
from portway.http.event_stream import EventParser
from portway.http.host_and_origin import Guard
from portway.http.limits import Limits
from portway.policy.rules import PolicyRule, ToolHints
from portway.transport.http_app import HttpApp
from tests.gate.running_gate import META, Rig, Seen, Upstream, call, echo, modern, prepare, result, running
from tests.http.running_listener import Listener
from tests.support import eventually, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from portway.http.http_client import Response

RULES = [
    PolicyRule(tool="delete", confirm="Delete {who}?"),
    PolicyRule(tool="ask", confirm="Ask {whom}?"),
    PolicyRule(tool="fail", confirm=True),
]
KINDS = ["own", pytest.param("official", marks=pytest.mark.slow)]
ERAS = ["legacy", "2026-07-28"]
CAPABLE = META | {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
YES = {"action": "accept", "content": {}}
ACCEPTS = (b"accept", b"application/json, text/event-stream")


OFFICIAL = """
import sys
from pathlib import Path
from typing import Annotated
from mcp.server import MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel

server = MCPServer("official")

class Why(BaseModel):
    why: str

@server.tool()
def delete(who: str) -> str:
    with Path(sys.argv[2]).open("a") as ran:
        ran.write(who + "\\n")
    return f"{who} is gone"

def ask_why() -> Elicit[Why]:
    return Elicit("And why?", Why)

@server.tool()
async def ask(answer: Annotated[Why, Resolve(ask_why)]) -> str:
    return f"because {answer.why}"

@server.tool()
def fail() -> str:
    raise ValueError

security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]), transport_security=security)
"""


def own(ran: Path) -> HttpApp:
    server = Server("own", sessions=True)

    @server.tool
    def delete(who: str) -> str:
        with ran.open("a") as file:
            file.write(who + "\n")
        return f"{who} is gone"

    @server.tool(asks=True)
    async def ask(ctx: Context) -> str:
        return f"because {(await ctx.elicit('And why?', str)).data}"

    @server.tool
    def fail() -> str:
        raise ValueError

    return HttpApp(server, guard=Guard(["a.localhost"]))


@contextmanager
def serving(kind: str, ran: Path) -> Iterator[str]:
    """The URL of a server whose tool writes the names that it deletes to `ran`."""
    ran.touch()
    if kind == "own":
        listener = Listener(own(ran), Limits())
        try:
            yield listener.url
        finally:
            listener.stop()
            listener.join()
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with started(sys.executable, "-c", OFFICIAL, str(port), ran, ready="Uvicorn running"):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def confirming(
    directory: Path, address: str, *, foreign: bool, rules: list[PolicyRule] = RULES
) -> AsyncIterator[Rig]:
    """A gate whose apps have the rules, before the server at an address."""
    paths = prepare(directory, [address], foreign=foreign)
    write(paths.routes, 2, rules=rules)
    async with running(paths) as gate:
        yield gate


def write(routes: Path, version: int, *off: str, rules: list[PolicyRule] = RULES) -> None:
    table, hints = routing_table.load(routes), {rule.tool: ToolHints() for rule in rules}
    policies = routing_table.AppPolicies(rules, hints, list(off))
    apps = {name: msgspec.structs.replace(app, policies=policies) for name, app in table.apps.items()}
    routing_table.save(routes, msgspec.structs.replace(table, version=version, apps=apps))


def talk(directory: Path, kind: str, mode: str, answer: Any, *calls: tuple[str, dict[str, object]]) -> Any:
    """Return the texts of results of calls by the official client, what its user was shown, and what ran."""
    shown: list[str] = []
    directory.mkdir(exist_ok=True)
    ran = directory / "ran"

    async def elicit(_context: object, params: Any) -> ElicitResult:
        shown.append(params.message)
        return answer(params.message)

    async def run(url: str) -> list[str]:
        given = {} if answer is None else {"elicitation_callback": elicit}
        async with AsyncExitStack() as stack:
            gate = await stack.enter_async_context(confirming(directory, url, foreign=kind == "official"))
            headers = {"authorization": "Bearer secret"}
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=120))
            transport = streamable_http_client(f"{gate.url}/a/mcp", http_client=http)
            client = await stack.enter_async_context(Client(transport, mode=mode, read_timeout_seconds=20, **given))
            texts: list[str] = []
            for name, arguments in calls:
                try:
                    texts.append((await client.call_tool(name, arguments)).content[0].text)
                except Exception as error:  # noqa: BLE001 - what the client raises is compared
                    texts.append(str(error))
            return texts

    with serving(kind, ran) as url:
        texts = asyncio.run(run(url))
    return texts, shown, ran.read_text().split()


def accept(message: str) -> ElicitResult:
    return ElicitResult(action="accept", content={"value": "rain", "why": "rain"} if message == "And why?" else {})


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_user_sees_each_call_and_it_is_passed_on_when_they_agree(kind: str, mode: str, tmp_path: Path) -> None:
    calls = [("delete", {"who": "ada\u202e"}), ("ask", {}), ("fail", {}), ("delete", {"who": "bob"})]
    texts, shown, ran = talk(tmp_path, kind, mode, accept, *calls)
    asked = "Ask {whom: not given}?\n\nTool: ask\nArguments: {}"
    assert shown[:2] == ['Delete ada\\u202e?\n\nTool: delete\nArguments: {"who": "ada\\u202e"}', asked]
    assert shown[2] == "And why?"
    assert "Run this tool?\n\nTool: fail\nArguments: {}" in shown
    assert (texts[0], texts[1], texts[3]) == ("ada\u202e is gone", "because rain", "bob is gone")
    assert "fail" in texts[2]
    assert ran == ["ada\u202e", "bob"]


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_is_not_confirmed_or_cannot_be_does_not_reach_the_app(kind: str, mode: str, tmp_path: Path) -> None:
    declined = talk(
        tmp_path / "declined", kind, mode, lambda _: ElicitResult(action="decline"), ("delete", {"who": "ada"})
    )
    assert declined[0] == ["delete was not run: the user did not confirm it (decline)."]
    long = talk(tmp_path / "long", kind, mode, accept, ("delete", {"who": "x" * 5000}))
    assert "they are too long to be confirmed by the user" in long[0][0]
    unable = talk(tmp_path / "unable", kind, mode, None, ("delete", {"who": "ada"}))
    assert "delete must be confirmed by the user, and the client does not declare: elicitation." in unable[0][0]
    assert declined[2] == long[2] == unable[2] == []


def test_an_answer_is_good_once_for_the_same_caller_tool_and_arguments(tmp_path: Path) -> None:
    upstream = Upstream(echo)

    def request(name: str, argument: str, **more: object) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        body, headers = modern(1, name, who=argument)
        message = json.loads(body)
        message["params"] |= {"_meta": CAPABLE} | more
        return json.dumps(message).encode(), headers

    async def test(gate: Rig) -> None:
        async def send(token: str, name: str, argument: str, **more: object) -> dict[str, Any]:
            body, headers = request(name, argument, **more)
            return (await gate.answer(body, *headers, token=token))[1]

        # What the client sends for questions of the app is kept for it.
        asked = (await send("secret", "delete", "ada", requestState="the app's", inputResponses={"q": YES}))["result"]
        assert asked["resultType"] == "input_required"
        key, state = next(iter(asked["inputRequests"])), asked["requestState"]
        given = {"requestState": state, "inputResponses": {key: YES}}
        for token, name, argument in (
            ("other", "delete", "ada"),
            ("secret", "ask", "ada"),
            ("secret", "delete", "bob"),
        ):
            error = (await send(token, name, argument, **given))["error"]
            assert (
                error["message"]
                == "params.requestState is not as this host gave it for this call; start the call without it."
            )
        assert "the user did not confirm it (no answer)" in str(
            await send("secret", "delete", "ada", requestState=state)
        )
        assert "requestState is not as" in str(
            await send("secret", "delete", "ada", **given | {"requestState": state[:-1] + "x"})
        )
        assert (await send("secret", "delete", "ada", inputResponses={key: YES}))["result"][
            "resultType"
        ] == "input_required"
        assert upstream.requests == []
        echoed = (await send("secret", "delete", "ada", **given))["result"]["echo"]
        assert (echoed["requestState"], echoed["inputResponses"], echoed["arguments"]) == (
            "the app's",
            {"q": YES},
            {"who": "ada"},
        )
        error = (await send("secret", "delete", "ada", **given))["error"]
        assert (
            error["message"] == "This confirmation has been used, or is too old; start the call without requestState."
        )
        assert len(upstream.requests) == 1
        assert "Invalid params" in (await send("secret", "delete", "ada", requestState=5))["error"]["message"]
        large = "x" * 70_000
        assert "come to more than" in str(await send("secret", "delete", "ada", requestState=large))
        notice = b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"delete"}}'
        text = "delete must be confirmed by the user: call it by a request with an id."
        assert (await gate.answer(notice))[1]["error"]["message"] == text
        # A legacy client is asked within a session only.
        no_session = (await gate.answer(call(1, "delete", who="ada")))[1]["result"]
        assert (
            no_session["content"][0]["text"] == "delete must be confirmed by the user, and the client has no session."
        )

    async def run() -> None:
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, confirming(tmp_path, address, foreign=False) as gate:
            await test(gate)

    asyncio.run(run())


def test_a_confirmation_outlives_a_refusal_of_a_call_that_is_one_too_many(tmp_path: Path) -> None:
    arrived, end = asyncio.Event(), asyncio.Event()

    async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await end.wait()
        writer.write(result(seen, {}))

    async def test(gate: Rig) -> None:
        async def send(**more: object) -> tuple[int, dict[str, Any]]:
            body, headers = modern(1, "delete", who="ada")
            message = json.loads(body)
            message["params"] |= {"_meta": CAPABLE} | more
            return await gate.answer(json.dumps(message).encode(), *headers)

        async def confirmed() -> dict[str, object]:
            asked = (await send())[1]["result"]
            return {"requestState": asked["requestState"], "inputResponses": {next(iter(asked["inputRequests"])): YES}}

        first, second = await confirmed(), await confirmed()
        running_call = asyncio.create_task(send(**first))
        await arrived.wait()
        for refused in (await send(**second), await send()):  # this one, before the user is asked
            assert (refused[0], "delete takes at most 1 call of a caller at a time" in str(refused[1])) == (429, True)
        end.set()
        assert "result" in (await running_call)[1]
        assert "result" in (await send(**second))[1], "the user need not confirm it again"
        third, fourth = await confirmed(), await confirmed()
        assert "This confirmation has been used" in str(await send(**second)), "which uses nothing of the rate up"
        assert "result" in (await send(**third))[1]
        assert "delete takes at most 3 calls per day" in str(await send(**fourth))

    async def run() -> None:
        server = await asyncio.start_server(Upstream(held).serve, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        limited = [PolicyRule(tool="delete", confirm=True, concurrency=1, rate="3/day")]
        async with server, confirming(tmp_path, address, foreign=False, rules=limited) as gate:
            await test(gate)

    asyncio.run(asyncio.wait_for(run(), 30))


async def opened(gate: Rig, token: str) -> tuple[bytes, bytes]:
    """The header of a new legacy session whose client can be asked."""
    info = {"name": "t", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": info}
    body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).encode()
    response = await gate.post(body, token=token)
    await response.read(9999)
    return b"mcp-session-id", response.header(b"mcp-session-id")


async def ask(gate: Rig, session: tuple[bytes, bytes], number: int) -> tuple[Response, EventParser, str]:
    """Make a call that is to be confirmed; return the rest of the reply and the id of the question."""
    response = await gate.post(call(number, "delete", who="ada"), session, ACCEPTS)
    parser = EventParser(99_999)
    (event,) = parser.feed(await anext(response.chunks()))
    question = json.loads(event.data)
    assert question["method"] == "elicitation/create"
    return response, parser, question["id"]


async def rest(response: Response, parser: EventParser) -> list[dict[str, Any]]:
    """The messages of a reply after the question."""
    found = [event async for chunk in response.chunks() for event in parser.feed(chunk)]
    return [json.loads(event.data) for event in found if event.data]


def answer(question: str, result: object = YES) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": question, "result": result}).encode()


def test_a_legacy_call_counts_when_it_is_passed_on_and_its_question_ends_with_its_client(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    async def test(gate: Rig) -> None:
        mine = await opened(gate, "secret")
        replies = [await ask(gate, mine, number) for number in range(1, 5)]
        questions = [question for _, _, question in replies]
        declined, left, accepted, late = (reply[:2] for reply in replies)
        await gate.post(answer(questions[0], {"action": "decline"}), mine)
        assert "did not confirm it" in str(await rest(*declined))
        await left[0].close()
        await asyncio.to_thread(eventually, lambda: outcomes(gate).count("cancelled") == 1)
        await gate.post(answer(questions[1]), mine)  # too late: nothing waits for it
        assert ran.read_text() == ""
        await gate.post(answer(questions[2]), mine)
        assert "ada is gone" in str(await rest(*accepted))
        await gate.post(answer(questions[3]), mine)
        assert "delete takes at most 1 call per day of a caller" in str(await rest(*late))
        status, body = await gate.answer(call(6, "delete", who="ada"), mine, ACCEPTS)
        assert (status, "delete takes at most 1 call per day" in str(body)) == (429, True), "nobody is asked"
        assert ran.read_text() == "ada\n"

    def outcomes(gate: Rig) -> list[str]:
        return [line.get("outcome", "") for line in gate.lines()]

    async def run(url: str) -> None:
        limited = [PolicyRule(tool="delete", confirm=True, concurrency=1, rate="1/day")]
        async with confirming(tmp_path, url, foreign=False, rules=limited) as gate:
            await test(gate)

    with serving("own", ran) as url:
        asyncio.run(run(url))


def test_a_legacy_answer_counts_in_its_session_alone_and_a_cancelled_call_is_not_passed_on(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    async def test(gate: Rig) -> None:
        mine, others = await opened(gate, "secret"), await opened(gate, "secret")
        foreign = await opened(gate, "other")

        response, parser, question = await ask(gate, mine, 1)
        assert (await gate.post(answer(question), others)).status == 202
        assert (await gate.post(answer(question), foreign, token="other")).status == 202
        assert ran.read_text() == ""
        assert (await gate.post(answer(question), mine)).status == 202
        (reply,) = await rest(response, parser)
        assert (reply["id"], reply["result"]["content"][0]["text"]) == (1, "ada is gone")
        assert (await gate.post(answer(question), mine)).status == 202  # too late: nothing waits for it
        response, parser, question = await ask(gate, mine, 2)
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}
        assert (await gate.post(json.dumps(cancelled).encode(), mine)).status == 202
        (reply,) = await rest(response, parser)
        assert reply["error"]["message"] == "Request cancelled"
        await gate.post(answer(question), mine)
        # A policy that changes while the user thinks is kept.
        response, parser, question = await ask(gate, mine, 4)
        write(gate.paths.routes, 3, "delete")
        await gate.op(op="table")
        assert (await gate.post(answer(question), mine)).status == 202
        (reply,) = await rest(response, parser)
        assert reply["error"]["message"] == "Unknown tool: delete. It is switched off on this host."
        write(gate.paths.routes, 4)
        await gate.op(op="table")
        # An answer that is no JSON-RPC ends the wait, too.
        response, parser, question = await ask(gate, mine, 5)
        await gate.post(b'{"jsonrpc":"2.0","id":%b}' % json.dumps(question).encode(), mine)
        (reply,) = await rest(response, parser)
        assert "did not confirm it (no answer)" in reply["result"]["content"][0]["text"]
        without_stream = (await gate.answer(call(3, "delete", who="ada"), mine, (b"accept", b"application/json")))[1]
        text = "delete must be confirmed by the user, and the client takes no text/event-stream."
        assert without_stream["result"]["content"][0]["text"] == text
        assert ran.read_text() == "ada\n"

    async def run(url: str) -> None:
        async with confirming(tmp_path, url, foreign=False) as gate:
            await test(gate)

    with serving("own", ran) as url:
        asyncio.run(run(url))
