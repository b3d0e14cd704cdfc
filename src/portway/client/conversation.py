"""What goes over one channel: requests, their progress, their rounds, and what the server asks and tells."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.client.change_stream import Changes
from portway.client.channel import UNREADABLE, Call, Channel, ClientError, Incoming, raise_error
from portway.client.handlers import Handlers, change_in
from portway.client.results import Outcome, Progress, ProgressParams
from portway.protocol.errors import INTERNAL_ERROR, RpcError
from portway.protocol.jsonrpc import PREFIX, encode_error, encode_notification, encode_request, encode_result
from portway.protocol.versions import Era
from portway.sessions.changes import Change

T = TypeVar("T")
OnProgress = Callable[[Progress], None]
ROUNDS = 10
"""How often one call may ask for input (2026-07-28, basic/patterns/mrtr)."""
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_SUBSCRIPTION = PREFIX + "subscriptionId"
_QUESTIONS = 256  # of a server's that are open at once; it waits in vain for an answer to one more
_STATE_ONLY_SECONDS = 0.1  # before a call is repeated that asked for nothing but to come again
_encode = msgspec.json.encode
_log = logging.getLogger("portway.client")


class NoAnswer(ClientError):
    """Nothing came in time."""


class _Waiting(msgspec.Struct):
    """A call in flight: who hears of its progress, and the deadline each progress moves."""

    on_progress: OnProgress | None
    deadline: asyncio.Timeout


class _Meta(msgspec.Struct):
    subscription: int | str | None = msgspec.field(name=_SUBSCRIPTION, default=None)


class _Addressed(msgspec.Struct):
    """The params of a notification, as far as they say whom it concerns."""

    meta: _Meta = msgspec.field(name="_meta", default_factory=_Meta)
    request_id: int | str | None = msgspec.field(name="requestId", default=None)


class Conversation:
    """What a client and its server say to each other once a channel is open.

    `era`, `version` and `level` are set by whoever negotiates; `timeout` is in seconds without an answer or progress.
    """

    def __init__(self, handlers: Handlers, timeout: float) -> None:
        self.handlers = handlers
        self.timeout = timeout
        self.channel: Channel | None = None
        self.era = Era.LEGACY
        self.version: str | None = None
        self.level: str | None = None
        self.listeners: list[Changes] = []
        self._ids = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._listening: dict[int | str | None, Changes] = {}
        self._answering: dict[int | str, asyncio.Task[None]] = {}
        self._closed = False

    async def ask(
        self,
        method: str,
        params: dict[str, Any],
        kind: type[T],
        *,
        on_progress: OnProgress | None = None,
        patience: float | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> T:
        """Send a request and return its result, after answering what a modern server asks first.

        Raises RpcError, ClientError, SessionLost, and what a handler raises.
        """
        asked = params
        for _ in range(ROUNDS):
            result = await self._send(method, asked, on_progress, patience or self.timeout, headers)
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
        raise ClientError(f"the server asked for input {ROUNDS} times in one {method} and was not done")

    async def tell(self, method: str) -> None:
        """Send a legacy notification that has no params. Raises ClientError."""
        assert self.channel is not None
        try:
            async with asyncio.timeout(self.timeout):
                await self.channel.notify(encode_notification(method, b"{}"), self.version)
        except TimeoutError:
            raise NoAnswer(f"the server did not answer {method} in {self.timeout:g} seconds") from None

    async def listen(self, kinds: Iterable[str], changes: Changes) -> None:
        """Have a modern server tell of changes until `changes` is closed; returns once it has acknowledged.

        `kinds` are of lists; the resources are those of `changes.uris`. Raises RpcError, ClientError.
        """
        wanted: dict[str, Any] = {f"{kind}ListChanged": True for kind in kinds}
        if changes.uris:
            wanted["resourceSubscriptions"] = changes.uris
        request_id = next(self._ids)
        call = self._call(request_id, "subscriptions/listen", {"notifications": wanted}, {})
        self._listening[request_id] = changes
        changes.carrier = asyncio.get_running_loop().create_task(self._carry(call, changes))
        try:
            async with asyncio.timeout(self.timeout):
                await changes.acknowledged.wait()
        except BaseException as error:
            await changes.close()
            if isinstance(error, TimeoutError):
                raise NoAnswer(f"the server did not answer {call.method} in {self.timeout:g} seconds") from None
            raise
        if changes.refusal is not None:
            raise changes.refusal

    async def _carry(self, call: Call, changes: Changes) -> None:
        assert self.channel is not None
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
        """Listen for these changes no more."""
        if changes in self.listeners:
            self.listeners.remove(changes)
        await changes.close()

    def take(self, message: Incoming) -> None:
        """Take what is no reply to a call: this is the channel's handler."""
        method, params = message.method, message.params
        if method is None:
            return
        if message.id is not None:
            if self.era is Era.LEGACY:  # a modern server sends no requests
                self._start_answer(message.id, method, params)
        elif method == "notifications/progress":
            self._report(params)
        elif method == "notifications/message":
            self.handlers.log(params)
        elif method in ("notifications/cancelled", "notifications/subscriptions/acknowledged"):
            self._tell(method, params)
        elif (change := change_in(method, params)) is not None:
            self._spread(change, params)

    async def close(self) -> None:
        """Stop answering and listening, then close the channel."""
        self._closed = True
        tasks = list(self._answering.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for changes in [*self.listeners, *self._listening.values()]:
            await self.drop(changes)
        if self.channel is not None:
            await self.channel.close()

    def _call(
        self,
        request_id: int,
        method: str,
        params: Mapping[str, Any],
        meta: dict[str, Any],
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Call:
        modern = self.era is Era.MODERN
        if modern:
            meta[PREFIX + "protocolVersion"] = self.version
            meta[PREFIX + "clientCapabilities"] = self.handlers.capabilities()
            meta[PREFIX + "clientInfo"] = client_info()
            if self.level is not None:
                meta[PREFIX + "logLevel"] = self.level
        body = encode_request(request_id, method, _encode({**params, "_meta": meta} if meta else params))
        by = _NAMED_BY.get(method)
        return Call(request_id, method, params.get(by) if by else None, body, self.version, modern, headers)

    async def _send(
        self,
        method: str,
        params: dict[str, Any],
        on_progress: OnProgress | None,
        patience: float,
        headers: tuple[tuple[bytes, bytes], ...],
    ) -> Raw:
        assert self.channel is not None, "use the client in `async with`"
        request_id = next(self._ids)
        call = self._call(request_id, method, params, {"progressToken": request_id} if on_progress else {}, headers)
        try:
            async with asyncio.timeout(patience) as deadline:
                self._waiting[request_id] = _Waiting(on_progress, deadline)
                reply = await self.channel.request(call)
        except TimeoutError:
            raise NoAnswer(f"the server did not answer {method} in {patience:g} seconds") from None
        finally:
            self._waiting.pop(request_id, None)
        if reply.error is not UNSET:
            raise_error(reply.error)
        if reply.result is UNSET:
            raise ClientError(f"the server's answer to {method} has neither a result nor an error")
        return reply.result

    async def _input(self, outcome: Outcome) -> dict[str, Any]:
        """What to add to a call when it is repeated: the answers to one round of questions, and the server's state."""
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
                raise ClientError(f"the server asks what cannot be answered: {error.message}") from None
            finally:  # one that failed ends the call, so the others must not go on asking the user
                for task in tasks:
                    task.cancel()
            added["inputResponses"] = dict(zip(questions, map(Raw, answers), strict=True))
        else:
            await asyncio.sleep(_STATE_ONLY_SECONDS)
        if outcome.request_state is not None:
            added["requestState"] = outcome.request_state
        return added

    def _start_answer(self, request_id: int | str, method: str, params: Raw | UnsetType) -> None:
        if self._closed or request_id in self._answering or len(self._answering) >= _QUESTIONS:
            return
        task = asyncio.get_running_loop().create_task(self._answer(request_id, method, params))
        self._answering[request_id] = task
        if method != "ping":  # while a question is open, the server waits for us and not we for it
            self._postpone(None)

        def done(_: asyncio.Task[None]) -> None:
            self._answering.pop(request_id, None)
            if method != "ping" and not self._answering:
                self._postpone(self.timeout)

        task.add_done_callback(done)

    async def _answer(self, request_id: int | str, method: str, params: Raw | UnsetType) -> None:
        try:
            answer = b"{}" if method == "ping" else await self.handlers.answer(method, params)
            body = encode_result(request_id, answer)
        except RpcError as error:
            body = encode_error(request_id, error)
        except Exception:  # noqa: BLE001 - the caller's own function, which the server must not wait for
            _log.exception("the handler of %s failed", method)
            body = encode_error(request_id, RpcError(INTERNAL_ERROR, f"The client failed to serve {method}."))
        assert self.channel is not None
        try:
            await self.channel.notify(body, self.version)
        except ClientError:
            pass  # the call itself tells what is wrong with the connection

    def _postpone(self, seconds: float | None) -> None:
        when = None if seconds is None else asyncio.get_running_loop().time() + seconds
        for waiting in self._waiting.values():
            if not waiting.deadline.expired():
                waiting.deadline.reschedule(when)

    def _tell(self, method: str, params: Raw | UnsetType) -> None:
        """Act on a notification about a listen of ours or a question of the server's."""
        concerned = _addressed(params)
        if method == "notifications/subscriptions/acknowledged":
            if (changes := self._listening.get(concerned.meta.subscription)) is not None:
                changes.acknowledged.set()
        elif concerned.request_id is not None:
            if (task := self._answering.get(concerned.request_id)) is not None:
                task.cancel()
            elif (changes := self._listening.get(concerned.request_id)) is not None:
                changes.end()

    def _spread(self, change: Change, params: Raw | UnsetType) -> None:
        if self.era is Era.LEGACY:
            for changes in self.listeners:
                changes.add(change)
        elif (found := self._listening.get(_addressed(params).meta.subscription)) is not None:
            found.add(change)

    def _report(self, params: Raw | UnsetType) -> None:
        try:
            progress = msgspec.json.decode(b"{}" if isinstance(params, UnsetType) else params, type=ProgressParams)
        except UNREADABLE:
            return
        token = progress.progress_token
        waiting = self._waiting.get(token) if isinstance(token, int) else None
        if waiting is None or waiting.on_progress is None:
            return
        if not waiting.deadline.expired() and not self._answering:
            waiting.deadline.reschedule(asyncio.get_running_loop().time() + self.timeout)
        try:
            waiting.on_progress(progress)
        except Exception:  # noqa: BLE001 - the caller's own function, run amid the connection's reading
            _log.exception("on_progress failed")


def _addressed(params: Raw | UnsetType) -> _Addressed:
    try:
        return msgspec.json.decode(b"{}" if isinstance(params, UnsetType) else params, type=_Addressed)
    except UNREADABLE:
        return _Addressed()


@functools.cache
def client_info() -> dict[str, str]:
    """The Implementation this client says it is."""
    import importlib.metadata

    return {"name": "portway", "version": importlib.metadata.version("portway")}
