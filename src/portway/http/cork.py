"""Head and body of a response in one write, as ASGI asks for: uvicorn writes the head as soon as it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Cork:
    """A transport as uvicorn's cycles see it: it holds a head back until the first piece of body.

    Each write is a system call here and a wake-up of the client there, which together cost as much as the parsing.
    """

    __slots__ = ("_begun", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._begun = False
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif not self._begun and not data.startswith(b"HTTP/1.1 100"):  # an interim response is none to wait for
            self._begun, self._head = True, data
            return
        self._transport.write(data)

    def end(self) -> None:
        """The response is complete: a head without any body goes out, and the next write is a head again."""
        if self._head:
            self._transport.write(self._head)
        self._begun, self._head = False, b""

    def close(self) -> None:
        self.end()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()
