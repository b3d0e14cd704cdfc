"""All that the official conformance suite asks of a server under test and this release can do, under the suite's names.

What is missing, and why, stands in docs/not-supported.md and in tests/conformance/expected-failures/.
"""

import asyncio
import struct
import zlib
from typing import Any

from portway import Audio, Context, Image, Message, Server, ToolError
from portway.server.content import EmbeddedResource, ResourceContents

server = Server("everything", version="1.0.0", instructions="A server under test: it answers, it does no work.")


def red_pixel() -> bytes:
    """A PNG of one red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def silence() -> bytes:
    """A WAV of one silent sample."""
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", 1) + b"\x80\0"
    return b"RIFF" + struct.pack("<I", 4 + len(form)) + b"WAVE" + form


def embedded(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(resource=ResourceContents(uri, mime_type=mime_type, text=text))


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
def greet(name: str) -> str:
    """Greet someone at once, without a task."""
    return f"Hello, {name}!"


@server.resource("test://static-text", name="Static text", mime_type="text/plain")
def static_text() -> str:
    """A fixed text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", name="Static binary", mime_type="image/png")
def static_binary() -> bytes:
    """A fixed image."""
    return red_pixel()


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


if __name__ == "__main__":
    server.run()
