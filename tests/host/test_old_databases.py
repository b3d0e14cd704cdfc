"""Databases of every earlier schema are opened, and what is in them is served.

Each file in `databases` is the dump of the database of a host of its time, made by its own code: `portway up FOLDER`,
`deploy --public` of the same folder, `env set APP GREETING=Hello`, a deploy that fails, `token create APP ci`, then
SIGTERM. Its first lines name the first token and the key of the variables. A migration needs the dump of the schema
before it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from portway.cli.control_client import ask_control
from portway.client import ClientError
from portway.host.app_config import AppConfig
from portway.host.management.management_types import ReleaseList, TokenList
from portway.host.paths import Paths
from portway.host.secrets.key_file import KeyFile
from portway.host.secrets.variables import Owner, Variables
from portway.host.store import Store
from portway.host.store import migrate as migrations
from portway.host.store.tables import HEAD
from tests.host.running_host import host
from tests.support import SCRIPTS

DUMPS = sorted((Path(__file__).parent / "databases").glob("*.sql"))
SERVER = """
import os
from portway import Server

server = Server("greeter")

@server.tool
def greet() -> str:
    return os.environ.get("GREETING", "not set")
"""
every_dump = pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)


def restore(dump: Path, data: Path) -> dict[str, str]:
    """Make the data directory of a host with that database; return what the dump's first lines name."""
    data.mkdir(mode=0o700)
    text = dump.read_text()
    with sqlite3.connect(data / "portway.db") as database:
        database.executescript(text)
    database.close()
    named = dict(line.removeprefix("-- ").split(": ") for line in text.splitlines() if line.startswith("-- "))
    if "key" in named:
        (data / "key").write_text(named["key"] + "\n")
        (data / "key").chmod(0o600)
    return named


def test_there_is_a_dump_of_every_earlier_schema() -> None:
    versions = Path(migrations.__file__).parent / "migrations" / "versions"
    earlier = {path.name[:4] for path in versions.glob("0*.py")} - {HEAD}
    assert earlier <= {dump.stem for dump in DUMPS}


@every_dump
def test_what_an_earlier_schema_holds_is_read_as_it_was_written(dump: Path, tmp_path: Path) -> None:
    restore(dump, tmp_path / "data")
    paths = Paths(tmp_path / "data", tmp_path / "run")
    store = Store(paths.database)
    variables = Variables(store, KeyFile(paths.key))
    has_variables = dump.stem >= "0006"
    live = store.live_release("greeter")
    assert live
    assert live.number == (3 if has_variables else 2)
    first, *_, failed = store.releases("greeter")
    later = AppConfig(access="public" if dump.stem >= "0002" else "gate")
    assert (first.status, first.cause, live.config) == ("ready", "deploy", later)
    assert live.start == first.start
    assert live.start
    assert live.start.command == ["portway", "run", "server.py", "--transport", "http"]
    assert (live.cause, live.build) == (("env", 2) if has_variables else ("deploy", 2))
    assert '"greet"' in store.contract(live.app, live.number)
    assert failed.status == "failed"
    assert failed.error
    assert variables.of_release("greeter", live.number) == ({"GREETING": "Hello"} if has_variables else {})
    assert variables.values(Owner("app", "greeter")) == ({"GREETING": "Hello"} if has_variables else {})
    assert [token.name for token in store.tokens("greeter")] == ["ci", "default"]
    store.close()


@pytest.mark.slow
@every_dump
def test_a_host_with_the_database_of_an_earlier_one_serves_its_apps_and_goes_back(dump: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    named = restore(dump, data)
    for number in (1, 2):
        release = data / "apps" / "greeter" / "releases" / str(number)
        for folder in ("src", "venv/bin", "log", "tmp", "home"):
            (release / folder).mkdir(parents=True)
        (release / "src" / "server.py").write_text(SERVER)
        (release / "venv" / "bin" / "portway").symlink_to(SCRIPTS / "portway")
    (data / "secret").write_bytes(bytes(32))
    (data / "lock").touch()
    with host(data, walls=False, options=["--trust-all-apps"]) as running:
        said = {"result": "Hello" if dump.stem >= "0006" else "not set"}
        assert running.call("greeter", "greet", named["token"]) == said
        if dump.stem >= "0002":
            assert running.call("greeter", "greet", "") == said, "it is public"
        assert running.portway("rollback", "greeter", "1").returncode == 0
        assert running.call("greeter", "greet", named["token"]) == {"result": "not set"}
        if not "0002" <= dump.stem <= "0004":  # until then, who may call was said of an app, not of a release
            with pytest.raises(ClientError):
                running.call("greeter", "greet", "")
        releases = ask_control(running.here, "list_releases", {"app": "greeter"}, ReleaseList).releases
        assert [(each.status, each.cause) for each in releases][:1] == [("live", "rollback")]
        tokens = ask_control(running.here, "list_tokens", {"app": "greeter"}, TokenList).tokens
        assert [token.name for token in tokens] == ["ci", "default"]
