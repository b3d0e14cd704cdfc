"""Opens the session of a foreign server again: the server keeps it in one instance, and the client's outlives that.

At an instance, a session is in one of two states:

    unknown → open    the instance got the client's `initialize` again, notifications/initialized, and the log level and
                      subscriptions that the client has set since; the first instance, the client's own `initialize`
    open → unknown    the instance answers that it does not know the session

If an instance does not open it, or only in another protocol version, the session has ended: 404, upon which the client
initializes a new one. A session's id holds its `initialize` (`session_ids`). The rest is kept here, and lost when the
gate is killed: then the session is opened without log level and subscriptions.
"""

import asyncio
from time import monotonic

import msgspec
from msgspec import UNSET, UnsetType

from portway.host.gate.gate_call import GateCall
from portway.host.gate.ids import is_reply, params_of
from portway.host.gate.routing import Backend
from portway.host.gate.session_ids import Session, SessionIds, has_ended, is_session_id
from portway.http.asgi import Headers
from portway.http.event_stream import EventParser
from portway.http.http_client import BrokenResponse, Response
from portway.protocol.errors import RpcError
from portway.protocol.headers import SESSION, VERSION
from portway.protocol.jsonrpc import UNREADABLE, Message, encode_notification, encode_request

SETTINGS = frozenset(("logging/setLevel", "resources/subscribe", "resources/unsubscribe"))
_MOST = 10_000  # sessions with something to keep; the one that was unused for longest is forgotten
_MOST_BYTES = 16 * 1024 * 1024  # of the settings of all of them
_MOST_BYTES_EACH = 65_536  # a session with more is not opened again
_IDLE_SECONDS = 86_400.0
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


class _Record:
    """What the gate knows of a session beyond its id."""

    def __init__(self, session: Session) -> None:
        self.instance = session.instance  # where its calls go
        self.upstreams = {session.instance: session.upstream}  # its id at each instance; empty if the server has none
        self.settings: dict[str, bytes] = {}  # requests: by URI the subscriptions, by "" the log level
        self.is_whole = True
        self.used = 0.0
        self.opening = asyncio.Lock()

    @property
    def size(self) -> int:
        return sum(map(len, self.settings.values()))


class ForeignSessions:
    """Opens sessions where they are not open yet. Keeps a bounded number of records, of a bounded size."""

    def __init__(self, session_ids: SessionIds) -> None:
        self._session_ids = session_ids
        self._records: dict[bytes, _Record] = {}  # by the client's id; the one that was unused for longest first
        self._bytes = 0

    def instance(self, session: Session) -> str:
        """Return the instance that has the session's calls."""
        record = self._records.get(session.token)
        return session.instance if record is None else record.instance

    def is_open(self, session: Session, backend: Backend) -> bool:
        """Whether the session is open at an instance."""
        return self._upstream(session, backend) is not None

    def enter(self, call: GateCall, session: Session, backend: Backend) -> bool:
        """Give the call's headers the instance's own id of the session; return False where it is not open."""
        upstream = self._upstream(session, backend)
        if upstream is None:
            return False
        call.headers = [item for item in call.headers if item[0] != SESSION]
        if upstream:
            call.headers.append((SESSION, upstream))
        return True

    async def request(
        self, call: GateCall, backend: Backend, method: str, target: str, body: bytes, *, repeatable: bool
    ) -> Response:
        """Send a request in the call's session, which is opened first where it is not open.

        If the instance does not know the session, open it and send the request again. Raises `UpstreamError`, and
        RpcError (404) when the session has ended.
        """
        session = call.session
        assert session is not None
        for _ in range(2):
            if not self.enter(call, session, backend):
                await self._open(call, session, backend)
            sent = dict(call.headers).get(SESSION, b"")
            response = await backend.client.request(method, target, call.headers, body, repeatable=repeatable)
            if not sent or not await _is_unknown(method, response):
                return response
            await response.close()
            record = self._record(session)
            if record.upstreams.get(backend.instance.id) == sent:
                del record.upstreams[backend.instance.id]
            if method == "DELETE":
                break
        raise self._ended(session)

    def note(self, session: Session, message: Message, body: bytes) -> None:
        """Keep a setting that the instance has accepted."""
        record = self._record(session)
        uri = "" if message.params is UNSET or message.params.uri is UNSET else message.params.uri
        self._bytes -= record.size
        record.settings.pop(uri, None)
        if message.method is not UNSET and message.method != "resources/unsubscribe":
            record.settings[uri] = encode_request(_ID, message.method, params_of(body))
        if record.size > _MOST_BYTES_EACH:
            record.settings.clear()
            record.is_whole = False
        self._bytes += record.size
        self._forget_oldest()

    def end(self, session: Session) -> None:
        """Forget a session that has ended."""
        record = self._records.pop(session.token, None)
        if record is not None:
            self._bytes -= record.size

    def _record(self, session: Session) -> _Record:
        record = self._records.pop(session.token, None) or _Record(session)
        record.used = monotonic()
        self._records[session.token] = record
        self._forget_oldest()
        return record

    def _forget_oldest(self) -> None:
        while self._records:
            token = next(iter(self._records))
            record = self._records[token]
            is_idle = monotonic() - record.used > _IDLE_SECONDS
            if not is_idle and len(self._records) <= _MOST and self._bytes <= _MOST_BYTES:
                return
            del self._records[token]
            self._bytes -= record.size

    def _upstream(self, session: Session, backend: Backend) -> bytes | None:
        record, instance = self._records.get(session.token), backend.instance.id
        if record is not None:
            return record.upstreams.get(instance)
        return session.upstream if instance == session.instance else None

    async def _open(self, call: GateCall, session: Session, backend: Backend) -> None:
        """Open the session at `backend` and enter it; several calls wait for the first of them to do so."""
        record = self._record(session)
        async with record.opening:
            if self.enter(call, session, backend):
                return
            if not record.is_whole:
                raise self._ended(session)
            try:
                async with asyncio.timeout(_OPEN_SECONDS):
                    upstream = await self._initialize(call, session, backend, record)
            except TimeoutError:
                raise BrokenResponse("it did not open the session again in time") from None
            if upstream is None:
                return
            kept = {each: known for each, known in record.upstreams.items() if each in call.route.instances}
            record.upstreams = kept | {backend.instance.id: upstream}
            record.instance = backend.instance.id
            self.enter(call, session, backend)

    async def _initialize(self, call: GateCall, session: Session, backend: Backend, record: _Record) -> bytes | None:
        """Open the session and send its settings again; None when the server refuses the caller, as it will the call.

        Raises `UpstreamError` when the server fails, RpcError when it does not open the session.
        """
        headers = [item for item in call.headers if item[0] not in _OF_THE_CALL] + _OF_OPENING
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
        for body in (_INITIALIZED, *record.settings.values()):
            await _ask(call, backend, headers, body)
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
