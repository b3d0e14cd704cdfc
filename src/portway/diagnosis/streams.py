"""Diagnoses sessions (are they known on every connection), event streams (buffered, cut when idle) and versions."""

import asyncio
import time
from dataclasses import dataclass

import msgspec

from portway.counted import counted
from portway.diagnosis.endpoint import Answer, Endpoint, NoAnswer, legacy_headers, modern_request
from portway.diagnosis.report import Report
from portway.http.http_client import Response, UpstreamError

_CALLS = 8  # in one session, each on a connection of its own
_BEGIN_SECONDS = 5.0  # for the begin of a stream, which no server needs to wait with
_SHOWN = 200  # characters that are quoted of a server
_BUFFERING = (
    "turn buffering off for this path: in nginx `proxy_buffering off` and `gzip off`, in others let responses of the "
    "type text/event-stream pass as they come"
)


@dataclass(frozen=True, slots=True)
class Session:
    """An open legacy session; `id` is empty for a server without sessions."""

    id: bytes
    version: str


class _Opened(msgspec.Struct, rename="camel"):
    protocol_version: str = ""
    capabilities: dict[str, object] = {}


async def open_session(endpoint: Endpoint, first: Answer, report: Report) -> Session:
    """End the handshake that `first` has begun. Raises `NoAnswer`."""
    try:
        opened = msgspec.convert(first.result(), _Opened)
    except msgspec.ValidationError:
        opened = _Opened()
    session = Session(first.session, opened.protocol_version)
    answer = await endpoint.notify("notifications/initialized", session.id, session.version)
    if answer.status not in (200, 202, 204):
        report.finding(
            "protocol",
            f"the notification that ends the handshake is answered with status {answer.status}: {answer.said()}",
            "answer notifications with 202 and no body",
        )
    return session


async def look_at_session(endpoint: Endpoint, session: Session, report: Report) -> None:
    """See that a session is known on every connection. Raises `NoAnswer`."""
    if not session.id:
        report.fact("session", "there are none: every request stands alone")
        return
    answers = [await endpoint.call("ping", {}, session.id, session.version) for _ in range(_CALLS)]
    lost = [answer for answer in answers if answer.status in (400, 401, 403, 404)]
    if lost:
        report.finding(
            "session",
            f"a session was refused in {len(lost)} of {_CALLS} calls (status {lost[0].status}): it is known to one "
            "process only, and others get its calls",
            "send the calls of a session to the process that has it (by the header Mcp-Session-Id), or make the server "
            "stateless",
        )
    else:
        report.fact("session", f"it is known on {_CALLS} of {_CALLS} connections")


async def look_at_stream(endpoint: Endpoint, session: Session | None, idle_seconds: float, report: Report) -> None:
    """See that a stream begins at once and is not cut while nothing is said; `session` is None in the modern era."""
    headers, body = modern_request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    if session is not None:
        headers, body = [(b"accept", b"text/event-stream"), *legacy_headers(session.id, session.version)[1:]], b""
    began = asyncio.timeout(_BEGIN_SECONDS)
    try:
        async with began, endpoint.open("GET" if session else "POST", headers, body) as response:
            if response.status != 200 or not response.header(b"content-type").startswith(b"text/event-stream"):
                report.fact("streams", "the server offers none outside of calls")
                return
            if session is None and not response.pending:
                await response.more()  # the first event says that the server listens
            began.reschedule(None)
            await _look_at_open_stream(response, idle_seconds, report)
    except (TimeoutError, NoAnswer):
        report.finding(
            "streams",
            f"an event stream does not begin within {_BEGIN_SECONDS:g} s, while calls are answered: something in "
            "between holds it back",
            _BUFFERING,
        )


async def _look_at_open_stream(response: Response, idle_seconds: float, report: Report) -> None:
    if coding := response.header(b"content-encoding"):
        report.finding(
            "streams", f"event streams are compressed ({coding.decode('latin-1')}), and so held back", _BUFFERING
        )
    began, events = time.monotonic(), 0
    try:
        async with asyncio.timeout(idle_seconds):
            async for _ in response.chunks():
                events += 1
    except TimeoutError:
        told = f", and something was sent {counted(events, 'time')}" if events else ", in silence"
        report.fact("streams", f"one stayed open for {idle_seconds:g} s{told}")
        return
    except UpstreamError:
        pass
    report.finding(
        "streams",
        f"an event stream was cut after {time.monotonic() - began:.0f} s",
        "raise the idle time-out of what is in between (nginx: `proxy_read_timeout`), or let the server send a comment "
        "more often",
    )


async def look_at_versions(endpoint: Endpoint, legacy: Answer, modern: Answer, report: Report) -> None:
    """Say which eras and versions the endpoint speaks. Raises `NoAnswer`."""
    eras = []
    if modern.is_result:
        supported = modern.result().get("supportedVersions")
        names = [str(each) for each in supported] if isinstance(supported, list) else []
        eras.append(f"modern ({', '.join(names)[:_SHOWN]})")
    if legacy.is_result:
        eras.append(f"legacy ({str(legacy.result().get('protocolVersion', 'no version'))[:_SHOWN]})")
    report.fact("protocol", f"it speaks the era {' and '.join(eras)}")
    if not legacy.is_result:
        report.finding(
            "protocol",
            f"`initialize` is refused: {legacy.said()}; clients of before 2026-07-28 cannot connect",
            "let the server take both eras, as the current SDKs do",
        )
    for name, answer in (("initialize", legacy), ("server/discover", modern)):
        if answer.is_result and not isinstance(answer.result().get("capabilities"), dict):
            report.finding(
                "protocol", f"the answer to `{name}` has no capabilities", "name what the server offers there"
            )
