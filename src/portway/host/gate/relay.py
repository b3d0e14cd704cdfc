"""Sends requests to an instance and streams its replies back: waits for one that starts, retries, 503 when none can be
reached, ids restored, lists filtered.
"""

import asyncio
import contextlib

from portway.host.gate.call_record import DEFERRED
from portway.host.gate.forwarded_headers import returned
from portway.host.gate.gate_call import GateCall
from portway.host.gate.in_flight import LONGEST_ID, InFlight
from portway.host.gate.instance_ids import EventPlace, cancellation, encode_place, name_instance, reply_event_id
from portway.host.gate.moved_sessions import MovedSessions
from portway.host.gate.reply_stream import RelayedStream, one_line
from portway.host.gate.request_ids import (
    marker,
    params_of,
    restore,
    restore_resumed,
    restore_subscription,
    with_fresh_id,
    with_fresh_session_id,
)
from portway.host.gate.routing import Backend
from portway.host.gate.session_ids import SessionIds
from portway.http.asgi import Headers, Send
from portway.http.event_stream import EventParser
from portway.http.http_client import BrokenResponse, ConnectFailed, Response, UpstreamError
from portway.http.response import cut_short, send_bytes
from portway.protocol.capabilities import Capability, declared
from portway.protocol.errors import REFUSED, REQUEST_CANCELLED, RpcError
from portway.protocol.jsonrpc import encode_error

_START_SECONDS = 10.0  # a call waits for an app that is being started
_RETRY_SECONDS = 0.5  # between attempts to connect, unless a new table comes first
REPLY_BYTES = 16 * 1024 * 1024  # the longest JSON reply, or event of a stream
_LONG = 65_536  # bytes; a longer one takes reply memory

# These requests change nothing, so one whose connection closed without an answer may be sent again.
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
_UNAVAILABLE = {
    "starting": "is starting",
    "unhealthy": "fails its health check",
    "crashed": "has crashed and is being restarted",
}
_OF_STREAMS = (b"content-type", b"cache-control", b"x-accel-buffering")  # written by EventStream


