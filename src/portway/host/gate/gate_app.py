"""The ASGI application of the gate, in the order of its checks: app, caller, body, message, policies, numbers of calls
and streams (429, 503), record.

It finds the app by host or path and the caller by token, checks the limits, the message and its headers, and passes the
request to an instance. A refusal is a JSON-RPC error. Without a valid token, an app that exists and one that does not
are refused with the same bytes.
"""

import asyncio
import itertools
import os
from time import perf_counter

from msgspec import UNSET

from portway.exceptions import ArgumentError, ToolError
from portway.host.app_config import Access
from portway.host.gate import batch_calls
from portway.host.gate.call_limits import leave, limit, refusal
from portway.host.gate.call_record import SUCCESSES, CallRecord
from portway.host.gate.callers import Caller
from portway.host.gate.confirmations import Answered, Confirmations, is_own
from portway.host.gate.control_relay import RELAYED, ControlRelay
from portway.host.gate.forwarded_headers import LAST_EVENT_ID, forwarded
from portway.host.gate.gate_call import GateCall
from portway.host.gate.in_flight import InFlight
from portway.host.gate.instance_ids import answer, asked_by, decode_place, names_reply, progress
from portway.host.gate.list_view import ListView
from portway.host.gate.metrics import Metrics
from portway.host.gate.moved_sessions import SETTINGS, MovedSessions
from portway.host.gate.other_paths import refuse_mcp
from portway.host.gate.path_access import ENDPOINT
from portway.host.gate.permissions import permit, permit_batch
from portway.host.gate.refusals import Refusals, refuse_call
from portway.host.gate.relay import Relay, accept
from portway.host.gate.reply_stream import RelayedStream
from portway.host.gate.routing import Route, Routes
from portway.host.gate.session_ids import SessionIds, has_ended
from portway.host.gate.session_records import SessionRecords
from portway.host.routing_table import Table
from portway.host.timestamps import now
from portway.http.asgi import Headers, Receive, Scope, Send
from portway.http.request_body import BodyTooLarge, ClientDisconnected, read_body
from portway.http.response import JSON, cut_short, send_bytes
from portway.policy.confirmation import Confirmation
from portway.protocol.batch import is_batch
from portway.protocol.change_messages import listen_result
from portway.protocol.era import classify
from portway.protocol.errors import METHOD_NOT_FOUND, REFUSED, REQUEST_CANCELLED, RpcError
from portway.protocol.headers import SESSION, VERSION, refuse_repeated, routed_name, verify
from portway.protocol.jsonrpc import Message, UnreadableMessage, decode, encode_error
from portway.protocol.versions import Era

HEALTH = "/_portway/health"
ASSERTION_KEYS = "/_portway/jwks.json"

_TEXT = (b"content-type", b"text/plain")
_WRONG_METHOD = encode_error(None, RpcError(REFUSED, "The MCP endpoint takes POST, GET and DELETE."))
_LISTEN = "subscriptions/listen"
_MODERN = Era.MODERN  # Python 3.11 takes long to find a member of an enumeration
_LONGEST_METHOD = 128  # characters
_LONGEST_TEXT = 256  # characters of a method or a name in the record and the metrics


