"""What a server's answers hold, as far as a client reads them; unknown fields are ignored (2026-07-28, schema)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, field


class _Wire(msgspec.Struct, rename="camel", omit_defaults=True):
    """Camel case on the wire; what a server left out is left out again."""


class ServerInfo(_Wire):
    """Who answered."""

    name: str = ""
    version: str = ""
    title: str | None = None


class Tool(_Wire):
    """A tool; `input_schema` and `output_schema` are JSON Schemas."""

    name: str
    input_schema: dict[str, Any] = field(default_factory=dict)
    output_schema: dict[str, Any] | None = None
    title: str | None = None
    description: str | None = None
    annotations: dict[str, Any] | None = None


class Resource(_Wire):
    """A resource at a fixed URI."""

    uri: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None


class ResourceTemplate(_Wire):
    """Resources whose URIs follow an RFC 6570 template."""

    uri_template: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None


class PromptArgument(_Wire):
    """One argument of a prompt; its value is a string."""

    name: str
    title: str | None = None
    description: str | None = None
    required: bool = False


class Prompt(_Wire):
    """A prompt and its arguments."""

    name: str
    title: str | None = None
    description: str | None = None
    arguments: list[PromptArgument] = []


class ResourceContents(_Wire):
    """The contents of a resource: `text`, or `blob` in base64."""

    uri: str
    mime_type: str | None = None
    text: str | None = None
    blob: str | None = None


class Content(_Wire):
    """A block of any `type`: text, image or audio (`data` in base64), resource, resource_link, or one yet unknown."""

    type: str
    text: str | None = None
    data: str | None = None
    mime_type: str | None = None
    uri: str | None = None
    name: str | None = None
    resource: ResourceContents | None = None


class CallResult(_Wire):
    """The outcome of a tool. `structured` is UNSET when the tool gave none: JSON null is a value of its own."""

    content: list[Content] = []
    structured: Any | UnsetType = field(name="structuredContent", default=UNSET)
    is_error: bool = False

    @property
    def text(self) -> str:
        """The text blocks, one a line."""
        return "\n".join(block.text for block in self.content if block.text is not None)


class PromptMessage(_Wire):
    """A message of a prompt; `role` is user or assistant."""

    role: str
    content: Content


class PromptResult(_Wire):
    """A prompt filled in."""

    messages: list[PromptMessage]
    description: str | None = None


class ResourceResult(_Wire):
    """The answer to resources/read."""

    contents: list[ResourceContents]


class Progress(_Wire):
    """How far a call has come; `total` is None when the server does not know it."""

    progress: float
    total: float | None = None
    message: str | None = None


class ProgressParams(Progress):
    """The params of notifications/progress."""

    progress_token: int | str | None = None


class Page(_Wire):
    """A page of any list; `nextCursor` asks for the next one."""

    tools: list[Tool] = []
    resources: list[Resource] = []
    resource_templates: list[ResourceTemplate] = []
    prompts: list[Prompt] = []
    next_cursor: str | None = None


class InitializeResult(_Wire):
    """The answer to initialize (2025-11-25, basic/lifecycle)."""

    protocol_version: str
    capabilities: dict[str, Any] = field(default_factory=dict)
    server_info: ServerInfo = field(default_factory=ServerInfo)
    instructions: str | None = None


class ServerMeta(msgspec.Struct):
    """The `_meta` of a modern result, where the server names itself."""

    server_info: ServerInfo = field(name="io.modelcontextprotocol/serverInfo", default_factory=ServerInfo)


class DiscoverResult(_Wire):
    """The answer to server/discover (2026-07-28, basic/versioning)."""

    supported_versions: list[str]
    capabilities: dict[str, Any] = field(default_factory=dict)
    instructions: str | None = None
    meta: ServerMeta = field(name="_meta", default_factory=ServerMeta)


class ResultType(_Wire):
    """What kind of result a modern server sent; absent in the legacy era."""

    result_type: str = "complete"
