"""`portway upgrade` under load: no call is lost, and a version that fails leaves the one before."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import re
import shutil
import sqlite3
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest

from portway.client import Client, Elicitation
from portway.host.builds.wheel import running_wheel
from portway.host.store.tables import HEAD
from tests.host.running_host import Host, build_environment, host
from tests.host.test_up import thing
from tests.support import SCRIPTS, clean_env, eventually

pytestmark = pytest.mark.slow
SLOW = """
@mcp.tool
async def slow(number: int) -> int:
    await asyncio.sleep(2)
    return number
"""


ASKS = """
@mcp.tool(asks=True)
async def ask(ctx: Context) -> str:
    return "Hello " + (await ctx.elicit("Name?", str)).data

@mcp.tool
def grow() -> None:
    mcp.tool(lambda: 1, name=f"more-{os.urandom(4).hex()}")
"""


def changed_wheel(
    folder: Path, version: str, changes: dict[str, tuple[str, str]] | None = None, added: dict[str, str] | None = None
) -> Path:
    """Return a wheel of this tree with another version, files added, and a text replaced in some of its files."""
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
        for name, body in (added or {}).items():
            new.writestr(name, body)
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
        async with Client(self._url, token=self._token, timeout=120, era=era) as client:
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
        eventually(lambda: load.answered > 20)
        try:
            yield running, load
            before = load.answered
            eventually(lambda: load.answered > before + 20)
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
    eventually(lambda: not environments(running) & before)
    assert running.child.process.pid == launcher
    assert running.instance("thing") == instance, "instances go on"
    assert running.status("thing").state == "up"
    killed = running.kill("control")
    eventually(lambda: running.process("control") != killed)
    assert not environments(running) & before, "what is started again is new"
    again = upgrade(running, changed_wheel(tmp_path, "0.3.0"))
    assert re.search(r"=====> portway 0\.3\.0 runs the host, 0\.2\.0 before", again.stderr), again.stderr
    eventually(lambda: len(environments(running)) == 1)
    assert len([*(running.paths.data / "versions").iterdir()]) == 2, "the version before is kept, as the way back"


def test_questions_and_streams_go_on_over_an_upgrade(tmp_path: Path) -> None:
    upgraded, asked, changes = threading.Event(), [], []

    async def answer(question: Elicitation) -> dict[str, str]:
        asked.append(question)
        await asyncio.to_thread(upgraded.wait, 60)
        return {"value": "Ada"}

    async def use(running: Host, era: Literal["legacy", "modern"]) -> None:
        url, token = f"{running.ready['url']}/thing/mcp", running.ready["token"]
        listening = Client(url, token=token, era=era, timeout=90, on_elicit=answer)
        async with listening as client, client.listen() as seen:
            assert (await client.call_tool("ask", {})).text == "Hello Ada"
            await client.call_tool("grow", {})
            if change := await anext(aiter(seen), None):
                changes.append(change)
                return
        async with listening as client, client.listen() as seen:  # a modern stream has ended with its result
            await client.call_tool("grow", {})
            changes.append(await anext(aiter(seen)))

    folder = thing(tmp_path / "thing", more=ASKS)
    with host(tmp_path / "data", [folder]) as running, ThreadPoolExecutor(2) as callers:
        work = [callers.submit(asyncio.run, use(running, era)) for era in ("legacy", "modern")]
        eventually(lambda: len(asked) == 2)
        assert upgrade(running, changed_wheel(tmp_path, "0.2.0")).returncode == 0
        upgraded.set()
        for each in work:
            each.result(120)
    assert len(changes) == 2


def test_a_version_installed_in_place_is_taken_and_one_that_fails_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    program = tmp_path / "installed" / "bin" / "portway"

    def install(wheel: Path) -> None:
        pip = [
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            program.with_name("python"),
            f"portway[host] @ {wheel.as_uri()}",
        ]
        subprocess.run(pip, check=True, env=clean_env(build_environment()))

    subprocess.run(["uv", "venv", "--quiet", tmp_path / "installed"], check=True, env=clean_env(build_environment()))
    install(changed_wheel(tmp_path, "0.2.0"))
    with host(tmp_path / "data", walls=False, program=program) as running:
        eventually(lambda: list((tmp_path / "data" / "wheels").glob("*/portway-0.2.0-*.whl")))
        install(changed_wheel(tmp_path, "0.3.0", BROKEN["its control dies at the start"][0]))
        command = [program, "upgrade", "--data", running.ready["data"]]
        environment = clean_env(running.environment)
        failed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
        assert "the version before goes on: the new control has ended" in failed.stderr
        control = running.processes()[running.process("control")]
        assert control.startswith(running.ready["data"]), "it is made of the wheel that the host has kept"
        install(changed_wheel(tmp_path, "0.4.0"))
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
        assert "=====> portway 0.4.0 runs the host, 0.2.0 before" in done.stderr
        eventually(lambda: environments(running) == {str(tmp_path / "installed")})


def test_a_gate_without_calls_ends_at_the_switch_and_is_not_started_again(tmp_path: Path) -> None:
    with host(tmp_path / "data") as running:
        before = running.process("gate")
        done = upgrade(running, changed_wheel(tmp_path, "0.2.0"))
        assert done.returncode == 0, done.stderr
        eventually(lambda: before not in running.processes())
        assert "gate ended" not in "".join(running.child.lines)


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
            "portway/host/gate/gate_handover.py": (
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
    eventually(lambda: environments(running) == before)
    assert running.instance("thing") == instance
    assert running.status("thing").state == "up"
    assert running.child.process.poll() is None


MIGRATION = f"""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9999", "{HEAD}"
def upgrade():
    op.add_column("apps", sa.Column("later", sa.String))
