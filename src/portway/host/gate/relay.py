"""A call to its instance and the reply back, ids exchanged, streams unbuffered."""

import asyncio
import contextlib

from portway.host.gate.event_stream import RelayedStream, one_line
from portway.host.gate.forwarded_headers import returned
from portway.host.gate.gate_call import Call
from portway.host.gate.ids import (
    cancellation,
    marker,
    readdress,
    readdress_in_session,
    restore,
    restore_resumed,
    resubscribe,
)
from portway.host.gate.routing import Backend
from portway.host.gate.session_ids import Running, Sessions
from portway.http.asgi import Headers, Send
from portway.http.http_client import BrokenResponse, ConnectFailed, Response, UpstreamError
from portway.http.response import send_bytes
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.sse import EventParser

_START_SECONDS = 10.0  # a call waits for an app that is being started
_RETRY_SECONDS = 0.5  # between tries, when no change of the table says that there is reason for one
KEEP_ALIVE = 15.0  # seconds of silence after which a stream gets a comment
REPLY_BYTES = 16 * 1024 * 1024  # a reply that is one JSON message, or one event
_LONG = 65_536  # bytes of one beyond which it needs the app's room

# Requests that change nothing, so that one whose connection closed unanswered may be sent again.
_REPEATABLE = frozenset(
    (
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "prompts/list",
    )
)
DEFERRED = "deferred"  # the outcome of a call whose reply is for the client to fetch
_OF_STREAMS = (b"content-type", b"cache-control", b"x-accel-buffering")  # written by EventStream


class Relay:
    """Sends requests to instances and replies to clients. RpcError: what failed, for the client to be told."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._running = Running()

    async def call(self, call: Call, headers: Headers, body: bytes, request_id: int | str, send: Send) -> None:
        """Proxy a JSON-RPC request; the reply is JSON or a stream, as the instance chose."""
        session = call.session
        if session is None:
            call.fresh, body = readdress(body, call.line.method)
        else:
            call.fresh, body = readdress_in_session(body, call.line.method, request_id)
            self._running.add(session, request_id, call.fresh)
        response = await _request(call, "POST", "/mcp", headers, body, repeatable=call.line.method in _REPEATABLE)
        try:
            content_type, kept = returned(response.headers, call, self._sessions)
            if content_type.startswith(b"text/event-stream"):
                await self._stream(call, response, send, kept)
                return
            reply = await (response.read(REPLY_BYTES) if response.complete else _whole(call, response))
            if content_type.startswith(b"application/json") and reply:
                restored = restore(reply, call.fresh, request_id, any_error=response.status >= 400)
                if restored is None:
                    raise BrokenResponse("it sent no reply")
                reply, call.line.outcome = restored
            elif response.status < 300:
                raise BrokenResponse("it answered with what is not JSON-RPC")
            else:
                call.line.outcome = f"status {response.status}"
        except UpstreamError as error:
            raise _cut(call, error) from None
        finally:
            if session is not None and not call.gone and call.line.outcome != DEFERRED:
                self._running.drop(session, request_id)
            if not response.complete:
                await response.close()
        call.line.status, call.line.bytes_out = response.status, len(reply)
        if not call.held:
            await send_bytes(send, response.status, reply, kept)
            return
        kept.append((b"content-length", b"%d" % len(reply)))
        await send({"type": "http.response.start", "status": response.status, "headers": kept})
        await send({"type": "http.response.body", "body": reply, "more_body": True})
        await send({"type": "http.response.body", "body": b""})  # waits until the client has taken it

    async def cancel(self, call: Call, headers: Headers, body: bytes, request_id: int | str, send: Send) -> None:
        """Pass on that a session's client no longer wants its call `request_id`; one the gate knows not is let go."""
        assert call.session is not None
        fresh = self._running.find(call.session, request_id)
        if fresh is None:
            call.line.outcome, call.line.status = "ok", 202
            await send_bytes(send, 202, b"", [])
        else:
            await self.plain(call, "POST", "/mcp", headers, cancellation(body, fresh), send)

    async def follow(self, call: Call, headers: Headers, send: Send) -> None:
        """Proxy a GET of the endpoint: a session's own stream, or what is left of one that was cut."""
        response = await _request(call, "GET", "/mcp", headers, b"", repeatable=True)
        content_type, kept = returned(response.headers, call, self._sessions)
        if response.status != 200 or not content_type.startswith(b"text/event-stream"):
            await self._pass(call, response, send, kept)
            return
        call.line.outcome = "ok"
        try:
            await self._stream(call, response, send, kept)
        except UpstreamError:
            call.line.outcome = "cut"  # and the connection with it, as of any reply without an end
        finally:
            await response.close()

    async def end(self, call: Call, headers: Headers, send: Send) -> None:
        """Proxy the DELETE of a session. One that an instance cannot end (405) the gate does: all requests pass it."""
        response = await _request(call, "DELETE", "/mcp", headers, b"", repeatable=False)
        if call.session is None or not (response.status < 300 or response.status == 405):
            _, kept = returned(response.headers, call, self._sessions)
            await self._pass(call, response, send, kept)
            return
        self._sessions.end(call.session)
        await response.close()
        call.line.outcome, call.line.status = "ok", 204
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def plain(self, call: Call, method: str, target: str, headers: Headers, body: bytes, send: Send) -> None:
        """Proxy a request that no JSON-RPC reply follows, as it is, with the reply streamed."""
        response = await _request(call, method, target, headers, body, repeatable=method in ("GET", "HEAD", "OPTIONS"))
        _, kept = returned(response.headers, call, self._sessions)
        await self._pass(call, response, send, kept)

    async def _pass(self, call: Call, response: Response, send: Send, kept: Headers) -> None:
        call.line.outcome, call.line.status = (
            ("ok" if response.status < 400 else f"status {response.status}"),
            response.status,
        )
        kept = [*kept, *(item for item in response.headers if item[0] == b"content-length")]
        await send({"type": "http.response.start", "status": response.status, "headers": kept})
        if not response.pending and not response.complete:
            await send({"type": "http.response.body", "body": b"", "more_body": True})  # the head goes ahead
        try:
            async for chunk in response.chunks():
                call.heard(len(chunk))
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except UpstreamError:
            call.line.outcome = "cut"
            return  # with the reply unfinished, the listener cuts the connection: the one way to tell the client
        finally:
            await response.close()
        await send({"type": "http.response.body", "body": b""})

    async def _stream(self, call: Call, response: Response, send: Send, headers: Headers) -> None:
        """Pass on events as they come: of a call until the one that is the reply, of a GET until the instance ends."""
        extra = [item for item in headers if item[0] not in _OF_STREAMS]
        call.stream = stream = RelayedStream(send, KEEP_ALIVE, extra)
        call.line.status = response.status
        parser = EventParser(REPLY_BYTES)
        mark = None if call.fresh is None else marker(call.fresh)
        await stream.comment()  # the client sees the head now, not with the first event
        async for chunk in response.chunks():
            call.heard(0)
            try:
                events = parser.events(chunk)
            except ValueError as error:
                raise BrokenResponse(str(error)) from None
            for event in events:
                final = False
                if data := event.data:
                    data = one_line(data)
                    if mark is None:
                        data = self._resumed(call, data)
                    elif mark in data or (b'"method"' not in data and not event.name):
                        data, final = _restored(call, data)
                    event.data = data
                    call.line.bytes_out += len(data)
                if event.id and call.session is not None:
                    call.resumable = True
                await stream.relay(event)
                if final:
                    await stream.close()
                    return
            if call.held and parser.held <= _LONG:
                await stream.drained()
                call.let_go()
            elif parser.held > _LONG and not call.held:
                await call.hold(REPLY_BYTES)
        if call.fresh is not None:
            if not call.resumable:
                raise BrokenResponse("its stream ended without the reply")
            call.line.outcome = DEFERRED
        await stream.close()

    def _resumed(self, call: Call, data: bytes) -> bytes:
        """An event of a GET stream, which holds replies where it resumes a call's."""
        restored = restore_resumed(data)
        if restored is None:
            return data
        if call.session is not None:
            self._running.drop(call.session, restored[1])
        return restored[0]


