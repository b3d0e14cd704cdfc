"""The gate between git and control: both bodies pass as they arrive, and nothing else does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from portway.host.gate import control_relay
from tests.gate.running_gate import Rig, rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    import pytest

HEAD = (
    b"POST /weather.git/git-receive-pack HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Basic dG9rZW4=\r\n"
    b"cookie: a=b\r\nx-forwarded-for: 10.0.0.1\r\ngit-protocol: version=2\r\n"
    b"content-type: application/x-git-receive-pack-request\r\ntransfer-encoding: chunked\r\n\r\n"
)


def run(test: Coroutine[object, object, None]) -> None:
    asyncio.run(test)


class Control:
    """What listens on git.sock: hands each connection to the test."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.connections.put((reader, writer))


@asynccontextmanager
async def with_control(directory: Path) -> AsyncIterator[tuple[Rig, Control]]:
    control = Control()
    async with rig(directory) as gate:
        server = await asyncio.start_unix_server(control.serve, gate.paths.git_socket)
        try:
            yield gate, control
        finally:
            server.close()


async def connect(gate: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(gate.url.rpartition(":")[2]))


def test_the_bodies_of_a_push_pass_as_they_arrive_with_its_credentials_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with with_control(tmp_path) as (gate, control):
            reader, writer = await connect(gate)
            writer.write(HEAD + b"5\r\nfirst\r\n")
            asked, answers = await control.connections.get()
            head = await asked.readuntil(b"\r\n\r\n")
            assert head.startswith(b"POST /weather.git/git-receive-pack HTTP/1.1\r\n")
            names = {line.partition(b":")[0] for line in head.splitlines()[1:-1]}
            passed = {b"host", b"authorization", b"content-type", b"git-protocol", b"transfer-encoding"}
            assert names == passed | {b"x-forwarded-for"}
            assert b"x-forwarded-for: 127.0.0.1\r\n" in head
            assert await asked.readuntil(b"first\r\n") == b"5\r\nfirst\r\n"
            answers.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: x/y\r\nset-cookie: a=b\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            answers.write(b"3\r\none\r\n")
            answer = await reader.readuntil(b"one\r\n")
            assert b"content-type: x/y" in answer
            assert b"set-cookie" not in answer
            writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
            assert await asked.readuntil(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"
            answers.write(b"3\r\ntwo\r\n0\r\n\r\n")
            assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"
            writer.close()
            answers.close()

    run(test())


def test_a_client_that_leaves_ends_its_request_at_control(tmp_path: Path) -> None:
    async def test() -> None:
        async with with_control(tmp_path) as (gate, control):
            for body in (b"5\r\nfirst\r\n", b"5\r\nfirst\r\n0\r\n\r\n"):
                _, writer = await connect(gate)
                writer.write(HEAD + body)
                asked, answers = await control.connections.get()
                await asked.readuntil(b"first\r\n")
                writer.close()
                await asked.read()
                assert asked.at_eof()
                answers.close()

    run(test())


MCP_HEAD = (
    b"POST /_portway/mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer pwu_x\r\naccept: application/json\r\n"
    b"mcp-protocol-version: 2026-07-28\r\nmcp-method: %b\r\nmcp-param-app: a\r\nportway-caller: x\r\ncookie: a=b\r\n"
    b"content-type: application/json\r\ncontent-length: 2\r\n\r\n"
)


def test_the_management_api_is_asked_at_its_own_socket_by_mcps_headers_and_its_streams_end_with_the_gate(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        control = Control()
        async with rig(tmp_path) as gate:
            reader, writer = await connect(gate)
            writer.write(MCP_HEAD % b"tools/list" + b"{}")
            answer = await reader.readuntil(b"}}")
            writer.close()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"The host takes no requests of management at the moment" in answer
            server = await asyncio.start_unix_server(control.serve, gate.paths.management_socket)
            reader, writer = await connect(gate)
            writer.write(MCP_HEAD % b"subscriptions/listen" + b"{}")
            asked, answers = await control.connections.get()
            head = await asked.readuntil(b"\r\n\r\n")
            assert head.startswith(b"POST /_portway/mcp HTTP/1.1\r\n")
            names = {line.partition(b":")[0] for line in head.splitlines()[1:-1]}
            mcp = {b"mcp-protocol-version", b"mcp-method", b"mcp-param-app"}
            passed = {b"host", b"authorization", b"accept", b"content-type", b"transfer-encoding", b"x-forwarded-for"}
            assert names == passed | mcp
            answers.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-accel-buffering: no\r\n"
                b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n"
            )
            assert b"x-accel-buffering: no" in await reader.readuntil(b"one\r\n")
            gate.end_streams()
            assert not await reader.read()
            writer.close()
            await asked.read()
            answers.close()
            server.close()

    run(test())


def test_git_is_told_when_control_is_down_or_the_host_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with rig(tmp_path) as gate:
            response = await gate.client.request("GET", "/weather.git/info/refs?service=git-upload-pack")
            assert (response.status, response.header(b"retry-after")) == (503, b"1")
            told = await response.read(1000)
            assert told == b"The host takes no requests of git at the moment: try again in a few seconds.\n"
            monkeypatch.setattr(control_relay, "_AT_ONCE", 0)
            response = await gate.client.request("GET", "/weather.git/info/refs?service=git-upload-pack")
            assert response.status == 503
            assert await response.read(1000) == (
                b"The host serves as many requests of git as it can: try again in a moment.\n"
            )
            status, told = await gate.answer(b"{}", path="/_portway/mcp")
            sentence = "The host serves as many requests of management as it can: try again in a moment."
            assert (status, told["error"]["message"]) == (503, sentence)

    run(test())
