"""A lean MCP client for both eras, over Streamable HTTP, Unix sockets and stdio."""

from portway.client.change_iterator import Changes
from portway.client.client import Client
from portway.client.errors import ClientError
from portway.client.results import (
    CallResult,
    Completion,
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
from portway.client.server_requests import Elicitation, Log, Root, Sampling
from portway.sessions.changes import Change

__all__ = [
    "CallResult",
    "Change",
    "Changes",
    "Client",
    "ClientError",
    "Completion",
    "Content",
    "Elicitation",
    "Log",
    "Progress",
    "Prompt",
    "PromptResult",
    "Resource",
    "ResourceContents",
    "ResourceTemplate",
    "Root",
    "Sampling",
    "ServerInfo",
    "Tool",
]
