"""The part of the server that asks: the user, the client's model, the client's roots.

Every tool is one body for both eras: a legacy client is asked while the call waits, a modern one answers with its next
request, which runs the function again.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

from portway import Ask, Context, Root, Sampled, Server, elicit, list_roots, sample

server = Server("questions")


class Name(TypedDict):
    name: str


class Color(TypedDict):
    color: str


class Confirmation(TypedDict):
    ok: bool


class Background(TypedDict):
    context: str


@dataclass
class Contact:
    username: Annotated[str, "User's response"]
    email: Annotated[str, "User's email address"]


@dataclass
class Profile:
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


# A form as the wire has it, for what no Python type says: `enumNames` is the way of old clients.
CHOICES = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": [
                {"const": "value1", "title": "First Option"},
                {"const": "value2", "title": "Second Option"},
                {"const": "value3", "title": "Third Option"},
            ],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {
            "type": "array",
            "items": {
                "anyOf": [
                    {"const": "value1", "title": "First Choice"},
                    {"const": "value2", "title": "Second Choice"},
                    {"const": "value3", "title": "Third Choice"},
                ]
            },
        },
    },
}


# Questions that need no code before them stand in the signature.


@server.tool
def test_input_required_result_elicitation(user_name: Annotated[Name, Ask("What is your name?")]) -> str:
    """Ask the user for a name."""
    return f"Hello, {user_name['name']}!"


@server.tool
def test_input_required_result_sampling(
    capital: Annotated[Sampled, Ask(sample("What is the capital of France?", max_tokens=100))],
) -> str:
    """Ask the client's model."""
    return f"Sampling result: {capital.text}"


@server.tool
def test_input_required_result_list_roots(client_roots: Annotated[list[Root], Ask(list_roots())]) -> str:
    """Ask for the client's roots."""
    return f"Found {len(client_roots)} root(s)"


@server.tool
def test_input_required_result_multiple_inputs(
    user_name: Annotated[Name, Ask("What is your name?")],
    greeting: Annotated[Sampled, Ask(sample("Generate a greeting", max_tokens=50))],
    client_roots: Annotated[list[Root], Ask(list_roots())],
) -> str:
    """Ask the user, the model and the client at once."""
    return f"{user_name['name']}: {greeting.text} ({len(client_roots)} roots)"


@server.prompt
def test_input_required_result_prompt(
    user_context: Annotated[Background, Ask("What context should the prompt use?")],
) -> str:
    """A prompt that asks the user first."""
    return f"Prompt with context: {user_context['context']}"


# All others are asked on the way.


@server.tool(asks=True)
async def test_input_required_result_request_state(ctx: Context) -> str:
    """Ask for a confirmation, which counts only with the state that came with the question."""
    answer = await ctx.elicit("Please confirm", Confirmation)
    return "state-ok: confirmed" if answer.accepted else "state-ok: not confirmed"


@server.tool(asks=True)
async def test_input_required_result_tampered_state(ctx: Context) -> str:
    """Ask for a confirmation; a state that was changed on its way is refused."""
    answer = await ctx.elicit("Please confirm", Confirmation)
    return f"integrity-ok: {answer.action}"


@server.tool(asks=True)
async def test_input_required_result_multi_round(ctx: Context) -> str:
    """Ask two questions, one after the other."""
    name = await ctx.elicit("Step 1: What is your name?", Name)
    color = await ctx.elicit("Step 2: What is your favorite color?", Color)
    return f"{name.data} likes {color.data}"


@server.tool(asks=True)
async def test_input_required_result_capabilities(ctx: Context) -> str:
    """Ask what this client can be asked."""
    if ctx.client.supports("elicitation"):
        await ctx.elicit("Your input?", str)
    if ctx.client.supports("sampling"):
        await ctx.sample("Sample request", max_tokens=50)
    return "asked what could be asked"


@server.tool(asks=True)
async def test_missing_capability(ctx: Context) -> str:
    """Ask the client's model; a client without one is told what it lacks."""
    return (await ctx.sample("Say something.")).text


@server.tool(asks=True)
async def test_streaming_elicitation(ctx: Context) -> str:
    """Report progress, then ask the user."""
    await ctx.report_progress(1, 2, "about to ask")
    answer = await ctx.elicit("Go on?", bool)
    return f"The user said: {answer.action}"


@server.tool(asks=True)
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Have the client's model answer a prompt."""
    return f"LLM response: {(await ctx.sample(prompt, max_tokens=100)).text}"


@server.tool(asks=True)
async def test_elicitation(message: str, ctx: Context) -> str:
    """Show the user a message and ask for a way to answer it."""
    answer = await ctx.elicit(message, Contact)
    return f"User response: {answer.action}, {answer.data}"


@server.tool(asks=True)
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask with a form that is filled in already."""
    answer = await ctx.elicit("Please review your profile", Profile)
    return f"Elicitation completed: {answer.action}, {answer.data}"


@server.tool(asks=True)
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Ask with every kind of choice, all at once."""
    answers = await ctx.ask(choices=elicit("Please choose", CHOICES))
    return f"Elicitation completed: {answers['choices'].action}, {answers['choices'].data}"
