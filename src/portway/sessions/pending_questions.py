"""Questions to a legacy client that wait for its answer: how many, how long (600 s), what ends them.

Specification: client/elicitation, client/sampling, client/roots, basic/utilities/cancellation (2025-11-25).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from msgspec import UNSET, Raw, UnsetType

from portway.protocol.errors import INTERNAL_ERROR, REFUSED, RpcError
from portway.protocol.jsonrpc import Message, encode_cancelled, encode_request

QUESTION_LIMIT = 100
"""Questions one client may leave unanswered at a time."""
QUESTION_SECONDS = 600.0
"""Longest time a client, and the person before it, may take to answer one."""
_ABANDON_SECONDS = 1.0
"""Longest time spent sending a cancellation."""

Send = Callable[[bytes], Awaitable[None]]
"""Sends the client one encoded message: on a stdio pipe, or on a call's event stream."""


class PendingQuestions:
    """The questions one client (a connection, or an HTTP session) has yet to answer. Use it on one event loop.

    A question is open until it is answered, spoiled, timed out or cancelled, or until `close()`. Its id starts with a
    random prefix, so an answer to a question of another session or process is never taken for one.
    """

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._asked = 0
        self._waiting: dict[str, asyncio.Future[Raw]] = {}
        self._closed = False

    async def ask(self, send: Send, method: str, params: bytes) -> Raw:
        """Send a request through `send` and return the JSON of the client's result.

        When the asking task is cancelled or the time is up, `notifications/cancelled` follows.
        Raises RpcError: the client's own error; or the client has gone, did not answer in time, or has QUESTION_LIMIT
        unanswered questions already.
        """
        if self._closed:
            raise _gone()
        if len(self._waiting) >= QUESTION_LIMIT:
            text = f"The client has {QUESTION_LIMIT} unanswered questions already; no more are asked until it answers."
            raise RpcError(REFUSED, text, status=429)
        self._asked += 1
        question_id = f"{self._prefix}-{self._asked}"
        answer = self._waiting[question_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                await send(encode_request(question_id, method, params))
                result: Raw = await answer
                return result
        except TimeoutError:
            await self._abandon(send, question_id, "It was not answered in time.")
            text = f"The client did not answer {method} within {QUESTION_SECONDS:g} seconds."
            raise RpcError(INTERNAL_ERROR, text, status=200) from None
        except asyncio.CancelledError:
            await self._abandon(send, question_id, "The call that asked has ended.")
            raise
        finally:
            del self._waiting[question_id]

    def answer(self, message: Message) -> bool:
        """Take a response; return whether a question was waiting for it."""
        answer = self._open(message.id)
        if answer is None:
            return False
        if message.error is not UNSET:
            answer.set_exception(RpcError(message.error.code, message.error.message, message.error.data, status=200))
        else:
            assert message.result is not UNSET
            answer.set_result(message.result)
        return True

    def spoil(self, question_id: int | str | None) -> bool:
        """Fail the question whose answer is not a JSON-RPC response; return whether one was waiting."""
        answer = self._open(question_id)
        if answer is None:
            return False
        text = "The client's answer to a question was not a JSON-RPC response."
        answer.set_exception(RpcError(INTERNAL_ERROR, text, status=200))
        return True

    def close(self) -> None:
        """Fail every question, also those asked later: the client has gone. Idempotent."""
        self._closed = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_gone())

    def _open(self, question_id: int | str | UnsetType | None) -> asyncio.Future[Raw] | None:
        answer = self._waiting.get(question_id) if isinstance(question_id, str) else None
        return None if answer is None or answer.done() else answer

    async def _abandon(self, send: Send, question_id: str, reason: str) -> None:
        try:
            async with asyncio.timeout(_ABANDON_SECONDS):
                await send(encode_cancelled(question_id, reason))
        except (TimeoutError, RpcError):
            pass  # the client reads nothing any more


def _gone() -> RpcError:
    return RpcError(
        INTERNAL_ERROR, "The client cannot be asked: it has disconnected, or the server is stopping.", status=200
    )