class GateApp:
    """The ASGI application. It holds the routes, the call record, the metrics and the calls in flight."""

    def __init__(
        self,
        routes: Routes,
        record: CallRecord,
        metrics: Metrics,
        sessions: SessionRecords,
        secret: bytes,
        control: ControlRelay,
    ) -> None:
        self._control = control
        self._routes = routes
        self._record = record
        self._metrics = metrics
        self._in_flight = InFlight()
        self._confirmations = Confirmations()
        self._session_ids = SessionIds(secret)
        self._moved = MovedSessions(self._session_ids, sessions)
        self._relay = Relay(self._session_ids, self._moved, self._in_flight)
        self._prefix, self._numbers = os.urandom(6).hex() + "-", itertools.count(1)  # for request ids
        self._refusals = Refusals(routes, metrics, self._prefix, self._numbers)
        routes.logins.review, routes.logins.count = self.review, metrics.observe_login

    def end_streams(self) -> None:
        """End the streams that would go on, because the HTTP server stops."""
        self._in_flight.end_streams()
        self._control.end_streams()

    def use(self, table: Table) -> None:
        """Use a new routing table: end the requests it no longer allows, and move streams to new instances."""
        self._routes.replace(table)
        self.review()

    def review(self) -> None:
        """End the requests that the table or the tokens no longer allow."""
        self._in_flight.review(lambda call: call.route.objection(call.caller, call.raw_path))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        routes, path = self._routes, scope["path"]
        headers: Headers = scope["headers"]
        fields = dict(headers)
        host = (
            None if b"origin" in fields or len(fields) != len(headers) else routes.hosts.get(fields.get(b"host", b""))
        )
        if host is None:
            if path == HEALTH and b"host" not in fields:  # the probes of HTTP/1.0
                await send_bytes(send, 200, b"ok\n", [_TEXT])
                return
            refusal = routes.guard_of(scope, fields).check(scope)
            if refusal is not None:
                await self._refusals.guarded(send, refusal)
                return
            host = routes.by_host(fields[b"host"])
        by_name, route = host
        if not by_name:
            if path == HEALTH:
                await send_bytes(send, 200, b"ok\n", [_TEXT])
                return
            route = routes.paths.get(path)
            if route is None and path == ASSERTION_KEYS:
                await send_bytes(send, 200, b'{"keys":[%b]}' % routes.assertion_key.public, [JSON])
                return
            if route is None and RELAYED.fullmatch(path):
                await self._control.relay(scope, receive, send)
                return
            if route is None and await self._refusals.no_such_path(scope, send, fields):
                return
            path = "/mcp"
        elif route is not None and path in route.own_paths:
            path = "/mcp"
        elif path not in ENDPOINT and await self._refusals.tell(scope, send, route, fields):
            return
        access: Access = "gate" if route is None else route.access
        if by_name and route is not None and route.path_access is not None and path not in ENDPOINT:
            access = route.access_of(scope["raw_path"])
        if route is not None and route.cors.origins and (access != "app" or path in ENDPOINT):
            preflight = route.cors.preflight(scope)
            if preflight is not None:
                await send_bytes(send, 204, b"", preflight)
                return
            send = route.cors.sender(scope, send)
        caller = routes.caller(route, fields.get(b"authorization"), access)
        if caller is None:
            caller = await self._refusals.log_in(send, route, fields, access, scope["path"])
        if route is None or caller is None:
            return
        await self._admit(scope, receive, send, route, caller, fields, path, access)

    async def _admit(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: Route,
        caller: Caller,
        fields: dict[bytes, bytes],
        path: str,
        access: Access,
    ) -> None:
        """Serve an authenticated request, and add its line to the call record."""
        if caller.groups is not route.groups:
            caller.join(route.groups)
        client = scope["client"]
        holder = caller.identity if caller.app or client is None else client[0]
        call = GateCall(route, caller, access, holder, self._prefix + str(next(self._numbers)), receive)
        call.host, call.path = fields[b"host"], scope["path"]
        route.calls.take(holder)
        try:
            await self._serve(call, scope, send, fields, path)
        except UnreadableMessage as error:
            error.status = error.status_under(fields.get(VERSION))
            await refuse_call(call, send, error)
        except RpcError as error:
            await refuse_call(call, send, error)
        except (ArgumentError, ToolError) as error:
            await _answer(call, send, refusal(call, error))
        except Answered as answered:
            call.line.outcome = "ok"
            await _answer(call, send, answered.reply)
        except BodyTooLarge:
            most = route.limits.body_bytes
            await refuse_call(call, send, RpcError(REFUSED, f"The body is larger than {most} bytes.", status=413))
        except ClientDisconnected:
            call.line.outcome = "cancelled"
        except asyncio.CancelledError:
            await self._answer_ended(call, send)
        finally:
            if call.stream is not None:
                call.stream.abandon()
            if call.held:
                call.let_go()
            if call.limits:
                leave(call)
            self._in_flight.leave(call)
            if call.is_stream:
                route.streams.give(holder)
            elif not call.detached_at:
                route.calls.give(holder)
                if call.backend is not None:
                    call.backend.in_flight -= 1
            self._finish(call)

    async def _serve(self, call: GateCall, scope: Scope, send: Send, fields: dict[bytes, bytes], path: str) -> None:
        """Read and check the request and pass it on. Raises the errors that `_admit` answers."""
        headers, line, method = scope["headers"], call.line, scope["method"]
        if len(fields) != len(headers):
            refuse_repeated(headers)
        is_mcp = path in ENDPOINT
        if is_mcp and method != "POST":
            await self._serve_session(call, scope, send, fields)
            return
        if call.route.calls.taken > 2 * call.route.limits.in_flight:
            self._check_capacity(call)  # before its body takes memory
        if b"content-encoding" in fields and is_mcp and fields[b"content-encoding"] != b"identity":
            raise RpcError(REFUSED, "The body must be sent as it is, without a Content-Encoding.", status=415)
        body = await read_body(fields.get(b"content-length"), call.receive, call.route.limits.body_bytes)
        line.bytes_in = len(body)
        if is_mcp and is_batch(body) and fields.get(VERSION) in (None, batch_calls.VERSION):
            await self._batch(call, scope, body, fields, send)
            return
        message = None
        if is_mcp:
            try:
                message = decode(body)
            except UnreadableMessage as error:
                if SESSION not in fields or (asked_by(error.request_id) is None and not is_own(error.request_id)):
                    raise
                body = encode_error(error.request_id, error)  # so that the question does not wait for another answer
                message = decode(body)
        if message is not None:
            self._read_message(call, message, fields)
            if call.route.policies is not None:
                body = permit(call, call.route.policies, message, body)
            if SESSION in fields and line.era == "legacy" and line.method != "initialize":
                self._find_session(call, fields[SESSION])
            if line.method == _LISTEN:
                _count_as_stream(call)
        else:
            line.era, line.method, line.name, call.raw_path = "http", method, path, scope["raw_path"]
            await refuse_mcp(call, fields, body)
        self._check_capacity(call)
        if call.policy is not None and message is not None:
            body = await limit(call, call.policy, message, body, self._confirmations)
        if call.caller.revoked is not None:  # while the body arrived
            raise call.caller.revoked.with_traceback(None)
        call.headers = forwarded(scope, fields, call)
        self._in_flight.enter(call)
        if call.cancelled:  # its cancellation has overtaken it
            line.outcome = "cancelled"
            raise RpcError(REQUEST_CANCELLED, "Request cancelled", status=200)
        if message is None:
            query = scope["query_string"]
            target = scope["raw_path"].decode("ascii") + ("?" + query.decode("ascii") if query else "")
            await self._relay.plain(call, method, target, body, send)
        elif call.request_id is None:
            await self._forward_other(call, message, body, send)
        else:
            if call.confirmation is not None:
                body = await self._confirm(call, call.confirmation, message, body, fields, send)
            await self._relay.call(call, body, call.request_id, send)
            if call.session is not None and line.method in SETTINGS and line.outcome == "ok":
                self._moved.note(call, message, body)

    async def _confirm(
        self,
        call: GateCall,
        confirmation: Confirmation,
        message: Message,
        body: bytes,
        fields: dict[bytes, bytes],
        send: Send,
    ) -> bytes:
        """Return a legacy call that its user has confirmed, as it goes to the instance by the policies of then."""
        await self._confirmations.ask(call, confirmation, body, fields.get(b"accept", b"*/*"), send)
        call.policy, policies = None, call.route.policies
        if policies is not None:
            body = permit(call, policies, message, body)
        if call.policy is not None:
            body = await limit(call, call.policy, message, body, self._confirmations)
        return body

    async def _serve_session(self, call: GateCall, scope: Scope, send: Send, fields: dict[bytes, bytes]) -> None:
        """Serve the GET stream and the DELETE of a session; the instance may refuse either."""
        line, method = call.line, scope["method"]
        line.era, line.method = "legacy", method
        if method not in ("GET", "DELETE"):
            line.status = 405
            await send_bytes(send, 405, _WRONG_METHOD, [JSON, call.identity, (b"allow", b"POST, GET, DELETE")])
            return
        if SESSION in fields:
            self._find_session(call, fields[SESSION])
            if method == "DELETE" and call.session is not None:
                call.pinned = call.route.instances.get(self._moved.instance(call.session), call.pinned)
            elif names_reply(fields.get(LAST_EVENT_ID, b"")):
                line.outcome, line.status = "ok", 204  # by the standard of event streams, the client stops
                await send_bytes(send, 204, b"", [call.identity])
                return
            elif LAST_EVENT_ID in fields:
                self._find_stream(call, fields[LAST_EVENT_ID])
        if method == "GET":
            _count_as_stream(call)
            if call.route.policies is not None:
                call.view = ListView(call.route.policies, call.caller.visible)
        self._check_capacity(call)
        call.headers = forwarded(scope, fields, call)
        self._in_flight.enter(call)
        if method == "DELETE":
            await self._relay.end(call, send)
        elif call.resumes is not None and call.pinned is None:
            await self._relay.answer_lost(call, send)
        else:
            await self._relay.follow(call, send)

    def _find_session(self, call: GateCall, token: bytes) -> None:
        """Set the call's session, and the instance for its new calls. Raises RpcError (404) for another caller's."""
        call.session = session = self._session_ids.open(call.route.name, call.caller, token)
        call.pinned = call.route.instance_for(self._moved.instance(session), token)
        if call.route.foreign and not session.opening:  # the app was a server of Portway's when it was opened
            raise has_ended()

    def _find_stream(self, call: GateCall, last_event_id: bytes) -> None:
        """Set the instance whose stream a GET resumes, and the instance's own id of the event."""
        place = decode_place(last_event_id)
        if place is None:
            call.after = last_event_id
            return
        backend = call.route.instances.get(place.instance)
        call.resumes_call, call.resumes = place.is_of_call, place.call
        if place.is_of_call or call.route.takes_sessions(backend):
            call.pinned, call.after = backend, place.event
        # Otherwise the instance takes no new calls: the session's stream starts afresh at the one that does.

    async def _batch(self, call: GateCall, scope: Scope, body: bytes, fields: dict[bytes, bytes], send: Send) -> None:
        """Answer a batch; each element is limited and recorded as a call, and has a fresh id."""
        line = call.line
        line.method = "batch"
        if call.route.policies is not None:
            permit_batch(call, call.route.policies, body)
        call.stream = RelayedStream(send, [call.identity])
        replies = await batch_calls.answer(
            body,
            lambda receive, keep: self._admit(
                scope, receive, keep, call.route, call.caller, fields, "/mcp", call.access
            ),
            call.receive,
            call.stream,
        )
        line.outcome, line.status = "ok", 200 if replies or call.stream.opened else 202
        if not call.stream.opened:
            await send_bytes(send, line.status, replies, [JSON] if replies else [])

    def _read_message(self, call: GateCall, message: Message, fields: dict[bytes, bytes]) -> None:
        """Note era, method, name and arguments of a message; verify the headers of a modern one. Raises RpcError."""
        version, line = fields.get(VERSION), call.line
        if message.id is not UNSET and message.method is not UNSET:
            call.request_id = message.id
        is_modern = _MODERN is classify(message, None if version is None else version.decode("latin-1").strip(" \t"))
        line.era = "modern" if is_modern else "legacy"
        if message.method is UNSET:
            line.method = "response"
            return
        line.method = message.method
        if len(line.method) > _LONGEST_METHOD:
            text = f"Method not found: {line.method[:_LONGEST_METHOD]}"
            raise RpcError(METHOD_NOT_FOUND, text, status=404)
        if message.params is not UNSET and message.params.arguments is not UNSET:
            line.arguments = self._record.digest(message.params.arguments)
        if is_modern and call.request_id is not None:
            call.cancels = True
            line.name = verify(message, fields) or ""
        else:
            line.name = routed_name(message) or ""

    def _check_capacity(self, call: GateCall) -> None:
        if self._record.failing:
            raise RpcError(REFUSED, "The host cannot keep its call record and takes no calls until it can.", status=503)
        calls, limit = call.route.calls, call.route.limits.in_flight
        if calls.taken <= limit or call.is_stream:
            return
        is_call = call.request_id is not None  # answers and cancellations may free a place
        if calls.taken > 2 * limit or (is_call and not calls.admits(call.holder, limit)):
            raise RpcError(REFUSED, f"The app {call.route.name!r} has reached its limit of calls.", status=429)

    async def _forward_other(self, call: GateCall, message: Message, body: bytes, send: Send) -> None:
        """Pass on a notification or a client's response.

        A cancellation names an id that the client chose. Without a session, two clients with one token may use the same
        id, so it is dropped. A modern client cancels by closing its request.
        """
        params, instance = message.params, None
        if call.line.method == "notifications/cancelled":
            if call.session is None or params is UNSET or params.request_id is UNSET:
                await accept(call, send)
            else:
                await self._relay.cancel(call, body, params.request_id, send)
            return
        if call.session is not None and self._confirmations.answer(call.session, message, body):
            await accept(call, send)
            return
        if call.session is not None and message.method is UNSET:
            instance, body = answer(message, body) or (None, body)
        elif call.session is not None and call.line.method == "notifications/progress":
            instance, body = progress(body) or (None, body)
        if instance is None:
            await self._relay.plain(call, "POST", call.route.endpoint, body, send)
        elif (backend := call.route.instances.get(instance)) is None:
            await accept(call, send)  # the call that asked has ended with its instance
        else:
            await self._relay.deliver(call, backend, body, send)

    async def _answer_ended(self, call: GateCall, send: Send) -> None:
        """Answer a call whose task was cancelled: by this gate, or because its process stops."""
        is_ours = call.client_left or call.expired or call.cancelled or call.ended is not None
        if call.task is None or not is_ours:
            call.line.outcome = "cut"  # the process stops
            raise asyncio.CancelledError
        call.task.uncancel()
        error = call.ended
        if error is not None:
            call.line.outcome = "revoked" if error.status in (401, 403) else "cancelled" if call.detached_at else "cut"
        elif call.client_left or (call.is_stream and call.stream is not None):
            call.line.outcome = "ok" if call.is_stream else "cancelled"
        elif call.cancelled:
            call.line.outcome, error = "cancelled", RpcError(REQUEST_CANCELLED, "Request cancelled", status=200)
        else:
            call.line.outcome = "cut"
            error = RpcError(REFUSED, f"The app {call.route.name!r} did not answer in time.", status=504)
        if call.stream is not None and call.line.method == "GET":
            if error is not None:
                await call.stream.remark(error.message)
            await call.stream.close()
        elif error is not None and (call.stream is not None or not call.line.status):
            await refuse_call(call, send, error)
        elif call.stream is not None and call.is_stream:
            if call.expired and call.request_id is not None:
                await call.stream.event(listen_result(call.request_id))
            await call.stream.close()
        else:
            cut_short(send)

    def _finish(self, call: GateCall) -> None:
        """Complete the line of the call, count it and record it."""
        line, seconds = call.line, perf_counter() - call.started
        line.method, line.name = line.method[:_LONGEST_TEXT], line.name[:_LONGEST_TEXT]  # the client has chosen them
        self._metrics.observe(line.app, line.method, line.name, seconds, failed=line.outcome not in SUCCESSES)
        line.time = now()
        line.ms = int(seconds * 1_000_000) / 1000
        if call.backend is not None:
            line.instance = call.backend.instance.id
        self._record.add(line)


def _count_as_stream(call: GateCall) -> None:
    """Count a long-lived stream as a stream instead of a call. Raises RpcError (503) over the app's limit."""
    route = call.route
    call.is_stream = True
    route.calls.give(call.holder)
    route.streams.take(call.holder)
    if not route.streams.admits(call.holder, route.limits.streams):
        raise RpcError(REFUSED, f"The app {route.name!r} has reached its limit of open streams.", status=503)


async def _answer(call: GateCall, send: Send, reply: bytes) -> None:
    """Answer with a result of the gate's own."""
    call.line.status, call.line.bytes_out = 200, len(reply)
    if call.stream is not None:  # of a question
        await call.stream.event(reply)
        await call.stream.close()
    else:
        await send_bytes(send, 200, reply, [JSON, call.identity])
