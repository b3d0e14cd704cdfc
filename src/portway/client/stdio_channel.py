"""The client over stdio: a server is started as a child process, ended, and how it ended is said (specification:
basic/transports).
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import Self

from portway.client.channel import MESSAGE_BYTES, Handler, Incoming, OutgoingCall
from portway.client.errors import ClientError
from portway.client.line_channel import LineChannel

_EXIT_SECONDS = 2.0  # for the server to exit, at each step


class StdioChannel(LineChannel):
    """Writes calls to a child's standard input. The child inherits our standard error."""

    def __init__(self, process: asyncio.subprocess.Process, command: Sequence[str], handler: Handler) -> None:
        super().__init__(handler)
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self._command = command
        self._ended: ClientError | None = None
        self._reader = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str], handler: Handler) -> Self:
        """Start the command. Raise ClientError if that fails."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MESSAGE_BYTES,
                # A process group of its own: what the command starts in turn is ended with it.
                start_new_session=True,
            )
        except OSError as error:
            raise ClientError(f"cannot start {command[0]}: {error.strerror}") from None
        return cls(process, command, handler)

    async def request(self, call: OutgoingCall) -> Incoming:
        """Write a request and return its reply."""
        if self._ended is not None:
            raise self._ended
        return await super().request(call)

    def post(self, body: bytes) -> None:
        """Write a message."""
        if not self._stdin.is_closing():
            self._stdin.write(body + b"\n")

    async def drain(self) -> None:
        """Wait while the pipe is full."""
        try:
            await self._stdin.drain()
        except ConnectionError:
            pass  # `_read` sees the end and reports how the process ended

    async def close(self) -> None:
        """Close the child's input and wait for its exit; end its process group if it does not."""
        self._stdin.close()
        for ending in ("", "TERM", "KILL"):
            if ending:
                self._signal(ending)
            try:
                async with asyncio.timeout(_EXIT_SECONDS):
                    await self._process.wait()
                    break
            except TimeoutError:
                continue
        self._signal("KILL")  # what the command left behind in its group
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    def _signal(self, name: str) -> None:
        try:
            if sys.platform == "win32":
                self._process.terminate()
            else:
                os.killpg(self._process.pid, signal.SIGKILL if name == "KILL" else signal.SIGTERM)
        except ProcessLookupError:
            pass

    async def _read(self) -> None:
        try:
            while line := await self._stdout.readline():
                self.take(line)
            async with asyncio.timeout(_EXIT_SECONDS):
                self._end(f"ended with exit code {await self._process.wait()}")
        except TimeoutError:
            self._end("closed its output")
        except ValueError:
            self._end(f"sent a line longer than {MESSAGE_BYTES} bytes")

    def _end(self, how: str) -> None:
        self._ended = ClientError(f"the server ({shlex.join(self._command)}) {how}")
        for waiter in self.waiting.values():
            if not waiter.done():
                waiter.set_exception(self._ended)
