"""The client's stdio channel: a server as child process, one message per line (specification: basic/transports)."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Sequence

from portway.client.channel import (
    MESSAGE_BYTES,
    UNREADABLE,
    Handler,
    Incoming,
    OutgoingCall,
    decode_incoming,
)
from portway.client.errors import ClientError

_EXIT_SECONDS = 2.0  # for the server to exit, at each step


class StdioChannel:
    """Writes calls to a child's standard input. The child inherits our standard error."""

    has_headers = False

    def __init__(self, command: Sequence[str], handler: Handler) -> None:
        self._command = list(command)
        self._handler = handler
        self._waiting: dict[int, asyncio.Future[Incoming]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ended: ClientError | None = None

    async def open(self) -> None:
        """Start the command. Raise ClientError if that fails."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MESSAGE_BYTES,
                # A process group of its own: what the command starts in turn is ended with it.
                start_new_session=True,
            )
        except OSError as error:
            raise ClientError(f"cannot start {self._command[0]}: {error.strerror}") from None
        self._reader = asyncio.create_task(self._read())

    async def request(self, call: OutgoingCall) -> Incoming:
        """Write a request and return its reply."""
        if self._ended is not None:
            raise self._ended
        waiter: asyncio.Future[Incoming] = asyncio.get_running_loop().create_future()
        self._waiting[call.id] = waiter
        try:
            await self._write(call.body)
            return await waiter
        except asyncio.CancelledError:
            if call.method != "initialize":
                self._post(call.cancellation())
            raise
        finally:
            del self._waiting[call.id]

    async def notify(self, body: bytes, version: str | None) -> None:
        """Write a notification, or the answer to a request of the server."""
        await self._write(body)

    async def attend(self, version: str | None) -> None:
        """Do nothing: the pipe brings all messages."""

    async def close(self) -> None:
        """Close the child's input and wait for its exit; end its process group if it does not."""
        process = self._process
        if process is None or self._reader is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        for ending in ("", "TERM", "KILL"):
            if ending:
                self._signal(process, ending)
            try:
                async with asyncio.timeout(_EXIT_SECONDS):
                    await process.wait()
                    break
            except TimeoutError:
                continue
        self._signal(process, "KILL")  # what the command left behind in its group
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    def _signal(self, process: asyncio.subprocess.Process, name: str) -> None:
        try:
            if sys.platform == "win32":
                process.terminate()
            else:
                os.killpg(process.pid, signal.SIGKILL if name == "KILL" else signal.SIGTERM)
        except ProcessLookupError:
            pass

    async def _write(self, body: bytes) -> None:
        try:
            await self._post(body).drain()
        except ConnectionError:
            pass  # `_read` sees the end and reports how the process ended

    def _post(self, body: bytes) -> asyncio.StreamWriter:
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(body + b"\n")
        return self._process.stdin

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                self._take(line)
            async with asyncio.timeout(_EXIT_SECONDS):
                self._end(f"ended with exit code {await self._process.wait()}")
        except TimeoutError:
            self._end("closed its output")
        except ValueError:
            self._end(f"sent a line longer than {MESSAGE_BYTES} bytes")

    def _take(self, line: bytes) -> None:
        try:
            message = decode_incoming(line)
        except UNREADABLE:
            return  # the server prints to its standard output; other lines may be good
        if message.method is not None:
            self._handler(message)
        elif isinstance(message.id, int) and (waiter := self._waiting.get(message.id)) and not waiter.done():
            waiter.set_result(message)

    def _end(self, how: str) -> None:
        self._ended = ClientError(f"the server ({shlex.join(self._command)}) {how}")
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(self._ended)
