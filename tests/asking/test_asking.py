"""Asking the client during a call: one handler for both eras."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import mcp_types
import pytest

from portway import (
    Answer,
    Ask,
    Context,
    Header,
    Message,
    RegistrationError,
    Root,
    Sampled,
    Server,
    elicit,
    elicit_url,
    list_roots,
    sample,
)
from portway.asking.questions import ToolOutput, ToolUse
from portway.auth.principal import ANONYMOUS
from portway.plans.content import AudioContent, Text
from portway.protocol.capabilities import Capability
from portway.protocol.errors import INVALID_PARAMS, MISSING_CAPABILITY, RpcError
from portway.protocol.jsonrpc import PREFIX, decode
from portway.protocol.versions import LATEST_MODERN, Era
from portway.server.dispatcher import Dispatcher
from portway.sessions.exchange import Exchange
from tests.asking.scripted_client import (
    ALL,
    DECLINE,
    ROOTS,
    SAMPLED,
    ScriptedChannel,
    ScriptedClient,
    accept,
    legacy_session,
    text,
)


@dataclass
class Name:
    name: str


counted: list[str] = []


def full_server() -> Server:
    server = Server("full-server")

    @server.tool(asks=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Your name?", Name, key="user_name")
        return f"Hello, {answer.data.name}!" if answer.accepted else f"No name: {answer.action}"

    @server.tool(asks=True)
    async def steps(ctx: Context) -> str:
        async def count() -> int:
            counted.append("step")
            return len(counted)

        first = await ctx.once("count", count)
        a = await ctx.elicit("A?", str)
        second = await ctx.once("more", lambda: {"n": first})
        b = await ctx.elicit("B?", Literal["x", "y"])
        return f"{first} {second['n']} {a.data} {b.data}"

    @server.tool(asks=True)
    async def many(ctx: Context) -> str:
        got = await ctx.ask(who=elicit("Who?", str), capital=sample("Capital?", max_tokens=50), roots=list_roots())
        return f"{got['who'].data} {got['capital'].text} {got['roots'][0].uri}"

    @server.tool(asks=True)
    async def link(ctx: Context) -> str:
        return (await ctx.elicit_url("Sign in", "https://example.org/in", key="in")).action

    @server.tool(asks=True)
    async def multiple(ctx: Context) -> str:
        return ",".join((await ctx.elicit("Which?", list[Literal["a", "b"]], key="which")).data)

    @server.tool(asks=True)
    async def endless(ctx: Context) -> str:
        for turn in range(100):
            await ctx.elicit(f"Turn {turn}?", int)
        return "done"

    @server.tool(asks=True)
    async def hoards(ctx: Context) -> str:
        await ctx.once("much", lambda: "x" * 40_000)
        return str(await ctx.elicit("And?", str))

    @server.tool(asks=True)
    async def careless(ctx: Context) -> str:
        try:
            return str((await ctx.elicit("Really?", bool, key="sure")).data)
        except Exception as error:  # noqa: BLE001 - as an author might
            return f"caught {type(error).__name__}: {error}"

    @server.tool(asks=True)
    async def gathers(ctx: Context) -> str:
        answers = await asyncio.gather(ctx.elicit("A?", int), ctx.elicit("B?", int))
        return str([answer.data for answer in answers])

    @server.tool(asks=True)
    async def grouped(ctx: Context) -> str:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.elicit(f"{name}?", int)) for name in "AB"]
        return str([task.result().data for task in tasks])

    @server.tool
    async def undeclared(ctx: Context) -> str:
        await ctx.elicit("May I?", bool)
        return "asked"

    @server.tool
    def declared(
        first: int,
        sure: Annotated[bool, Ask("Sure?"), "Think twice"],
        ctx: Context,
        roots: Annotated[list[Root], Ask(list_roots())],
        last: int = 2,
        size: Annotated[Literal["s", "l"], Ask("Size?")] = "l",
    ) -> str:
        return f"{first} {sure} {roots[0].name} {last} {size} {ctx.request_id}"

    @server.tool
    async def whole(said: Annotated[Answer[str], Ask("Say!")], model: Annotated[Sampled, Ask(sample("Hi"))]) -> str:
        return f"{said.action} {said.data} {model.model}"

    @server.prompt(asks=True)
    async def write(ctx: Context) -> str:
        return f"About {(await ctx.elicit('Topic?', str, key='topic')).data}"

    @server.resource("note://{name}", asks=True)
    async def note(name: str, ctx: Context) -> str:
        return f"{name} {(await ctx.elicit('Page?', int, key='page')).data}"

    return server


@pytest.fixture
def client() -> ScriptedClient:
    counted.clear()
    return ScriptedClient(full_server())


GREET = {
    "method": "elicitation/create",
    "params": {
        "message": "Your name?",
        "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
}


def test_a_modern_client_gets_the_questions_and_calls_again(client: ScriptedClient) -> None:
    asked = client.modern("greet")
    assert asked["resultType"] == "input_required"
    assert asked["inputRequests"] == {"user_name": GREET}
    mcp_types.InputRequiredResult.model_validate(asked)
    answered = client.modern("greet", responses={"user_name": accept(name="Ada")}, state=asked["requestState"])
    assert (answered["resultType"], text(answered)) == ("complete", "Hello, Ada!")


def test_a_legacy_client_is_asked_while_the_call_waits(client: ScriptedClient) -> None:
    result, asked = client.legacy("greet", accept(name="Ada"))
    assert text(result) == "Hello, Ada!"
    assert asked == [(GREET["method"], GREET["params"])]
    assert text(client.legacy("greet", DECLINE)[0]) == "No name: decline"


def test_an_answer_under_a_key_counts_without_a_state_and_unknown_ones_are_ignored(client: ScriptedClient) -> None:
    responses = {"user_name": accept(name="Ada"), "other": 5}
    assert text(client.modern("greet", responses=responses)) == "Hello, Ada!"
    assert client.modern("greet", responses={"other": accept(name="Ada")})["inputRequests"] == {"user_name": GREET}


def test_an_answer_without_a_key_counts_only_with_the_state_of_its_question(client: ScriptedClient) -> None:
    responses = {"q-1": accept(value="one")}
    first = client.modern("steps", responses=responses)
    assert list(first["inputRequests"]) == ["q-1"]
    second = client.modern("steps", responses=responses, state=first["requestState"])
    assert list(second["inputRequests"]) == ["q-2"]
    assert second["requestState"] != first["requestState"]
    early = client.modern("steps", responses=responses | {"q-2": accept(value="x")}, state=first["requestState"])
    assert list(early["inputRequests"]) == ["q-2"]
    third = client.modern("steps", responses={"q-2": accept(value="y")}, state=second["requestState"])
    assert text(third) == "1 1 one y"


def test_once_runs_once_over_the_rounds_of_a_call(client: ScriptedClient) -> None:
    state: dict[str, Any] = {}
    for responses in ({}, {"q-1": accept(value="a")}, {"q-2": accept(value="x")}):
        state = {"state": (reply := client.modern("steps", responses=responses, **state)).get("requestState")}
    assert text(reply) == "1 1 a x"
    counted.clear()
    assert text(client.legacy("steps", accept(value="a"), accept(value="x"))[0]) == "1 1 a x"


def test_several_questions_go_out_together(client: ScriptedClient) -> None:
    asked = client.modern("many")
    assert {key: question["method"] for key, question in asked["inputRequests"].items()} == {
        "who": "elicitation/create",
        "capital": "sampling/createMessage",
        "roots": "roots/list",
    }
    some = client.modern("many", responses={"who": accept(who="Ada"), "roots": ROOTS})
    assert list(some["inputRequests"]) == ["capital"]
    done = client.modern("many", responses={"capital": SAMPLED}, state=some["requestState"])
    legacy, questions = client.legacy("many", accept(who="Ada"), SAMPLED, ROOTS)
    assert text(done) == text(legacy) == "Ada Paris file:///home"
    assert sorted(method for method, _ in questions) == ["elicitation/create", "roots/list", "sampling/createMessage"]


@pytest.mark.parametrize("tool", ["gathers", "grouped"])
def test_questions_asked_by_tasks_of_the_author_are_asked_one_after_the_other(
    client: ScriptedClient, tool: str
) -> None:
    first = client.modern(tool)
    second = client.modern(tool, responses={"q-1": accept(value=1)}, state=first["requestState"])
    done = client.modern(tool, responses={"q-2": accept(value=2)}, state=second["requestState"])
    assert text(done) == text(client.legacy(tool, accept(value=1), accept(value=2))[0]) == "[1, 2]"


def test_content_that_does_not_fit_is_asked_for_again_and_never_taken(client: ScriptedClient) -> None:
    for content in ({}, {"name": 5}, {"nom": "x"}):
        again = client.modern("greet", responses={"user_name": accept(**content)})
        assert again["inputRequests"] == {"user_name": GREET}
    result, asked = client.legacy("greet", accept(name=5), accept(name="Ada"))
    assert (text(result), len(asked)) == ("Hello, Ada!", 2)
    result, asked = client.legacy("greet", accept(name=5), accept())
    assert (result["isError"], len(asked)) == (True, 2)
    assert text(result) == "The answer does not fit the form: name: missing (a string is required)."


@pytest.mark.parametrize(
    ("responses", "said"),
    [
        (
            {"user_name": 12345},
            "params.inputResponses.user_name is not a result of elicitation/create: Expected `object`",
        ),
        (
            {"user_name": None},
            "params.inputResponses.user_name is not a result of elicitation/create: Expected `object`",
        ),
        (
            {"user_name": {"action": "yes"}},
            "params.inputResponses.user_name is not a result of elicitation/create: Invalid",
        ),
        (None, "Invalid params: Expected `object`, got `null` - at `params.inputResponses`."),
        ([], "Invalid params: Expected `object`, got `array` - at `params.inputResponses`."),
    ],
)
def test_an_answer_of_the_wrong_shape_is_refused_by_name(client: ScriptedClient, responses: Any, said: str) -> None:
    refused = client.modern("greet", responses=responses)
    assert (refused["code"], refused["status"]) == (INVALID_PARAMS, 400)
    assert refused["message"].startswith(said)


def test_a_client_that_lacks_the_capability_is_never_asked(client: ScriptedClient) -> None:
    said = "This call must ask the client, which does not declare: elicitation, sampling."
    refused = client.modern("many", capabilities={"roots": {}})
    assert (refused["code"], refused["status"], refused["message"]) == (MISSING_CAPABILITY, 400, said)
    assert refused["data"] == {"requiredCapabilities": {"elicitation": {"form": {}}, "sampling": {}}}
    result, asked = client.legacy("many", session=legacy_session(capabilities=Capability.ROOTS))
    assert (result["isError"], text(result), asked) == (True, said, [])
    result, _ = client.legacy("greet", bare=True)
    assert result["isError"]
    assert text(result) == "This call must ask the client, and a legacy client can be asked only within a session."
    assert client.modern("link", capabilities={"elicitation": {}})["code"] == MISSING_CAPABILITY


def test_except_exception_in_a_handler_does_not_catch_a_question(client: ScriptedClient) -> None:
    assert list(client.modern("careless")["inputRequests"]) == ["sure"]
    assert client.modern("careless", capabilities={})["code"] == MISSING_CAPABILITY
    assert client.modern("careless", responses={"sure": 3})["code"] == INVALID_PARAMS


@pytest.mark.parametrize(
    ("tool", "version", "said"),
    [
        (
            "greet",
            "2025-03-26",
            "This call asks for a form, which clients can show since revision 2025-06-18; this one",
        ),
        (
            "link",
            "2025-06-18",
            "This call asks for a visit to a URL, which clients can show since revision 2025-11-25;",
        ),
        ("multiple", "2025-06-18", "This call asks for a form, which clients can show since revision 2025-11-25;"),
    ],
)
def test_an_older_revision_is_not_asked_what_it_does_not_know(
    client: ScriptedClient, tool: str, version: str, said: str
) -> None:
    result, asked = client.legacy(tool, session=legacy_session(version))
    assert (result["isError"], asked) == (True, [])
    assert text(result).startswith(said)


def test_a_url_is_asked_for_in_the_shape_of_each_era(client: ScriptedClient) -> None:
    params = client.modern("link")["inputRequests"]["in"]["params"]
    assert params == {"mode": "url", "message": "Sign in", "url": "https://example.org/in"}
    result, ((_, legacy),) = client.legacy("link", {"action": "accept"})
    assert text(result) == text(client.modern("link", responses={"in": {"action": "accept"}})) == "accept"
    assert legacy.pop("elicitationId")
    assert legacy == params


def test_a_refused_or_malformed_legacy_answer_is_an_error_the_tool_may_catch(client: ScriptedClient) -> None:
    result, _ = client.legacy("greet", RpcError(-1, "User rejected it"))
    assert text(result) == "The client did not answer elicitation/create: User rejected it"
    result, _ = client.legacy("greet", {"action": "yes"})
    assert text(result).startswith("The client's answer is not a result of elicitation/create: Invalid enum value")
    result, _ = client.legacy("careless", RpcError(-1, "no"))
    assert text(result) == "caught ToolError: The client did not answer elicitation/create: no"
    result, _ = client.legacy("many", accept(who="Ada"), RpcError(-1, "no"), ROOTS)
    assert text(result) == "The client did not answer sampling/createMessage: no"


def test_a_call_asks_at_most_ten_times(client: ScriptedClient) -> None:
    reply = client.modern("endless")
    for _ in range(9):
        (key,) = reply["inputRequests"]
        reply = client.modern("endless", responses={key: accept(value=1)}, state=reply["requestState"])
    reply = client.modern("endless", responses={"q-10": accept(value=1)}, state=reply["requestState"])
    assert (reply["code"], reply["message"]) == (INVALID_PARAMS, "This call has asked 10 times; start it again.")


def test_the_state_a_client_carries_is_bounded(client: ScriptedClient) -> None:
    refused = client.modern("hoards")
    assert refused["code"] == INVALID_PARAMS
    assert refused["message"] == "The answers so far come to more than 32768 bytes; start again with less."


def test_prompts_and_resources_ask_like_tools(client: ScriptedClient) -> None:
    asked = client.modern("write", method="prompts/get")
    assert (asked["resultType"], list(asked["inputRequests"])) == ("input_required", ["topic"])
    assert "ttlMs" not in asked
    done = client.modern("write", method="prompts/get", responses={"topic": accept(topic="tea")})
    legacy, _ = client.legacy("write", accept(topic="tea"), method="prompts/get")
    assert done["messages"][0]["content"]["text"] == legacy["messages"][0]["content"]["text"] == "About tea"
    asked = client.modern("note://a", method="resources/read")
    answer = {"page": accept(page=3)}
    done = client.modern("note://a", method="resources/read", responses=answer, state=asked["requestState"])
    assert done["contents"][0]["text"] == "a 3"
    other = client.modern("note://b", method="resources/read", responses=answer, state=asked["requestState"])
    assert other["code"] == INVALID_PARAMS


def test_declared_questions_are_asked_in_one_round_before_the_body(client: ScriptedClient) -> None:
    asked = client.modern("declared", {"first": 1})
    assert list(asked["inputRequests"]) == ["sure", "roots", "size"]
    fields = asked["inputRequests"]["sure"]["params"]["requestedSchema"]["properties"]
    assert fields == {"sure": {"type": "boolean", "description": "Think twice"}}
    answers = {"sure": accept(sure=True), "roots": ROOTS, "size": accept(size="s")}
    assert text(client.modern("declared", {"first": 1, "last": 9}, responses=answers)) == "1 True Home 9 s 1"
    assert text(client.modern("declared", {"first": 1}, responses=answers | {"size": DECLINE})) == "1 True Home 2 l 1"
    refused = client.modern("declared", {"first": 1}, responses=answers | {"sure": DECLINE})
    assert refused["isError"]
    assert text(refused) == "declared needs an answer to 'sure', and the user gave none (decline)."
    assert client.modern("declared", {"first": "x"})["isError"]  # before anything is asked
    schema = json.loads(full_server().tools.items["declared"].plan.input_schema)
    assert sorted(schema["properties"]) == ["first", "last"]


def test_a_parameter_of_type_answer_gets_any_answer(client: ScriptedClient) -> None:
    said = {"said": DECLINE, "model": SAMPLED}
    assert text(client.modern("whole", responses=said)) == "decline None m"
    assert text(client.legacy("whole", accept(said="x"), SAMPLED)[0]) == "accept x m"


def test_asking_without_asks_true_is_an_error_that_names_the_flag(
    client: ScriptedClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.modern("undeclared")["isError"]
    assert "undeclared asks the client, or uses once(); register it with asks=True." in caplog.text


def test_a_declared_question_no_form_can_hold_is_refused_at_registration() -> None:
    with pytest.raises(
        RegistrationError, match=r"parameter x: The form dict\[str, int\]: x cannot be a field of a form"
    ):

        @Server("s").tool
        def wrong(x: Annotated[dict[str, int], Ask("What?")]) -> None: ...


def test_a_model_is_asked_with_tools_and_given_their_results() -> None:
    tools = [{"name": "add", "inputSchema": {"type": "object"}}]
    question = sample(
        [
            "1+1?",
            Message([ToolUse(id="u", name="add", input={"a": 1})], role="assistant"),
            Message([ToolOutput(tool_use_id="u", content=[Text(text="2")])]),
        ],
        system="Be brief",
        temperature=0.5,
        stop=["."],
        model_preferences={"speedPriority": 1.0},
        tools=tools,
    )
    params = mcp_types.CreateMessageRequestParams.model_validate_json(question.params("2026-07-28"))
    assert params.model_dump(mode="json", by_alias=True, exclude_unset=True) == json.loads(
        question.params("2025-11-25")
    )
    assert question.needs == Capability.SAMPLING | Capability.SAMPLING_TOOLS
    assert question.since == "2025-11-25"
    heard = Message(AudioContent(data=b"RIFF", mime_type="audio/wav"))
    assert [sample([message]).since for message in ("text", heard)] == ["2024-11-05", "2025-03-26"]
    use = {"type": "tool_use", "id": "u", "name": "add", "input": {"a": 1}}
    answer = question.read(json.dumps(SAMPLED | {"content": [SAMPLED["content"], use]}).encode())
    assert (answer.text, answer.content[1].name) == ("Paris", "add")
    with pytest.raises(TypeError, match=r"sample\(\) takes text, or a list of texts and Messages"):
        sample([Message(object())])


def test_a_header_parameter_is_in_the_schema() -> None:
    server = Server("s")

    @server.tool
    def where(region: Annotated[str, Header("Region")]) -> None: ...

    schema = json.loads(server.tools.items["where"].plan.input_schema)
    assert schema["properties"]["region"]["x-mcp-header"] == "Region"


def test_a_server_that_never_asks_does_not_import_asking() -> None:
    code = """
