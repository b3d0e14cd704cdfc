"""Two processes that share PORTWAY_KEYS act as one server, and each of them may be restarted at any time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp import Client
from mcp.types import ElicitResult

from tests.support import SCRIPTS, started
from tests.wire.http_server import LEGACY, request
from tests.wire.round_robin import balanced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.support import Started

KEYS = {"PORTWAY_KEYS": "A" * 43 + "," + "B" * 42 + "A"}
ANSWERS = {"Your name?": {"value": "Ada"}, "Sure, Ada?": {"value": True}}


@contextlib.contextmanager
def replica(port: int = 0, env: dict[str, str] = KEYS) -> Iterator[tuple[int, Started]]:
    command = (SCRIPTS / "portway", "run", Path(__file__).with_name("replica_server.py"), "--transport", "http")
    arguments = ("--host", "127.0.0.1", "--port", str(port))
    with started(*command, *arguments, ready=r"http://127\.0\.0\.1:(\d+)", env=env) as child:
        assert child.match
        yield int(child.match[1]), child


async def elicit(_: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content=ANSWERS[params.message])


class BusyClients:
    """Clients that call in a loop; `rounds` is the number each has finished, `seen` the results of their tools."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._changed = asyncio.Condition()
        self._stopping = False
        self.rounds: Counter[str] = Counter()
        self.seen: defaultdict[str, list[Any]] = defaultdict(list)

    async def run_client(self, name: str, mode: str, action: Callable[[Client], Awaitable[Any]]) -> None:
        async with Client(self._url, mode=mode, elicitation_callback=elicit) as client:  # type: ignore[arg-type]
            while not self._stopping:
                result = await action(client)
                async with self._changed:
                    self.seen[name].append(result)
                    self.rounds[name] += 1
                    self._changed.notify_all()

    async def finish(self, more: int) -> None:
        """Wait until each client has finished that many more rounds."""
        goals = {name: self.rounds[name] + more for name in CLIENTS}
        await self.until(lambda: all(self.rounds[name] >= goal for name, goal in goals.items()))

    async def answered_by(self, *processes: int) -> None:
        """Wait until every browsing client has had answers from all these processes."""
        await self.until(lambda: all(set(processes) <= set().union(*self.seen[name]) for name in ("modern", "legacy")))

    async def until(self, reached: Callable[[], bool]) -> None:
        async with self._changed, asyncio.timeout(60):
            await self._changed.wait_for(reached)

    def stop(self) -> None:
        self._stopping = True


async def browse(client: Client) -> Any:
    """Make an odd number of requests, so that the next round starts at the other replica."""
    first = await client.list_tools()
    assert first.next_cursor
    rest = await client.list_tools(cursor=first.next_cursor)
    assert [tool.name for tool in [*first.tools, *rest.tools]] == ["where", "confirm", "third"]
    assert (await client.read_resource("note://x")).contents[0].text == "x"  # type: ignore[union-attr]
    return {(await client.call_tool("where", {})).structured_content["result"] for _ in range(2)}  # type: ignore[index]


async def confirm(client: Client) -> Any:
    result = await client.call_tool("confirm", {})
    assert result.structured_content, result
    *processes, name, sure = result.structured_content["result"]
    assert (name, sure) == ("Ada", True)
    return tuple(processes)


CLIENTS = {
    "modern": ("auto", browse),
    "modern, asked": ("auto", confirm),
    "legacy": ("legacy", browse),
}


def test_no_client_sees_a_failure_while_one_of_two_replicas_is_restarted() -> None:
    async def scenario() -> None:
        with contextlib.ExitStack() as one, replica() as (second, other):
            first, old = one.enter_context(replica())
            async with balanced(first, second) as balancer, asyncio.TaskGroup() as group:
                clients = BusyClients(balancer.url)
                for name, (mode, action) in CLIENTS.items():
                    group.create_task(clients.run_client(name, mode, action))
                await clients.finish(2)
                await clients.answered_by(old.process.pid, other.process.pid)
                balancer.ports = [second]
                await asyncio.to_thread(one.close)
                await clients.finish(2)
                _, new = await asyncio.to_thread(one.enter_context, replica(first))
                balancer.ports = [first, second]
                await clients.finish(2)
                await clients.answered_by(new.process.pid)
                await clients.until(lambda: any(asked != answered for asked, answered in clients.seen["modern, asked"]))
                clients.stop()

    asyncio.run(scenario())


def test_a_legacy_client_can_be_asked_if_its_requests_are_routed_by_their_session() -> None:
    async def scenario() -> None:
        with replica() as (first, _), replica() as (second, _):
            async with balanced(first, second, by_session=True) as balancer:
                processes: set[int] = set()
                while len(processes) < 2:  # which replica a session goes to is random
                    async with Client(balancer.url, mode="legacy", elicitation_callback=elicit) as client:
                        asked, answered = await confirm(client)
                    assert asked == answered
                    processes.add(asked)

    asyncio.run(scenario())


def test_an_answer_to_the_wrong_replica_has_no_effect_and_the_question_stays_open() -> None:
    async def scenario() -> None:
        with replica() as (home, _), replica() as (other, _):
            async with httpx2.AsyncClient(timeout=120) as http:
                capable = {"protocolVersion": LEGACY, "capabilities": {"elicitation": {}}}
                opening, headers = request(
                    LEGACY, "initialize", capable | {"clientInfo": {"name": "t", "version": "1"}}
                )
                opened = await http.post(f"http://127.0.0.1:{home}/mcp", json=opening, headers=headers)
                call, headers = request(LEGACY, "tools/call", {"name": "confirm", "arguments": {}}, id="c")
                headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
                async with http.stream("POST", f"http://127.0.0.1:{home}/mcp", json=call, headers=headers) as reply:
                    result: list[Any] = []
                    async for line in reply.aiter_lines():
                        if not line.startswith("data:") or not line[5:].strip():
                            continue
                        result.append(json.loads(line[5:]))
                        if result[-1].get("method") != "elicitation/create":
                            continue
                        content = ANSWERS[result[-1]["params"]["message"]]
                        answer = {"jsonrpc": "2.0", "id": result[-1]["id"]}
                        answer["result"] = {"action": "accept", "content": content}
                        stray = await http.post(f"http://127.0.0.1:{other}/mcp", json=answer, headers=headers)
                        assert stray.status_code == 202
                        taken = await http.post(f"http://127.0.0.1:{home}/mcp", json=answer, headers=headers)
                        assert taken.status_code == 202
                assert [message.get("method") for message in result] == ["elicitation/create"] * 2 + [None]
                assert result[-1]["result"]["structuredContent"]["result"][2:] == ["Ada", True]

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_server_restarted_with_its_keys_knows_its_clients(mode: str) -> None:
    async def scenario() -> None:
        with contextlib.ExitStack() as server:
            port, _ = server.enter_context(replica())
            async with Client(f"http://127.0.0.1:{port}/mcp", mode=mode) as client:  # type: ignore[arg-type]
                cursor = (await client.list_tools()).next_cursor
                before = await browse(client)
                await asyncio.to_thread(server.close)
                await asyncio.to_thread(server.enter_context, replica(port))
                assert [tool.name for tool in (await client.list_tools(cursor=cursor)).tools] == ["third"]
                assert await browse(client) != before

    asyncio.run(scenario())
