"""Ask, cancel, resume, subscribe and listen until standard input ends: `through_deploys.py URL TOKEN KIND`.

KIND is mcp1, mcp2, fastmcp3 or fastmcp4, each in legacy sessions, or modern: the official client 2.x without any.
Prints `begun` after the first round of each session, and at the end what went wrong and how many rounds there were,
as JSON.
"""

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

SESSIONS = 2
URI = "test://changing"
NEVER = asyncio.Event()
Answer = Callable[[str], Awaitable[dict[str, bool]]]
Heard = Callable[[object], Awaitable[None]]


async def while_lasts(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(NEVER.wait(), seconds)


class Mcp1:
    """The official client 1.x."""

    def __init__(self, session: Any) -> None:
        self.session = session

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str, token: str, answer: Answer, heard: Heard | None = None) -> AsyncIterator["Mcp1"]:
        import httpx
        from mcp import ClientSession
        from mcp.client.streamable_http import streamable_http_client
        from mcp.types import ElicitRequestParams, ElicitResult

        async def elicit(context: object, params: ElicitRequestParams) -> ElicitResult:
            return ElicitResult(action="accept", content=await answer(params.message))

        async with (
            httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=120) as http,
            streamable_http_client(url, http_client=http) as (read, write, _),
            ClientSession(read, write, elicitation_callback=elicit, message_handler=heard) as session,
        ):
            await session.initialize()
            yield cls(session)

    async def call(self, name: str, **arguments: object) -> str:
        return (await self.session.call_tool(name, arguments)).content[0].text

    async def cancelled(self) -> str:
        """Call `wait`, cancel it, and return how that ended."""
        from mcp import McpError, types

        request_id = self.session._request_id
        waiting = asyncio.create_task(self.call("wait"))
        await while_lasts(random.uniform(0.05, 0.5))
        params = types.CancelledNotificationParams(requestId=request_id, reason="enough")
        notification = types.ClientNotification(types.CancelledNotification(params=params))
        await self.session.send_notification(notification)
        try:
            return await asyncio.wait_for(waiting, 10)
        except McpError as error:
            return str(error)


class Mcp2:
    """The official client 2.x in the legacy era, whose cancelled task cancels its call."""

    MODE = "legacy"

    def __init__(self, client: Any) -> None:
        self.client = client

    @property
    def session(self) -> Any:
        return self.client.session

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str, token: str, answer: Answer, heard: Heard | None = None) -> AsyncIterator["Mcp2"]:
        import httpx2
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client
        from mcp.types import ElicitResult

        async def elicit(_: object, params: Any) -> ElicitResult:
            return ElicitResult(action="accept", content=await answer(params.message))

        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=120) as http,
            Client(
                streamable_http_client(url, http_client=http),
                mode=cls.MODE,
                elicitation_callback=elicit,
                message_handler=heard,
                read_timeout_seconds=40,
            ) as client,
        ):
            yield cls(client)

    async def call(self, name: str, **arguments: object) -> str:
        return (await self.client.call_tool(name, arguments)).content[0].text

    async def cancelled(self) -> str:
        waiting = asyncio.create_task(self.call("wait"))
        await while_lasts(random.uniform(0.05, 0.5))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return "Request cancelled"


class Modern(Mcp2):
    """The official client 2.x in the modern era."""

    MODE = "2026-07-28"

    async def listen(self) -> None:
        """Hold a stream of changes until it is ended."""
        async with self.client.listen(tools_list_changed=True) as changes:
            async for _ in changes:
                pass


class FastMcp(Mcp2):
    """FastMCP's client, of both versions, in the legacy era."""

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, url: str, token: str, answer: Answer, heard: Heard | None = None
    ) -> AsyncIterator["FastMcp"]:
        from fastmcp import Client
        from fastmcp.client.transports import StreamableHttpTransport

        async def elicit(message: str, response_type: object, params: object, context: object) -> dict[str, bool]:
            return await answer(message)

        transport = StreamableHttpTransport(url, headers={"Authorization": f"Bearer {token}"})
        mode = {"mode": "legacy"} if KIND == "fastmcp4" else {}
        async with Client(transport, elicitation_handler=elicit, message_handler=heard, timeout=120, **mode) as client:
            yield cls(client)

    async def cancelled(self) -> str:
        if KIND == "fastmcp4":
            return await super().cancelled()
        return await Mcp1(self.client.session).cancelled()


async def answer(question: str) -> dict[str, bool]:
    await while_lasts(random.uniform(0, 0.6))  # a deploy may come in between
    return {"sure": True}


async def main(url: str, token: str, kind: str) -> dict[str, object]:
    client_kind = {"mcp1": Mcp1, "mcp2": Mcp2, "modern": Modern}.get(kind, FastMcp)
    faults: list[str] = []
    rounds = 0
    stop = asyncio.Event()
    begun = asyncio.Semaphore(0)

    async def expect(what: str, said: Awaitable[str], wanted: str) -> None:
        try:
            got = await asyncio.wait_for(said, 30)
        except BaseException as error:
            faults.append(f"{what}: {error!r}")
            raise
        if wanted not in got:
            faults.append(f"{what}: {got}")

    async def update(client: Mcp1 | Mcp2, updates: asyncio.Queue[str]) -> str:
        """Change the resource until the client is told: its stream may be on its way to another instance."""
        while not updates.empty():
            updates.get_nowait()
        while True:
            await client.call("touch", uri=URI)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(updates.get(), 1)

    async def session() -> None:
        nonlocal rounds
        updates = asyncio.Queue[str]()

        async def heard(message: object) -> None:
            shown = getattr(message, "root", message)
            if getattr(shown, "method", "") == "notifications/resources/updated":
                await updates.put(str(shown.params.uri))

        async with client_kind.connect(url, token, answer, heard) as client:
            subscribes = kind != "modern"
            if subscribes:
                await client.session.subscribe_resource(URI)
            while not stop.is_set():
                await expect("asked", client.call("confirm", city="Oslo"), "Oslo: True")
                await expect("cancelled", client.cancelled(), "Request cancelled")
                if subscribes:
                    await expect("resumed", client.call("leave", seconds=random.uniform(0, 1)), "left")
                await expect("called", client.call("work", seconds=2), "")
                if subscribes:
                    await expect("told", update(client, updates), URI)
                rounds += 1
                begun.release()

    async def busy() -> None:
        """Keep the old instances draining."""
        async with client_kind.connect(url, token, answer) as client:
            while not stop.is_set():
                await expect("busy", client.call("work", seconds=25), "")

    async def listen() -> None:
        async with client_kind.connect(url, token, answer) as client:
            while kind == "modern" and not stop.is_set():
                listening = asyncio.create_task(client.listen())
                await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if listening.done():
                    listening.result()
                listening.cancel()

    async def end() -> None:
        await asyncio.to_thread(sys.stdin.read)
        stop.set()

    async def tell() -> None:
        for _ in range(SESSIONS):
            await begun.acquire()
        sys.stdout.write("begun\n")
        sys.stdout.flush()

    stopping = asyncio.create_task(stop.wait())
    ended = await asyncio.gather(
        end(), tell(), busy(), listen(), *(session() for _ in range(SESSIONS)), return_exceptions=True
    )
    faults += [repr(each) for each in ended if isinstance(each, BaseException)]
    return {"rounds": rounds, "faults": faults}


if __name__ == "__main__":
    KIND = sys.argv[3]
    json.dump(asyncio.run(main(*sys.argv[1:4])), sys.stdout)
