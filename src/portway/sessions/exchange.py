"""One request being answered: the message, its era, the caller, and the channel back, as transports, dispatcher and
handlers see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

import msgspec
from msgspec import Raw

from portway.auth.principal import Principal
from portway.protocol.capabilities import Capability, read
from portway.protocol.jsonrpc import Message, decode_params
from portway.protocol.versions import LATEST_LEGACY, Era
from portway.sessions.legacy_session import LegacySession

T = TypeVar("T")


class Channel(Protocol):
    """Sends the client the messages that belong to a call still being answered."""

    async def notify(self, message: bytes) -> None:
        """Send one encoded notification; waits while the client does not read."""

    async def ask(self, method: str, params: bytes) -> Raw:
        """Send a legacy client a request and return its result. Raises RpcError, also where none can be asked."""

    async def close_stream(self, retry: int | None) -> None:
        """End the reply's stream early; a client that can resumes it after `retry` milliseconds."""


class Exchange(msgspec.Struct, gc=False):
    """One request being answered: the message and all that is known about it.

    `body` is the message's bytes, `version` the revision the client speaks, `session` that of a legacy client that has
    one, `fields` the HTTP header fields by lower-case name (None over stdio), `caller` the caller's identity, or
    the address of one without a token; "" if there is one client.
    """

    message: Message
    era: Era
    principal: Principal
    channel: Channel
    body: bytes = b""
    version: str = LATEST_LEGACY
    session: LegacySession | None = None
    fields: Mapping[bytes, bytes] | None = None
    caller: tuple[str, str, str | None] | str = ""

    def __repr__(self) -> str:
        """Leave out the fields, in which the caller's token may be."""
        return f"<Exchange of {self.message.method}>"

    @property
    def capabilities(self) -> Capability:
        """What the client says it can do."""
        if self.era is Era.LEGACY:
            return Capability.NONE if self.session is None else self.session.client.capabilities
        meta = self.message.meta
        return Capability.NONE if meta is None else read(meta.capabilities)

    @property
    def holder(self) -> tuple[str, str, str | None] | str:
        """Whom limits count it for."""
        return self.caller or self.principal.identity

    def params(self, kind: type[T]) -> T:
        """Decode the params as `kind`. Raises RpcError where they are not of it."""
        return decode_params(self.body, kind)
