"""Opens a session again at the instance that serves it next, after a deploy or a crash: `initialize`, log level and
subscriptions.

At an instance, a session is in one of two states:

    unknown → open    a server of Portway's takes the session's id, and gets the log level and the subscriptions that
                      the client has set. A foreign one first gets the client's `initialize` again, and
                      notifications/initialized. At the first instance it was the client that sent them
    open → unknown    a foreign instance answers that it does not know the session

If a foreign instance does not open it, or only in another protocol version, the session has ended: 404, upon which the
client initializes a new one. The `initialize` is in the session's id (`session_ids`), the rest in `session_records`.
"""

import asyncio

import msgspec
from msgspec import UNSET, UnsetType

from portway.host.gate.gate_call import GateCall
from portway.host.gate.request_ids import is_reply, params_of
from portway.host.gate.routing import Backend
from portway.host.gate.session_ids import Session, SessionIds, has_ended, is_session_id
from portway.host.gate.session_records import SessionRecord, SessionRecords
from portway.http.asgi import Headers
from portway.http.event_stream import EventParser
from portway.http.http_client import BrokenResponse, Response
from portway.protocol.errors import RpcError
from portway.protocol.headers import SESSION, VERSION
from portway.protocol.jsonrpc import UNREADABLE, Message, encode_notification, encode_request

SETTINGS = frozenset(("logging/setLevel", "resources/subscribe", "resources/unsubscribe"))
_OPEN_SECONDS = 30.0
_REPLY_BYTES = 1024 * 1024
_ID = "portway.open"
_INITIALIZED = encode_notification("notifications/initialized", b"{}")
_OF_THE_CALL = frozenset((b"accept", b"content-type", b"last-event-id", SESSION, VERSION))
_OF_OPENING = [(b"accept", b"application/json, text/event-stream"), (b"content-type", b"application/json")]


class _Initialized(msgspec.Struct):
    version: str = msgspec.field(name="protocolVersion")


class _Opened(msgspec.Struct):
    result: _Initialized | UnsetType = UNSET


_opened = msgspec.json.Decoder(_Opened).decode


