"""The gate between real sockets: who may call, what reaches an instance, and what comes back."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from portway.host.gate.forwarded_headers import _Passes
from tests.gate.running_gate import STREAM, Seen, Upstream, call, echo, event, modern, reply, result, rig

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from portway.http.http_client import Response


def run(test: Coroutine[object, object, None]) -> None:
    asyncio.run(test)


def test_eight_callers_with_one_id_each_get_their_own_answer(tmp_path: Path) -> None:
    async def test() -> None:
        barrier = asyncio.Barrier(8)

        async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await barrier.wait()
            await echo(seen, writer)

        upstream = Upstream(held)
        async with rig(tmp_path, upstream) as gate:
            answers = await asyncio.gather(*(gate.answer(call(1, n=number)) for number in range(8)))
        assert [body["result"]["echo"]["arguments"] for _, body in answers] == [{"n": number} for number in range(8)]
        assert {body["id"] for _, body in answers} == {1}
        assert len({seen.message["id"] for seen in upstream.requests}) == 8

    run(test())


@pytest.mark.parametrize("request_id", [0, -1, 2**53, "", 'é"\\', "1"])
def test_the_id_comes_back_with_its_type_and_the_params_go_in_unchanged(tmp_path: Path, request_id: object) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            params = b'{"name":"t", "arguments":{"id":7,"x":1.50,"\\u0069d":8},"_meta":{"progressToken":"p"}}'
            body = b'{"method":"tools/call","id":%b,"params":%b,"jsonrpc":"2.0"}' % (
                json.dumps(request_id).encode(),
                params,
            )
            _, answer = await gate.answer(body)
        assert answer["id"] == request_id
        assert type(answer["id"]) is type(request_id)
        assert upstream.requests[0].body.endswith(b',"params":%b}' % params)

    run(test())


def test_an_app_that_needs_a_token_and_one_that_does_not_exist_refuse_with_the_same_bytes(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            seen, ids = dict[bytes, set[Any]](), set()

            async def note(response: Response) -> None:
                headers = dict(response.headers)
                ids.add(headers.pop(b"x-request-id"))
                found = seen.setdefault(headers[b"www-authenticate"], set())
                found.add((response.status, tuple(headers.items()), await response.read(1000)))

            for path, token in (
                ("/a/mcp", ""),
                ("/a/mcp", "wrong"),
                ("/nope/mcp", ""),
                ("/nope/mcp", "secret"),
                ("/nope/mcp", "wrong"),
                ("/a/mcp?token=secret", ""),
            ):
                await note(await gate.post(call(), path=path, token=token))
            for method in ("GET", "DELETE"):
                await note(await gate.client.request(method, "/nope/mcp"))
                await note(await gate.client.request(method, "/a/mcp"))
            assert len(ids) == 10
            assert seen.keys() == {b"Bearer", b'Bearer error="invalid_token"'}
            for found in seen.values():
                ((status, _, _),) = found
                assert status == 401
            assert (await gate.answer(call(), path="/p/mcp", token=""))[0] == 200
            assert (await gate.answer(call(), path="/p/mcp", token="wrong"))[0] == 200
            assert len(upstream.requests) == 2

    run(test())


def test_credentials_end_at_the_gate_and_only_the_gate_says_who_calls(tmp_path: Path) -> None:
    async def test() -> None:
        async def with_cookie(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(result(seen, {}).replace(b"\r\n", b"\r\nset-cookie: a=b\r\ncache-control: no-store\r\n", 1))

        upstream = Upstream(with_cookie)
        hostile = [
            (b"cookie", b"session=1"),
            (b"portway-caller", b"forged"),
            (b"portway-x", b"y"),
            (b"x-forwarded-host", b"evil"),
            (b"x-request-id", b"mine"),
            (b"origin", b"http://localhost:6274"),
            (b"proxy-authorization", b"Basic x"),
            (b"x-fine", b"kept"),
        ]
        async with rig(tmp_path, upstream) as gate:
            response = await gate.post(call(), *hostile)
            names = {name for name, _ in response.headers}
            got = upstream.requests[0]
        assert {b"cache-control", b"x-request-id", b"content-type"} <= names
        assert b"set-cookie" not in names
        assert b"secret" not in got.head + got.body
        assert got.head.lower().count(b"portway-caller") == 1
        assert not {"authorization", "cookie", "origin", "portway-x", "proxy-authorization"} & got.headers.keys()
        assert (got.headers["x-fine"], got.headers["x-forwarded-proto"]) == ("kept", "http")
        assert (got.headers["x-forwarded-host"], got.headers["x-forwarded-for"]) == (gate.client.authority, "127.0.0.1")
        assert got.headers["x-request-id"] != "mine"
        caller = json.loads(base64.urlsafe_b64decode(got.headers["portway-caller"]))
        assert caller == {"issuer": "portway", "subject": "alice", "client": "alice", "scopes": ["read", "write"]}

    run(test())


HOP = ("keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade")
ENDS_HERE = (
    "cookie",
    "expect",
    "forwarded",
    "portway-any",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x_request_id",
    "mcp_session_id",
    "mcp-session_id",
    "mcp_protocol_version",
    "mcp_name",
    "last_event_id",
    "content_type",
    "content_encoding",
)


def test_an_instance_gets_no_header_of_the_connection_or_of_another_proxy(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            named = [
                (name.encode(), b"planted") for name in (*HOP, *ENDS_HERE, "x-mine", "last-event-id", "x-of-connection")
            ]
            named += [(b"x-forwarded-proto", b"gopher"), (b"x-request-id", b"planted")]
            await (await gate.post(call(), (b"connection", b"x-first,X-Of-Connection , x-other"), *named)).read(999)
            await (await gate.post(call(), (b"x-of-connection", b"planted"))).read(999)
            first, second = ({name for name, _ in seen.headers.items()} for seen in upstream.requests)
            assert upstream.requests[0].head.count(b"planted") == 2, "x-mine and last-event-id"
            assert upstream.requests[0].head.lower().count(b"\r\nhost:") == 1
            assert b"gopher" not in upstream.requests[0].head
        own = {"host", "content-type", "content-length", "portway-caller", "x-request-id"}
        own |= {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}
        assert (first - {"accept-encoding", "accept"}, second - {"accept-encoding", "accept"}) == (
            own | {"x-mine", "last-event-id"},
            own | {"x-of-connection"},
        )

    run(test())


def test_a_body_in_chunks_reaches_the_instance_with_its_length_alone(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(gate.url.rpartition(":")[2]))
            head = b"POST /p/mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            head += b"accept: application/json, text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            writer.write(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(call()), call()))
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
        assert upstream.requests[0].headers["content-length"] == str(len(upstream.requests[0].body))
        assert "transfer-encoding" not in upstream.requests[0].headers

    run(test())


def test_the_names_of_headers_that_are_remembered_are_bounded() -> None:
    passes = _Passes()
    for number in range(2000):
        assert passes[b"x-%d" % number]
    assert len(passes) == 1024


OF_ENDPOINT = {"allow", "cache-control", "content-encoding", "mcp-protocol-version", "retry-after"}
OF_PAGES = {"access-control-allow-origin", "alt-svc", "location", "www-authenticate", "x-own"}


@pytest.mark.parametrize(
    ("host", "path", "kept"),
    [("localhost", "/a/mcp", OF_ENDPOINT), ("a.example.org", "/page", OF_ENDPOINT | OF_PAGES)],
)
def test_the_headers_of_the_protocol_alone_leave_an_endpoint_and_no_cookie_leaves_an_app(
    tmp_path: Path, host: str, path: str, kept: set[str]
) -> None:
    async def test() -> None:
        names = (*OF_ENDPOINT, *OF_PAGES, *HOP, "set-cookie", "server", "date", "x-request-id")

        async def decorated(seen: Seen, writer: asyncio.StreamWriter) -> None:
            fields = b"".join(b"\r\n%b: planted" % name.encode() for name in names)
            writer.write(result(seen, {}).replace(b"\r\n\r\n", fields + b"\r\n\r\n", 1))

        async with rig(tmp_path, Upstream(decorated)) as gate:
            gate.client._host_header = f"host: {host}".encode()
            response = await gate.post(call(), path=path)
            assert {name.decode() for name, value in response.headers if value == b"planted"} == kept
            assert dict(response.headers)[b"content-type"] == b"application/json"
            assert json.loads(await response.read(999))["id"] == 1

    run(test())


def test_events_pass_as_they_come_and_the_reply_gets_its_id_back(tmp_path: Path) -> None:
    async def test() -> None:
        more = asyncio.Event()

        async def stream(seen: Seen, writer: asyncio.StreamWriter) -> None:
            note = {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": "p", "progress": 1},
            }
            writer.write(STREAM + event(note))
            await more.wait()
            tail = event({"jsonrpc": "2.0", "id": seen.message["id"], "result": {"content": []}})
            for index in range(len(tail)):  # cut anywhere
                writer.write(tail[index : index + 1])
                await writer.drain()
            writer.write(b"0\r\n\r\n")

        async with rig(tmp_path, Upstream(stream)) as gate:
            response = await gate.post(call("x"))
            chunks = response.chunks()
            assert dict(response.headers)[b"content-type"] == b"text/event-stream"
            text = b""
            while b"notifications/progress" not in text:  # the rest is not even written yet
                text += await anext(chunks)
            more.set()
            text += b"".join([chunk async for chunk in chunks])
            messages = [json.loads(line[6:]) for line in text.splitlines() if line.startswith(b"data: ")]
            assert messages[-1] == {"jsonrpc": "2.0", "id": "x", "result": {"content": []}}
            assert len(messages) == 2

    run(test())


@pytest.mark.parametrize("is_modern", [True, False])
def test_a_client_that_leaves_cancels_in_the_modern_era_and_not_in_the_legacy_one(
    tmp_path: Path, is_modern: bool
) -> None:
    async def test() -> None:
        asked, ended, cut = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
            asked.set()
            if is_modern:
                while not writer.transport.is_closing():
                    await asyncio.get_running_loop().run_in_executor(None, int)
                    writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
                cut.set()
            else:
                await ended.wait()
                await echo(seen, writer)
                cut.set()

        async with rig(tmp_path, Upstream(slow)) as gate:
            body, headers = modern() if is_modern else (call(), [])
            task = asyncio.create_task(gate.post(body, *headers))
            await asked.wait()
            task.cancel()
            ended.set()
            await cut.wait()
            while (await gate.op(op="stats"))["apps"]["a"]["in_flight"]:
                pass
        assert gate.lines()[-1]["outcome"] == ("cancelled" if is_modern else "ok")

    run(test())


def ids(body: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":{}}' % body


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
        reply(ids(b"1")),
        reply(ids(b'"%d"')),
        reply(ids(b"null")),
        reply(b'[{"jsonrpc":"2.0","id":1,"result":{}}]'),
        reply(b"\xff\xfe"),
        reply(b"[" * 100_000),
        reply(b'{"jsonrpc":"2.0","method":"notifications/x"}'),
        reply(b"<html>", b"text/html"),
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 30_000,
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + b" " * 17_000_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
def test_an_instance_that_dies_or_misspeaks_gives_a_clear_error_with_the_callers_id(
    tmp_path: Path, answer: bytes
) -> None:
    async def test() -> None:
        async def hostile(seen: Seen, writer: asyncio.StreamWriter) -> None:
            body = answer.replace(b'"%d"', b'"%d"' % seen.message["id"])  # the right number, the wrong type
            writer.write(body)
            await writer.drain()
            writer.close()

        upstream = Upstream(hostile)
        async with rig(tmp_path, upstream) as gate:
            response = await gate.post(call("mine"))
            body = json.loads(await response.read(10_000))
            assert (response.status, body["id"]) == (502, "mine")
            assert "did not answer properly" in body["error"]["message"]
            assert b"retry-after" not in dict(response.headers)  # the call may have been carried out
            assert len(upstream.requests) == 1  # a tool call is never carried out twice
        assert gate.lines()[-1]["outcome"] == "cut"

    run(test())


@pytest.mark.parametrize(
    "tail", [b"", b"zz\r\n", b"0\r\n\r\n", event({"jsonrpc": "2.0", "id": 1, "result": {}}) + b"0\r\n\r\n"]
)
def test_a_stream_that_ends_without_the_reply_ends_in_an_error_event(tmp_path: Path, tail: bytes) -> None:
    async def test() -> None:
        async def dies(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM + event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}) + tail)
            await writer.drain()
            writer.close()

        async with rig(tmp_path, Upstream(dies)) as gate:
            text = await (await gate.post(call("mine"))).read(10_000)
            last = json.loads(text.strip().splitlines()[-1].removeprefix(b"data: "))
            assert last["id"] == "mine"
            assert "did not answer properly" in last["error"]["message"]

    run(test())


def test_an_error_of_the_instance_is_passed_on_with_its_status(tmp_path: Path) -> None:
    async def test() -> None:
        async def forbids(seen: Seen, writer: asyncio.StreamWriter) -> None:
            body = json.dumps(
                {"jsonrpc": "2.0", "id": seen.message["id"], "error": {"code": 1000, "message": "no"}}
            ).encode()
            writer.write(reply(body, status=b"403 Forbidden"))

        async with rig(tmp_path, Upstream(forbids)) as gate:
            response = await gate.post(call(5))
            assert response.status == 403
            assert json.loads(await response.read(1000)) == {
                "jsonrpc": "2.0",
                "id": 5,
                "error": {"code": 1000, "message": "no"},
            }
        assert gate.lines()[-1]["outcome"] == "error 1000"

    run(test())


HOSTILE = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "mcp-session-id",
    "alt-svc": 'h3="evil.example:443"',
    "clear-site-data": '"*"',
    "location": "https://evil.example",
    "mcp-session-id": "unsealed",
    "refresh": "0; url=https://evil.example",
    "service-worker-allowed": "/",
    "set-cookie": "a=b",
    "strict-transport-security": "max-age=0",
    "www-authenticate": "Basic",
    "x-anything": "1",
}


def test_of_an_apps_reply_only_the_headers_of_the_protocol_reach_the_shared_origin(tmp_path: Path) -> None:
    async def test() -> None:
        async def hostile(seen: Seen, writer: asyncio.StreamWriter) -> None:
            lines = "".join(f"{name}: {value}\r\n" for name, value in HOSTILE.items()).encode()
            head, _, tail = (result(seen, {}) if seen.body else reply(b"")).partition(b"\r\n")
            writer.write(head + b"\r\n" + lines + tail)

        legacy, bearer = (b"mcp-protocol-version", b"2025-11-25"), (b"authorization", b"Bearer secret")
        body, headers = modern()
        upstream = Upstream(hostile)
        async with rig(tmp_path, upstream) as gate:
            replies = [
                await gate.post(body, *headers),
                await gate.post(call(), legacy),
                await gate.client.request("GET", "/a/mcp", [legacy, bearer]),
                await gate.client.request("DELETE", "/a/mcp", [legacy, bearer]),
            ]
            for response in replies:
                names = {name.decode() for name, _ in response.headers}
                assert not names & HOSTILE.keys()
                await response.read(1000)
            initialize = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'
            session = dict((await gate.post(initialize, legacy)).headers)[b"mcp-session-id"]
            assert session != b"unsealed", "the id of a new session passes, under the gate's seal"
            gate.client._host_header = b"host: a.localhost"
            page = await gate.client.request("GET", "/page", [bearer, (b"mcp-session-id", b"its own")])
            assert {b"location", b"access-control-allow-origin"} <= dict(page.headers).keys(), "its own origin"
            assert upstream.requests[-1].headers["mcp-session-id"] == "its own"

    run(test())


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"GZIP"])
def test_a_compressed_body_is_refused_with_415(tmp_path: Path, encoding: bytes) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            status, answer = await gate.answer(gzip.compress(call()), (b"content-encoding", encoding))
            assert (status, answer["error"]["message"]) == (
                415,
                "The body must be sent as it is, without a Content-Encoding.",
            )
            assert (await gate.answer(call(), (b"content-encoding", b"identity")))[0] == 200
            assert len(upstream.requests) == 1

    run(test())


def test_health_answers_probes_without_a_host_and_of_absolute_form(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, Upstream(echo)) as gate:
            for head, status in (
                ("GET /_portway/health HTTP/1.0", b"200"),
                ("HEAD /_portway/health HTTP/1.0", b"200"),
                (f"GET {gate.url}/_portway/health HTTP/1.0", b"200"),
                (f"GET {gate.url}/_portway/health HTTP/1.1\r\nhost: balancer\r\nconnection: close", b"200"),
                ("GET http://evil.com/_portway/health HTTP/1.1\r\nhost: localhost\r\nconnection: close", b"421"),
                ("GET /a/mcp HTTP/1.0", b"400"),
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(gate.url.rpartition(":")[2]))
                writer.write(head.encode() + b"\r\n\r\n")
                assert (await reader.read()).split(b" ")[1] == status, head
                writer.close()

    run(test())


def test_an_instance_that_cannot_be_reached_is_passed_over_and_of_a_crashed_app_it_is_said(tmp_path: Path) -> None:
    async def test() -> None:
        dead = f"unix:{tmp_path}/none.sock"
        async with rig(tmp_path, Upstream(echo), addresses=(dead, dead)) as gate:
            for number in range(6):
                assert (await gate.answer(call(number)))[0] == 200
            status, body = await gate.answer(call("x"), path="/down/mcp")
            assert (status, body["id"]) == (503, "x")
            assert (status, "crashed" in body["error"]["message"]) == (503, True)

    run(test())


def test_a_modern_request_is_held_to_its_headers_before_it_goes_anywhere(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            body, headers = modern("m", name="t")
            assert (await gate.answer(body, *headers))[0] == 200
            for wrong in (headers[:2], headers[1:], [*headers[:2], (b"mcp-name", b"other")], [*headers, headers[2]]):
                status, answer = await gate.answer(body, *wrong)
                assert (status, answer["error"]["code"]) == (400, -32020), wrong
            assert len(upstream.requests) == 1
            assert dict(upstream.requests[0].headers)["mcp-name"] == "t"

    run(test())


@pytest.mark.parametrize(
    ("body", "status", "code", "request_id"),
    [
        (b"{", 400, -32700, None),
        (b"[]", 400, -32600, None),
        (b"[" * 900, 400, -32600, None),
        (b'{"jsonrpc":"2.0","id":4}', 400, -32600, 4),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, -32600, None),
        (b'{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":1}}', 200, -32602, 4),
        (b" " * 2000, 413, 1000, None),
    ],
)
def test_what_is_no_message_is_refused_at_the_gate(
    tmp_path: Path, body: bytes, status: int, code: int, request_id: object
) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream, body_bytes=1000) as gate:
            got, answer = await gate.answer(body)
            assert (got, answer["error"]["code"], answer.get("id")) == (status, code, request_id)
            assert not upstream.requests

    run(test())


def test_an_app_gets_no_more_calls_at_once_than_its_limit(tmp_path: Path) -> None:
    async def test() -> None:
        asked, go = asyncio.Semaphore(0), asyncio.Event()

        async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
            asked.release()
            await go.wait()
            await echo(seen, writer)

        async with rig(tmp_path, Upstream(held), in_flight=2) as gate:
            tasks = [asyncio.create_task(gate.answer(call(number))) for number in range(2)]
            await asked.acquire()
            await asked.acquire()
            response = await gate.post(call("late"))
            assert (response.status, dict(response.headers)[b"retry-after"]) == (429, b"1")
            assert json.loads(await response.read(1000))["id"] == "late"
            go.set()
            assert [status for status, _ in await asyncio.gather(*tasks)] == [200, 200]
            assert (await gate.answer(call(3)))[0] == 200

    run(test())


def test_notifications_pass_but_a_cancellation_whose_call_cannot_be_told_does_not(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            for method in ("notifications/initialized", "notifications/cancelled"):
                body = json.dumps({"jsonrpc": "2.0", "method": method, "params": {"requestId": 1}}).encode()
                assert (await gate.post(body)).status == 202
            assert [seen.message["method"] for seen in upstream.requests] == ["notifications/initialized"]

    run(test())


def test_a_batch_of_the_revision_that_had_them_is_answered_element_by_element(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream) as gate:
            note = b'{"jsonrpc":"2.0","method":"notifications/x"}'
            start = b'{"jsonrpc":"2.0","id":9,"method":"initialize","params":{}}'
            status, answers = await gate.answer(
                b"[%b]" % b",".join((call("a"), note, b"[]", start, call("a", n=2), b'{"id":4}'))
            )
            assert (status, [answer.get("id") for answer in answers]) == (200, ["a", None, 9, "a", 4])
            assert answers[3]["result"]["echo"]["arguments"] == {"n": 2}
            assert len({seen.message.get("id") for seen in upstream.requests}) == len(upstream.requests) == 3
            assert (await gate.post(b"[%b]" % note)).status == 202
            assert (await gate.post(b"[%b]" % call(), (b"mcp-protocol-version", b"2025-06-18"))).status == 400
        methods = [line.get("method", "") for line in gate.lines()]
        assert methods[1:5] == ["tools/call", "notifications/x", "tools/call", "batch"]

    run(test())


@pytest.mark.parametrize("state", ["starting", "up"])
def test_a_call_waits_for_an_app_that_is_being_started_or_whose_instance_has_just_died(
    tmp_path: Path, state: str
) -> None:
    async def test() -> None:
        async with rig(tmp_path, Upstream(echo)) as gate:
            table = json.loads(gate.paths.routes.read_text())
            instances = table["apps"]["a"]["instances"]
            dead = [{"id": "dead", "address": f"unix:{tmp_path}/none.sock"}]
            table["apps"]["a"] |= {"state": state, "instances": dead if state == "up" else []}
            gate.paths.routes.write_text(json.dumps(table))
            await gate.op(op="table")
            waiting = asyncio.create_task(gate.answer(call("early")))
            while not (await gate.op(op="stats"))["apps"]["a"]["in_flight"]:
                pass
            table["apps"]["a"] |= {"state": "up", "instances": instances}
            gate.paths.routes.write_text(json.dumps(table))
            await gate.op(op="table")
            assert (await waiting)[0] == 200

    run(test())


def test_a_host_name_leads_to_its_app_with_every_path_and_a_path_only_to_its_endpoint(tmp_path: Path) -> None:
    async def test() -> None:
        async def page(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: %d\r\n\r\n%b" % (len(seen.body), seen.body))

        upstream = Upstream(page)
        async with rig(tmp_path, upstream) as gate:
            bearer = (b"authorization", b"Bearer secret")

            async def ask(
                host: str, method: str, target: str, *headers: tuple[bytes, bytes], body: bytes = b""
            ) -> tuple[int, bytes]:
                gate.client._host_header = f"host: {host}".encode()
                response = await gate.client.request(method, target, headers, body)
                return response.status, await response.read(100_000)

            for host in ("a.localhost", "A.LocalHost:8080", "a.example.org"):
                assert await ask(host, "PUT", "/some/page?q=1&r=%20", bearer, body=b"hello" * 9000) == (
                    201,
                    b"hello" * 9000,
                )
                assert upstream.requests[-1].head.startswith(b"PUT /some/page?q=1&r=%20 HTTP/1.1\r\n")
                assert (await ask(host, "GET", "/"))[0] == 401
                assert (await ask(host, "PUT", "/mcp", bearer))[0] == 405
            assert (await ask("nope.localhost", "GET", "/any"))[0] == 401
            assert (await ask("p.localhost", "GET", "/"))[0] == 201
            count = len(upstream.requests)
            for host, target, status in (
                ("127.0.0.1", "/_portway/health", 200),
                ("127.0.0.1", "/", 404),
                ("127.0.0.1", "/a", 404),
                ("127.0.0.1", "/a/page", 404),
                ("p.localhost", "/_portway/health", 201),
            ):
                assert (await ask(host, "GET", target, bearer))[0] == status, (host, target)
            status, said = await ask("evil.com", "GET", "/a/mcp", bearer)
            assert (status, b"This host does not answer to that name" in said) == (421, True)
            status, said = await ask("127.0.0.1", "GET", "/p/mcp", (b"origin", b"https://evil.com"))
            assert (
                status,
                b"This Origin is not allowed. `portway deploy --allow-origin` names the pages of an app." in said,
            ) == (403, True)
            assert len(upstream.requests) == count + 1

    run(test())


@pytest.mark.slow
def test_a_client_that_does_not_read_pauses_the_instance(tmp_path: Path) -> None:
    async def test() -> None:
        sent, size = 0, 64 * 1024 * 1024

        async def flood(seen: Seen, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(STREAM)
            note = event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 60_000}})
            while sent < size:
                writer.write(note)
                sent += len(note)
                await writer.drain()

        async with rig(tmp_path, Upstream(flood)) as gate:
            response = await gate.post(call())
            stuck = previous = 0
            while stuck < 200:  # turns of the loop in which nothing moved
                await asyncio.get_running_loop().run_in_executor(None, int)
                stuck, previous = (stuck + 1 if sent == previous else 0), sent
            assert sent < size / 2
            await response.close()

    run(test())