import sys
from portway import Server
from portway.server.dispatcher import Dispatcher
server = Server("s")
@server.tool
def add(a: int) -> int: return a
Dispatcher(server)
unwanted = ("server.asking", "server.questions", "server.forms", "server.state", "cryptography")
print([name for name in sys.modules if name.endswith(unwanted)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_questions_are_plain_values() -> None:
    assert elicit("A?", str).digest() == elicit("A?", str).digest() != elicit("A?", int).digest()
    assert elicit_url("A", "https://a").digest() == elicit_url("A", "https://a").digest()


def test_a_question_passes_through_middleware_with_a_task_group() -> None:
    server = full_server()

    @server.middleware
    async def grouping(ctx: Context, call_next: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(call_next())
        return task.result()

    client = ScriptedClient(server)
    assert list(client.modern("greet")["inputRequests"]) == ["user_name"]
    assert text(client.legacy("greet", accept(name="Ada"))[0]) == "Hello, Ada!"


def test_a_completion_cannot_ask(caplog: pytest.LogCaptureFixture) -> None:
    server = Server("shop")

    @server.prompt(asks=True)
    async def order(ctx: Context, dish: str) -> str:
        return dish

    @server.completion("order", "dish")
    async def dishes(value: str, ctx: Context) -> list[str]:
        return [str(await ctx.elicit("Which?", str))]

    params = {"ref": {"type": "ref/prompt", "name": "order"}, "argument": {"name": "dish", "value": ""}}
    meta = {PREFIX + "protocolVersion": LATEST_MODERN, PREFIX + "clientCapabilities": ALL}
    request = {"jsonrpc": "2.0", "id": 1, "method": "completion/complete", "params": params | {"_meta": meta}}
    body = json.dumps(request).encode()

    async def run() -> bytes:
        return await Dispatcher(server).dispatch(Exchange(decode(body), Era.MODERN, ANONYMOUS, ScriptedChannel(), body))

    with pytest.raises(RpcError, match="error id"):
        asyncio.run(run())
    assert "A completion cannot ask the client; ask in the prompt or the tool." in caplog.text
