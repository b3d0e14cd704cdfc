"""The types of ASGI 3 (https://asgi.readthedocs.io), whose messages and scopes are dicts of mixed values, and what the
HTTP server asks of an application.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class Application(Protocol):
    """What the HTTP server serves: an ASGI application with its lifespan and its long-lived streams."""

    def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> Awaitable[None]:
        """Answer one request."""

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Return the context manager entered before the first request and left after the last. Entering may raise."""

    def end_streams(self) -> None:
        """End the requests that only wait, because the server stops."""


class LifespanError(Exception):
    """The application could not start or end. The message is for the operator."""
