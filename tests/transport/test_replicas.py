"""Two replicas that share keys, behind a loop that sends each request to the other one than the last."""

from __future__ import annotations

import asyncio
import base64
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client
from mcp.types import ElicitResult

from portway import Context, Server
from portway.protocol.sealing import Keys
from portway.transport.http_app import HttpApp
from tests.transport.http_client import served

if TYPE_CHECKING:
    from portway.http.asgi import Receive, Scope, Send
    from portway.http.http_client import HttpClient

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()


def replica() -> HttpApp:
    server = Server("replica", sessions=True, page_size=2)

    async def echo(text: str) -> str:
        return text

    for number in range(5):
        server.tool(name=f"echo_{number}")(echo)

    @server.tool(asks=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Your name?", str)
        return f"Hello, {answer.data}!"

    @server.resource("config://it")
    async def config() -> str:
        return "configured"

    @server.prompt
    async def remind() -> str:
        return "Remember."

    return HttpApp(server, keys=Keys.parse(KEY))


class Alternating:
    """The loop, as an application of its own."""

    def __init__(self) -> None:
        self.replicas = [replica(), replica()]
        self._turns = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.replicas[next(self._turns) % 2](scope, receive, send)

    def restart(self, which: int) -> None:
        old, self.replicas[which] = self.replicas[which], replica()
        old.end_streams()

    def end_streams(self) -> None:
        for each in self.replicas:
            each.end_streams()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_no_client_notices_which_replica_it_reaches_nor_that_one_restarts(mode: str) -> None:
    front = Alternating()

    async def elicited(*_: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"value": "Ada"})

    async def use(client: Client, *, ask: bool) -> None:
        tools, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            tools += [tool.name for tool in page.tools]
            if (cursor := page.next_cursor) is None:
                break
        assert len(tools) == 6
        assert (await client.call_tool("echo_3", {"text": "same"})).content[0].text == "same"
        assert (await client.read_resource("config://it")).contents[0].text == "configured"
        assert (await client.get_prompt("remind")).messages[0].content.text == "Remember."
        if ask:
            assert (await client.call_tool("greet")).content[0].text == "Hello, Ada!"

    async def scenario(url: str, _: HttpClient) -> None:
        async with Client(url + "/mcp", mode=mode, elicitation_callback=elicited) as client:  # type: ignore[arg-type]
            for which in (0, 1, 0):
                await use(client, ask=mode == "auto")  # a legacy answer must reach the replica that asked
                front.restart(which)
            await asyncio.gather(*(use(client, ask=mode == "auto") for _ in range(3)))

    served(scenario, front)  # type: ignore[arg-type]
