"""Event streams over HTTP: a session's own, replies fetched after a loss, and what a modern client listens to."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from portway import Context, Server
from portway.http.event_stream import Event
from portway.http.http_client import HttpClient
from portway.protocol.errors import RpcError
from portway.transport.http_app import HttpApp
from tests.support import SCRIPTS, started
from tests.transport.http_client import MODERN, Events, Legacy, envelope, post, reply, request, served

if TYPE_CHECKING:
    from pathlib import Path

    from portway.http.http_client import Response


QUESTION = {
    "message": "Name?",
    "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
}


class Fixture:
    """A server with a tool that the test directs."""

    def __init__(self) -> None:
        self.server = server = Server("streams", sessions=True)
        self.app = HttpApp(server)
        self.steps: asyncio.Queue[str] = asyncio.Queue()

        @server.tool
        async def steps(ctx: Context) -> str:
            """Take words from the test: `say`, `close` the stream, or anything else as the result."""
            told = 0
            while (step := await self.steps.get()) in ("say", "close"):
                told += 1
                await (ctx.report_progress(told) if step == "say" else ctx.close_stream(7))
            if step == "refuse":
                raise RpcError(-32602, "no")
            return step

        @server.tool
        async def ask(ctx: Context) -> str:
            result = await ctx._exchange.channel.ask("elicitation/create", msgspec.json.encode(QUESTION))
            return msgspec.json.decode(result)["content"]["name"]

        @server.resource("test://{name}")
        async def data(name: str) -> str:
            return name

    def tell(self, *steps: str) -> None:
        for step in steps:
            self.steps.put_nowait(step)

    def serve(self, scenario: Any) -> None:
        async def with_legacy(_: str, client: HttpClient) -> None:
            await scenario(await Legacy(client).initialize())

        served(with_legacy, self.app)


def text(message: Any) -> str:
    found: str = message["result"]["content"][0]["text"]
    return found


async def nothing() -> str:
    return ""


def progress(event: Event | None) -> int:
    assert event is not None
    found: int = json.loads(event.data)["params"]["progress"]
    return found


def test_a_sessions_stream_brings_each_change_that_was_subscribed_to_once() -> None:
    fixture = Fixture()

    async def scenario(legacy: Legacy) -> None:
        await legacy.send("resources/subscribe", {"uri": "test://wanted"})
        await legacy.send("resources/subscribe", {"uri": "test://dropped"})
        await legacy.send("resources/unsubscribe", {"uri": "test://dropped"})
        older = Events(await legacy.get())
        newer = Events(await legacy.get())
        for uri in ("test://dropped", "test://wanted", "test://wanted"):
            fixture.server.resource_updated(uri)
        fixture.server.tool(name="added")(nothing)
        primed, updated, listed = [await newer.next() for _ in range(3)]
        assert primed == Event(b"", primed.id)
        assert primed.id
        assert json.loads(updated.data) == {
            "jsonrpc": "2.0",
            "method": "notifications/resources/updated",
            "params": {"uri": "test://wanted"},
        }
        assert json.loads(listed.data)["method"] == "notifications/tools/list_changed"
        assert len({primed.id, updated.id, listed.id}) == 3
        await newer.leave()

        again = Events(await legacy.get(updated.id.decode()))
        assert (await again.next(), await again.next()) == (Event(b"", updated.id), listed)
        await again.leave()
        fixture.server.resource_updated("test://wanted")  # while perhaps nobody is there
        last = Events(await legacy.get(listed.id.decode()))
        assert (await last.message())["params"] == {"uri": "test://wanted"}

        await request(legacy.client, "DELETE", **legacy.headers)
        assert (await older.rest()) == [Event(b"", primed.id)]
        assert (await last.rest()) == []

    fixture.serve(scenario)


@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18"])
def test_a_streamed_reply_has_event_ids_and_from_2025_11_25_on_starts_with_an_empty_event(version: str) -> None:
    fixture = Fixture()

    async def scenario(modern: Legacy) -> None:
        legacy = await Legacy(modern.client, version).initialize()
        streams = []
        for request_id in (1, 2):
            fixture.tell("say", "close" if version == "2025-06-18" else "say", "done")
            streams.append(await Events(await legacy.call("steps", request_id)).rest())
        for request_id, events in enumerate(streams, 1):
            if version == "2025-11-25":
                assert not events.pop(0).data
            assert json.loads(events[-1].data)["id"] == request_id
        ids = [event.id for events in streams for event in events]
        assert all(ids)
        assert len(set(ids)) == len(ids)

        unprimed = Legacy(legacy.client, mcp_protocol_version=version)
        del legacy.headers["mcp_session_id"]
        assert (await unprimed.call("steps")).status == 400

    fixture.serve(scenario)


def test_without_a_session_events_have_no_ids_and_a_stream_is_not_ended_early() -> None:
    fixture = Fixture()
    fixture.server.sessions = "auto"
    fixture.app = HttpApp(fixture.server)
    fixture.tell("say", "close", "say", "done")

    async def scenario(legacy: Legacy) -> None:
        events = await Events(await Legacy(legacy.client).call("steps")).rest()
        assert [event.id for event in events] == [b"", b"", b""]
        assert text(json.loads(events[-1].data)) == "done"
        refused = await reply(await Legacy(legacy.client).call("ask"))
        assert "needs a session" in refused["error"]["message"]

    fixture.serve(scenario)


def test_a_stream_ended_early_is_resumed_by_its_last_event_id() -> None:
    fixture = Fixture()

    async def scenario(legacy: Legacy) -> None:
        fixture.tell("say", "close", "say")
        first = await Events(await legacy.call("steps")).rest()
        assert [event.retry for event in first] == [None, None, 7]
        assert progress(first[1]) == 1
        second = Events(await legacy.get(first[1].id.decode()))
        assert (await second.next()).id == first[1].id  # primed again
        assert progress(await second.next()) == 3
        fixture.tell("close")
        assert [event.retry for event in await second.rest()] == [7]
        fixture.tell("say", "done")
        third = await Events(await legacy.get(first[1].id.decode())).rest()
        assert [progress(event) for event in third[1:-1]] == [3, 5], "all that came after the event it names"
        assert text(json.loads(third[-1].data)) == "done"

    fixture.serve(scenario)


def test_a_reply_lost_on_its_way_is_fetched_and_no_other_streams_events_are() -> None:
    fixture = Fixture()

    async def scenario(legacy: Legacy) -> None:
        fixture.tell("say")
        lost = Events(await legacy.call("steps", "lost"))
        await lost.next()
        said = await lost.next()
        assert said is not None
        await lost.leave()
        fixture.tell("say", "found")
        resumed = Events(await legacy.get(said.id.decode()))
        assert (await resumed.message())["params"]["progress"] == 2
        final = await resumed.message()
        assert (final["id"], text(final)) == ("lost", "found")
        assert await resumed.next() is None

        fixture.tell("say", "refuse")
        other = await Events(await legacy.call("steps", "other")).rest()
        error = json.loads(other[-1].data)
        assert (error["id"], error["error"]["code"]) == ("other", -32602)
        assert (await legacy.get(other[-1].id.decode())).status == 204, "nothing comes after the reply"
        replayed = await Events(await legacy.get(said.id.decode())).rest()
        assert [json.loads(event.data).get("id") for event in replayed if event.data] == [None, "lost"]
        forgotten = await legacy.get(said.id.decode().replace("-1-", "-9-"))
        assert forgotten.status == 400
        assert b"send the request again" in await forgotten.read(999)

    fixture.serve(scenario)


def test_a_question_travels_on_the_calls_stream_and_its_answer_by_post() -> None:
    fixture = Fixture()

    async def scenario(legacy: Legacy) -> None:
        call = Events(await legacy.call("ask"))
        question = await call.message()
        assert (question["method"], question["params"]) == ("elicitation/create", QUESTION)
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"name": "Ada"}}}
        other = await Legacy(legacy.client).initialize()
        assert (await other.raw(answer)).status == 202, "nobody waits for it in this session"
        assert (await legacy.raw(answer)).status == 202
        assert text(await call.message()) == "Ada"
        assert (await legacy.raw(answer)).status == 202, "too late"

        declined = Events(await legacy.call("ask"))
        asked = (await declined.message())["id"]
        error = {"jsonrpc": "2.0", "id": asked, "error": {"code": -1, "message": "I never tell."}}
        assert (await legacy.raw(error)).status == 202
        assert (await declined.message())["error"]["message"] == "I never tell."
        json_only = await reply(await legacy.send("tools/call", {"name": "ask"}, accept="application/json"))
        assert "text/event-stream" in json_only["error"]["message"]

    fixture.serve(scenario)


async def listen(client: HttpClient, request_id: object = 1, accept: str = "*/*", **wanted: object) -> Response:
    body = envelope("subscriptions/listen", {"notifications": wanted}, request_id)
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "subscriptions/listen"}
    return await post(client, body, accept=accept, **headers)


@pytest.mark.parametrize("request_id", [1, "1"])
def test_a_modern_client_listens_to_what_it_names_until_the_server_stops(request_id: object) -> None:
    fixture = Fixture()

    async def scenario(legacy: Legacy) -> None:
        stream = Events(
            await listen(legacy.client, request_id, toolsListChanged=True, resourceSubscriptions=["test://a"])
        )
        for uri in ("test://b", "test://a"):
            fixture.server.resource_updated(uri)
        fixture.server.prompt(name="unheard")(nothing)
        fixture.server.tool(name="heard")(nothing)
        frames = [await stream.message() for _ in range(3)]
        assert [frame["method"].removeprefix("notifications/") for frame in frames] == [
            "subscriptions/acknowledged",
            "resources/updated",
            "tools/list_changed",
        ]
        left, deaf = Events(await listen(legacy.client, promptsListChanged=True)), Events(await listen(legacy.client))
        await left.message()
        await left.leave()
        fixture.app.end_streams()
        frames += [await stream.message()]
        assert (frames[-1]["id"], frames[-1]["result"]["resultType"]) == (request_id, "complete")
        metas = [frame.get("params", frame.get("result"))["_meta"] for frame in frames]
        named = [meta["io.modelcontextprotocol/subscriptionId"] for meta in metas]
        assert [(name, type(name)) for name in named] == [(request_id, type(request_id))] * 4
        assert await stream.next() is None
        assert len(await deaf.rest()) == 2, "what listens to nothing is ended too"
        late = await Events(await listen(legacy.client)).rest()
        assert "result" in json.loads(late[-1].data)

    fixture.serve(scenario)


def test_listening_needs_an_event_stream_and_a_filter() -> None:
    fixture = Fixture()

    async def scenario(legacy: Legacy) -> None:
        deaf = await listen(legacy.client, accept="application/json")
        assert (deaf.status, b"text/event-stream" in await deaf.read(999)) == (406, True)
        wrong = await listen(legacy.client, toolsListChanged="yes")
        assert (wrong.status, (await reply(wrong))["error"]["code"]) == (400, -32602)
        unknown = await reply(await legacy.send("subscriptions/listen", {"notifications": {}}))
        assert unknown["error"]["code"] == -32601

    fixture.serve(scenario)


def test_an_open_stream_costs_one_task_and_a_stop_ends_it() -> None:
    fixture = Fixture()

    async def scenario(legacy: Legacy) -> None:
        before = len(asyncio.all_tasks())
        streams = [Events(await legacy.get()), Events(await listen(legacy.client, toolsListChanged=True))]
        for stream in streams:
            await stream.next()
        assert len(asyncio.all_tasks()) == before + len(streams)
        fixture.app.end_streams()
        for stream in streams:
            await stream.rest()

    fixture.serve(scenario)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_streams_with_their_result_and_then_the_process(tmp_path: Path, workers: str) -> None:
    (tmp_path / "server.py").write_text('from portway import Server\nserver = Server("s", sessions=False)\n')
    command = (SCRIPTS / "portway", "run", "server.py", "--transport", "http", "--port", "0", "--workers", workers)
    with started(*command, ready=r"(http://127\.0\.0\.1:\d+)/mcp", cwd=tmp_path) as child:
        assert child.match is not None
        url = child.match[1]

        async def scenario() -> None:
            async with HttpClient(url) as client:
                stream = Events(await listen(client, toolsListChanged=True))
                await stream.message()
                child.process.send_signal(signal.SIGTERM)
                assert "result" in await stream.message()
                assert await stream.next() is None

        asyncio.run(scenario())
        assert child.process.wait(120) == 0


def test_what_a_client_does_not_read_is_not_kept_twice() -> None:
    fixture = Fixture()
    many = [f"test://{number}/{'x' * 2000}" for number in range(900)]

    async def scenario(legacy: Legacy) -> None:
        stream = Events(await listen(legacy.client, resourceSubscriptions=many))
        assert len((await stream.message())["params"]["notifications"]["resourceSubscriptions"]) == len(many)
        for connection in legacy.client.open:  # some systems let a socket hold it all
            connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        for _ in range(8):  # more than the sockets hold
            for uri in many:
                fixture.server.resource_updated(uri)
            await asyncio.sleep(0)
        fixture.app.end_streams()
        frames = [json.loads(event.data) for event in await stream.rest()]
        assert "result" in frames[-1]
        assert len(many) < len(frames) < 8 * len(many)

    fixture.serve(scenario)


def test_a_stop_fails_the_questions_that_wait_for_an_answer() -> None:
    fixture = Fixture()

    async def scenario(legacy: Legacy) -> None:
        legacy = await Legacy(legacy.client).initialize(elicitation={})
        stream = Events(await legacy.call("ask"))
        assert (await stream.message())["method"] == "elicitation/create"
        fixture.app.end_streams()
        assert "the server is stopping" in (await stream.message())["error"]["message"]

    fixture.serve(scenario)


def test_json_that_an_author_wrote_on_several_lines_travels_on_one() -> None:
    fixture = Fixture()

    @fixture.server.tool
    async def written(ctx: Context) -> Any:
        await ctx.info(msgspec.Raw(b"[\n1]"))
        return msgspec.Raw(b'{\r\n"a": "b c"}')

    async def scenario(legacy: Legacy) -> None:
        stream = Events(await legacy.call("written"))
        assert (await stream.message())["params"]["data"] == [1]
        assert (await stream.message())["result"]["structuredContent"] == {"a": "b c"}

    fixture.serve(scenario)
