"""A lean MCP client for both eras, over Streamable HTTP, Unix sockets and stdio."""

from portway.client.client import Client
from portway.client.results import (
    CallResult,
    Content,
    Progress,
    Prompt,
    PromptResult,
    Resource,
    ResourceContents,
    ResourceTemplate,
    ServerInfo,
    Tool,
)
from portway.client.wire import ClientError

__all__ = [
    "CallResult",
    "Client",
    "ClientError",
    "Content",
    "Progress",
    "Prompt",
    "PromptResult",
    "Resource",
    "ResourceContents",
    "ResourceTemplate",
    "ServerInfo",
    "Tool",
]
