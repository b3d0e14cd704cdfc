"""What a call and an import cost, in counts, which do not depend on how busy the machine is."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from portway import Server
from portway.transport.http_app import HttpApp

if TYPE_CHECKING:
    from collections.abc import Callable

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
HEAVY = {"pydantic", "uvicorn", "httptools", "uvloop", "click", "jsonschema", "sqlalchemy", "http.client", "email"}


def make_app(tools: int = 1) -> HttpApp:
    server = Server("cost")

    async def get_weather(city: str) -> dict[str, str | int]:
        return {"city": city, "temperature_c": 21, "conditions": "sunny"}

    for number in range(tools):
        server.tool(name=f"get_weather_{number}")(get_weather)
    return HttpApp(server)


def make_call(app: HttpApp, *, modern: bool) -> Callable[[], None]:
    """Return a function that drives one tools/call through the application without a turn of the event loop."""
    params: dict[str, Any] = {"name": "get_weather_0", "arguments": {"city": "Oslo"}}
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"accept", b"*/*")]
    if modern:
        params["_meta"] = ENVELOPE
        headers += [(b"mcp-method", b"tools/call"), (b"mcp-name", b"get_weather_0")]
    headers.append((b"mcp-protocol-version", b"2026-07-28" if modern else b"2025-11-25"))
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": headers}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    def call() -> None:
        sent.clear()
        try:
            app(scope, receive, send).send(None)  # type: ignore[arg-type]
        except StopIteration:
            assert b'"city":"Oslo"' in sent[1]["body"]
        else:
            pytest.fail("the call had to wait")

    return call


def count_calls(work: Callable[[], None]) -> int:
    """Count the functions, of Python and of C, that `work` calls."""
    count = 0

    def tick(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tick)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(("modern", "most"), [(False, 100), (True, 125)])
def test_a_call_makes_a_bounded_number_of_function_calls_however_many_tools_there_are(modern: bool, most: int) -> None:
    async def counted(tools: int) -> int:
        call = make_call(make_app(tools), modern=modern)
        call()
        return count_calls(call)

    with_one, with_many = asyncio.run(counted(1)), asyncio.run(counted(1000))
    assert with_one == with_many
    assert with_one <= most


@pytest.mark.parametrize("modern", [False, True])
def test_a_call_leaves_no_memory_and_no_cycle_behind(modern: bool) -> None:
    async def growth() -> int:
        call = make_call(make_app(), modern=modern)
        before = 0
        for _round in range(2):  # the first fills the caches
            before = sys.getallocatedblocks()
            for _ in range(200):
                call()
                await asyncio.sleep(0)
        return sys.getallocatedblocks() - before

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(growth()) < 100
    finally:
        gc.enable()


def test_importing_the_server_loads_few_modules_and_none_that_is_heavy() -> None:
    program = "import sys; from portway import Server; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert len(loaded) <= 250
    assert not loaded & HEAVY


def test_importing_the_package_alone_loads_nothing_else_of_it() -> None:
    program = "import sys; before = set(sys.modules); import portway; print(*set(sys.modules) - before)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert loaded == ["portway"]
