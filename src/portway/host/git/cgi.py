"""Runs `git http-backend` as a CGI program, for an hour at most, and streams both bodies between it and ASGI (RFC
3875).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Self

from portway.host.git.git_command import limited_git
from portway.http.asgi import Headers, Receive, Send
from portway.http.response import cut_short

_PIECE_BYTES = 65_536
_HEAD_BYTES = 16_384  # of its answer
_STOP_SECONDS = 2.0  # from SIGTERM, at which git removes its locks and temporary files, to SIGKILL
_LONGEST_SECONDS = 3600.0
_DISCARDED_BYTES = 1024 * 1024 * 1024  # of a request that git has refused: clients read the answer after sending it all


class ClientLeft(Exception):
    """The client closed its connection before it had its answer."""


class CgiProgram:
    """One run of `git http-backend`, which ends with the block."""

    def __init__(self, environment: Mapping[str, str], kept: Sequence[int] = ()) -> None:
        """`kept` are open descriptors that the program and what it starts inherit."""
        self._environment = environment
        self._kept = kept
        self._received = asyncio.Event()  # the whole body of the request

    async def __aenter__(self) -> Self:
        """Start it. Raises `GitError` when there is no git."""
        self._process = await asyncio.create_subprocess_exec(
            *limited_git("http-backend"),
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=self._kept,
            limit=_HEAD_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """End what still runs."""
        process = self._process
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_SECONDS):
                        await process.wait()

    async def exchange(self, receive: Receive, send: Send) -> None:
        """Give it the request's body and send its answer. Raises `ClientLeft`."""
        feeding = asyncio.create_task(self._feed(receive))
        answering = asyncio.create_task(self._answer(send))
        try:
            await asyncio.wait((feeding, answering), timeout=_LONGEST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ClientLeft
            answering.result()
        finally:
            for task in (feeding, answering):
                task.cancel()
            await asyncio.gather(feeding, answering, return_exceptions=True)

    async def _feed(self, receive: Receive) -> None:
        """Return when the client has left, or has sent more than is read."""
        stdin, size = self._process.stdin, 0
        assert stdin is not None
        while (message := await receive())["type"] == "http.request" and size < _DISCARDED_BYTES:
            size += len(message["body"])
            if not stdin.is_closing():  # else git has read enough
                with contextlib.suppress(ConnectionError):
                    stdin.write(message["body"])
                    await stdin.drain()
            if not message["more_body"]:
                stdin.close()
                self._received.set()

    async def _answer(self, send: Send) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        try:
            status, headers = _read_head(await stdout.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            cut_short(send)
            return
        await send({"type": "http.response.start", "status": status, "headers": headers})
        while piece := await stdout.read(_PIECE_BYTES):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._received.wait()
        await self._process.wait()
        await send({"type": "http.response.body", "body": b""})


def _read_head(head: bytes) -> tuple[int, Headers]:
    """Return the status and the headers of a CGI answer (RFC 3875 section 6.3)."""
    status, headers = 200, []
    for line in head.split(b"\r\n")[:-2]:
        name, _, value = line.partition(b":")
        if name.lower() == b"status":
            status = int(value.split()[0])
        else:
            headers.append((name.lower(), value.strip()))
    return status, headers
