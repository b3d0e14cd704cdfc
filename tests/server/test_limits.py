"""Limits of tools in code, as the official client and plain HTTP meet them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from mcp import Client

from portway import Limit, Server, testing
from portway.auth.tokens import NamedTokens
from portway.exceptions import RegistrationError
from portway.http.http_client import HttpClient
from portway.transport.http_app import HttpApp
from tests.server.official_client import officially
from tests.transport.http_client import LEGACY, MODERN, Legacy, envelope, post, served

ERAS = ["legacy", MODERN]


def limited() -> tuple[Server, list[str]]:
    server, read = Server("limited"), list[str]()

    @server.tool(arguments={"path": Limit(under="/data"), "mode": Limit(allow=["text"])})
    def open_file(path: str, mode: str = "text") -> str:
        read.append(path)
        return f"{mode} of {path}"

    return server, read


@pytest.mark.parametrize("mode", ERAS)
def test_a_call_outside_the_limits_is_an_error_the_model_can_act_on_and_runs_nothing(mode: str) -> None:
    server, read = limited()

    async def talk(client: Client) -> None:
        good = await client.call_tool("open_file", {"path": "/data/a"})
        assert (good.is_error, good.content[0].text) == (False, "text of /data/a")
        bad = await client.call_tool("open_file", {"path": "/data/../etc/s3cret", "mode": "raw"})
        assert bad.is_error
        assert bad.content[0].text == (
            "open_file may not be called with these arguments: path: it must be an absolute path at or below /data, "
            'without ".."; mode: it must be one of "text"'
        )
        long = await client.call_tool("open_file", {"path": "/" + "x" * 10_000})
        assert long.is_error

    officially(server, talk, mode)
    assert read == ["/data/a"]


@pytest.mark.parametrize("beside", [b"", b'"cursor":5,', b'"requestId":{},'])
def test_the_limits_are_for_the_arguments_as_they_were_sent_whatever_stands_beside_them(beside: bytes) -> None:
    server, read = limited()

    async def steps(_: str, client: HttpClient) -> None:
        params = b'{%b"name":"open_file","arguments":{"path":"/etc","path":"/data/a"}}' % beside
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
        assert b"two members of one name" in await (await post(client, body)).read(9999)

    served(steps, HttpApp(server))
    assert not read


@pytest.mark.parametrize("mode", ERAS)
def test_a_caller_who_calls_too_often_is_told_when_to_call_again_and_others_are_not_kept(mode: str) -> None:
    server = Server("rated")

    @server.tool(rate="2/hour")
    async def send() -> str:
        return "sent"

    @server.tool
    async def other() -> str:
        return "done"

    async def steps(_: str, client: HttpClient) -> None:
        async def call(token: str, tool: str = "send") -> tuple[int, Any, dict[bytes, bytes]]:
            headers = {"authorization": f"Bearer {token}", "mcp_protocol_version": mode, "mcp_method": "tools/call"}
            if mode == MODERN:
                body = envelope("tools/call", {"name": tool})
                response = await post(client, body, mcp_name=tool, **headers)
            else:
                response = await Legacy(client, LEGACY, authorization=f"Bearer {token}").send(
                    "tools/call", {"name": tool}
                )
            return response.status, json.loads(await response.read(9999)), dict(response.headers)

        assert [(await call("a-token"))[0] for _ in range(2)] == [200, 200]
        status, body, headers = await call("a-token")
        assert status == 429
        wait = int(headers[b"retry-after"])
        assert 1790 <= wait <= 1800
        assert body["error"] == {
            "code": 1000,
            "message": f"send takes at most 2 calls per hour of a caller; call again in {wait} s.",
            "data": {"retryAfter": wait},
        }
        assert (await call("b-token"))[0] == 200
        assert (await call("a-token", "other"))[0] == 200

    tokens = NamedTokens("ada:a-token,bob:b-token")
    served(steps, HttpApp(server, verifier=tokens))


def test_each_caller_has_only_so_many_calls_at_a_time() -> None:
    server, running, go = Server("busy"), asyncio.Event(), asyncio.Event()

    @server.tool(concurrency=1)
    async def slow() -> str:
        running.set()
        await go.wait()
        return "done"

    async def steps(_: str, client: HttpClient) -> None:
        async def call(token: str) -> tuple[int, str, dict[bytes, bytes]]:
            body = envelope("tools/call", {"name": "slow"})
            headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "slow"}
            response = await post(client, body, authorization=f"Bearer {token}", **headers)
            return response.status, (await response.read(9999)).decode(), dict(response.headers)

        first = asyncio.create_task(call("a-token"))
        await running.wait()
        status, text, headers = await call("a-token")
        assert (status, headers[b"retry-after"]) == (429, b"1")
        assert "slow takes at most 1 call of a caller at a time; call again when one of them has ended." in text
        second = asyncio.create_task(call("b-token"))
        go.set()
        assert ((await first)[0], (await second)[0], (await call("a-token"))[0]) == (200, 200, 200)

    served(steps, HttpApp(server, verifier=NamedTokens("ada:a-token,bob:b-token")))


def test_over_stdio_and_in_tests_the_one_client_is_the_caller() -> None:
    server = Server("rated")

    @server.tool(rate="1/day")
    def once() -> str:
        return "done"

    async def run() -> None:
        async with testing.Client(server) as calling:
            assert await calling.call_tool("once") is not None
            with pytest.raises(Exception, match="once takes at most 1 call per day of a caller; call again in"):
                await calling.call_tool("once")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": "often"}, "t: 'often' is no rate as in 10/minute; the units are second, minute, hour and day."),
        ({"concurrency": 0}, "t: concurrency is a whole number from 1, not 0."),
        ({"arguments": {"a": Limit(under="..")}}, "t: under of a: '..' is no folder as in /data, docs or .."),
        ({"arguments": {"b": Limit(maximum=1)}}, "t: its limit is for 'b', and the tool has no such argument."),
        ({"arguments": {"a": {"maximum": 1}}}, "t: the limit of a is no Limit(…)."),
    ],
)
def test_a_limit_that_cannot_be_is_refused_at_registration(options: Any, said: str) -> None:
    def t(a: str) -> None: ...

    with pytest.raises(RegistrationError) as raised:
        Server("wrong").tool(t, **options)
    assert str(raised.value) == said