class Relay:
    """Sends requests to instances and replies to clients. Methods raise RpcError, for the client, on failure."""

    def __init__(self, session_ids: SessionIds, moved: MovedSessions, in_flight: InFlight) -> None:
        self._session_ids = session_ids
        self._moved = moved
        self._in_flight = in_flight

    async def call(self, call: GateCall, body: bytes, request_id: int | str, send: Send) -> None:
        """Proxy a JSON-RPC request; the instance replies with JSON or an event stream."""
        if call.session is None:
            if call.line.method == "initialize":
                _note_client(call, body)
            call.fresh, body = with_fresh_id(body, call.line.method)
        else:
            call.fresh, body = with_fresh_session_id(body, call.line.method, request_id)
        response = await self._request(
            call, "POST", call.route.endpoint, body, repeatable=call.line.method in _REPEATABLE
        )
        try:
            content_type, kept = returned(response.headers, call, self._session_ids)
            if response.status in (401, 403) and call.access == "app" and call.stream is None:
                await self._pass(call, response, send, kept)
                return
            if response.status == 401:
                raise _asks_for_a_token(call)
            if content_type.startswith(b"text/event-stream"):
                await self._stream(call, response, send, kept)
                return
            reply = response.take() if response.complete and response.pending <= _LONG else await _whole(call, response)
            if content_type.startswith(b"application/json") and reply:
                restored = restore(reply, call.fresh, request_id, any_error=response.status >= 400)
                if restored is None:
                    raise BrokenResponse("it sent no reply")
                reply, call.line.outcome = restored
                if call.view is not None:
                    reply = call.view.of(reply)
            elif response.status < 300:
                raise BrokenResponse("it answered with what is not JSON-RPC")
            else:
                call.line.outcome = f"status {response.status}"
        except UpstreamError as error:
            raise _cut(call, error) from None
        finally:
            if not response.complete:
                await response.close()
        call.line.status, call.line.bytes_out = response.status, len(reply)
        if call.stream is not None:  # the gate has asked something on it
            await _end_stream(call, call.stream, reply)
            return
        if not call.held:
            await send_bytes(send, response.status, reply, kept)
            return
        kept.append((b"content-length", b"%d" % len(reply)))
        await send({"type": "http.response.start", "status": response.status, "headers": kept})
        await send({"type": "http.response.body", "body": reply, "more_body": True})
        await send({"type": "http.response.body", "body": b""})  # waits until the client has read the rest

    async def cancel(self, call: GateCall, body: bytes, request_id: int | str, send: Send) -> None:
        """Pass on the cancellation of a session's call `request_id`; an unknown one is cancelled if it comes soon."""
        assert call.session is not None
        session, target = call.session, self._in_flight.find(call.session, request_id)
        if target is None:
            self._in_flight.cancel_early(session, request_id)
            await accept(call, send)
            return
        fresh, backend = target.fresh, target.backend
        is_sent = fresh is not None and backend is not None and self._moved.is_open(session, backend)
        self._in_flight.cancel(target, is_sent=is_sent)
        if fresh is not None and backend is not None and is_sent:
            await self.deliver(call, backend, cancellation(body, fresh), send)
        else:
            await accept(call, send)

    async def deliver(self, call: GateCall, backend: Backend, body: bytes, send: Send) -> None:
        """Pass a notification or an answer to the one instance it is for. Accept it even if nobody waits for it.

        A refusal would make the official client 1.x give up its session; only 404 means that the session has ended.
        """
        session = call.session
        if session is not None and session.opening and not self._moved.enter(call, session, backend):
            await accept(call, send)  # the call that it is for has ended with the session there
            return
        try:
            response = await backend.client.request("POST", call.route.endpoint, call.headers, body)
        except ConnectFailed:
            await accept(call, send)
            return
        except UpstreamError as error:
            raise _cut(call, error) from None
        call.backend = backend
        backend.in_flight += 1
        is_refused = response.status in (401, 403) and call.access == "app"
        if 400 <= response.status < 500 and response.status != 404 and not is_refused:  # it came too late
            await response.close()
            await accept(call, send)
            return
        _, kept = returned(response.headers, call, self._session_ids)
        await self._pass(call, response, send, kept)

    async def follow(self, call: GateCall, send: Send) -> None:
        """Proxy a GET of the endpoint: a session's own stream, or the rest of one that was cut (Last-Event-ID)."""
        response = await self._request(call, "GET", call.route.endpoint, b"", repeatable=True)
        content_type, kept = returned(response.headers, call, self._session_ids)
        if call.resumes is not None and response.status in (400, 410):
            await response.close()
            await self.answer_lost(call, send)
            return
        if response.status != 200 or not content_type.startswith(b"text/event-stream"):
            await self._pass(call, response, send, kept)
            return
        call.line.outcome = "ok"
        try:
            await self._stream(call, response, send, kept)
        except UpstreamError:
            if call.stream is not None and not call.route.takes_sessions(call.backend):
                await call.stream.close()  # the instance was stopped after it had drained
                return
            call.line.outcome = "cut"
            cut_short(send)
        finally:
            await response.close()

    async def answer_lost(self, call: GateCall, send: Send) -> None:
        """Answer a GET for a reply that no instance has any longer, with an error under the call's id."""
        assert call.resumes is not None
        text = "The reply to this call is lost: its instance has ended or no longer keeps it. The call may have run."
        call.line.outcome, call.line.status = "cut", 200
        call.stream = RelayedStream(send, [call.identity])
        await call.stream.event(encode_error(call.resumes, RpcError(REFUSED, text)), reply_event_id(call.identity[1]))
        await call.stream.close()

    async def end(self, call: GateCall, send: Send) -> None:
        """Proxy the DELETE of a session. Where the instance cannot end it (405), the gate refuses its id."""
        session, pinned = call.session, call.pinned
        if session is None or not session.opening or (pinned is not None and self._moved.is_open(session, pinned)):
            response = await self._request(call, "DELETE", call.route.endpoint, b"", repeatable=False)
            if session is None or not (response.status < 300 or response.status == 405):
                _, kept = returned(response.headers, call, self._session_ids)
                await self._pass(call, response, send, kept)
                return
            await response.close()
        self._moved.end(session)
        self._session_ids.end(session)
        opened_at = call.route.instances.get(session.instance)
        if opened_at is not None and opened_at.sessions:
            opened_at.sessions -= 1
        self._in_flight.end_session(session)
        call.line.outcome, call.line.status = "ok", 204
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def plain(self, call: GateCall, method: str, target: str, body: bytes, send: Send) -> None:
        """Proxy a request that has no JSON-RPC reply; its response is streamed unchanged."""
        response = await self._request(call, method, target, body, repeatable=method in ("GET", "HEAD", "OPTIONS"))
        _, kept = returned(response.headers, call, self._session_ids)
        await self._pass(call, response, send, kept)

    async def _pass(self, call: GateCall, response: Response, send: Send, kept: Headers) -> None:
        call.line.outcome, call.line.status = (
            ("ok" if response.status < 400 else f"status {response.status}"),
            response.status,
        )
        kept = [*kept, *(item for item in response.headers if item[0] == b"content-length")]
        await send({"type": "http.response.start", "status": response.status, "headers": kept})
        if not response.pending and not response.complete:
            await send(
                {"type": "http.response.body", "body": b"", "more_body": True}
            )  # send the head without waiting for the body
        try:
            async for chunk in response.chunks():
                call.heard(len(chunk))
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except UpstreamError:
            call.line.outcome = "cut"
            cut_short(send)
            return
        finally:
            await response.close()
        await send({"type": "http.response.body", "body": b""})

    async def _stream(self, call: GateCall, response: Response, send: Send, headers: Headers) -> None:
        """Pass events on as they come: of a call until its reply, of a GET until the instance ends the stream."""
        extra = [item for item in headers if item[0] not in _OF_STREAMS]
        call.stream = stream = call.stream or RelayedStream(send, extra)
        call.line.status = response.status
        parser = EventParser(REPLY_BYTES)
        mark = None if call.fresh is None else marker(call.fresh)
        await stream.comment()  # sends the head now, not with the first event
        async for chunk in response.chunks():
            call.heard(0)
            try:
                events = parser.feed(chunk)
            except ValueError as error:
                raise BrokenResponse(str(error)) from None
            for event in events:
                final = False
                if data := event.data:
                    data = one_line(data)
                    if mark is None:
                        data, final = self._resumed(call, data)
                    elif mark in data or (b'"method"' not in data and not event.name):
                        data, final = _restore_event(call, data)
                    if call.session is not None and call.backend is not None and b'"method"' in data:
                        data = name_instance(data, call.backend.instance.id)
                    event.data = data
                    call.line.bytes_out += len(data)
                if event.id and call.session is not None:
                    call.resumable = True
                    event.id = _client_event_id(call, event.id)
                if final and call.resumable:
                    event.id = reply_event_id(call.identity[1])
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
            if call.cancelled or not call.resumable:
                raise BrokenResponse("its stream ended without the reply")
            call.line.outcome = DEFERRED
        await stream.close()

    def _resumed(self, call: GateCall, data: bytes) -> tuple[bytes, bool]:
        """Restore the id of a reply on a GET stream, and return whether it ends the stream: that of a call.

        The specification asks servers to end it. Some leave it open, and a client comes back for it once it is cut.
        """
        restored = restore_resumed(data)
        if restored is None:
            return data, False
        if call.session is not None:
            self._in_flight.fetched(call.session, restored[1])
        return restored[0] if call.view is None else call.view.of(restored[0]), call.resumes_call

    async def _request(self, call: GateCall, method: str, target: str, body: bytes, *, repeatable: bool) -> Response:
        """Send the request to the instance that must get it, else to the least busy; to the next if it is unreachable.

        While none can be reached, wait: the table names a dead instance until control has replaced it. Raises RpcError.
        """
        tried: list[Backend] = []
        route, pinned, until = call.route, call.pinned, 0.0
        while True:
            while (backend := pinned or route.pick(tried)) is not None:
                pinned = None
                call.backend = backend
                if not call.is_stream:
                    backend.in_flight += 1
                try:
                    session = call.session
                    if session is not None and (session.opening or not self._moved.is_open(session, backend)):
                        return await self._moved.request(call, backend, method, target, body, repeatable=repeatable)
                    return await backend.client.request(method, target, call.headers, body, repeatable=repeatable)
                except ConnectFailed:
                    if not call.is_stream:
                        backend.in_flight -= 1
                    call.backend = None
                    tried.append(backend)
                except BrokenResponse as error:
                    raise _cut(call, error) from None
            loop = asyncio.get_running_loop()
            until = until or loop.time() + _START_SECONDS
            if route.state not in ("up", "starting", "unhealthy") or loop.time() >= until:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(route.changed.wait(), _RETRY_SECONDS)
            tried.clear()
        call.line.outcome = "refused"
        state = _UNAVAILABLE.get(call.route.state)
        raise RpcError(
            REFUSED, f"The app {call.route.name!r} {state or 'cannot be reached'}; try again soon.", status=503
        )


