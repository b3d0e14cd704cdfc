"""Legacy sessions over HTTP: who gets one, who finds it, and what it remembers."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from typing import TYPE_CHECKING

import mcp_types as types
import pytest
from mcp import Client, MCPError

from portway import Context, Server
from portway.auth.tokens import NamedTokens
from portway.http.limits import Limits
from portway.protocol.sealing import Keys
from portway.transport.http_app import HttpApp
from tests.transport.http_client import MODERN, Events, Legacy, envelope, post, reply, request, served

if TYPE_CHECKING:
    from pathlib import Path

    from portway.http.http_client import HttpClient
    from tests.conftest import RunCli

TOKENS = "ada:planted-a,ada2:planted-b"
KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()


def make_server(sessions: bool | str = True) -> Server:
    server = Server("sessions", sessions=sessions)  # type: ignore[arg-type]
    server.started = asyncio.Queue()  # type: ignore[attr-defined]

    @server.tool
    async def about(ctx: Context) -> str:
        await ctx.debug("seen by whom it may concern")
        return f"{ctx.protocol_version} {ctx.client.supports('elicitation')} {ctx.client.supports('sampling')}"

    @server.tool
    async def who(ctx: Context) -> str:
        return f"{ctx.client.name} {ctx.client.version}"

    @server.tool
    async def wait(ctx: Context, say: bool) -> str:
        if say:
            await ctx.report_progress(1)
        server.started.put_nowait("started")  # type: ignore[attr-defined]
        try:
            await asyncio.Event().wait()
        finally:
            server.started.put_nowait("stopped")  # type: ignore[attr-defined]
        return "never"

    return server


def test_a_session_is_given_found_and_ended() -> None:
    async def scenario(_: str, client: HttpClient) -> None:
        legacy = await Legacy(client).initialize(elicitation={})
        session = legacy.headers["mcp_session_id"]
        assert all(0x21 <= ord(character) <= 0x7E for character in session)
        about = await reply(await legacy.send("tools/call", {"name": "about"}))
        assert about["result"]["content"][0]["text"] == "2025-11-25 True False"
        assert (await legacy.send("notifications/initialized", request_id=None)).status == 202
        other = await Legacy(client, "2025-03-26", **legacy.headers).initialize()
        assert other.headers["mcp_session_id"] != session, "initialize asks for a new one, whatever it names"

        ended = await request(client, "DELETE", **legacy.headers)
        assert (ended.status, await ended.read(9)) == (204, b"")
        for method in ("ping", "notifications/initialized"):
            gone = await legacy.send(method)
            assert (gone.status, "initialize a new one" in (await gone.read(999)).decode()) == (404, True)
        assert (await request(client, "DELETE", **legacy.headers)).status == 404
        assert (await legacy.get()).status == 404
        assert (await other.send("ping")).status == 200

    served(scenario, HttpApp(make_server()))


@pytest.mark.parametrize(
    ("sessions", "given", "without", "get"),
    [(True, True, 400, 400), ("auto", True, 200, 400), (False, False, 200, 405)],
)
def test_the_author_says_who_gets_a_session_and_who_needs_one(
    sessions: bool | str, given: bool, without: int, get: int
) -> None:
    async def scenario(_: str, client: HttpClient) -> None:
        legacy = await Legacy(client).initialize()
        assert ("mcp_session_id" in legacy.headers) is given
        assert (await Legacy(client).send("ping")).status == without
        level = await reply(await Legacy(client).send("logging/setLevel", {"level": "debug"}))
        assert level["error"]["code"] == (1000 if without == 400 else -32601)
        opened = await Legacy(client).get()
        assert (opened.status, b"allow" in dict(opened.headers)) == (get, get == 405)
        stray = await Legacy(client).raw({"jsonrpc": "2.0", "id": "x", "result": {}})
        assert stray.status == 400

    served(scenario, HttpApp(make_server(sessions)))


@pytest.mark.parametrize(
    ("method", "headers", "status", "allow"),
    [
        ("GET", {"mcp_protocol_version": MODERN}, 405, "POST"),
        ("DELETE", {"mcp_protocol_version": "1999-01-01"}, 405, "POST"),
        ("PUT", {}, 405, "POST, GET, DELETE"),
        ("GET", {"accept": "application/json"}, 406, None),
        ("GET", {"mcp_session_id": "forged"}, 404, None),
        ("GET", {"mcp_session_id": "A" * 2000}, 404, None),
        ("DELETE", {}, 400, None),
    ],
)
def test_get_and_delete_are_for_sessions_of_legacy_clients(
    method: str, headers: dict[str, str], status: int, allow: str | None
) -> None:
    async def scenario(_: str, client: HttpClient) -> None:
        answer = await request(client, method, **headers)
        assert answer.status == status, await answer.read(999)
        assert dict(answer.headers).get(b"allow", b"").decode() == (allow or "")

    served(scenario, HttpApp(make_server()))


def test_a_modern_request_has_no_session_whatever_it_says() -> None:
    async def scenario(_: str, client: HttpClient) -> None:
        headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/list"}
        answer = await post(client, envelope("tools/list"), mcp_session_id="forged", last_event_id="x-1-1", **headers)
        assert answer.status == 200
        assert b"mcp-session-id" not in dict(answer.headers)

    served(scenario, HttpApp(make_server()))


def test_a_session_belongs_to_the_caller_who_opened_it() -> None:
    application = HttpApp(make_server(), verifier=NamedTokens(TOKENS))

    async def scenario(_: str, client: HttpClient) -> None:
        ada = await Legacy(client, authorization="Bearer planted-a").initialize()
        assert (await ada.send("ping")).status == 200
        stolen = Legacy(client, **ada.headers | {"authorization": "Bearer planted-b"})
        assert (await stolen.send("ping")).status == 404
        assert (await stolen.get()).status == 404
        assert (await request(client, "DELETE", **stolen.headers)).status == 404
        assert (await ada.send("ping")).status == 200

    served(scenario, application)


def test_a_process_with_the_keys_finds_a_session_and_knows_what_its_id_says(caplog: pytest.LogCaptureFixture) -> None:
    keys = [Keys.parse(KEY), Keys.parse(KEY), Keys.random()]
    home, elsewhere, stranger = (HttpApp(make_server(), verifier=NamedTokens(TOKENS), keys=each) for each in keys)

    async def scenario(_: str, client: HttpClient) -> None:
        legacy = await Legacy(client, "2025-06-18", authorization="Bearer planted-a").initialize(sampling={})
        assert (await legacy.send("logging/setLevel", {"level": "debug"})).status == 200
        assert b"seen by" in await (await legacy.call("about")).read(9999)
        refused = await request(client, "DELETE", **legacy.headers)
        assert (refused.status, dict(refused.headers)[b"allow"]) == (405, b"POST, GET"), "another process would go on"

        async def from_elsewhere(_: str, client: HttpClient) -> None:
            legacy.client = client
            body = await (await legacy.call("about")).read(9999)
            assert b"seen by" not in body, "the level is remembered at home"
            assert json.loads(body)["result"]["content"][0]["text"] == "2025-06-18 False True"
            for _ in range(2):
                assert (await legacy.raw({"jsonrpc": "2.0", "id": "asked-at-home", "result": {}})).status == 202
            assert caplog.text.count("a client's answer came to a process that did not ask: ") == 1
            assert (await legacy.get("0123456789abcdef-1-1")).status == 400, "a reply nobody here knows of"

        async def from_a_stranger(_: str, client: HttpClient) -> None:
            legacy.client = client
            assert (await legacy.send("ping")).status == 404

        await asyncio.to_thread(served, from_elsewhere, elsewhere)
        await asyncio.to_thread(served, from_a_stranger, stranger)

    served(scenario, home)


def test_the_first_session_under_random_keys_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(_: str, client: HttpClient) -> None:
        assert "PORTWAY_KEYS" not in caplog.text
        await Legacy(client).initialize()
        await Legacy(client).initialize()
        assert caplog.text.count("PORTWAY_KEYS is not set: sessions, cursors and questions end with this process") == 1

    with caplog.at_level(logging.INFO, "portway"):
        served(scenario, HttpApp(make_server()))


CANCELLED = {"code": -32800, "message": "Request cancelled"}


@pytest.mark.parametrize("says", [False, True], ids=["json", "stream"])
def test_a_cancelled_call_stops_and_is_answered_with_an_error(says: bool) -> None:
    server = make_server()
    started: asyncio.Queue[str] = server.started  # type: ignore[attr-defined]

    async def scenario(_: str, client: HttpClient) -> None:
        legacy, other = await Legacy(client).initialize(), await Legacy(client).initialize()
        call = asyncio.ensure_future(legacy.call("wait", 7, say=says))
        assert await started.get() == "started"
        for who, request_id in ((other, 7), (legacy, 8), (legacy, "7")):
            await who.send("notifications/cancelled", {"requestId": request_id}, None)
        assert started.empty()
        await legacy.send("notifications/cancelled", {"requestId": 7}, None)
        assert await started.get() == "stopped"
        response = await call
        assert dict(response.headers)[b"content-type"] == (b"text/event-stream" if says else b"application/json")
        last = [event.data for event in await Events(response).rest()][-1] if says else await response.read(9999)
        assert json.loads(last or b"") == {"jsonrpc": "2.0", "id": 7, "error": CANCELLED}
        again = await reply(await legacy.send("ping", request_id=7))
        assert again["result"] == {}

        await legacy.send("notifications/cancelled", {"requestId": 9}, None)
        overtaken = [await reply(await who.send("ping", request_id=9)) for who in (other, legacy, legacy)]
        assert [each.get("error") for each in overtaken] == [None, CANCELLED, None]

    served(scenario, HttpApp(server))


def test_a_client_that_left_and_cancelled_finds_the_end_of_its_stream() -> None:
    server = make_server()
    started: asyncio.Queue[str] = server.started  # type: ignore[attr-defined]

    async def scenario(_: str, client: HttpClient) -> None:
        legacy = await Legacy(client).initialize()
        events = Events(await legacy.call("wait", 7, say=True))
        first = await events.next()
        assert first is not None
        assert await started.get() == "started"
        await events.leave()
        await legacy.send("notifications/cancelled", {"requestId": 7}, None)
        assert await started.get() == "stopped"
        fetched = await Events(await legacy.get(first.id.decode())).rest()
        assert json.loads(fetched[-1].data or b"")["error"] == CANCELLED

    served(scenario, HttpApp(server))


def test_the_official_client_is_told_that_its_call_is_cancelled() -> None:
    server = make_server()
    running: asyncio.Queue[int | str] = asyncio.Queue()

    @server.tool
    async def never(ctx: Context) -> None:
        running.put_nowait(ctx.request_id)
        await asyncio.Event().wait()

    async def scenario(url: str, _: HttpClient) -> None:
        async with Client(url + "/mcp", mode="legacy") as client:
            call = asyncio.ensure_future(client.call_tool("never", {}))
            params = types.CancelledNotificationParams(request_id=await running.get())
            await client.session.send_notification(types.CancelledNotification(params=params))
            with pytest.raises(MCPError, match="Request cancelled") as told:
                await call
            assert told.value.error.code == -32800

    served(scenario, HttpApp(server))


def test_a_session_knows_the_software_of_its_client_wherever_it_is_served() -> None:
    def replica() -> HttpApp:
        return HttpApp(make_server(), keys=Keys.parse(KEY))

    async def scenario(url: str, client: HttpClient) -> None:
        legacy = await Legacy(client).initialize()
        assert (await reply(await legacy.send("tools/call", {"name": "who"})))["result"]["content"][0][
            "text"
        ] == "posting 1"

        async def elsewhere(_: str, client: HttpClient) -> None:
            legacy.client = client
            said = await reply(await legacy.send("tools/call", {"name": "who"}))
            assert said["result"]["content"][0]["text"] == "posting 1"

        await asyncio.to_thread(served, elsewhere, replica())
        info = types.Implementation(name="official", version="2 β")
        async with Client(url + "/mcp", mode="legacy", client_info=info) as official:
            assert (await official.call_tool("who", {})).content[0].text == "official 2 β"  # type: ignore[union-attr]

    served(scenario, replica())


@pytest.mark.parametrize("info", [None, [], {"name": 1}, {"version": {}}])
def test_a_client_that_says_nothing_sensible_of_itself_is_served_without_a_name(info: object) -> None:
    async def scenario(_: str, client: HttpClient) -> None:
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
        opened = await Legacy(client).send("initialize", params)
        session = dict(opened.headers)[b"mcp-session-id"].decode()
        said = await reply(await Legacy(client, mcp_session_id=session).send("tools/call", {"name": "who"}))
        assert said["result"]["content"][0]["text"] == " "

    served(scenario, HttpApp(make_server()))


def test_a_batch_is_for_sessions_of_its_revision() -> None:
    batch = [{"jsonrpc": "2.0", "id": n, "method": method} for n, method in ((1, "ping"), (2, "nope"))]
    stray = {"jsonrpc": "2.0", "id": "nobody asked", "result": {}}

    async def scenario(_: str, client: HttpClient) -> None:
        old, new = await Legacy(client, "2025-03-26").initialize(), await Legacy(client).initialize()
        del new.headers["mcp_protocol_version"]
        replies = await reply(await old.raw([*batch, stray, {"jsonrpc": "2.0", "method": "notifications/initialized"}]))
        assert [(one["id"], one.get("error", {}).get("code")) for one in replies] == [(1, None), (2, -32601)]
        assert (await new.raw(batch)).status == 400
        assert (await Legacy(client).raw(batch)).status == 400, "it names no session"

    served(scenario, HttpApp(make_server()))


def test_callers_have_a_bounded_number_of_calls_and_streams_and_so_has_the_server() -> None:
    server = make_server()
    started: asyncio.Queue[str] = server.started  # type: ignore[attr-defined]
    limits = Limits(calls=3, calls_each=2, streams=3, streams_each=2)
    tokens = NamedTokens(TOKENS + ",carl:planted-c")

    async def scenario(_: str, client: HttpClient) -> None:
        ada, bob, carl = [await Legacy(client, authorization=f"Bearer planted-{n}").initialize() for n in "abc"]
        calls, streams = [], []
        too_many = (429, b"as many as one may have"), (503, b"as many as it takes")
        free = (0, b"")
        for who, (status, said) in (
            (ada, free),
            (ada, free),
            (ada, too_many[0]),
            (bob, free),
            (carl, free),  # an equal share, although the others hold every place
            (carl, too_many[1]),
            (bob, too_many[1]),
        ):
            call = asyncio.ensure_future(who.call("wait", len(calls), say=False))
            stream = await who.get()
            if status:
                assert ((await call).status, stream.status) == (status, status)
                assert said in await (await call).read(999)
                assert said in await stream.read(999)
            else:
                assert await started.get() == "started"
                calls.append((who, call))
                streams.append(stream)
        for number, (who, call) in enumerate(calls):
            assert (await who.send("notifications/cancelled", {"requestId": number}, None)).status == 202
            assert json.loads(await (await call).read(9999))["error"] == CANCELLED
        assert (await carl.send("ping")).status == 200

    served(scenario, HttpApp(server, verifier=tokens, limits=limits))


def test_a_server_with_sessions_is_not_served_by_several_processes(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text('from portway import Server\nserver = Server("s", sessions=True)\n')
    refused = run_cli("run", "server.py", "--workers", "2", "--transport", "http", "--port", "0")
    assert refused.returncode != 0
    assert "Server(sessions=False)" in refused.stderr


@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_invalid_keys_stop_the_start_with_a_reason(run_cli: RunCli, tmp_path: Path, transport: str) -> None:
    (tmp_path / "server.py").write_text('from portway import Server\nserver = Server("s")\n')
    refused = run_cli("run", "server.py", "--transport", transport, "--port", "0", env={"PORTWAY_KEYS": "c2hvcnQ"})
    assert refused.returncode != 0
    assert "PORTWAY_KEYS: key 1 is not 32 bytes in base64url; make one with:" in refused.stderr
    assert "c2hvcnQ" not in refused.stderr
