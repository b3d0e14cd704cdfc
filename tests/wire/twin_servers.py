"""The same server twice, on Portway and on the official SDK. `sessions`: with or without legacy sessions."""

# No `from __future__ import annotations`: the functions below are annotated with types that are given to `register`.
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context as OfficialContext
from mcp.server.mcpserver import Elicit, ListRoots, MCPServer, Resolve
from mcp.server.mcpserver import Image as OfficialImage
from mcp.server.mcpserver import Sample as OfficialSample
from mcp.server.mcpserver.exceptions import ToolError as OfficialToolError
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    Completion,
    CreateMessageResult,
    EmptyResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListRootsResult,
    ListToolsResult,
    PaginatedRequestParams,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

from portway import Ask, Context, Image, Root, Sampled, Server, ToolError, list_roots, sample
from tests.http.running_listener import Plain

WORDS = ("dry", "wry")
EventSourceResponse.DEFAULT_PING_INTERVAL = 0.1  # the SDK sends the headers of a GET stream with its first ping


def portway(*, sessions: bool = False) -> Any:
    pages = 2 if sessions else None
    server = Server("fixture", version="1.0", instructions="For comparison.", sessions=sessions, page_size=pages)
    register(server.tool, server.resource, server.prompt, image=Image, refusal=ToolError, context=Context)
    server.completion("talk", "tone")(complete)

    @dataclass
    class Person:
        name: str
        age: int = 7
        size: Literal["s", "l"] = "s"

    @server.tool
    def ask(person: Annotated[Person, Ask("Who?")]) -> str:
        """Ask."""
        return person.name

    @server.tool
    def think(said: Annotated[Sampled, Ask(sample("Hi", max_tokens=5))]) -> str:
        """Think."""
        return said.text

    @server.tool
    def roots(where: Annotated[list[Root], Ask(list_roots())]) -> str:
        """Look."""
        return " ".join(root.uri for root in where)

    @server.tool
    def change() -> str:
        """Change."""
        server.tool(name="passing")(complete)
        server.remove_tool("passing")
        server.resource_updated("note://static")
        return "changed"

    return server.asgi()


def official(*, sessions: bool = False) -> Any:
    server = MCPServer("fixture", version="1.0", instructions="For comparison.", log_level="CRITICAL")
    register(
        server.tool(),
        server.resource,
        server.prompt(),
        image=OfficialImage,
        refusal=OfficialToolError,
        context=OfficialContext,
    )

    @server.completion()
    async def completion(ref: Any, argument: Any, context: Any) -> Completion:
        values = complete(argument.value) if argument.name == "tone" else []
        return Completion(values=values, total=len(values), has_more=False)

    class Person(BaseModel):
        name: str
        age: int = 7
        size: Literal["s", "l"] = "s"

    def who() -> Elicit[Person]:
        return Elicit("Who?", Person)

    def said() -> OfficialSample:
        return OfficialSample([SamplingMessage(role="user", content=TextContent(text="Hi"))], max_tokens=5)

    def where() -> ListRoots:
        return ListRoots()

    @server.tool()
    def ask(person: Annotated[Person, Resolve(who)]) -> str:
        """Ask."""
        return person.name

    @server.tool()
    def think(said: Annotated[CreateMessageResult, Resolve(said)]) -> str:
        """Think."""
        assert isinstance(said.content, TextContent)
        return said.content.text

    @server.tool()
    def roots(where: Annotated[ListRootsResult, Resolve(where)]) -> str:
        """Look."""
        return " ".join(str(root.uri) for root in where.roots)

    @server.tool()
    async def change(ctx: OfficialContext) -> str:
        """Change."""
        await ctx.notify_tools_changed()
        await ctx.notify_resource_updated("note://static")
        if sessions:  # the SDK has a way for each era
            await ctx.session.send_tool_list_changed()
            await ctx.session.send_resource_updated("note://static")
        return "changed"

    if sessions:
        add_session_handlers(server)
    starlette = server.streamable_http_app(stateless_http=not sessions, json_response=not sessions)
    return Plain(starlette, lambda: starlette.router.lifespan_context(starlette))


def add_session_handlers(server: MCPServer) -> None:
    """Add what the SDK leaves to authors: subscriptions and log levels of a session, and pages of two entries."""
    low = server._lowlevel_server

    async def accept(ctx: Any, params: Any) -> EmptyResult:
        return EmptyResult()

    low.add_request_handler("logging/setLevel", SetLevelRequestParams, accept)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, accept)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, accept)
    for method, listed, result, member in (
        ("tools/list", server.list_tools, ListToolsResult, "tools"),
        ("resources/list", server.list_resources, ListResourcesResult, "resources"),
        ("resources/templates/list", server.list_resource_templates, ListResourceTemplatesResult, "resource_templates"),
        ("prompts/list", server.list_prompts, ListPromptsResult, "prompts"),
    ):
        low.add_request_handler(method, PaginatedRequestParams, pages_of(listed, result, member))


def pages_of(listed: Any, result: Any, member: str) -> Any:
    async def page(ctx: Any, params: PaginatedRequestParams | None) -> Any:
        cursor = params.cursor if params is not None else None
        if cursor is not None and not cursor.isdigit():
            raise MCPError(INVALID_PARAMS, "The cursor is none.")
        start, items = int(cursor or 0), await listed()
        following = str(start + 2) if start + 2 < len(items) else None
        return result(**{member: items[start : start + 2]}, next_cursor=following)

    return page


def complete(typed: str) -> list[str]:
    return [word for word in WORDS if word.startswith(typed)]


def register(tool: Any, resource: Any, prompt: Any, *, image: Any, refusal: type[Exception], context: Any) -> None:
    """Register the functions, the same for both; set descriptions and types where the defaults differ."""

    async def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    def weather(city: str) -> dict[str, int]:
        """Tell."""
        return {city: 21}

    def refuse() -> str:
        """Refuse."""
        raise refusal("not today")

    def picture():
        """Show."""
        return image(data=bytes(8), format="png")

    async def report(ctx: context) -> str:
        """Report."""
        await ctx.report_progress(1, 2, "half")
        await ctx.info("said")
        return "reported"

    def static() -> str:
        """A note."""
        return "text"

    def raw() -> bytes:
        """Bytes."""
        return bytes(8)

    def day(day: str) -> str:
        """A day."""
        return day

    def path(path: str) -> str:
        """A path."""
        return path

    def talk(topic: str, tone: str = "dry") -> str:
        """Talk."""
        return f"{tone} {topic}"

    for function in (add, weather, refuse, picture, report):
        tool(function)
    resource("note://static", mime_type="text/plain")(static)
    resource("note://bytes", mime_type="application/octet-stream")(raw)
    resource("note://day/{day}", mime_type="text/plain")(day)
    resource("tree://{+path}", mime_type="text/plain")(path)
    prompt(talk)