async def _whole(call: GateCall, response: Response) -> bytes:
    """Return the body of a reply that comes in pieces; a long one waits for reply memory."""
    while not response.complete and response.pending <= _LONG:
        await response.more()
    if not response.complete:
        length = int(response.header(b"content-length") or REPLY_BYTES)
        await call.hold(min(length, REPLY_BYTES))
    return await response.read(REPLY_BYTES)


def _note_client(call: GateCall, body: bytes) -> None:
    """Note of an `initialize` what the id of the session is to hold."""
    if call.route.foreign:
        call.opening = params_of(body)
    else:
        with contextlib.suppress(RpcError):  # the app says what is wrong with it
            call.shows_forms = Capability.FORM in declared(body).capabilities


async def _end_stream(call: GateCall, stream: RelayedStream, reply: bytes) -> None:
    """Send the reply to a call, or that there is none, on the event stream that its client has already."""
    if not call.line.outcome.startswith(("ok", "isError", "error")):
        raise _cut(call, BrokenResponse("it sent no reply"))
    call.line.status = 200
    await stream.event(one_line(reply))
    await stream.close()


def _client_event_id(call: GateCall, event_id: bytes) -> bytes:
    """Return the event id for the client: it names the instance and, on a call's stream, the call."""
    assert call.backend is not None
    is_of_call, request_id = call.resumes_call, call.resumes
    if call.request_id is not None:
        is_of_call, request_id = True, call.request_id
    if isinstance(request_id, str) and len(request_id) > LONGEST_ID:
        request_id = None
    return encode_place(EventPlace(call.backend.instance.id, event_id, is_of_call, request_id))


