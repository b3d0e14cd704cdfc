"""A server that uses every field and every kind of message a server can send."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

from msgspec import Meta

from portway import (
    Answer,
    Ask,
    Audio,
    Context,
    Header,
    Icon,
    Image,
    Message,
    Root,
    Sampled,
    Server,
    ToolError,
    ToolResult,
    elicit,
    list_roots,
    sample,
)
from portway.auth.tokens import NamedTokens
from portway.plans.content import (
    Annotations,
    AudioContent,
    EmbeddedResource,
    ImageContent,
    ResourceContents,
    ResourceLink,
    Text,
)
from portway.transport.http_app import HttpApp

ABOUT = Annotations(audience=["user", "assistant"], priority=0.5, last_modified="2026-07-28T00:00:00Z")
ICON = Icon("https://example.org/icon.png", mime_type="image/png", sizes=["48x48", "any"], theme="dark")
SHOWN: dict[str, Any] = {"icons": [ICON], "meta": {"example.org/shelf": 1}}
EXTRA: dict[str, Any] = {"annotations": ABOUT, "meta": {"example.org/origin": "full-server"}}
BYTES = bytes(range(8))
LOOK = {"name": "look", "inputSchema": {"type": "object", "properties": {}}}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
}
ADMIN_TOKEN, READER_TOKEN = "full-token", "poor-token"


def blocks() -> list[Any]:
    """Return one content block of every kind, with every field set."""
    text = ResourceContents("note://1", mime_type="text/plain", text="one", meta={"example.org/page": 1})
    blob = ResourceContents("note://2", mime_type="image/png", blob=BYTES, meta={"example.org/page": 2})
    return [
        Text(text="plain", **EXTRA),
        ImageContent(data=BYTES, mime_type="image/png", **EXTRA),
        AudioContent(data=BYTES, mime_type="audio/wav", **EXTRA),
        ResourceLink(
            uri="note://3", name="three", title="Three", description="A note", mime_type="text/plain", size=3, **EXTRA
        ),
        EmbeddedResource(resource=text, **EXTRA),
        EmbeddedResource(resource=blob, **EXTRA),
    ]


def all_fields() -> dict[str, Any]:
    """Return a form's schema with every kind of field and every keyword."""
    about = {"title": "A title", "description": "What it is for"}
    values, named = ["a", "b"], [{"const": "a", "title": "A"}, {"const": "b", "title": "B"}]
    several = {"type": "array", "minItems": 1, "maxItems": 2, "default": ["a"]} | about
    properties = {
        "text": {"type": "string", "minLength": 1, "maxLength": 9, "format": "email", "default": "a@b.c"},
        "number": {"type": "integer", "minimum": 1, "maximum": 9, "default": 2},
        "yes": {"type": "boolean", "default": True},
        "plain": {"type": "string", "enum": values, "default": "a"},
        "titled": {"type": "string", "oneOf": named, "default": "a"},
        "old": {"type": "string", "enum": values, "enumNames": ["A", "B"], "default": "a"},
        "several": several | {"items": {"type": "string", "enum": values}},
        "several_titled": several | {"items": {"anyOf": named}},
    }
    return {"type": "object", "properties": {name: field | about for name, field in properties.items()}}


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Order:
    """Every type that a form can hold.

    Args:
        dish: what to cook
    """

    dish: Annotated[str, Meta(min_length=1, max_length=40)]
    guests: Annotated[int, Meta(ge=1, le=9)] = 2
    salt: float = 0.5
    hot: bool = True
    day: date | None = None
    size: Size = Size.SMALL
    tone: Annotated[Literal["dry", "wet"], {"dry": "Dry", "wet": "Wet"}] = "dry"
    sides: list[Literal["rice", "beans"]] | None = None


def full_server(**options: Any) -> Server:
    server = Server(
        "full-server",
        version="3.1",
        title="The full server",
        instructions="Everything once.",
        description="A server under test",
        website_url="https://example.org/",
        icons=[ICON],
        page_size=2,
        **options,
    )

    hints = {
        "title": "Sum",
        "readOnlyHint": True,
        "destructiveHint": False,
        "idempotentHint": True,
        "openWorldHint": False,
    }

    @server.tool(title="Add two numbers", annotations=hints, **SHOWN)  # type: ignore[arg-type]
    async def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    @server.tool
    def weather(city: str) -> dict[str, int]:
        """A `def`, an object."""
        return {city: 21}

    @server.tool
    def everything() -> Any:
        return blocks()

    @server.tool
    def media() -> Any:
        return ["see", Image(data=BYTES), Audio(data=BYTES, format="mp3")]

    @server.tool
    def explicit(wrong: bool = False) -> ToolResult:
        return ToolResult("said", structured={"n": 1}, meta={"example.org/k": [1]}, is_error=wrong)

    @server.tool
    def nothing() -> None:
        return None

    @server.tool
    def refuses() -> str:
        raise ToolError("not today")

    @server.tool
    def breaks() -> str:
        raise RuntimeError("a secret of the author's")

    @server.tool
    async def slow(steps: int, ctx: Context) -> str:
        for step in range(steps):
            await ctx.report_progress(step, steps, f"step {step}")
        return "done"

    @server.tool(scopes=["admin"])
    async def secret() -> str:
        return "hidden"

    @server.resource(
        "note://static",
        title="A note",
        description="Some text",
        mime_type="text/markdown",
        annotations=ABOUT,
        size=6,
        cache_ttl=60,
        cache_scope="public",
        **SHOWN,
    )
    def note() -> str:
        return "# text"

    @server.resource("note://bytes")
    def binary() -> bytes:
        return BYTES

    @server.resource("note://broken")
    def broken() -> str:
        raise RuntimeError("a secret of the author's")

    @server.resource("note://secret", scopes=["admin"])
    def hidden() -> str:
        return "hidden"

    @server.resource(
        "note://by-day/{day}",
        title="A day",
        description="A note of a day",
        mime_type="application/json",
        annotations=ABOUT,
        **SHOWN,
    )
    def by_day(day: int) -> dict[str, int]:
        return {"day": day}

    @server.prompt(title="Talk", description="A dialogue", **SHOWN)
    def talk(topic: str, tone: str = "dry") -> list[Message]:
        """A dialogue.

        Args:
            topic: what it is about
        """
        said = [Message(f"{tone}: {topic}"), Message("Yes.", role="assistant")]
        return said + [Message(block) for block in blocks()]

    @server.prompt
    def greet() -> str:
        return "Say hello."

    @server.prompt(scopes=["admin"])
    def plan() -> str:
        return "hidden"

    add_asking(server)
    add_notifying(server)
    return server


