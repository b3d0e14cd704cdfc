"""One server, written twice: on Portway and on the official SDK."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Image as OfficialImage
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError as OfficialToolError

from portway import Image, Server, ToolError


def portway() -> Any:
    server = Server("fixture", version="1.0", instructions="For comparison.")
    write(server.tool, server.resource, server.prompt, image=Image, refusal=ToolError)
    return server.asgi()


def official() -> Any:
    server = MCPServer("fixture", version="1.0", instructions="For comparison.", log_level="CRITICAL")
    write(server.tool(), server.resource, server.prompt(), image=OfficialImage, refusal=OfficialToolError)
    return server.streamable_http_app(stateless_http=True, json_response=True)


def write(tool: Any, resource: Any, prompt: Any, *, image: Any, refusal: type[Exception]) -> None:
    """The functions, which both take as they are; descriptions and types are spelt out where defaults differ."""

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

    def static() -> str:
        """A note."""
        return "text"

    def raw() -> bytes:
        """Bytes."""
        return bytes(8)

    def day(day: str) -> str:
        """A day."""
        return day

    def talk(topic: str, tone: str = "dry") -> str:
        """Talk."""
        return f"{tone} {topic}"

    for function in (add, weather, refuse, picture):
        tool(function)
    resource("note://static", mime_type="text/plain")(static)
    resource("note://bytes", mime_type="application/octet-stream")(raw)
    resource("note://day/{day}", mime_type="text/plain")(day)
    prompt(talk)
