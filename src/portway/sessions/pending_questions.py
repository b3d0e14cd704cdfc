"""Questions to a legacy client: JSON-RPC requests of the server's, and the answers they wait for.

Specification: client/elicitation, client/sampling, client/roots, basic/utilities/cancellation (2025-11-25).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from msgspec import UNSET, Raw

from portway.protocol.errors import INTERNAL_ERROR, REFUSED, RpcError
from portway.protocol.jsonrpc import Message, encode_request
from portway.protocol.subscriptions import cancelled

QUESTION_LIMIT = 100
"""Questions one client may leave unanswered at a time."""
QUESTION_SECONDS = 600.0
"""How long a client, and the person before it, may take to answer one."""
_ABANDON_SECONDS = 1.0
"""How long telling a client that its answer is not waited for any more may hold up whoever gave up."""

Send = Callable[[bytes], Awaitable[None]]
"""Sends one encoded message towards the client: on a stdio pipe, or on a call's event stream."""


class Pending:
    """The questions one client (a connection, or an HTTP session) has yet to answer. Use it on one event loop.

    Ids are strings that no other table uses, in this process or another: a stray answer is never taken for one.
    """

    def __init__(self, *, seconds: float = QUESTION_SECONDS) -> None:
        self._seconds = seconds
        self._prefix = secrets.token_hex(6)
        self._asked = 0
        self._waiting: dict[str, asyncio.Future[Raw]] = {}
        self._closed = False

    async def ask(self, send: Send, method: str, params: bytes) -> Raw:
        """Send a request through `send`; the JSON of the client's result.

        When the asking task is cancelled or the time is up, `notifications/cancelled` is sent after it.
        Raises RpcError: the client's own error; or the client has gone, did not answer in time, or has QUESTION_LIMIT
        questions to answer already.
        """
        if self._closed:
            raise _gone()
        if len(self._waiting) >= QUESTION_LIMIT:
            text = f"The client has {QUESTION_LIMIT} questions to answer already; no more are asked until it has."
            raise RpcError(REFUSED, text, status=429)
        self._asked += 1
        question_id = f"{self._prefix}-{self._asked}"
        answer = self._waiting[question_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._seconds):
                await send(encode_request(question_id, method, params))
                result: Raw = await answer
                return result
        except TimeoutError:
            await self._abandon(send, question_id, "It was not answered in time.")
            text = f"The client did not answer {method} within {self._seconds:g} seconds."
            raise RpcError(INTERNAL_ERROR, text, status=200) from None
        except asyncio.CancelledError:
            await self._abandon(send, question_id, "The call that asked has ended.")
            raise
        finally:
            del self._waiting[question_id]

    def answer(self, message: Message) -> bool:
        """Take a response (a message with a result or an error); False if no question waits for it (late, unknown)."""
        answer = self._waiting.get(message.id) if isinstance(message.id, str) else None
        if answer is None or answer.done():
            return False
        if message.error is not UNSET:
            answer.set_exception(RpcError(message.error.code, message.error.message, message.error.data, status=200))
        else:
            assert message.result is not UNSET
            answer.set_result(message.result)
        return True

    def spoil(self, question_id: int | str | None) -> bool:
        """What came under this id is no response at all; the question fails. False if no question waits for it."""
        answer = self._waiting.get(question_id) if isinstance(question_id, str) else None
        if answer is None or answer.done():
            return False
        text = "The client's answer to a question was no JSON-RPC response."
        answer.set_exception(RpcError(INTERNAL_ERROR, text, status=200))
        return True

    def close(self) -> None:
        """The client has gone: every question fails, and so does any asked from now on. Idempotent."""
        self._closed = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_gone())

    async def _abandon(self, send: Send, question_id: str, reason: str) -> None:
        try:
            async with asyncio.timeout(_ABANDON_SECONDS):
                await send(cancelled(question_id, reason))
        except (TimeoutError, RpcError):
            pass  # a client that takes nothing any more


def _gone() -> RpcError:
    return RpcError(INTERNAL_ERROR, "The client has gone, or the server stops: it cannot be asked.", status=200)
