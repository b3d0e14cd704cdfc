"""JSON-RPC with one server: requests and their timeouts, progress, rounds of input, listening, cancellation."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw

from portway.client.change_iterator import Changes
from portway.client.channel import ClientChannel, Incoming, OutgoingCall, decode_params, raise_error
from portway.client.errors import ClientError, NoAnswer
from portway.client.results import Outcome, Progress, ProgressParams
from portway.client.server_requests import Handlers, change_in, tell
from portway.counted import counted
from portway.protocol.errors import INTERNAL_ERROR, PeerError, RpcError
from portway.protocol.headers import NAMED_BY
from portway.protocol.jsonrpc import (
    PREFIX,
    UNREADABLE,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
)
from portway.protocol.versions import Era

T = TypeVar("T")
OnProgress = Callable[[Progress], None]
ParamHeaders = tuple[tuple[bytes, bytes], ...]
"""The Mcp-Param-* headers of a call."""
ROUNDS = 10
"""How often one request may ask for input (2026-07-28, basic/patterns/mrtr)."""
_ANSWERING = 256  # requests of the server that are answered at once; further ones are ignored
_STATE_ONLY_SECONDS = 0.1  # pause before a request is repeated for which the server asked no question
_log = logging.getLogger("portway.client")


class _Waiting(msgspec.Struct):
    """A request in flight. Each progress moves its deadline."""

    on_progress: OnProgress | None
    deadline: asyncio.Timeout


class _Meta(msgspec.Struct):
    subscription: int | str | None = msgspec.field(name=PREFIX + "subscriptionId", default=None)


class _Addressed(msgspec.Struct):
    """The members of a notification's params that say which request it is about."""

    meta: _Meta = msgspec.field(name="_meta", default_factory=_Meta)
    request_id: int | str | None = msgspec.field(name="requestId", default=None)