"""


def later_schema(folder: Path, more: str, changes: dict[str, tuple[str, str]] | None = None) -> Path:
    """Return a wheel with a migration, which ends with the line `more`."""
    changed = {"portway/host/store/tables.py": (f'HEAD = "{HEAD}"', 'HEAD = "9999"')} | (changes or {})
    added = {"portway/host/store/migrations/versions/9999_later.py": f"{MIGRATION}    {more}\n"}
    return changed_wheel(folder, "0.2.0", changed, added)


def schema(running: Host) -> str:
    with contextlib.closing(sqlite3.connect(running.paths.database)) as database:
        return str(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@pytest.mark.parametrize(
    ("more", "changes", "told"),
    [
        ("raise RuntimeError('as asked')", {}, "the new control has ended"),
        (
            "pass",
            {CONTROL: ("        linker.start()\n", "        os._exit(3)\n")},
            "the new control has ended; the log of `portway up` says why; the database is as it was before",
        ),
    ],
    ids=["the migration fails", "control dies after the migration"],
)
def test_a_migration_that_ends_in_a_failure_is_undone(
    tmp_path: Path, more: str, changes: dict[str, tuple[str, str]], told: str
) -> None:
    with host(tmp_path / "data", walls=False) as running:
        before = environments(running)
        failed = upgrade(running, later_schema(tmp_path, more, changes))
        assert failed.returncode == 1
        assert f"the version before goes on: {told}" in failed.stderr, "".join(running.child.lines)
        assert (schema(running), environments(running)) == (HEAD, before)
        assert running.portway("ps").returncode == 0


def test_a_migration_is_kept_when_all_goes_well_and_undone_when_the_host_is_killed_before(tmp_path: Path) -> None:
    hangs = {CONTROL: ("        linker.start()\n", "        await asyncio.sleep(1000)\n")}
    with host(tmp_path / "data", walls=False) as running, ThreadPoolExecutor(1) as asker:
        asked = asker.submit(upgrade, running, later_schema(tmp_path, "pass", hangs))
        eventually(lambda: schema(running) == "9999")
        running.child.process.kill()
        running.kill("control")  # it does not heed the signal that its launcher's end sends
        assert "the host has ended meanwhile: start it again, or look at its log" in asked.result(120).stderr
        eventually(lambda: running.processes() == {})
    with host(tmp_path / "data", walls=False) as running:
        assert any("an upgrade was cut: the database is as it was before" in line for line in running.child.lines)
        assert (schema(running), environments(running)) == (HEAD, {str(SCRIPTS.parent)})
        assert upgrade(running, later_schema(tmp_path, "pass")).returncode == 0
        assert schema(running) == "9999"


def test_what_cannot_be_upgraded_is_told_in_one_sentence(tmp_path: Path) -> None:
    with host(tmp_path / "data", walls=False) as running:

        def refused(*arguments: str) -> str:
            done = running.portway("upgrade", *arguments)
            assert done.returncode in (1, 2)
            return done.stderr

        assert "the host runs portway 0.1.0, as is installed: install another first" in refused()
        assert "give --to or --wheel, not both" in refused("--to", "1", "--wheel", __file__)
        (tmp_path / "portway-1-py3-none-any.whl").write_text("no wheel")
        assert "portway-1-py3-none-any.whl cannot be installed: " in refused(
            "--wheel", f"{tmp_path}/portway-1-py3-none-any.whl"
        )
        data = f"{tmp_path}/nowhere"
        assert f"no host is running on {data}: it starts with the version that is installed" in refused("--data", data)
        (tmp_path / "data" / "upgrade").mkdir()
        with (tmp_path / "data" / "upgrade" / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert "another `portway upgrade` is under way" in refused("--wheel", str(changed_wheel(tmp_path, "0.2.0")))
        (tmp_path / "data" / "upgrade" / "lock").unlink()
        (tmp_path / "data" / "upgrade" / "lock").mkdir()
        assert re.search("cannot use .*lock: ", refused("--wheel", str(tmp_path / "portway-0.2.0-py3-none-any.whl")))
        record = tmp_path / "data" / "running.json"
        record.write_text(record.read_text().replace("0.1.0", "0.0.9"))
        assert "there is no way back to portway 0.0.9: give --wheel or --to, or restart the host" in refused()


@contextlib.contextmanager
def package_index(folder: Path, *wheels: Path) -> Iterator[str]:
    """Serve wheels of portway as a package index while the block lasts (Simple repository API); give its URL."""
    place = folder / "simple" / "portway"
    place.mkdir(parents=True)
    for wheel in wheels:
        shutil.copy(wheel, place)
    (place / "index.html").write_text("".join(f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in wheels))
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/simple/"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_version_is_fetched_by_its_number_and_runs_the_next_start(tmp_path: Path) -> None:
    wheels = [changed_wheel(tmp_path, "0.2.0"), changed_wheel(tmp_path, "0.3.0")]
    with package_index(tmp_path / "index", *wheels) as index:
        with host(tmp_path / "data", walls=False) as running:
            running.environment["UV_INDEX"] = index
            refused = running.portway("upgrade", "--to", "0.2.1", timeout=120)
            assert refused.returncode == 1
            assert re.search(
                r"portway\[host(,tls)?\]==0\.2\.1 cannot be installed: .*0\.2\.1", refused.stderr, re.DOTALL
            )
            done = running.portway("upgrade", "--to", "0.2.0", "-o", "json", timeout=120)
            assert done.returncode == 0, done.stderr + "".join(running.child.lines)
            answer = json.loads(done.stdout)
            assert (answer["version"], answer["before"]) == ("0.2.0", "0.1.0")
            assert len([*(running.paths.data / "versions").iterdir()]) == 1, "what could not be installed is gone"
        with host(tmp_path / "data", walls=False) as running:
            (environment,) = environments(running)
            assert environment.startswith(str(running.paths.data / "versions"))
