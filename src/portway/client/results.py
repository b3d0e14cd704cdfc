"""Results of a server as typed structs: tools, resources, prompts, CallResult and `is_error`, progress; unknown members
are ignored (2026-07-28, schema).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType, field

from portway.client.channel import NO_PARAMS


class Wire(msgspec.Struct, rename="camel", omit_defaults=True):
    """Base: camel case on the wire; defaults are omitted."""


class ServerInfo(Wire):
    """Name and version of a server."""

    name: str = ""
    version: str = ""
    title: str | None = None


class Tool(Wire):
    """A tool; `input_schema` and `output_schema` are JSON Schemas."""

    name: str
    input_schema: dict[str, Any] = field(default_factory=dict)
    output_schema: dict[str, Any] | None = None
    title: str | None = None
    description: str | None = None
    annotations: dict[str, Any] | None = None


class Resource(Wire):
    """A resource at a fixed URI."""

    uri: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None


class ResourceTemplate(Wire):
    """Resources whose URIs follow an RFC 6570 template."""

    uri_template: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None


class PromptArgument(Wire):
    """One argument of a prompt; its value is a string."""

    name: str
    title: str | None = None
    description: str | None = None
    required: bool = False


class Prompt(Wire):
    """A prompt and its arguments."""

    name: str
    title: str | None = None
    description: str | None = None
    arguments: list[PromptArgument] = []


class ResourceContents(Wire):
    """Contents of a resource: `text`, or `blob` in base64."""

    uri: str
    mime_type: str | None = None
    text: str | None = None
    blob: str | None = None
    meta: dict[str, Any] | None = field(name="_meta", default=None)


class Content(Wire):
    """A block of any `type`: text, image or audio (`data` in base64), resource, resource_link, or one yet unknown."""

    type: str
    text: str | None = None
    data: str | None = None
    mime_type: str | None = None
    uri: str | None = None
    name: str | None = None
    title: str | None = None
    description: str | None = None
    size: int | None = None
    resource: ResourceContents | None = None
    annotations: dict[str, Any] | None = None
    icons: list[dict[str, Any]] | None = None
    meta: dict[str, Any] | None = field(name="_meta", default=None)


class CallResult(Wire):
    """The result of a tool. `structured` is UNSET if there is none, for JSON null is a value."""

    content: list[Content] = []
    structured: Any | UnsetType = field(name="structuredContent", default=UNSET)
    is_error: bool = False
    meta: dict[str, Any] = field(name="_meta", default_factory=dict)

    @property
    def text(self) -> str:
        """The text blocks, joined by line breaks."""
        return "\n".join(block.text for block in self.content if block.text is not None)


class PromptMessage(Wire):
    """A message of a prompt; `role` is user or assistant."""

    role: str
    content: Content


class PromptResult(Wire):
    """A prompt filled in."""

    messages: list[PromptMessage]
    description: str | None = None


class ResourceResult(Wire):
    """The result of resources/read."""

    contents: list[ResourceContents]


class Progress(Wire):
    """Progress of a call. `total` is None if the server does not know it."""

    progress: float
    total: float | None = None
    message: str | None = None


class ProgressParams(Progress):
    """The params of notifications/progress."""

    progress_token: int | str | None = None


class Page(Wire):
    """One page of any list."""

    tools: list[Tool] = []
    resources: list[Resource] = []
    resource_templates: list[ResourceTemplate] = []
    prompts: list[Prompt] = []
    next_cursor: str | None = None


class InitializeResult(Wire):
    """The result of initialize (2025-11-25, basic/lifecycle)."""

    protocol_version: str
    capabilities: dict[str, Any] = field(default_factory=dict)
    server_info: ServerInfo = field(default_factory=ServerInfo)
    instructions: str | None = None


class ServerMeta(msgspec.Struct):
    """The `_meta` of a modern result, where the server names itself."""

    server_info: ServerInfo = field(name="io.modelcontextprotocol/serverInfo", default_factory=ServerInfo)


class DiscoverResult(Wire):
    """The result of server/discover (2026-07-28, basic/versioning)."""

    supported_versions: list[str]
    capabilities: dict[str, Any] = field(default_factory=dict)
    instructions: str | None = None
    meta: ServerMeta = field(name="_meta", default_factory=ServerMeta)


class Completion(Wire):
    """Possible values of an argument. `total` also counts values not sent, None if unknown."""

    values: list[str] = []
    total: int | None = None
    has_more: bool = False


class CompleteResult(Wire):
    """The result of completion/complete."""

    completion: Completion


class InputRequest(msgspec.Struct):
    """A question in a modern server's result (2026-07-28, basic/patterns/mrtr)."""

    method: str
    params: Raw = NO_PARAMS


class Outcome(Wire):
    """The kind of a modern server's result, and what the server asks before it can complete the call."""

    result_type: str = "complete"
    input_requests: dict[str, InputRequest] | None = None
    request_state: str | None = None
