"""The client against hostile and broken servers."""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from portway.client import Client, ClientError, Elicitation
from portway.client import http_channel as channel
from tests.client.scripted_server import Reply, Request, scripted
from tests.client.test_client import Legacy, result, use
from tests.client.test_server_requests import Asking, question

RUBBISH = [
    b'{"jsonrpc":"2.0","method":"\xff"}',
    b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"\xff"}}',
    b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"\xff"}}',
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"\xff"}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":[]}',
    b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":null}',
    b'{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"\xff"}}',
    b"[" * 100_000,
    b'{"id":true}',
    b"null",
]


def test_invalid_messages_do_not_end_a_call_over_http() -> None:
    async def call(request: Request) -> Reply:
        events = [b"data: %b\n\n" % rubbish for rubbish in RUBBISH]
        return Reply([*events, b": \xff\n\n\n", result(request, {"content": []})])

    async def scenario(client: Client) -> None:
        assert (await client.call_tool("t")).content == []

    handlers: dict[str, Any] = {"on_log": print, "on_change": print, "on_elicit": lambda asked: "decline"}
    use(Legacy(tools_call=call), scenario, **handlers)


def test_invalid_lines_do_not_end_a_stdio_server(tmp_path: Path) -> None:
    answers = [{"supportedVersions": ["2026-07-28"]}, {"content": [], "resultType": "complete"}]
    replies = [json.dumps({"jsonrpc": "2.0", "id": n, "result": answer}) for n, answer in enumerate(answers, 1)]
    (tmp_path / "rubbish").write_bytes(b"\n".join([*RUBBISH, b""]))
    said = [f"read -r line; cat {tmp_path}/rubbish; echo {shlex.quote(reply)}" for reply in replies]

    async def main() -> None:
        async with Client(["sh", "-c", "; ".join(said)], era="modern", timeout=5, on_log=print) as client:
            assert (await client.call_tool("t")).content == []

    asyncio.run(main())


def test_a_result_that_is_not_utf_8_is_an_error() -> None:
    async def call(request: Request) -> Reply:
        return Reply(
            [b'data: {"jsonrpc":"2.0","id":%d,"result":{"content":[{"text":"\xff"}]}}\n\n' % request.message["id"]]
        )

    async def scenario(client: Client) -> None:
        with pytest.raises(ClientError, match="answer to tools/call is malformed: 'utf-8' codec"):
            await client.call_tool("t")

    use(Legacy(tools_call=call), scenario)


def test_a_server_that_loses_every_session_is_not_asked_for_ever() -> None:
    async def forget(request: Request) -> Reply:
        return Reply({}, 404)

    async def scenario(client: Client) -> None:
        with pytest.raises(ClientError, match="has ended the session"):
            await client.request("ping")

    server = Legacy(ping=forget)
    use(server, scenario)
    assert (server.seen().count("initialize"), server.seen().count("ping")) == (2, 2)


def test_a_server_that_never_accepts_the_handshake_is_an_error() -> None:
    async def silent(request: Request) -> Reply:
        return Reply([None]) if await asyncio.Event().wait() else Reply()

    async def main() -> None:
        async with scripted(Legacy(notifications_initialized=silent)) as url:
            with pytest.raises(ClientError, match="did not answer notifications/initialized in"):
                async with Client(url, era="legacy", timeout=0.2):
                    pytest.fail("it connected")

    asyncio.run(main())


@pytest.mark.parametrize("milliseconds", [0, 999_999_999])
def test_the_retry_time_of_a_server_is_bounded_on_both_sides(
    monkeypatch: pytest.MonkeyPatch, milliseconds: int
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(channel, "_RETRY_MOST", 0.05)
    rest = asyncio.sleep

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await rest(seconds)

    monkeypatch.setattr(channel.asyncio, "sleep", pause)

    async def call(request: Request) -> Reply:
        return Reply([b"id: s\nretry: %d\ndata:\n\n" % milliseconds])

    server = Legacy(tools_call=call)

    async def script(request: Request) -> Reply:
        if request.verb != "GET":
            return await server(request)
        return Reply([{"jsonrpc": "2.0", "id": 3, "result": {"content": []}}])

    async def scenario(client: Client) -> None:
        await client.call_tool("t")

    use(script, scenario)
    assert pauses == [0.02 if milliseconds == 0 else 0.05]


def test_only_some_of_a_flood_of_questions_are_answered_and_a_repeated_one_once() -> None:
    asked: list[str] = []
    all_asked = asyncio.Event()

    async def elicit(question: Elicitation) -> dict[str, Any]:
        asked.append(question.message)
        if len(asked) == 256:
            all_asked.set()
        await asyncio.Event().wait()
        return {}

    async def scenario(client: Client) -> None:
        assert (await client.call_tool("t")).content == []
        await all_asked.wait()

    use(
        Asking(question("same"), *(question(f"q{n}") for n in range(400)), question("same")), scenario, on_elicit=elicit
    )
    assert len(asked) == len(set(asked)) == 256
