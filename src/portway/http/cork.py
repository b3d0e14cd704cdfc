"""Head and body in one write: each write is a system call here and a wake-up over there, and both cost as much again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Transport


class Cork:
    """A transport that keeps a response's head until the body is written, at most until the loop's next turn.

    uvicorn writes the two apart. All else is the transport's own.
    """

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever a transport has
        value = getattr(self._transport, name)
        setattr(self, name, value)  # asked once
        return value

    def write(self, data: bytes) -> None:
        if self._head:
            data = self._head + data
            self._head = b""
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)

    def get_write_buffer_size(self) -> int:
        return len(self._head) + self._transport.get_write_buffer_size()

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        self._flush()
        self._transport.close()


def corked(transport: Transport, loop: AbstractEventLoop) -> asyncio.Transport:
    """`transport`, with heads kept for their bodies."""
    return cast("asyncio.Transport", Cork(transport, loop))