async def _whole(call: Call, response: Response) -> bytes:
    """The body of a reply that comes in pieces; a long one waits for room."""
    while not response.complete and response.pending <= _LONG:
        await response.more()
    if not response.complete:
        length = int(dict(response.headers).get(b"content-length", b"%d" % REPLY_BYTES))
        await call.hold(min(length, REPLY_BYTES))
    return await response.read(REPLY_BYTES)


async def _request(
    call: Call, method: str, target: str, headers: Headers, body: bytes, *, repeatable: bool
) -> Response:
    """Send the request to its session's home or the least busy instance; to another only when that cannot be reached.

    While none can be, wait for the next: the table names an instance that has died until control has seen its end.
    """
    route, pinned, tried, until = call.route, call.pinned, list[Backend](), 0.0
    while True:
        while (backend := pinned or route.pick(tried)) is not None:
            pinned = None
            call.backend = backend
            if not call.lasting:
                backend.in_flight += 1
            try:
                return await backend.client.request(method, target, headers, body, repeatable=repeatable)
            except ConnectFailed:
                if not call.lasting:
                    backend.in_flight -= 1
                call.backend = None
                tried.append(backend)
            except BrokenResponse as error:
                raise _cut(call, error) from None
        loop = asyncio.get_running_loop()
        until = until or loop.time() + _START_SECONDS
        if route.state not in ("up", "starting") or loop.time() >= until:
            break
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(route.changed.wait(), _RETRY_SECONDS)
        tried.clear()
    call.line.outcome = "refused"
    state = {"starting": "is starting", "crashed": "has crashed and is being looked after"}.get(call.route.state)
    raise RpcError(REFUSED, f"The app {call.route.name!r} {state or 'cannot be reached'}; try again soon.", status=503)


def _restored(call: Call, data: bytes) -> tuple[bytes, bool]:
    """A message of a call's stream under the client's ids, and whether it is the reply."""
    assert call.fresh is not None
    assert call.request_id is not None
    if call.lasting and isinstance(call.fresh, int):
        data = resubscribe(data, call.fresh, call.request_id)
    restored = restore(data, call.fresh, call.request_id)
    if restored is None:
        return data, False
    data, call.line.outcome = restored
    return data, True


def _cut(call: Call, error: UpstreamError) -> RpcError:
    call.line.outcome = "cut"
    return RpcError(REFUSED, f"The app {call.route.name!r} did not answer properly: {error}.", status=502)
