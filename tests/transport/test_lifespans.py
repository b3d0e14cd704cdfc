"""A server's lifespan is left whatever ends the server: an application that mounts it, or a signal over stdio."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp import Client
from starlette.applications import Starlette
from starlette.routing import Mount

from portway import Context, Server
from portway.transport.http_app import HttpApp
from tests.support import eventually
from tests.transport.stdio_client import ENVELOPE, Pipes


def noting_server(events: list[str]) -> Server:
    @contextlib.asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[str]:
        events.append("open")
        yield "ready"
        events.append("closed")

    server = Server("inner", lifespan=lifespan)

    @server.tool
    def state(ctx: Context) -> str:
        return ctx.state

    return server


async def call_mounted(app: Starlette) -> Any:
    """Serve `app` by uvicorn, and return what the official client gets of the tool under /tools/mcp."""
    config = uvicorn.Config(app, port=0, log_config=None, ws="none")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    serving = asyncio.create_task(server.serve([socket]))
    try:
        async with Client(f"http://127.0.0.1:{socket.getsockname()[1]}/tools/mcp") as client:
            return (await client.call_tool("state")).content[0].text
    finally:
        server.should_exit = True
        await serving
        socket.close()


@pytest.mark.parametrize("how", ["alone", "within the parent's own"])
def test_a_mounted_server_leaves_its_lifespan_when_the_parent_stops(how: str) -> None:
    events: list[str] = []
    mounted = HttpApp(noting_server(events))

    @contextlib.asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[None]:
        async with mounted.lifespan(app):
            events.append("parent")
            yield

    lifespan = mounted.lifespan if how == "alone" else own
    app = Starlette(routes=[Mount("/tools", mounted)], lifespan=lifespan)
    assert asyncio.run(call_mounted(app)) == "ready"
    assert events == (["open", "closed"] if how == "alone" else ["open", "parent", "closed"])


def test_the_application_of_a_server_has_its_lifespan() -> None:
    events: list[str] = []

    async def run() -> None:
        async with noting_server(events).asgi().lifespan():
            assert events == ["open"]

    asyncio.run(run())
    assert events == ["open", "closed"]


def test_a_parent_that_does_not_run_the_lifespan_is_told_of_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = Starlette(routes=[Mount("/tools", HttpApp(noting_server([])))])
    assert asyncio.run(call_mounted(app)) == "ready"
    said = "the application that mounts inner runs no lifespan: pass it asgi().lifespan, or shutdown never runs"
    assert [record.getMessage() for record in caplog.records if "mounts" in record.getMessage()] == [said]


STDIO = """
import contextlib, sys, asyncio, pathlib
from portway import Server

file = pathlib.Path(sys.argv[1])

def note(text):
    file.write_text((file.read_text() if file.exists() else "") + text)

@contextlib.asynccontextmanager
async def lifespan(server):
    note("open ")
    try:
        if sys.argv[2] == "starting":
            await asyncio.Event().wait()
        yield
    finally:
        note("closing ")
        if sys.argv[2] == "stuck":
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        note("closed")

server = Server("fixture", lifespan=lifespan)

@server.tool
async def wait() -> None:
    note("called ")
    await asyncio.Event().wait()

server.run(transport="stdio")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "server.py"
    file.write_text(STDIO)
    return file


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["idle", "calling", "starting"])
def test_a_signal_over_stdio_leaves_the_lifespan(script: Path, number: signal.Signals, moment: str) -> None:
    notes = script.with_name("notes")
    with Pipes(sys.executable, str(script), str(notes), moment) as pipes:
        if moment != "starting":
            pipes.send({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": ENVELOPE}})
            pipes.receive()
        if moment == "calling":
            call = {"name": "wait", "arguments": {}, "_meta": ENVELOPE}
            pipes.send({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call})
        said = "open called " if moment == "calling" else "open "
        eventually(lambda: notes.exists() and notes.read_text() == said)
        pipes.process.send_signal(number)
        assert pipes.process.wait(120) == (1 if moment == "starting" else 0)
    assert notes.read_text() == f"{said}closing closed"


def test_a_second_signal_over_stdio_ends_the_process_at_once(script: Path) -> None:
    notes = script.with_name("notes")
    with Pipes(sys.executable, str(script), str(notes), "stuck") as pipes:
        eventually(lambda: notes.exists() and notes.read_text() == "open ")
        pipes.process.send_signal(signal.SIGTERM)
        eventually(lambda: "closing" in notes.read_text())
        pipes.process.send_signal(signal.SIGTERM)
        assert pipes.process.wait(120) == -signal.SIGTERM
    assert "closed" not in notes.read_text()