class MovedSessions:
    """Opens sessions at the instances where they are not open yet."""

    def __init__(self, session_ids: SessionIds, records: SessionRecords) -> None:
        self._session_ids = session_ids
        self._records = records

    def instance(self, session: Session) -> str:
        """Return the instance that has the session's calls."""
        record = self._records.get(session)
        return session.instance if record is None else record.instance

    def is_open(self, session: Session, backend: Backend) -> bool:
        """Whether the session is open at an instance."""
        return self._upstream(session, backend) is not None

    def enter(self, call: GateCall, session: Session, backend: Backend) -> bool:
        """Give the call's headers the instance's own id of the session; return False where it is not open."""
        upstream = self._upstream(session, backend)
        if upstream is None:
            return False
        if session.opening:
            call.headers = [item for item in call.headers if item[0] != SESSION]
            if upstream:
                call.headers.append((SESSION, upstream))
        return True

    async def request(
        self, call: GateCall, backend: Backend, method: str, target: str, body: bytes, *, repeatable: bool
    ) -> Response:
        """Send a request in the call's session, which is opened first where it is not open.

        If a foreign instance does not know the session, open it and send the request again. Raises `UpstreamError`,
        and RpcError (404) when the session has ended.
        """
        session = call.session
        assert session is not None
        needs_all = session.opening or (method != "DELETE" and call.route.takes_sessions(backend))
        for _ in range(2):
            if not self.enter(call, session, backend) and needs_all:
                await self._open(call, session, backend)
            sent = dict(call.headers).get(SESSION, b"")
            response = await backend.client.request(method, target, call.headers, body, repeatable=repeatable)
            if not session.opening or not sent or not await _is_unknown(method, response):
                return response
            await response.close()
            record = self._records.of(session, session.instance)
            if record.upstreams.get(backend.instance.id) == sent:
                del record.upstreams[backend.instance.id]
            if method == "DELETE":
                break
        raise self._ended(session)

    def note(self, call: GateCall, message: Message, body: bytes) -> None:
        """Keep a setting that the call's instance has accepted."""
        session, backend, method = call.session, call.backend, message.method
        assert session is not None
        assert backend is not None
        upstream = self._upstream(session, backend)
        if upstream is None or method is UNSET:  # it has ended meanwhile
            return
        name = "" if message.params is UNSET or message.params.uri is UNSET else message.params.uri
        request = b"" if method == "resources/unsubscribe" else encode_request(_ID, method, params_of(body))
        self._records.note(session, backend.instance.id, upstream, {name: request.decode()})

    def end(self, session: Session) -> None:
        """Forget a session that has ended."""
        self._records.end(session)

    def _upstream(self, session: Session, backend: Backend) -> bytes | None:
        """Return the id of a session at an instance, None where it is not open.

        It is empty if the server has none, or is Portway's and takes the one in the client's id.
        """
        record, instance = self._records.get(session), backend.instance.id
        if record is not None:
            return record.upstreams.get(instance)
        if not session.opening:
            return b""
        return session.upstream if instance == session.instance else None

    async def _open(self, call: GateCall, session: Session, backend: Backend) -> None:
        """Open the session at `backend` and enter it; several calls wait for the first of them to do so."""
        record = self._records.of(session, session.instance)
        async with record.opening:
            if self.enter(call, session, backend):
                return
            if not record.is_whole:
                raise self._ended(session)
            try:
                async with asyncio.timeout(_OPEN_SECONDS):
                    upstream = await self._open_again(call, session, backend, record)
            except TimeoutError:
                raise BrokenResponse("it did not open the session again in time") from None
            if upstream is None:
                return
            known = call.route.instances
            record.upstreams = {each: upstream for each, upstream in record.upstreams.items() if each in known}
            self._records.note(session, backend.instance.id, upstream)
            self.enter(call, session, backend)

    async def _open_again(
        self, call: GateCall, session: Session, backend: Backend, record: SessionRecord
    ) -> bytes | None:
        """Return the instance's id of the session, which then has its settings; None when it refuses the caller.

        It will refuse the call, too. Raises `UpstreamError` when the server fails, RpcError when it does not open the
        session.
        """
        headers = [item for item in call.headers if item[0] not in _OF_THE_CALL] + _OF_OPENING
        upstream = b""
        if not session.opening:
            headers += [item for item in call.headers if item[0] in (SESSION, VERSION)]
        elif (opened := await self._initialize(call, session, backend, headers)) is None:
            return None
        else:
            upstream = opened
        policies, scopes = call.route.policies, call.caller.scopes
        for uri, body in [*record.settings.items()]:
            if (
                policies is not None
                and uri
                and (policies.fault(uri) or not policies.of("resource", uri).scopes <= scopes)
            ):
                continue  # the caller may not watch it any more
            response, _ = await _ask(call, backend, headers, body.encode())
            if response.status in (401, 403):
                return None
        return upstream

    async def _initialize(self, call: GateCall, session: Session, backend: Backend, headers: Headers) -> bytes | None:
        """Send the client's `initialize`, and add to `headers` what follows from the reply; return as `_open_again`."""
        response, message = await _ask(call, backend, headers, encode_request(_ID, "initialize", session.opening))
        if response.status in (401, 403):
            return None
        if response.status >= 500:
            raise BrokenResponse(f"it answers initialize with status {response.status}")
        try:
            opened = _opened(message).result
        except UNREADABLE:
            opened = UNSET
        version, upstream = dict(call.headers).get(VERSION), response.header(SESSION)
        if opened is UNSET or version not in (None, opened.version.encode()):
            raise self._ended(session)
        headers.append((VERSION, opened.version.encode()))
        if is_session_id(upstream):
            headers.append((SESSION, upstream))
        else:
            upstream = b""
        await _ask(call, backend, headers, _INITIALIZED)
        return upstream

    def _ended(self, session: Session) -> RpcError:
        self.end(session)
        self._session_ids.end(session)
        return has_ended()


async def _ask(call: GateCall, backend: Backend, headers: Headers, body: bytes) -> tuple[Response, bytes]:
    """Send one message; return the response and the reply in it, empty if there is none. Raises `UpstreamError`."""
    response = await backend.client.request("POST", call.route.endpoint, headers, body, repeatable=True)
    if not response.header(b"content-type").lower().startswith(b"text/event-stream"):
        return response, await response.read(_REPLY_BYTES)
    parser = EventParser(_REPLY_BYTES)
    try:
        async for chunk in response.chunks():
            for event in parser.feed(chunk):
                if event.data and is_reply(event.data):
                    return response, event.data
    except UNREADABLE as error:
        raise BrokenResponse(str(error)) from None
    finally:
        await response.close()
    return response, b""


async def _is_unknown(method: str, response: Response) -> bool:
    """Whether an instance refuses a request because it does not know the session; its body can still be read.

    The specification asks for 404. Common servers answer 400, and 404 also to a method that they do not have.
    """
    if response.status not in (400, 404):
        return False
    text = (await response.peek(_REPLY_BYTES)).lower()
    if b"session" in text or b"not initialized" in text:
        return True
    return response.status == 404 and method == "POST" and b"-32601" not in text