async def accept(call: GateCall, send: Send) -> None:
    """Accept a message that needs no reply."""
    call.line.outcome, call.line.status = "ok", 202
    await send_bytes(send, 202, b"", [])


def _restore_event(call: GateCall, data: bytes) -> tuple[bytes, bool]:
    """Return a message of a call's stream with the client's ids, and whether it is the reply."""
    assert call.fresh is not None
    assert call.request_id is not None
    if call.is_stream and isinstance(call.fresh, int):
        data = restore_subscription(data, call.fresh, call.request_id)
    restored = restore(data, call.fresh, call.request_id)
    if restored is None:
        return data, False
    data, call.line.outcome = restored
    return data if call.view is None else call.view.of(data), True


def _asks_for_a_token(call: GateCall) -> RpcError:
    call.line.outcome = "status 401"
    text = f"The app {call.route.name!r} asks for a token of its own, which its host does not have."
    return RpcError(REFUSED, text, status=502)


def _cut(call: GateCall, error: UpstreamError) -> RpcError:
    if call.cancelled:
        call.line.outcome = "cancelled"
        return RpcError(REQUEST_CANCELLED, "Request cancelled", status=200)
    call.line.outcome = "cut"
    return RpcError(REFUSED, f"The app {call.route.name!r} did not answer properly: {error}.", status=502)
