"""A call to its instance and the reply back, ids exchanged, headers scrubbed, streams unbuffered."""

import asyncio
import contextlib

from portway.host.gate.call import Call
from portway.host.gate.envelope import readdress, restore
from portway.host.gate.routing import Backend
from portway.http.asgi import Headers, Send
from portway.http.client import BrokenResponse, ConnectFailed, Response, UpstreamError
from portway.http.reply import EventStream, send_bytes
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.sse import EventParser

_START_SECONDS = 10.0  # a call waits for an app that is being started
_RETRY_SECONDS = 0.5  # between tries, when no change of the table says that there is reason for one
KEEP_ALIVE = 15.0  # seconds of silence after which a stream gets a comment
REPLY_BYTES = 16 * 1024 * 1024  # a reply that is one JSON message, or one event

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
# Of one connection (RFC 9110 section 7.6.1), or remade by whoever sends the message on.
_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade content-length".split()
)
# Never passed on: the caller's credentials, which end here, and what the gate alone may say.
_ENDS_HERE = _HOP | frozenset(
    b"authorization cookie host expect forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip "
    b"x-request-id".split()
)
_STAYS_THERE = _HOP | frozenset((b"set-cookie", b"x-request-id", b"server", b"date"))
_KNOWN_NAMES = 1024
_OF_STREAMS = (b"content-type", b"cache-control", b"x-accel-buffering")  # written by EventStream


class _Passes(dict[bytes, bool]):
    """Whether a header of that name is passed on; worked out once for each name, for a bounded number of them."""

    def __missing__(self, name: bytes) -> bool:
        passes = name not in _ENDS_HERE and not name.startswith(b"portway-")
        if len(self) < _KNOWN_NAMES:
            self[name] = passes
        return passes


_passes = _Passes()


def forwarded(headers: Headers, fields: dict[bytes, bytes], call: Call, scheme: bytes) -> Headers:
    """The client's headers as the instance gets them."""
    kept = [item for item in headers if _passes[item[0]]]
    connection = fields.get(b"connection")
    if connection is not None and connection not in (b"keep-alive", b"close"):
        named = {name.strip().lower() for name in connection.split(b",")}
        kept = [item for item in kept if item[0] not in named]
    kept += (
        call.caller.header,
        (b"x-forwarded-host", fields[b"host"]),
        (b"x-forwarded-proto", scheme),
        (b"x-request-id", call.line.request.encode()),
    )
    return kept


class Relay:
    """Sends requests to instances and replies to clients. RpcError: what failed, for the client to be told."""

    async def call(self, call: Call, headers: Headers, body: bytes, request_id: int | str, send: Send) -> None:
        """Proxy a JSON-RPC request; the reply is JSON or a stream, as the instance chose."""
        fresh, body = readdress(body, call.line.method)
        response = await _request(call, "POST", "/mcp", headers, body, repeatable=call.line.method in _REPEATABLE)
        try:
            content_type, kept = _reply_headers(response, call)
            if content_type.startswith(b"text/event-stream"):
                await _stream(call, response, (fresh, request_id), send, kept)
                return
            reply = await response.read(REPLY_BYTES)
            if content_type.startswith(b"application/json") and reply:
                restored = restore(reply, fresh, request_id)
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
            if not response.complete:
                await response.close()
        call.line.status, call.line.bytes_out = response.status, len(reply)
        await send_bytes(send, response.status, reply, kept)

    async def plain(self, call: Call, method: str, target: str, headers: Headers, body: bytes, send: Send) -> None:
        """Proxy a request that no JSON-RPC reply follows, as it is, with the reply streamed."""
        response = await _request(call, method, target, headers, body, repeatable=method in ("GET", "HEAD", "OPTIONS"))
        call.line.outcome, call.line.status = (
            ("ok" if response.status < 400 else f"status {response.status}"),
            response.status,
        )
        _, kept = _reply_headers(response, call)
        kept += [item for item in response.headers if item[0] == b"content-length"]
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


async def _request(
    call: Call, method: str, target: str, headers: Headers, body: bytes, *, repeatable: bool
) -> Response:
    """Send the request to the least busy instance; to another only when the first could not be reached at all.

    While none can be, wait for the next: the table names an instance that has died until control has seen its end.
    """
    route, tried, until = call.route, list[Backend](), 0.0
    while True:
        while (backend := route.pick(tried)) is not None:
            backend.in_flight += 1
            call.backend = backend
            try:
                return await backend.client.request(method, target, headers, body, repeatable=repeatable)
            except ConnectFailed:
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


async def _stream(call: Call, response: Response, ids: tuple[int, int | str], send: Send, headers: Headers) -> None:
    """Pass on events as they come, until the one that is the reply."""
    call.stream = stream = EventStream(send, KEEP_ALIVE, [item for item in headers if item[0] not in _OF_STREAMS])
    call.line.status = response.status
    fresh, request_id = ids
    marker, parser, final = b"%d" % fresh, EventParser(REPLY_BYTES), False
    await stream.comment()  # the client sees the head now, not with the first event
    async for chunk in response.chunks():
        call.heard(0)
        try:
            events = parser.feed(chunk)
        except ValueError as error:
            raise BrokenResponse(str(error)) from None
        for event in events:
            data = event.replace(b"\n", b" ")  # JSON on several data lines
            restored = restore(data, fresh, request_id) if marker in data else None
            if restored is not None:
                data, call.line.outcome = restored
                final = True
            call.line.bytes_out += len(data)
            await stream.event(data)
            if final:
                await stream.close()
                return
    raise BrokenResponse("its stream ended without the reply")


def _reply_headers(response: Response, call: Call) -> tuple[bytes, Headers]:
    """The type of a reply, and the headers to pass on."""
    content_type = b""
    kept = [(b"x-request-id", call.line.request.encode())]
    for item in response.headers:
        if item[0] not in _STAYS_THERE:
            kept.append(item)
            if item[0] == b"content-type":
                content_type = item[1].lower()
    return content_type, kept


def _cut(call: Call, error: UpstreamError) -> RpcError:
    call.line.outcome = "cut"
    return RpcError(REFUSED, f"The app {call.route.name!r} did not answer properly: {error}.", status=503)
