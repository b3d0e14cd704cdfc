"""The ASGI application of the gate, which handles every request of every client.

It finds the app by host or path and the caller by token, checks the limits, the message and its headers, and passes the
request to an instance. A refusal is a JSON-RPC error. Without a valid token, an app that exists and one that does not
are refused with the same bytes.
"""

import asyncio
import itertools
import os
from time import perf_counter
from zlib import crc32

from msgspec import UNSET

from portway.auth.tokens import bearer
from portway.host.gate import batch_calls
from portway.host.gate.call_record import CallRecord, now
from portway.host.gate.event_stream import RelayedStream
from portway.host.gate.forwarded_headers import forwarded
from portway.host.gate.gate_call import GateCall, InFlight
from portway.host.gate.metrics import Metrics
from portway.host.gate.relay import DEFERRED, Relay
from portway.host.gate.routing import Caller, Route, Routes
from portway.host.gate.session_ids import HEADER as SESSION
from portway.host.gate.session_ids import SessionIds
from portway.http.asgi import Headers, Receive, Scope, Send
from portway.http.request_body import BodyTooLarge, ClientDisconnected, read_body
from portway.http.response import JSON, cut_short, send_bytes
from portway.protocol.era import classify
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.headers import VERSION, refuse_repeated, routed_name, verify
from portway.protocol.jsonrpc import Message, UnreadableMessage, decode, encode_error
from portway.protocol.versions import Era

HEALTH = "/_portway/health"

_TEXT = (b"content-type", b"text/plain")
_UNAUTHORIZED = encode_error(
    None, RpcError(REFUSED, "A valid bearer token for this app is needed in the Authorization header.")
)
_NO_SUCH_PATH = encode_error(
    None, RpcError(REFUSED, "There is nothing at this path; the MCP endpoint of an app is /<app>/mcp.")
)
_OTHER_HOST = encode_error(
    None, RpcError(REFUSED, "This host does not answer to that name; `portway up --domain` says to which it does.")
)
_OTHER_ORIGIN = encode_error(
    None, RpcError(REFUSED, "This Origin is not allowed; a page may call the host that it came from.")
)
_CHALLENGE = (b"www-authenticate", b"Bearer")
_INVALID_TOKEN = (b"www-authenticate", b'Bearer error="invalid_token"')
_WRONG_METHOD = encode_error(None, RpcError(REFUSED, "The MCP endpoint takes POST, GET and DELETE."))
_LISTEN = "subscriptions/listen"
_SUCCESSES = ("ok", DEFERRED)


