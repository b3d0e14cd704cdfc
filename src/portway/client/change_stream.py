"""The changes a server tells of, as a stream to iterate."""

from __future__ import annotations

import asyncio
from typing import Self

from portway.client.channel import ClientError
from portway.protocol.errors import RpcError
from portway.sessions.changes import Change

_PENDING = 1024


class Changes:
    """An async iterator of changes; it ends when the server ends the stream or `close` is called.

    Equal changes that nobody has taken yet are one. Iterating raises ClientError or RpcError when the stream is cut, or
    when so much was left untaken that some must have been lost: read again what you depend on, and listen anew.
    """

    def __init__(self, uris: tuple[str, ...] | None) -> None:
        self.uris = uris
        self.refusal: ClientError | RpcError | None = None
        """Why the server did not even begin to tell."""
        self.acknowledged = asyncio.Event()
        self.carrier: asyncio.Task[None] | None = None
        """The request that carries the changes of a modern server."""
        self._pending: dict[Change, None] = {}
        self._ended = False
        self._error: ClientError | RpcError | None = None
        self._wake = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._pending:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        change = next(iter(self._pending))
        del self._pending[change]
        return change

    def add(self, change: Change) -> None:
        """Take a change that has come. A legacy server does not say for whom: of resources, only `uris` are taken."""
        if self._ended or (self.carrier is None and self._for_others(change)):
            return
        if len(self._pending) < _PENDING:
            self._pending[change] = None
            self._wake.set()
        else:
            self.end(ClientError(f"more than {_PENDING} changes were left untaken: read anew, and listen again"))

    def end(self, error: ClientError | RpcError | None = None) -> None:
        """No more will come."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake.set()

    def _for_others(self, change: Change) -> bool:
        """Whether a change is of a resource that is none of `uris`, nor below one of them."""
        return change.uri is not None and self.uris is not None and not change.uri.startswith(self.uris)

    async def close(self) -> None:
        """Stop listening."""
        self.end()
        if self.carrier is not None:
            self.carrier.cancel()
            await asyncio.gather(self.carrier, return_exceptions=True)