def add_asking(server: Server) -> None:
    """Add the tools, the prompt and the resource that ask."""

    @server.tool(asks=True)
    async def order(ctx: Context) -> str:
        answer = await ctx.elicit("What will it be?", Order)
        return f"{answer.action} {answer.data}"

    @server.tool(asks=True)
    async def survey(ctx: Context) -> str:
        return (await ctx.elicit("Tell us", all_fields())).action

    @server.tool(asks=True)
    async def pay(ctx: Context) -> str:
        return (await ctx.elicit_url("Please pay", "https://example.org/pay")).action

    @server.tool(asks=True)
    async def think(ctx: Context) -> str:
        asked = [Message("A dish?"), Message("Soup.", role="assistant"), *(Message(block) for block in blocks()[:3])]
        tools = [LOOK] if ctx.client.supports("sampling.tools") else None
        wishes = {"hints": [{"name": "m"}], "costPriority": 0.1, "speedPriority": 0.2, "intelligencePriority": 0.3}
        options = {"max_tokens": 9, "system": "Be brief.", "temperature": 0.5, "stop": ["."], "tools": tools}
        said = await ctx.sample(asked, model_preferences=wishes, **options)
        return f"{said.role} {said.model} {said.stop_reason} {said.content}"

    @server.tool(asks=True)
    async def where(ctx: Context) -> str:
        return str(await ctx.list_roots())

    @server.tool(asks=True)
    async def rounds(ctx: Context) -> str:
        first = await ctx.elicit("First?", str)
        second = await ctx.ask(sure=elicit("Sure?", bool), where=list_roots())
        return f"{first.data} {second['sure'].data} {second['where']}"

    @server.tool
    def declared(
        name: Annotated[str, Ask("Your name?")],
        sure: Annotated[Answer[bool], Ask("Sure?")],
        where: Annotated[list[Root], Ask(list_roots())],
        said: Annotated[Sampled, Ask(sample("Hi"))],
    ) -> str:
        return f"{name} {sure.action} {[root.name for root in where]} {said.text}"

    @server.prompt
    def asked(tone: Annotated[Literal["dry", "wet"], Ask("Which tone?")]) -> str:
        return tone

    @server.resource("note://asked")
    def asked_note(name: Annotated[str, Ask("Whose note?")]) -> str:
        return name


def add_notifying(server: Server) -> None:
    """Add the tools that send notifications or change the server."""

    @server.tool
    async def report(ctx: Context) -> str:
        await ctx.debug("too quiet for most")
        await ctx.warning({"burnt": ["toast"]})
        await ctx.log("emergency", "fire", logger="oven")
        return f"{ctx.client.name} {ctx.client.version}"

    @server.tool
    async def leave(ctx: Context) -> str:
        await ctx.report_progress(1)
        await ctx.close_stream(retry=10)
        return "back again"

    @server.tool
    def change() -> None:
        """Change each list and one resource."""
        for add, remove in (
            (server.tool, server.remove_tool),
            (server.prompt, server.remove_prompt),
            (server.resource("note://passing"), lambda _: server.remove_resource("note://passing")),
        ):
            add(passing)
            remove("passing")
        server.resource_updated("note://static")

    @server.tool
    def region(name: Annotated[str, Header("Region")]) -> str:
        return name

    @server.tool(input_schema=SCHEMA, output_schema=SCHEMA)
    def verbatim(a: int) -> dict[str, int]:
        return {"a": a}

    server.resource("note://by-week/{week}")(lambda week: week)
    server.resource("tree://{+path}")(lambda path: path)
    server.completion("talk", "topic")(lambda typed, given: [typed + tail for tail in given])
    server.completion("note://by-day/{day}", "day")(lambda typed: [f"{typed}{day}" for day in range(200)])


def passing() -> str:
    return "here for a moment"


def app(*, tokens: bool = False, **options: Any) -> HttpApp:
    verifier = NamedTokens(f"full:{ADMIN_TOKEN}:admin,poor:{READER_TOKEN}:read") if tokens else None
    return HttpApp(full_server(**options), verifier=verifier)


server = full_server()
