"""A server that takes long to answer: the deploy says what it does meanwhile, and waits on."""

from __future__ import annotations

import asyncio
import sys

import pytest

from portway.host.app_config import Start
from portway.host.instances.process_runtime import ProcessRuntime
from portway.host.instances.runtime import InstanceLimits
from portway.host.instances.starter import Starter
from portway.host.paths import Paths
from portway.host.releases import start_release
from portway.host.releases.release import Release
from portway.host.releases.steps import Steps
from portway.host.sandbox.walls import NO_WALLS
from portway.host.secrets.key_file import KeyFile
from portway.host.secrets.variables import Variables
from portway.host.store import Store
from tests.host.test_start_commands import SERVER

WAITS = """
import os, socket, time
elsewhere = socket.create_server(("127.0.0.1", 0)) if {listens} else None
while not os.path.exists(os.path.expanduser("~/go")):
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("before", "does"),
    [(WAITS.format(listens=False), "listens on nothing"), (WAITS.format(listens=True), "listens on 127.0.0.1:")],
    ids=["nothing", "another port"],
)
def test_a_deploy_says_what_a_server_does_that_has_not_answered_yet(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, before: str, does: str
) -> None:
    monkeypatch.setattr(start_release, "_PATIENCE_SECONDS", 0.5)
    made = Release("app", 1, paths.release("app", 1), start=Start([sys.executable, "main.py"], "main.py"))
    for folder in (made.source, made.log.parent, made.home):
        folder.mkdir(parents=True)
    (made.source / "main.py").write_text(before + SERVER)
    said = []

    async def report(line: str) -> None:
        said.append(line)
        (made.home / "go").touch()

    async def deploy() -> None:
        store = Store(paths.database)
        store.begin_release("app", "/")
        variables = Variables(store, KeyFile(paths.key))
        starter = Starter(ProcessRuntime(paths, NO_WALLS), store, InstanceLimits(stop_seconds=1), variables)
        await starter.stop_all((await start_release.start_release(made, starter, Steps(report), is_new=True)).instances)
        store.close()

    asyncio.run(deploy())
    assert said[0].startswith(f"warning  no answer after 0.5 s, still waiting: the server {does}")
    assert said[1].startswith("ready "), "it has been waited for"
