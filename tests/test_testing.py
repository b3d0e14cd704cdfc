"""`portway.testing`: what an author's tests see of a server, in both eras."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from portway import Answer, Ask, Context, Principal, Server, ToolError, elicit, elicit_url, list_roots, testing
from portway.client import Change
from portway.client import Client as LeanClient
from portway.http.bind import ListenError
from portway.protocol.errors import RpcError
from portway.protocol.versions import Era

each_era = pytest.mark.parametrize("era", ["modern", "legacy"])


@dataclass
class Trip:
    city: str
    days: int = 1


server = Server("trips")
draws = itertools.count()


@server.tool(asks=True)
async def plan(ctx: Context) -> str:
    trip = (await ctx.elicit("Where to?", Trip)).data
    given = await ctx.ask(
        name=elicit("Your name?", str), roots=list_roots(), pay=elicit_url("Pay", "https://x.example")
    )
    said = await ctx.sample("Say hello")
    await ctx.info("planned")
    return f"{said.text}, {given['name'].data}: {trip} {[root.uri for root in given['roots']]} {given['pay'].action}"


@server.tool
def book(city: str, sure: Annotated[bool, Ask("Are you sure?")]) -> str:
    return f"{city} {sure}"


@server.tool(asks=True)
async def draw(ctx: Context, once: bool) -> str:
    number = await ctx.once("n", lambda: next(draws)) if once else next(draws)
    await ctx.elicit("Ready?")
    return f"{number - number if once else number}"


@server.tool(asks=True)
async def wander(ctx: Context) -> str:
    await ctx.elicit("Left?" if ctx.protocol_version < "2026" else "Right?", key="turn")
    return "there"


@server.tool
async def whoami(ctx: Context) -> str:
    return ctx.caller.subject


@server.tool(scopes=["admin"])
def secret() -> str:
    return "secret"


@server.tool(asks=True)
async def crash(ctx: Context) -> list[int]:
    await ctx.elicit("Ready?")
    raise ToolError("no") if ctx.caller.subject == "kind" else KeyError("bug")


@server.resource("trip://next")
def upcoming() -> str:
    return "oslo"


ANSWERS = {
    "Where to?": Trip("Oslo", 2),
    "name": "Ada",
    "roots": ["file:///home"],
    "Pay": True,
    "Say hello": "Hello",
    "sure": True,
    "Ready?": None,
    "turn": None,
}
PLANNED = "Hello, Ada: Trip(city='Oslo', days=2) ['file:///home'] accept"


def use(scenario: Callable[[testing.Client], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with testing.Client(server, **options) as client:
            await scenario(client)

    asyncio.run(main())


@each_era
def test_answers_are_given_by_message_in_either_era(era: testing.Spoken) -> None:
    async def scenario(client: testing.Client) -> None:
        assert client.era is Era(era)
        assert (await client.call_tool("plan")).text == PLANNED
        assert (await client.call_tool("book", {"city": "Oslo"})).text == "Oslo True"

    logs: list[Any] = []
    messages = {"Your name?": "Ada", "Are you sure?": Answer("accept", True)}
    use(scenario, era=era, answers=ANSWERS | messages, on_log=logs.append)
    assert [log.data for log in logs] == ["planned"]


@each_era
def test_a_question_can_be_declined_or_answered_by_a_handler(era: testing.Spoken) -> None:
    async def declined(client: testing.Client) -> None:
        result = await client.call_tool("book", {"city": "Oslo"})
        assert result.is_error
        assert "decline" in result.text

    use(declined, era=era, answers={"Are you sure?": Answer("decline")})
    use(declined, era=era, on_elicit=lambda question: "decline")


@each_era
@pytest.mark.parametrize(
    ("tool", "answers", "message"),
    [
        ("plan", {}, "the server asks 'Where to?', and answers= has nothing for it"),
        ("plan", {"Where to?": "Oslo"}, "'Where to?' asks for city, days: answer it with a dict of them"),
        ("plan", ANSWERS | {"Your name?": "", "roots": "x"}, 'answers["roots"] must be a list of URIs'),
        (
            "plan",
            ANSWERS | {"Your name?": "", "Say hello": 1},
            "'Say hello' is asked of the model: answer it with a text",
        ),
    ],
)
def test_a_missing_or_unfit_answer_fails_the_test(
    era: testing.Spoken, tool: str, answers: dict[str, Any], message: str
) -> None:
    async def scenario(client: testing.Client) -> None:
        with pytest.raises(AssertionError, match=re.escape(message)):
            await client.call_tool(tool)

    use(scenario, era=era, answers=answers)


@each_era
def test_changes_are_told(era: testing.Spoken) -> None:
    async def scenario(client: testing.Client) -> None:
        async with client.listen("trip://next") as changes:
            server.resource_updated("trip://next")
            assert await anext(changes) == Change("resource", "trip://next")
        await client.subscribe("trip://next")
        server.resource_updated("trip://next")
        assert await heard.get() == Change("resource", "trip://next")
        await client.unsubscribe("trip://next")

    heard: asyncio.Queue[Change] = asyncio.Queue()
    use(scenario, era=era, on_change=heard.put_nowait)


@each_era
def test_the_caller_is_who_the_test_says(era: testing.Spoken) -> None:
    async def anonymous(client: testing.Client) -> None:
        assert (await client.call_tool("whoami")).text == "anonymous"
        with pytest.raises(RpcError, match="admin"):
            await client.call_tool("secret")

    async def admin(client: testing.Client) -> None:
        assert (await client.call_tool("secret")).text == "secret"

    use(anonymous, era=era)
    use(admin, era=era, principal=Principal("test", "ada", scopes=frozenset({"admin"})))


@each_era
def test_a_lifespan_lasts_as_long_as_the_client(era: testing.Spoken) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[str]:
        seen.append("up")
        yield "state"
        seen.append("down")

    alive = Server("alive", lifespan=lifespan)

    @alive.tool
    async def state(ctx: Context) -> str:
        return str(ctx.state)

    async def main() -> None:
        async with testing.Client(alive, era=era) as client:
            assert (await client.call_tool("state")).text == "state"
            assert seen == ["up"]
        assert seen == ["up", "down"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [("plan", {}, PLANNED), ("book", {"city": "Oslo"}, "Oslo True"), ("draw", {"once": True}, "0")],
)
def test_a_tool_that_asks_is_replayed_in_both_eras(tool: str, arguments: dict[str, Any], text: str) -> None:
    both = asyncio.run(testing.replay(server, tool, arguments, answers=ANSWERS))
    assert (both.modern.text, both.legacy.text) == (text, text)


def test_a_replay_takes_faults_for_the_same_whatever_their_id() -> None:
    both = asyncio.run(testing.replay(server, "crash", answers=ANSWERS))
    assert both.modern.is_error
    assert both.legacy.is_error
    assert both.modern != both.legacy


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("draw", {"once": False}, "draw gave .* in the modern era and .* in the legacy one"),
        ("wander", {}, r"wander asked \['Right\?'\] in the modern era and \['Left\?'\] in the legacy one"),
    ],
)
def test_a_replay_fails_where_the_eras_differ(tool: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        asyncio.run(testing.replay(server, tool, arguments, answers=ANSWERS | {"Left?": None}))


def test_a_server_that_is_no_longer_served_ends_its_streams() -> None:
    async def main() -> None:
        async with AsyncExitStack() as serving:
            url = await serving.enter_async_context(testing.serve(server))
            async with LeanClient(url) as client, client.listen() as changes:
                await serving.aclose()
                assert [change async for change in changes] == []

    asyncio.run(main())


def test_a_server_is_served_at_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with testing.serve(server) as url, LeanClient(url) as client:
            assert (client.server.name, (await client.call_tool("whoami")).text) == ("trips", "anonymous")

    asyncio.run(main())

    def unable(bind: object) -> None:
        raise ListenError("no port is free")

    monkeypatch.setattr("portway.http.bind.Bind.open", unable)
    with pytest.raises(ListenError, match="no port is free"):
        asyncio.run(main())
