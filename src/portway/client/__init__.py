"""A lean MCP client for both eras, over Streamable HTTP, Unix sockets and stdio."""

from portway.client.change_iterator import Changes
from portway.client.client import Client
from portway.client.errors import ClientError, LoginError, LoginNeeded
from portway.client.oauth.settings import OAuthLogin
from portway.client.oauth.storage import FileStorage, LoginStorage, MemoryStorage
from portway.client.oauth.stored_login import Login
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
    "FileStorage",
    "Log",
    "Login",
    "LoginError",
    "LoginNeeded",
    "LoginStorage",
    "MemoryStorage",
    "OAuthLogin",
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
