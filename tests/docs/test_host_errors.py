"""The errors of docs/errors-host.md that no test of the host itself provokes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import re
import socket
import sqlite3
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from portway.cli import control_client
from portway.cli.main import cli
from portway.host.builds.build_error import BuildError
from portway.host.builds.uv_program import find_uv
from portway.host.contracts.read_contract import read_contract
from portway.host.instances.keeper import Keeper
from portway.host.instances.readiness import Approach, NotReady
from portway.host.instances.runtime import Instance, InstanceLimits
from portway.host.instances.starter import Starter
from portway.host.paths import PathError, claim, locate
from portway.host.releases.release import Release
from portway.host.sources import source_rules
from portway.host.sources.folder_source import FolderSource
from portway.host.sources.source import SourceError
from portway.host.store import Store, StoreError
from tests.client.scripted_server import Reply, Request, scripted
from tests.docs.test_wire_errors import pattern


def matches(text: str, output: str) -> bool:
    return re.search(pattern(text), output, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("text", "patches", "words"),
    [
        ("the host runs on Linux; `portway run` serves one server anywhere", {(sys, "platform"): "darwin"}, ["up"]),
        ("cannot make …: …", {}, ["up", "--data", "/dev/null/data"]),
        (
            (
                "no host is running on …: start one with `portway up`, name its --data, or log in to one elsewhere by "
                "`portway login URL`"
            ),
            {(control_client, "_START_SECONDS"): 0},
            ["ps"],
        ),
        ("the host needs …: pip install 'portway[host]'", {(importlib.util, "find_spec"): lambda name: None}, ["up"]),
        (
            "… belongs to another user: set XDG_RUNTIME_DIR or --data to a place of yours",
            {(os, "getuid"): lambda: 4242},
            ["up"],
        ),
    ],
)
def test_a_host_that_cannot_start_prints_the_documented_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, patches: dict[tuple[Any, str], Any], words: list[str]
) -> None:
    import portway.host.launcher

    assert portway.host.launcher  # imported before the platform is patched
    monkeypatch.setenv("PORTWAY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setattr(os, "umask", lambda mask: 0)  # `up` sets it for its process, here that of the other tests too
    for (where, name), value in patches.items():
        monkeypatch.setattr(where, name, value)
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 1
    assert matches(text, done.output)


def test_a_host_that_is_gone_is_reported_with_the_documented_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as run, socket.socket(socket.AF_UNIX) as dying:
        monkeypatch.setenv("XDG_RUNTIME_DIR", run)
        locate(tmp_path).run.mkdir(parents=True)
        dying.bind(str(locate(tmp_path).control_socket))
        dying.listen()
        threading.Thread(target=lambda: [dying.accept()[0].close() for _ in range(3)], daemon=True).start()
        done = CliRunner().invoke(cli, ["ps", "--data", str(tmp_path)])
    assert matches("the host on … did not answer (…): is it still up?", done.output)


def test_an_invalid_database_is_refused_with_the_documented_texts(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("no database")
    with pytest.raises(StoreError) as unusable:
        Store(tmp_path / "a.db")
    assert matches("the database … cannot be used: …", str(unusable.value))
    store = Store(tmp_path / "b.db")
    sqlite3.connect(tmp_path / "b.db").execute("drop table apps")
    with pytest.raises(StoreError) as refused:
        store.apps()
    assert matches("the host's database refused: …", str(refused.value))
    store.close()


def test_a_folder_that_is_too_large_is_refused_with_the_documented_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_rules, "LARGEST_BYTES", 3)
    (tmp_path / "data").write_text("four")
    with pytest.raises(SourceError) as refused:
        FolderSource(tmp_path).copy_to(tmp_path.parent / "copy")
    assert matches("… holds more than … MB: move what the server does not need out of it", str(refused.value))
    monkeypatch.setattr(source_rules, "MOST_FILES", 0)
    with pytest.raises(SourceError) as refused:
        FolderSource(tmp_path).copy_to(tmp_path.parent / "other")
    assert matches("… has more than … files: leave out what the server does not need", str(refused.value))


def test_a_missing_folder_is_refused_with_the_documented_text(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as refused:
        FolderSource(tmp_path / "app").copy_to(tmp_path / "copy")
    assert matches("there is no folder …: give the one that holds your server", str(refused.value))


def test_a_link_to_itself_is_refused_with_the_documented_text(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "circle").symlink_to("circle")
    with pytest.raises(SourceError) as refused:
        FolderSource(tmp_path / "app").copy_to(tmp_path / "copy")
    assert matches("… is a link that leads to itself: remove it", str(refused.value))


def test_a_build_without_uv_is_refused_with_the_documented_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    with pytest.raises(BuildError, match=pattern("uv is not installed here: pip install 'portway[host]'")):
        find_uv()


def test_an_instance_that_is_no_mcp_server_is_refused_with_the_documented_text(tmp_path: Path) -> None:
    async def script(request: Request) -> Reply:
        return Reply({"no": "mcp"}, 418)

    async def test() -> None:
        async with scripted(script) as url:
            waits = asyncio.Event().wait
            stub = cast("Instance", SimpleNamespace(address=url.removesuffix("/mcp"), wait=waits))
            await read_contract(stub, Release("app", 1, tmp_path), Approach("app.localhost"))

    with pytest.raises(NotReady) as refused:
        asyncio.run(test())
    assert matches("the server answers, but not as MCP asks: …", str(refused.value))


def test_an_app_that_keeps_ending_is_shown_with_the_documented_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("portway.host.instances.restart_delays.BACK_OFF", (0.0,) * 5)

    class FailingStarter(Starter):
        def __init__(self) -> None:
            self.limits = InstanceLimits()

        @contextlib.asynccontextmanager
        async def turn(self, app: str) -> AsyncIterator[None]:
            yield

        async def start(self, release: Release) -> Instance:
            raise OSError("no such program")

        def count_restart(self, release: Release) -> None:
            pass

        def has_room(self) -> bool:
            return True

    async def test() -> list[str]:
        reasons, looping = [], asyncio.Event()

        def changed() -> None:
            reasons.append(kept.reason)
            if kept.state == "crashed":
                looping.set()

        kept = Keeper(Release("app", 1, tmp_path), FailingStarter(), changed)
        kept.begin(None)
        await looping.wait()
        await kept.end()
        return reasons

    reasons = asyncio.run(test())
    assert matches("it ended (…) and is being restarted", reasons[0])
    assert any(matches("it keeps ending (…)", reason) for reason in reasons)
    assert matches("… release … ended: …", caplog.text)


def test_a_place_that_cannot_be_trusted_is_refused_with_the_documented_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    data = tmp_path / "data"
    claim(data)
    data.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(PathError) as refused:
        claim(data)
    assert matches("cannot make … private: …", str(refused.value))
