"""Bodies of requests and event streams, over a real listener."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from portway.http.event_stream import EventStream
from portway.http.request_body import BodyTooLarge, ClientDisconnected, read_body
from portway.http.response import send_bytes
from tests.http.running_listener import read_all, read_until

if TYPE_CHECKING:
    from portway.http.asgi import Message, Receive, Scope, Send


async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    try:
        body = await read_body(dict(scope["headers"]).get(b"content-length"), receive, 10)
    except BodyTooLarge:
        await send_bytes(send, 413, b"", [])
    else:
        await send_bytes(send, 200, body, [])


@pytest.mark.parametrize(
    ("framing", "body", "status"),
    [
        (b"Content-Length: 10", b"0123456789", b"200"),
        (b"Content-Length: 11", b"", b"413"),
        (b"Content-Length: 99999999999999999999", b"", b"4"),
        (b"Transfer-Encoding: chunked", b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", b"200"),
        (b"Transfer-Encoding: chunked", b"5\r\n01234\r\n6\r\n567890\r\n", b"413"),
    ],
)
def test_a_body_is_read_up_to_the_limit_and_refused_beyond_it(
    listen, framing: bytes, body: bytes, status: bytes
) -> None:
    answer = listen(bounded).talk(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n\r\n%b" % (framing, body))
    assert answer.startswith(b"HTTP/1.1 " + status), answer


def test_a_client_that_leaves_during_its_body_is_not_taken_for_an_empty_body() -> None:
    async def receive() -> Message:
        return messages.pop(0)

    messages: list[Message] = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"}]
    with pytest.raises(ClientDisconnected):
        asyncio.run(read_body(None, receive, 10))


def test_events_arrive_as_they_are_sent_and_a_silent_stream_gets_comments(
    listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portway.http.event_stream.KEEP_ALIVE", 0.02)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await receive()
        stream = EventStream(send, extra_headers=[(b"x-extra", b"1")])
        assert not stream.opened
        await stream.event(b'{"n":1}')
        await receive()  # until the client leaves
        await stream.close()

    with listen(app).connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        got = read_until(sock, b":\n\n")
        assert b"content-type: text/event-stream\r\n" in got
        assert b"cache-control: no-store\r\nx-accel-buffering: no\r\nx-extra: 1\r\n" in got
        assert b'data: {"n":1}\n\n' in got
        read_until(sock, b":\n\n")


def test_a_closed_stream_ends_the_response_and_refuses_events(listen) -> None:
    failures: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        stream = EventStream(send)
        with pytest.raises(ValueError, match="one line"):
            await stream.event(b"two\nlines")
        await stream.comment()
        await stream.close()
        await stream.close()
        try:
            await stream.event(b"late")
        except RuntimeError as error:
            failures.append(str(error))

    listener = listen(app)
    with listener.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(sock).endswith(b":\n\n\r\n0\r\n\r\n")
    listener.stop()
    listener.join()
    assert failures == ["the event stream is closed"]
