"""A hand-written proxy returns what its client library gave it, and the client gets it whole."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Literal

import mcp_types
import msgspec
import pydantic
import pytest
from mcp import Client
from mcp.server.mcpserver import Image as SdkImage

from portway import Audio, Image, Server, Text, ToolResult, testing
from portway.client.results import CallResult, Content
from portway.client.results import ResourceContents as ReadContents
from portway.protocol.errors import RpcError
from tests.server.official_client import officially
from tests.server.test_composition import in_client

MODES = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])


class OldModel(pydantic.BaseModel):
    """A model as `mcp.types` of 1.x has them: names as on the wire, unknown members allowed."""

    model_config = pydantic.ConfigDict(extra="allow")
    meta: dict[str, Any] | None = pydantic.Field(alias="_meta", default=None)


class TextContent(OldModel):
    type: Literal["text"]
    text: str
    annotations: dict[str, Any] | None = None


class ImageContent(OldModel):
    type: Literal["image"]
    data: str
    mimeType: str


class CallToolResult(OldModel):
    content: list[TextContent | ImageContent]
    structuredContent: dict[str, Any] | None = None
    isError: bool = False


for old in (TextContent, ImageContent, CallToolResult):
    old.__module__ = "mcp.types"

ANNOTATIONS = {"audience": ["user"], "priority": 0.5}
UPSTREAM = Server("upstream")


@UPSTREAM.tool
def everything() -> ToolResult:
    """Every kind of content, with all that may stand in a result."""
    link = {"uri": "a://b", "name": "b", "title": "B", "description": "It.", "size": 3, "annotations": ANNOTATIONS}
    embedded = {"uri": "a://c", "blob": "eQ==", "mimeType": "x/y", "_meta": {"k": None}}
    blocks: list[dict[str, Any]] = [
        {"type": "text", "text": "one", "annotations": ANNOTATIONS, "_meta": {"k": 1}},
        {"type": "image", "data": "eQ==", "mimeType": "image/png"},
        {"type": "audio", "data": "eQ==", "mimeType": "audio/wav"},
        {"type": "resource_link", **link, "icons": [{"src": "https://a.example/i.png"}]},
        {"type": "resource", "resource": embedded},
    ]
    result = mcp_types.CallToolResult.model_validate({"content": blocks})
    return ToolResult(result.content, structured={"n": None}, meta={"example.com/cost": 3}, is_error=True)


@UPSTREAM.tool
def listed() -> ToolResult:
    return ToolResult(["one"], structured={"result": [1]})


@UPSTREAM.resource("doc://{name}")
def doc(name: str) -> str:
    return f"about {name}"


@UPSTREAM.prompt
def greet(name: str) -> list[str]:
    return [f"Hello, {name}"]


def whole(result: Any) -> dict[str, Any]:
    sent = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    sent.get("_meta", {}).pop("io.modelcontextprotocol/serverInfo", None)
    return sent


@MODES
@pytest.mark.parametrize("library", ["mcp", "portway.client"])
def test_the_result_of_a_proxy_is_the_result_it_was_given(mode: str, library: str) -> None:
    proxy, era = Server("proxy"), "legacy" if mode == "legacy" else "modern"

    @proxy.tool
    async def everything():  # type: ignore[no-untyped-def]
        async with testing.Client(UPSTREAM, era=era) as client:
            result = await client.call_tool("everything")
        if library == "portway.client":
            return result
        return mcp_types.CallToolResult.model_validate_json(msgspec.json.encode(result))

    async def talk(client: Client) -> dict[str, Any]:
        return whole(await client.call_tool("everything"))

    direct, passed_on = officially(UPSTREAM, talk, mode), officially(proxy, talk, mode)
    assert passed_on == direct
    assert passed_on["isError"]
    assert passed_on["content"][0]["annotations"] == ANNOTATIONS
    assert passed_on["structuredContent"] == {"n": None}
    assert passed_on["_meta"] == {"example.com/cost": 3}


@MODES
def test_a_proxy_passes_on_resources_and_prompts(mode: str) -> None:
    proxy = Server("proxy")

    @proxy.resource("doc://{name}")
    async def doc(name: str) -> list[ReadContents]:
        async with testing.Client(UPSTREAM) as client:
            return await client.read_resource(f"doc://{name}")

    @proxy.resource("sdk://{name}")
    def sdk(name: str) -> mcp_types.ReadResourceResult:
        text = mcp_types.TextResourceContents(uri=f"doc://{name}", text=f"about {name}", mime_type="text/plain")
        return mcp_types.ReadResourceResult(contents=[text])

    @proxy.prompt
    async def greet(name: str) -> Any:
        async with testing.Client(UPSTREAM) as client:
            return await client.get_prompt("greet", {"name": name})

    @proxy.prompt(name="sdk")
    def sdk_prompt() -> list[mcp_types.PromptMessage]:
        return [mcp_types.PromptMessage(role="assistant", content=mcp_types.TextContent(text="Hello, Ada"))]

    async def talk(client: Client) -> None:
        for uri in ("doc://tea", "sdk://tea"):
            (contents,) = (await client.read_resource(uri)).contents
            assert (str(contents.uri), contents.text, contents.mime_type) == ("doc://tea", "about tea", "text/plain")
        for name, arguments, role in (("greet", {"name": "Ada"}, "user"), ("sdk", None, "assistant")):
            (message,) = (await client.get_prompt(name, arguments)).messages
            assert (message.role, message.content.text) == (role, "Hello, Ada")

    officially(proxy, talk, mode)


OLD_TEXT = TextContent(type="text", text="one", annotations=ANNOTATIONS)
NEW_TEXT = mcp_types.TextContent(text="one")
TEXT = {"type": "text", "text": "one"}
IMAGE = {"type": "image", "data": "eQ==", "mimeType": "image/png"}
RETURNED = [
    (OLD_TEXT, [TEXT | {"annotations": ANNOTATIONS}]),
    (NEW_TEXT, [TEXT]),
    (
        [NEW_TEXT, ImageContent(type="image", data="eQ==", mimeType="image/png"), "and"],
        [TEXT, IMAGE, TEXT | {"text": "and"}],
    ),
    ((Content("text", text="one"), Text(text="two")), [TEXT, TEXT | {"text": "two"}]),
    (ToolResult(OLD_TEXT), [TEXT | {"annotations": ANNOTATIONS}]),
    (ToolResult([Content("image", data="eQ==", mime_type="image/png"), NEW_TEXT]), [IMAGE, TEXT]),
    (SdkImage(data=b"y", format="png"), [IMAGE]),
    ([Image(data=b"y"), NEW_TEXT], [IMAGE, TEXT]),
    (CallToolResult(content=[OLD_TEXT]), [TEXT | {"annotations": ANNOTATIONS}]),
    (type("Mine", (mcp_types.TextContent,), {})(text="one"), [TEXT]),
]


@pytest.mark.parametrize(("value", "content"), RETURNED, ids=[type(value).__name__ for value, _ in RETURNED])
def test_content_of_other_libraries_is_content(value: object, content: list[dict[str, Any]]) -> None:
    server = Server("s")

    @server.tool
    def report():  # type: ignore[no-untyped-def]
        return value

    async def talk(client: Client) -> Any:
        return whole(await client.call_tool("report"))

    sent = officially(server, talk)
    assert sent["content"] == content
    assert "structuredContent" not in sent


def test_annotations_of_other_libraries_promise_no_schema() -> None:
    server = Server("s")
    kinds = (
        *(mcp_types.TextContent, CallToolResult, list[mcp_types.ContentBlock], CallResult),
        *(mcp_types.CallToolResult | mcp_types.ImageContent, list[Content], Image | Audio | None),
    )
    for index, kind in enumerate(kinds):

        def report() -> None: ...

        report.__annotations__["return"] = kind
        server.tool(name=f"n{index}")(report)
    assert [tool.plan.output_schema for tool in server.tools.items.values()] == [None] * len(kinds)


def test_a_result_passed_on_is_held_to_a_type_that_the_proxy_declares() -> None:
    proxy = Server("proxy")

    @proxy.tool
    async def listed(wrong: bool = False) -> list[int]:
        async with testing.Client(UPSTREAM) as client:
            result = await client.call_tool("listed")
        if wrong:
            result.structured = {"result": ["x"]}
        return result  # type: ignore[return-value]

    async def talk(client: testing.Client) -> None:
        assert (await client.call_tool("listed")).structured == {"result": [1]}
        with pytest.raises(RpcError, match="error id"):
            await client.call_tool("listed", {"wrong": True})

    in_client(proxy, talk)


def test_classes_of_the_same_names_that_are_the_authors_own_are_data() -> None:
    class TextContent(pydantic.BaseModel):
        text: str

    server = Server("s")

    @server.tool
    def report() -> TextContent:
        return TextContent(text="x")

    async def talk(client: testing.Client) -> Any:
        return (await client.call_tool("report")).structured

    assert in_client(server, talk) == {"text": "x"}


def test_the_sdk_is_not_imported_to_recognise_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in {"mcp", "mcp_types"}]:
        monkeypatch.setitem(sys.modules, name, ModuleType("unused"))
    monkeypatch.setitem(sys.modules, "mcp", None)  # an import of it raises
    server = Server("s")
    server.tool(lambda: OLD_TEXT, name="report")  # type: ignore[call-overload]
    assert in_client(server, lambda client: client.call_tool("report")).text == "one"
