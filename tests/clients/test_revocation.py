"""What an official client has open through the gate ends when its token does, and it is told why."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.host.running_host import Host, host

pytestmark = pytest.mark.clients

SERVER = Path(__file__).parent / "deployed_server.py"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Host]:
    folder = tmp_path / "deployed"
    folder.mkdir()
    shutil.copyfile(SERVER, folder / "server.py")
    with host(tmp_path / "data", [folder]) as started:
        yield started


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("how", ["revoke", "rotate", "overlap", "destroy"])
def test_the_calls_of_a_token_that_ends_end_with_the_reason(running: Host, mode: str, how: str) -> None:
    made = json.loads(running.portway("token", "create", "deployed", "ada", "-o", "json").stdout)

    def end() -> None:
        commands = {
            "revoke": ("token", "revoke", "deployed", "ada"),
            "rotate": ("token", "rotate", "deployed", "ada"),
            "overlap": ("token", "rotate", "deployed", "ada", "--overlap", "1s"),
            "destroy": ("destroy", "deployed", "--yes"),
        }
        assert running.portway(*commands[how]).returncode == 0

    async def test() -> str:
        begun = asyncio.Event()

        async def progress(*_: object) -> None:
            begun.set()

        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {made['token']}"}, timeout=120) as http:
            transport = streamable_http_client(made["url"], http_client=http)
            async with Client(transport, mode=mode, read_timeout_seconds=40) as client:  # type: ignore[arg-type]
                work = asyncio.ensure_future(client.call_tool("work", {"seconds": 60}, progress_callback=progress))
                await begun.wait()
                await asyncio.to_thread(end)
                with pytest.raises(MCPError) as ended:
                    await work
                return str(ended.value)

    removed = "The app 'deployed' has been removed from this host."
    ended = "The token has expired." if how == "overlap" else "The token has been revoked."
    reasons = [ended, *([removed] if how == "destroy" else [])]
    assert asyncio.run(test()) in reasons
