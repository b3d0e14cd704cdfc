"""All that the official conformance suite asks of a server under test, under the suite's names.

Tasks are not in it (docs/not-supported.md). What asks the client something is in questions.py.
"""

import asyncio
from typing import Annotated, Any

import questions
from media import embedded, red_pixel, silence

from portway import Audio, Context, EmbeddedResource, Header, Image, Message, Server, ToolError

server = Server("everything", version="1.0.0", instructions="A server under test: it answers, it does no work.")

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@server.tool
def test_simple_text() -> str:
    """Answer with a fixed text."""
    return "This is a simple text response for testing."


@server.tool
def test_image_content() -> Image:
    """Answer with an image."""
    return Image(data=red_pixel())


@server.tool
def test_audio_content() -> Audio:
    """Answer with a sound."""
    return Audio(data=silence())


@server.tool
def test_embedded_resource() -> EmbeddedResource:
    """Answer with a resource inside the result."""
    return embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")


@server.tool
def test_multiple_content_types() -> list[Any]:
    """Answer with text, an image and a resource."""
    resource = embedded("test://mixed-content-resource", "application/json", '{"test": "data", "value": 123}')
    return ["Multiple content types test:", Image(data=red_pixel()), resource]


@server.tool
def test_error_handling() -> str:
    """Fail."""
    raise ToolError("This tool intentionally returns an error for testing")


@server.tool
async def test_tool_with_progress(ctx: Context) -> str:
    """Report progress three times."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100, f"Completed step {progress} of 100")
        await asyncio.sleep(0.05)
    return "Progress is complete."


@server.tool
async def test_tool_with_logging(ctx: Context) -> str:
    """Send three log messages."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
        await asyncio.sleep(0.05)
    return "Tool with logging executed successfully"


@server.tool
async def test_logging_tool(ctx: Context) -> str:
    """Send a log message, where the request asks for some."""
    await ctx.info("A log message")
    return "Logged."


@server.tool
async def test_reconnection(ctx: Context) -> str:
    """Hang up on the client, which comes back for the result."""
    await ctx.close_stream(retry=100)
    await asyncio.sleep(0.1)
    return "Reconnection test completed successfully."


@server.tool(input_schema=SCHEMA)
def json_schema_2020_12_tool(arguments: dict[str, Any]) -> str:
    """Tool with JSON Schema 2020-12 features."""
    return f"Checked: {arguments}"


@server.tool
def test_x_mcp_header(region: Annotated[str, Header("Region")]) -> str:
    """Take an argument that modern clients repeat in a header, where a proxy can route by it."""
    return f"Region: {region}"


@server.tool
def test_trigger_tool_change() -> str:
    """Change the list of tools, and change it back: clients that listen are told."""

    @server.tool
    def passing() -> None:
        """Here for a moment."""

    server.remove_tool("passing")
    return "The tools changed."


@server.tool
def test_trigger_prompt_change() -> str:
    """Change the list of prompts, and change it back."""

    @server.prompt
    def passing() -> str:
        """Here for a moment."""
        return "Gone already."

    server.remove_prompt("passing")
    return "The prompts changed."


@server.tool
def test_touch_watched_resource() -> str:
    """Change the watched resource: clients that subscribed to it are told."""
    server.resource_updated("test://watched-resource")
    return "The resource changed."


@server.resource("test://static-text", name="Static text", mime_type="text/plain")
def static_text() -> str:
    """A fixed text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", name="Static binary", mime_type="image/png")
def static_binary() -> bytes:
    """A fixed image."""
    return red_pixel()


@server.resource("test://watched-resource", name="Watched resource", mime_type="text/plain")
def watched() -> str:
    """A text to subscribe to."""
    return "Watched resource content"


@server.resource("test://template/{id}/data", name="Template", mime_type="application/json")
def template(id: str) -> dict[str, object]:  # noqa: A002 - the name the suite expects in the URI
    """Data of one id."""
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


@server.prompt
def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@server.prompt
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with two arguments.

    Args:
        arg1: the first
        arg2: the second
    """
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.completion("test_prompt_with_arguments", "arg1")
def complete_arg1(typed: str) -> list[str]:
    return [word for word in ("paris", "park", "party") if word.startswith(typed)]


@server.prompt
def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803 - the suite's spelling
    """A prompt that holds a resource.

    Args:
        resourceUri: the URI the resource is to have
    """
    resource = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
    return [Message(resource), Message("Please process the embedded resource above.")]


@server.prompt
def test_prompt_with_image() -> list[Message]:
    """A prompt that holds an image."""
    return [Message(Image(data=red_pixel())), Message("Please analyze the image above.")]


server.mount(questions.server)

if __name__ == "__main__":
    server.run()
