"""`portway upgrade` under load: no call is lost, and a version that fails leaves the one before."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portway.client import Client
from portway.host.builds.wheel import running_wheel
from tests.host.running_host import Host, host
from tests.host.test_up import thing
from tests.support import ROOT, SCRIPTS, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SLOW = """
@mcp.tool
async def slow(number: int) -> int:
    await asyncio.sleep(2)
    return number
"""


def changed_wheel(folder: Path, version: str, changes: dict[str, tuple[str, str]] | None = None) -> Path:
    """Return a wheel of this tree with another version, and with a text replaced in some of its files."""
    source = running_wheel(folder / "as-it-is")
    wheel = folder / f"portway-{version}-py3-none-any.whl"
    left = dict(changes or {})
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(wheel, "w") as new:
        names = [re.sub(r"portway-[^/]*\.dist-info", f"portway-{version}.dist-info", name) for name in old.namelist()]
        for before, name in zip(old.namelist(), names, strict=True):
            text = old.read(before)
            if name.endswith("/METADATA"):
                text = re.sub(rb"(?m)^Version: .*$", b"Version: " + version.encode(), text)
            elif name.endswith("/RECORD"):
                text = "".join(f"{each},,\n" for each in names).encode()
            elif change := left.pop(name, None):
                assert change[0].encode() in text, name
                text = text.replace(change[0].encode(), change[1].encode(), 1)
            new.writestr(name, text)
    assert not left
    return wheel


class Load:
    """Clients of both eras that call without a pause, each call on a connection of its own or on one that is kept."""

    def __init__(self, running: Host, app: str, token: str) -> None:
        self.over = threading.Event()
        self.answered = 0
        self._url, self._token = f"{running.ready['url']}/{app}/mcp", token

    def call(self, number: int) -> None:
        asyncio.run(self._call(number))

    async def _call(self, number: int) -> None:
        era = "modern" if number % 2 else "legacy"
        async with Client(self._url, token=self._token, timeout=30, era=era) as client:
            while not self.over.is_set():
                result = await client.call_tool(
                    "slow" if number % 3 else "version", {"number": 7} if number % 3 else {}
                )
                assert not result.is_error, result.text
                assert result.structured == {"result": 7 if number % 3 else "one"}
                self.answered += 1


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[tuple[Host, Load]]:
    """A host under load, which fails the test if one call is lost."""
    folder = thing(tmp_path / "thing", more=SLOW)
    with host(tmp_path / "data", [folder]) as running, ThreadPoolExecutor(8) as callers:
        load = Load(running, "thing", running.ready["token"])
        work = [callers.submit(load.call, number) for number in range(8)]
        eventually(lambda: load.answered > 20, within=30)
        try:
            yield running, load
            before = load.answered
            eventually(lambda: load.answered > before + 20, within=30)
        finally:
            load.over.set()
        for each in work:
            each.result(40)


def upgrade(running: Host, wheel: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return running.portway("upgrade", "--wheel", wheel, *options, timeout=120)


def environments(running: Host) -> set[str]:
    """Return the environments of the host's gates, control and log writer."""
    lines = [line for line in running.processes().values() if " -m portway.host." in line]
    return {line.partition("/bin/python")[0] for line in lines}


def test_an_upgrade_under_load_loses_no_call_and_lasts(loaded: tuple[Host, Load], tmp_path: Path) -> None:
    running, _ = loaded
    launcher, instance, before = running.child.process.pid, running.instance("thing"), environments(running)
    done = upgrade(running, changed_wheel(tmp_path, "0.2.0"), "-o", "json")
    assert done.returncode == 0, done.stderr + "".join(running.child.lines)
    answer = json.loads(done.stdout)
    assert (answer["version"], answer["before"]) == ("0.2.0", "0.1.0")
    eventually(lambda: not environments(running) & before, within=30)
    assert running.child.process.pid == launcher
    assert running.instance("thing") == instance, "instances go on"
    assert running.status("thing").state == "up"
    killed = running.kill("control")
    eventually(lambda: running.process("control") != killed, within=30)
    assert not environments(running) & before, "what is started again is new"
    again = upgrade(running, changed_wheel(tmp_path, "0.3.0"))
    assert re.search(r"=====> portway 0\.3\.0 runs the host, 0\.2\.0 before", again.stderr), again.stderr
    eventually(lambda: len(environments(running)) == 1, within=30)
    assert len([*(running.paths.data / "versions").iterdir()]) == 2, "the version before is kept, as the way back"


def test_the_next_start_runs_the_version_of_the_upgrade(tmp_path: Path) -> None:
    with host(tmp_path / "data", walls=False) as running:
        assert upgrade(running, changed_wheel(tmp_path, "0.2.0")).returncode == 0
        (chosen,) = (running.paths.data / "versions").iterdir()
    with host(tmp_path / "data", walls=False) as running:
        assert environments(running) == {str(chosen)}
    record = tmp_path / "data" / "version.json"
    record.write_text(record.read_text().replace('"0.1.0"', '"0.0.9"'))
    with host(tmp_path / "data", walls=False) as running:
        assert environments(running) == {str(SCRIPTS.parent)}, "another version was installed since"


GATE, CONTROL = "portway/host/gate/__main__.py", "portway/host/control.py"
DIES = 'raise SystemExit("as asked")'
NEWEST = sorted((ROOT / "src/portway/host/store/migrations/versions").glob("0*.py"))[-1]
BROKEN = {
    "its parts cannot be imported": ({GATE: ("import argparse", "import nowhere")}, "No module named 'nowhere'"),
    "its launcher does not start": (
        {"portway/cli/up.py": ("    open_standard_descriptors()\n", f"    {DIES}\n")},
        "the new `portway up` does not start; its log says why",
    ),
    "its gate dies at the start": (
        {GATE: ("    paths = locate(options.data)\n", f"    {DIES}\n")},
        "the new gate has ended; the log of `portway up` says why",
    ),
    "its gate dies as it takes over": (
        {
            "portway/host/gate/succession.py": (
                "        await GateClient(self._paths).retire()",
                "        await GateClient(self._paths).retire()\n        os._exit(3)",
            )
        },
        "the new gate has ended",
    ),
    "its control dies at the start": (
        {CONTROL: ("    paths = locate(given.data)\n", f"    {DIES}\n")},
        "the new control has ended",
    ),
    "its control dies when it has answered": (
        {
            CONTROL: (
                "        linker.start()\n",
                "        linker.start()\n        asyncio.get_running_loop().call_later(1, os._exit, 3)\n",
            )
        },
        "the new control has ended",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_version_that_fails_leaves_the_one_before_and_no_call_is_lost(
    loaded: tuple[Host, Load], tmp_path: Path, fault: str
) -> None:
    running, _ = loaded
    changes, reason = BROKEN[fault]
    before, instance = environments(running), running.instance("thing")
    failed = upgrade(running, changed_wheel(tmp_path, "0.2.0", changes))
    assert failed.returncode == 1, failed.stderr
    assert reason in failed.stderr, "".join(running.child.lines)
    eventually(lambda: environments(running) == before, within=30)
    assert running.instance("thing") == instance
    assert running.status("thing").state == "up"
    assert running.child.process.poll() is None