class GateApp:
    """The ASGI application. It holds the routes, the call record, the metrics and the calls in flight."""

    def __init__(self, routes: Routes, record: CallRecord, metrics: Metrics, secret: bytes) -> None:
        self._routes = routes
        self._record = record
        self._metrics = metrics
        self._in_flight = InFlight()
        self._session_ids = SessionIds(secret)
        self._relay = Relay(self._session_ids)
        self.end_streams = self._in_flight.end_streams
        self._prefix, self._numbers = os.urandom(6).hex() + "-", itertools.count(1)  # for request ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        routes, path = self._routes, scope["path"]
        headers: Headers = scope["headers"]
        fields = dict(headers)
        host = None if b"origin" in fields or len(fields) != len(headers) else routes.known(fields.get(b"host"))
        if host is None:
            if path == HEALTH and b"host" not in fields:  # the probes of HTTP/1.0
                await send_bytes(send, 200, b"ok\n", [_TEXT])
                return
            refusal = routes.guard.check(scope)
            if refusal is not None:
                body = {421: _OTHER_HOST, 403: _OTHER_ORIGIN}.get(refusal.status)
                body = body or encode_error(None, RpcError(REFUSED, refusal.message))
                await self._turn_away(send, refusal.status, body)
                return
            host = routes.by_host(fields[b"host"])
        by_name, route = host
        if not by_name:
            if path == HEALTH:
                await send_bytes(send, 200, b"ok\n", [_TEXT])
                return
            route = routes.by_path(path)
            if route is None and not (path.rstrip("/").endswith("/mcp") and path.count("/") <= 3):
                await self._turn_away(send, 404, _NO_SUCH_PATH)
                return
            path = "/mcp"
        caller = routes.caller(route, fields.get(b"authorization"))
        if route is None or caller is None:
            self._metrics.refused += 1
            challenge = _CHALLENGE if bearer(fields.get(b"authorization")) is None else _INVALID_TOKEN  # RFC 6750 §3.1
            await self._turn_away(send, 401, _UNAUTHORIZED, challenge)
            return
        await self._admit(scope, receive, send, route, caller, fields, path)

    async def _turn_away(self, send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Refuse a request before it belongs to an app. Two such refusals differ only in the request id."""
        identity = (b"x-request-id", (self._prefix + str(next(self._numbers))).encode())
        await send_bytes(send, status, body, [JSON, identity, *headers])

    async def _admit(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: Route,
        caller: Caller,
        fields: dict[bytes, bytes],
        path: str,
    ) -> None:
        """Serve an authenticated request, and add its line to the call record."""
        call = GateCall(route, caller, self._prefix + str(next(self._numbers)), receive)
        route.in_flight += 1
        try:
            await self._serve(call, scope, send, fields, path)
        except UnreadableMessage as error:
            error.status = error.status_under(fields.get(VERSION))
            await _refuse(call, send, error)
        except RpcError as error:
            await _refuse(call, send, error)
        except BodyTooLarge:
            limit = route.limits.body_bytes
            await _refuse(call, send, RpcError(REFUSED, f"The body is larger than {limit} bytes.", status=413))
        except ClientDisconnected:
            call.line.outcome = "cancelled"
        except asyncio.CancelledError:
            await self._answer_ended(call, send)
        finally:
            self._in_flight.leave(call)
            if call.stream is not None:
                call.stream.abandon()
            if call.held:
                call.let_go()
            if call.is_stream:
                route.streams -= 1
            else:
                route.in_flight -= 1
                if call.backend is not None:
                    call.backend.in_flight -= 1
            self._finish(call)

    async def _serve(self, call: GateCall, scope: Scope, send: Send, fields: dict[bytes, bytes], path: str) -> None:
        """Read and check the request and pass it on. Raises the errors that `_admit` answers."""
        headers, line, method = scope["headers"], call.line, scope["method"]
        if len(fields) != len(headers):
            refuse_repeated(headers)
        is_mcp = path in ("/mcp", "/mcp/")
        if is_mcp and method != "POST":
            await self._serve_session(call, scope, send, fields)
            return
        if call.route.in_flight > 2 * call.route.limits.in_flight:
            self._check_capacity(call)  # before its body takes memory
        if b"content-encoding" in fields and is_mcp and fields[b"content-encoding"] != b"identity":
            raise RpcError(REFUSED, "The body must be sent as it is, without a Content-Encoding.", status=415)
        body = await read_body(fields.get(b"content-length"), call.receive, call.route.limits.body_bytes)
        line.bytes_in = len(body)
        is_batch = body[:1] != b"{" and body.lstrip()[:1] == b"["
        if is_mcp and is_batch and fields.get(VERSION) in (None, batch_calls.VERSION):
            await self._batch(call, scope, body, fields, send)
            return
        message = decode(body) if is_mcp else None
        if message is not None:
            self._read_message(call, message, fields)
            if SESSION in fields and line.era == "legacy" and line.method != "initialize":
                self._find_session(call, fields[SESSION])
            if line.method == _LISTEN:
                _count_as_stream(call)
        else:
            line.era, line.method, line.name = "http", method, path
        self._check_capacity(call)
        upstream = forwarded(headers, fields, call, scope["scheme"].encode())
        self._in_flight.enter(call)
        if message is None:
            query = scope["query_string"]
            target = scope["raw_path"].decode("ascii") + ("?" + query.decode("ascii") if query else "")
            await self._relay.plain(call, method, target, upstream, body, send)
        elif call.request_id is None or message.method is UNSET:
            await self._forward_other(call, message, upstream, body, send)
        else:
            await self._relay.call(call, upstream, body, call.request_id, send)

    async def _serve_session(self, call: GateCall, scope: Scope, send: Send, fields: dict[bytes, bytes]) -> None:
        """Serve the GET stream and the DELETE of a session; the instance may refuse either."""
        line, method = call.line, scope["method"]
        line.era, line.method = "legacy", method
        if method not in ("GET", "DELETE"):
            line.status = 405
            identity = (b"x-request-id", line.request.encode())
            await send_bytes(send, 405, _WRONG_METHOD, [JSON, identity, (b"allow", b"POST, GET, DELETE")])
            return
        if SESSION in fields:
            self._find_session(call, fields[SESSION])
        if method == "GET":
            _count_as_stream(call)
        self._check_capacity(call)
        upstream = forwarded(scope["headers"], fields, call, scope["scheme"].encode())
        self._in_flight.enter(call)
        if method == "GET":
            await self._relay.follow(call, upstream, send)
        else:
            await self._relay.end(call, upstream, send)

    def _find_session(self, call: GateCall, token: bytes) -> None:
        """Set the call's session, and the instance that must get it. Raises RpcError (404) for another caller's."""
        call.session = self._session_ids.open(call.route.name, call.caller, token)
        home, backends = self._routes.backends.get(call.session.instance), call.route.backends
        is_new_call = call.request_id is not None and call.line.method != "response"
        if home in backends or (
            home is not None and not is_new_call
        ):  # the call it belongs to may run on a draining instance
            call.pinned = home
        elif backends:  # its instance is gone: the same other one for all messages of the session
            call.pinned = backends[crc32(token) % len(backends)]

    async def _batch(self, call: GateCall, scope: Scope, body: bytes, fields: dict[bytes, bytes], send: Send) -> None:
        """Answer a batch; each element is limited and recorded as a call, and has a fresh id."""
        line = call.line
        line.method = "batch"
        call.stream = RelayedStream(send, [(b"x-request-id", line.request.encode())])
        replies = await batch_calls.answer(
            body,
            lambda receive, keep: self._admit(scope, receive, keep, call.route, call.caller, fields, "/mcp"),
            call.stream,
        )
        line.outcome, line.status = "ok", 200 if replies or call.stream.opened else 202
        if not call.stream.opened:
            await send_bytes(send, line.status, replies, [JSON] if replies else [])

    def _read_message(self, call: GateCall, message: Message, fields: dict[bytes, bytes]) -> None:
        """Note era, method, name and arguments of a message; verify the headers of a modern one. Raises RpcError."""
        version, line = fields.get(VERSION), call.line
        if message.id is not UNSET:
            call.request_id = message.id
        era = classify(message, None if version is None else version.decode("latin-1").strip(" \t"))
        line.era = "modern" if era is Era.MODERN else "legacy"
        if message.method is UNSET:
            line.method = "response"
            return
        line.method = message.method
        if message.params is not UNSET and message.params.arguments is not UNSET:
            line.arguments = self._record.digest(message.params.arguments)
        if era is Era.MODERN and call.request_id is not None:
            call.cancels = True
            line.name = verify(message, fields) or ""
        else:
            line.name = routed_name(message) or ""

    def _check_capacity(self, call: GateCall) -> None:
        if self._record.failing:
            raise RpcError(REFUSED, "The host cannot keep its call record and takes no calls until it can.", status=503)
        excess = call.route.in_flight - call.route.limits.in_flight
        if excess <= 0 or call.is_stream:
            return
        is_call = call.request_id is not None and call.line.method != "response"
        if is_call or excess > call.route.limits.in_flight:  # the others answer or cancel calls that hold places
            raise RpcError(REFUSED, f"The app {call.route.name!r} is busy with as many calls as it takes.", status=429)

    async def _forward_other(self, call: GateCall, message: Message, headers: Headers, body: bytes, send: Send) -> None:
        """Pass on a notification or a client's response.

        A cancellation names an id that the client chose. Without a session, two clients with one token may use the same
        id, so it is dropped. A modern client cancels by closing its request.
        """
        params = message.params
        if call.line.method != "notifications/cancelled":
            await self._relay.plain(call, "POST", "/mcp", headers, body, send)
        elif call.session is None or params is UNSET or params.request_id is UNSET:
            call.line.outcome, call.line.status = "ok", 202
            await send_bytes(send, 202, b"", [])
        else:
            await self._relay.cancel(call, headers, body, params.request_id, send)

    async def _answer_ended(self, call: GateCall, send: Send) -> None:
        """Answer a call whose task was cancelled: by this gate, or because its process stops."""
        if call.task is None or not (call.client_left or call.expired):
            call.line.outcome = "cut"  # the process stops
            raise asyncio.CancelledError
        call.task.uncancel()
        if call.is_stream and (call.client_left or call.stream is not None):
            call.line.outcome = "ok"
            if call.stream is not None and not call.client_left:
                await call.stream.close()
            return
        call.line.outcome = "cancelled" if call.client_left else "cut"
        has_begun = call.line.status and call.stream is None
        if call.expired and not call.client_left and not has_begun:
            error = RpcError(REFUSED, f"The app {call.route.name!r} did not answer in time.", status=504)
            await _refuse(call, send, error)
        else:
            cut_short(send)

    def _finish(self, call: GateCall) -> None:
        """Complete the line of the call, count it and record it."""
        line, seconds = call.line, perf_counter() - call.started
        self._metrics.observe(line.app, line.method, line.name, seconds, failed=line.outcome not in _SUCCESSES)
        line.time = now()
        line.ms = round(seconds * 1000, 3)
        if call.backend is not None:
            line.instance = call.backend.instance.id
        self._record.add(line)


def _count_as_stream(call: GateCall) -> None:
    """Count a long-lived stream as a stream instead of a call. Raises RpcError (503) over the app's limit."""
    route = call.route
    if route.streams >= route.limits.streams:
        raise RpcError(REFUSED, f"The app {route.name!r} has as many streams open as it takes.", status=503)
    call.is_stream = True
    route.in_flight -= 1
    route.streams += 1


async def _refuse(call: GateCall, send: Send, error: RpcError) -> None:
    """Answer with an error: as an event if the reply has begun as a stream, else as JSON."""
    body = encode_error(error.request_id if isinstance(error, UnreadableMessage) else call.request_id, error)
    call.line.bytes_out += len(body)
    if call.stream is not None and call.stream.opened:
        await call.stream.event(body)
        await call.stream.close()
        return
    call.line.status = error.status
    headers = [JSON, (b"x-request-id", call.line.request.encode())]
    if error.status in (429, 503):
        headers.append((b"retry-after", b"1"))
    await send_bytes(send, error.status, body, headers)
