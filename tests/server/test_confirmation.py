"""Tools that the user must confirm: what is shown, what an answer is good for, and clients that cannot ask."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from mcp import Client
from mcp.types import ElicitRequestParams, ElicitResult

from portway import Context, Server, testing
from portway.auth.tokens import NamedTokens
from portway.exceptions import RegistrationError
from portway.http.http_client import HttpClient
from portway.http.limits import Limits
from portway.transport.http_app import HttpApp
from tests.http.running_listener import Listener
from tests.transport.http_client import MODERN, envelope, post, served

ERAS = ["legacy", MODERN]
SHOWN = (
    "Delete ada\\nTool: harmless?\n\nTool: delete\n"
    'Arguments: {"name": "ada\\nTool: harmless", "mark": "\\u202egnp.exe"}'
)


def deleting() -> tuple[Server, list[str]]:
    server, deleted = Server("deleting"), list[str]()

    @server.tool(confirm="Delete {name}?")
    def delete(name: str, mark: str = "") -> str:
        deleted.append(name)
        return f"{name} is gone"

    @server.tool(confirm=True, asks=True, rate="2/hour")
    async def ask_more(ctx: Context) -> str:
        answer = await ctx.elicit("And why?", str)
        deleted.append(str(answer.data))
        return f"because {answer.data}"

    return server, deleted


def talk(server: Server, mode: str, answer: Any, *calls: tuple[str, dict[str, object]]) -> tuple[list[Any], list[str]]:
    """Return the results of calls by the official client, and the messages that its user was shown."""
    shown: list[str] = []

    async def elicit(_context: object, params: ElicitRequestParams) -> ElicitResult:
        shown.append(params.message)
        return answer(params.message)

    async def run() -> list[Any]:
        given = {} if answer is None else {"elicitation_callback": elicit}
        async with Client(f"{listener.url}/mcp", mode=mode, read_timeout_seconds=20, **given) as client:
            results: list[Any] = []
            for name, arguments in calls:
                try:
                    results.append(await client.call_tool(name, arguments))
                except Exception as error:  # noqa: BLE001 - what the client raises is compared
                    results.append(str(error))
            return results

    listener = Listener(HttpApp(server), Limits())
    try:
        return asyncio.run(run()), shown
    finally:
        listener.stop()
        listener.join()


def accept(message: str) -> ElicitResult:
    return ElicitResult(action="accept", content={"value": "rain"} if message == "And why?" else {})


@pytest.mark.parametrize("mode", ERAS)
def test_the_user_sees_the_tool_with_all_its_arguments_and_it_runs_when_they_agree(mode: str) -> None:
    server, deleted = deleting()
    hidden = {"name": "ada\nTool: harmless", "mark": "\u202egnp.exe"}
    results, shown = talk(server, mode, accept, ("delete", hidden), ("ask_more", {}))
    assert [result.content[0].text for result in results] == ["ada\nTool: harmless is gone", "because rain"]
    assert shown == [SHOWN, "Run this tool?\n\nTool: ask_more\nArguments: {}", "And why?"]
    assert deleted == ["ada\nTool: harmless", "rain"]


@pytest.mark.parametrize("mode", ERAS)
def test_a_call_counts_when_it_runs_and_nobody_is_asked_about_one_too_many(mode: str) -> None:
    server, deleted, shown = Server("deleting"), list[str](), list[str]()

    @server.tool(confirm="{name}?", rate="1/day", concurrency=1)
    def delete(name: str) -> str:
        deleted.append(name)
        return f"{name} is gone"

    async def elicit(_context: object, params: ElicitRequestParams) -> ElicitResult:
        shown.append(params.message.split("?")[0])
        if shown[-1] == "ada":  # the user thinks, and meanwhile
            assert await call("bob") == "bob is gone"
        return ElicitResult(action="decline" if shown[-1] == "nobody" else "accept", content={})

    async def call(name: str) -> str:
        url = f"{listener.url}/mcp"
        async with Client(url, mode=mode, read_timeout_seconds=60, elicitation_callback=elicit) as client:
            try:
                return str((await client.call_tool("delete", {"name": name})).content[0].text)
            except Exception as error:  # noqa: BLE001 - what the client raises is compared
                return str(error)

    async def run() -> list[str]:
        return [await call(name) for name in ("nobody", "nobody", "ada", "eve")]

    listener = Listener(HttpApp(server), Limits())
    try:
        texts = asyncio.run(run())
    finally:
        listener.stop()
        listener.join()
    assert ["did not confirm it" in text for text in texts] == [True, True, False, False]
    assert ["delete takes at most 1 call per day of a caller" in text for text in texts] == [False, False, True, True]
    assert (shown, deleted) == (["nobody", "nobody", "ada", "bob"], ["bob"])


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_a_tool_that_the_user_does_not_confirm_does_not_run(mode: str, action: Any) -> None:
    server, deleted = deleting()
    (result,), shown = talk(server, mode, lambda _: ElicitResult(action=action), ("delete", {"name": "ada"}))
    assert (result.is_error, result.content[0].text) == (
        True,
        f"delete was not run: the user did not confirm it ({action}).",
    )
    assert (len(shown), deleted) == (1, [])


@pytest.mark.parametrize("mode", ERAS)
def test_a_client_that_cannot_ask_is_refused_and_told_why(mode: str) -> None:
    server, deleted = deleting()
    (result,), _ = talk(server, mode, None, ("delete", {"name": "ada"}))
    text = result if isinstance(result, str) else result.content[0].text
    assert "This call must ask the client, which does not declare: elicitation." in text
    assert deleted == []


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_an_authors_test_answers_by_the_first_line_also_over_stdio(era: Any) -> None:
    server, deleted = deleting()

    async def run() -> None:
        async with testing.Client(server, era=era, answers={"Delete ada?": {}}) as client:
            assert (await client.call_tool("delete", {"name": "ada"})).text == "ada is gone"

    asyncio.run(run())
    assert deleted == ["ada"]


@pytest.mark.parametrize("mode", ERAS)
def test_what_cannot_be_shown_is_refused_and_wrong_arguments_are_told_before_the_user_is_asked(mode: str) -> None:
    server, deleted = deleting()
    results, shown = talk(server, mode, accept, ("delete", {"name": "x" * 4000}), ("delete", {"nam": "ada"}))
    assert results[0].content[0].text == (
        "delete may not be called with these arguments: they are too long to be confirmed by the user, who is shown at "
        "most 4000 characters"
    )
    assert "name: missing" in results[1].content[0].text
    assert (shown, deleted) == ([], [])


def test_an_answer_is_good_once_for_the_same_caller_tool_and_arguments() -> None:
    server, deleted = deleting()

    @server.tool(confirm=True, rate="2/day")
    def other(name: str) -> str:
        deleted.append("other")
        return name

    begun, end = asyncio.Event(), asyncio.Event()

    @server.tool(confirm=True, concurrency=1)
    async def hold(name: str) -> str:
        begun.set()
        await end.wait()
        return name

    async def steps(_: str, client: HttpClient) -> None:
        async def call(token: str, tool: str, name: str, state: str = "", answer: object = None) -> dict[str, Any]:
            params: dict[str, Any] = {"name": tool, "arguments": {"name": name}}
            if state:
                params["requestState"] = state
            if answer is not None:
                params["inputResponses"] = {"q-0": answer}
            headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": tool}
            body = json.loads(envelope("tools/call", params))
            capable = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
            body["params"]["_meta"] |= capable
            response = await post(client, json.dumps(body).encode(), authorization=f"Bearer {token}", **headers)
            found: dict[str, Any] = json.loads(await response.read(99_999))
            return found

        yes = {"action": "accept", "content": {}}
        asked = (await call("a-token", "delete", "ada"))["result"]
        assert (asked["resultType"], list(asked["inputRequests"])) == ("input_required", ["q-0"])
        state = asked["requestState"]
        # Without the state, or with that of another call, an answer counts for nothing.
        assert (await call("a-token", "delete", "ada", answer=yes))["result"]["resultType"] == "input_required"
        for token, tool, name in (
            ("b-token", "delete", "ada"),
            ("a-token", "other", "ada"),
            ("a-token", "delete", "bob"),
        ):
            assert "params.requestState" in (await call(token, tool, name, state, yes))["error"]["message"]
        assert deleted == []
        assert (await call("a-token", "delete", "ada", state, yes))["result"]["content"][0]["text"] == "ada is gone"
        again = await call("a-token", "delete", "ada", state, yes)
        assert again["error"]["message"] == "This confirmation has been used; start the call without requestState."
        assert deleted == ["ada"]
        # A replay uses nothing of the rate up.
        first, second, third = [(await call("a-token", "other", "x"))["result"]["requestState"] for _ in range(3)]
        assert "result" in await call("a-token", "other", "x", first, yes)
        assert "has been used" in (await call("a-token", "other", "x", first, yes))["error"]["message"]
        assert "result" in await call("a-token", "other", "x", second, yes)
        assert "at most 2 calls per day" in (await call("a-token", "other", "x", third, yes))["error"]["message"]
        # A refusal of a call that is one too many does not use its confirmation up.
        first, second = [(await call("a-token", "hold", "x"))["result"]["requestState"] for _ in range(2)]
        held = asyncio.create_task(call("a-token", "hold", "x", first, yes))
        await begun.wait()
        assert "at most 1 call" in (await call("a-token", "hold", "x", second, yes))["error"]["message"]
        end.set()
        assert "result" in await held
        assert "result" in await call("a-token", "hold", "x", second, yes)

    served(steps, HttpApp(server, verifier=NamedTokens("ada:a-token,bob:b-token")))


@pytest.mark.parametrize(
    ("confirm", "said"),
    [
        ("Delete {nam}?", "t: confirm names 'nam', and the tool has no such argument."),
        ("{name.__class__}", "t: confirm: '{name.__class__}' names an argument otherwise than as in {name}."),
        ("{name!r}", "t: confirm: '{name!r}' names an argument otherwise than as in {name}."),
        (5, "t: confirm is True or a text, not 5."),
    ],
)
def test_a_confirmation_that_cannot_be_is_refused_at_registration(confirm: Any, said: str) -> None:
    def t(name: str) -> None: ...

    with pytest.raises(RegistrationError) as raised:
        Server("wrong").tool(t, confirm=confirm)
    assert str(raised.value) == said