class Rpc:
    """The requests and notifications of a client and its server over one channel.

    `era`, `version` and `level` are set by the negotiation; `timeout` is in seconds without an answer or progress.
    """

    def __init__(self, handlers: Handlers, timeout: float) -> None:
        self.handlers = handlers
        self.timeout = timeout
        self.era = Era.LEGACY
        self.version: str | None = None
        self.level: str | None = None
        self.listeners: list[Changes] = []
        self._channel: ClientChannel | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._listening: dict[int | str | None, Changes] = {}
        self._answering: dict[int | str, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def channel(self) -> ClientChannel:
        """The channel to the server, once it is open."""
        assert self._channel is not None, "use the client in `async with`"
        return self._channel

    @channel.setter
    def channel(self, channel: ClientChannel) -> None:
        self._channel = channel

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        kind: type[T],
        *,
        on_progress: OnProgress | None = None,
        headers: ParamHeaders = (),
    ) -> T:
        """Send a request and return its result, after answering what a modern server asks first.

        Raise RpcError, ClientError, SessionLost, and what a function of the user raises.
        """
        asked = params
        for _ in range(ROUNDS):
            result = await self._send(method, asked, on_progress, headers)
            try:
                outcome = Outcome() if self.era is Era.LEGACY else msgspec.json.decode(result, type=Outcome)
                if outcome.result_type == "complete":
                    return msgspec.json.decode(result, type=kind)
            except UNREADABLE as error:
                raise ClientError(f"the server's answer to {method} is malformed: {error}") from None
            if outcome.result_type != "input_required":
                raise ClientError(
                    f"the server answered {method} with {outcome.result_type!r}, which this client cannot serve"
                )
            asked = params | await self._input(outcome)
        raise ClientError(f"the server asked for input {ROUNDS} times in one {method} without finishing")

    async def notify(self, method: str) -> None:
        """Send a legacy notification without params. Raise ClientError."""
        async with self._in_time(method):
            await self.channel.notify(encode_notification(method, b"{}"), self.version)

    async def listen(self, kinds: Iterable[str], changes: Changes) -> None:
        """Open `subscriptions/listen` for `changes`; return when the server has acknowledged it.

        `kinds` are of lists; the resources are those of `changes.uris`. Raise RpcError or ClientError.
        """
        wanted: dict[str, Any] = {f"{kind}ListChanged": True for kind in kinds}
        if changes.uris:
            wanted["resourceSubscriptions"] = changes.uris
        call = self._call("subscriptions/listen", {"notifications": wanted})
        self._listening[call.id] = changes
        changes.carrier = asyncio.get_running_loop().create_task(self._carry(call, changes))
        try:
            async with self._in_time(call.method):
                await changes.acknowledged.wait()
        except BaseException:
            await changes.close()
            raise
        if changes.refusal is not None:
            raise changes.refusal

    async def _carry(self, call: OutgoingCall, changes: Changes) -> None:
        try:
            reply = await self.channel.request(call)
            if reply.error is not UNSET:
                raise_error(reply.error)
            changes.end()
        except (ClientError, RpcError) as error:
            changes.refusal = None if changes.acknowledged.is_set() else error
            changes.end(error)
        finally:
            del self._listening[call.id]
            changes.acknowledged.set()

    async def drop(self, changes: Changes) -> None:
        """Stop listening for these changes."""
        if changes in self.listeners:
            self.listeners.remove(changes)
        await changes.close()

    def take(self, message: Incoming) -> None:
        """Take a message that is no reply: the channel's handler."""
        method, params = message.method, message.params
        if method is None:
            return
        if message.id is not None:
            if self.era is Era.LEGACY:  # a modern server sends no requests
                self._start_answer(message.id, method, params)
        elif method == "notifications/progress":
            self._on_progress(params)
        elif method == "notifications/message":
            self.handlers.log(params)
        elif method == "notifications/subscriptions/acknowledged":
            if (changes := self._listening.get(_addressed(params).meta.subscription)) is not None:
                changes.acknowledged.set()
        elif method == "notifications/cancelled":
            self._on_cancelled(_addressed(params).request_id)
        elif (change := change_in(method, params)) is not None:
            subscription = _addressed(params).meta.subscription
            for changes in self.listeners if self.era is Era.LEGACY else (self._listening.get(subscription),):
                if changes is not None:
                    changes.add(change)

    async def close(self) -> None:
        """Stop answering and listening, then close the channel."""
        self._closed = True
        tasks = list(self._answering.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for changes in [*self.listeners, *self._listening.values()]:
            await self.drop(changes)
        if self._channel is not None:
            await self._channel.close()

    def _call(
        self, method: str, params: dict[str, Any], *, wants_progress: bool = False, headers: ParamHeaders = ()
    ) -> OutgoingCall:
        request_id, modern = next(self._ids), self.era is Era.MODERN
        meta: dict[str, Any] = {"progressToken": request_id} if wants_progress else {}
        if modern:
            meta[PREFIX + "protocolVersion"] = self.version
            meta[PREFIX + "clientCapabilities"] = self.handlers.capabilities()
            meta[PREFIX + "clientInfo"] = client_info()
            if self.level is not None:
                meta[PREFIX + "logLevel"] = self.level
        body = encode_request(request_id, method, msgspec.json.encode(params | {"_meta": meta} if meta else params))
        name = params.get(NAMED_BY.get(method, ""))
        return OutgoingCall(request_id, method, name, body, self.version, modern, headers)

    async def _send(
        self, method: str, params: dict[str, Any], on_progress: OnProgress | None, headers: ParamHeaders
    ) -> Raw:
        call = self._call(method, params, wants_progress=on_progress is not None, headers=headers)
        try:
            async with self._in_time(method) as deadline:
                self._waiting[call.id] = _Waiting(on_progress, deadline)
                reply = await self.channel.request(call)
        finally:
            self._waiting.pop(call.id, None)
        if reply.error is not UNSET:
            raise_error(reply.error)
        if reply.result is UNSET:
            raise ClientError(f"the server's answer to {method} has neither a result nor an error")
        return reply.result

    @asynccontextmanager
    async def _in_time(self, method: str) -> AsyncIterator[asyncio.Timeout]:
        """Raise NoAnswer if the block, which waits for the server to answer `method`, outlasts the client's timeout."""
        try:
            async with asyncio.timeout(self.timeout) as deadline:
                yield deadline
        except TimeoutError:
            raise NoAnswer(f"the server did not answer {method} in {counted(self.timeout, 'second')}") from None

    async def _input(self, outcome: Outcome) -> dict[str, Any]:
        """Answer one round of questions. Return the params to add when the request is repeated."""
        added: dict[str, Any] = {}
        if outcome.input_requests:
            questions = outcome.input_requests
            tasks = [
                asyncio.ensure_future(self.handlers.answer(question.method, question.params))
                for question in questions.values()
            ]
            try:
                answers = await asyncio.gather(*tasks)
            except RpcError as error:
                raise ClientError(
                    f"the server asks something that this client cannot answer: {error.message}"
                ) from None
            finally:  # if one fails, the request fails: stop asking the user the others
                for task in tasks:
                    task.cancel()
            added["inputResponses"] = dict(zip(questions, map(Raw, answers), strict=True))
        else:
            await asyncio.sleep(_STATE_ONLY_SECONDS)
        if outcome.request_state is not None:
            added["requestState"] = outcome.request_state
        return added

    def _start_answer(self, request_id: int | str, method: str, params: Raw) -> None:
        if self._closed or request_id in self._answering or len(self._answering) >= _ANSWERING:
            return
        task = asyncio.get_running_loop().create_task(self._answer(request_id, method, params))
        self._answering[request_id] = task
        if method != "ping":  # the server waits for our answer, so our own deadlines are suspended
            self._move_deadlines(None)

        def done(_: asyncio.Task[None]) -> None:
            self._answering.pop(request_id, None)
            if method != "ping" and not self._answering:
                self._move_deadlines(self.timeout)

        task.add_done_callback(done)

    async def _answer(self, request_id: int | str, method: str, params: Raw) -> None:
        try:
            answer = b"{}" if method == "ping" else await self.handlers.answer(method, params)
            body = encode_result(request_id, answer)
        except Exception as error:  # noqa: BLE001 - whatever the user's function raises; the server must not wait
            if not isinstance(error, RpcError) or isinstance(error, PeerError):  # of another server, which is no answer
                _log.exception("the handler of %s failed", method)
                error = RpcError(INTERNAL_ERROR, f"The client failed to serve {method}.")
            body = encode_error(request_id, error)
        try:
            await self.channel.notify(body, self.version)
        except ClientError:
            pass  # the request in flight reports what is wrong with the connection

    def _move_deadlines(self, seconds: float | None) -> None:
        """Let every request in flight time out after `seconds` from now; None: not at all."""
        when = None if seconds is None else asyncio.get_running_loop().time() + seconds
        for waiting in self._waiting.values():
            if not waiting.deadline.expired():
                waiting.deadline.reschedule(when)

    def _on_cancelled(self, request_id: int | str | None) -> None:
        """End the answer to a request of the server, or a subscription of ours."""
        if request_id is not None and (task := self._answering.get(request_id)) is not None:
            task.cancel()
        elif request_id is not None and (changes := self._listening.get(request_id)) is not None:
            changes.end()

    def _on_progress(self, params: Raw) -> None:
        progress = decode_params(params, ProgressParams)
        token = progress.progress_token if progress is not None else None
        waiting = self._waiting.get(token) if isinstance(token, int) else None
        if progress is None or waiting is None or waiting.on_progress is None:
            return
        if not waiting.deadline.expired() and not self._answering:
            waiting.deadline.reschedule(asyncio.get_running_loop().time() + self.timeout)
        tell("on_progress", waiting.on_progress, progress)


def _addressed(params: Raw) -> _Addressed:
    return decode_params(params, _Addressed) or _Addressed()


@functools.cache
def client_info() -> dict[str, str]:
    """Return the Implementation (name and version) of this client."""
    import importlib.metadata

    return {"name": "portway", "version": importlib.metadata.version("portway")}
