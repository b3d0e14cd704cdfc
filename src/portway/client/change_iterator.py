"""`Client.listen`: the changes that a server announces, as an async iterator."""

from __future__ import annotations

import asyncio
from typing import Self

from portway.client.errors import ClientError
from portway.protocol.errors import RpcError
from portway.sessions.changes import Change

_PENDING = 1024


class Changes:
    """An async iterator of changes. It ends when the server ends the stream, or with `close`.

    Equal changes that wait are merged. Iterating raises ClientError or RpcError when the stream is cut or too many
    changes wait: some are lost then, so read again what you depend on, and listen anew.
    """

    def __init__(self, uris: tuple[str, ...] | None) -> None:
        self.uris = uris
        self.refusal: ClientError | RpcError | None = None
        """Why the server refused to announce changes."""
        self.acknowledged = asyncio.Event()
        self.carrier: asyncio.Task[None] | None = None
        """The task of the request that carries a modern server's changes."""
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
        """Take a change. Of a legacy server, which names no listener, ignore those of other resources."""
        if self._ended or (self.carrier is None and not self._wants(change)):
            return
        if len(self._pending) < _PENDING:
            self._pending[change] = None
            self._wake.set()
        else:
            self.end(
                ClientError(f"more than {_PENDING} changes were waiting: read everything again, then listen again")
            )

    def end(self, error: ClientError | RpcError | None = None) -> None:
        """End the iteration, with `error` if there is one."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake.set()

    def _wants(self, change: Change) -> bool:
        """Return whether a change is of a list, or of a resource at or below one of `uris`."""
        return change.uri is None or self.uris is None or change.uri.startswith(self.uris)

    async def close(self) -> None:
        """Stop listening."""
        self.end()
        if self.carrier is not None:
            self.carrier.cancel()
            await asyncio.gather(self.carrier, return_exceptions=True)
