"""Backups of every earlier format are restored, and what is in them is served.

The files in `backups` were made by the code of their time: `portway up`, `deploy FOLDER --storage 1`,
`env set APP GREETING=Hello`, `deploy --public`, `token create APP ci`, `user add bob --role viewer`, a file in the
storage, then `backup --key-to`. A new format needs a file of its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from portway.host.backup.backup_format import FORMAT
from portway.host.git.repository import Repository
from portway.host.paths import Paths
from portway.host.secrets.key_file import KeyFile
from portway.host.secrets.variables import Owner, Variables
from portway.host.store import Store
from portway.host.users import Users
from tests.host.backup_verbs import restore
from tests.host.running_host import host
from tests.support import eventually

BACKUPS = sorted((Path(__file__).parent / "backups").glob("*.backup"))
TOKEN = "pw_MgWx0vNiIzcq-ZLpzjwaFaQQEB5of4d8NyXW3wRXP9s"
USER = "pwu_oG_5Lpi9j1Ywul1qifL-ABU7OjirktF8s8vk4BSXw98"
every_backup = pytest.mark.parametrize("backup", BACKUPS, ids=lambda backup: backup.stem)


def restored(backup: Path, data: Path) -> Paths:
    key = data.with_name("host.key")
    key.write_bytes(backup.with_suffix(".key").read_bytes())
    key.chmod(0o600)
    done = restore(backup, data=data, key=key)
    assert done.exit_code == 0, done.output
    return Paths(data, data / "run")


def test_there_is_a_backup_of_every_format() -> None:
    assert [backup.stem for backup in BACKUPS] == [f"format-{number}" for number in range(1, FORMAT + 1)]


@every_backup
def test_what_a_backup_of_an_earlier_format_holds_is_restored(backup: Path, tmp_path: Path) -> None:
    paths = restored(backup, tmp_path / "data")
    store = Store(paths.database)
    assert [(each.number, each.cause, each.build) for each in store.releases("greeter")] == [
        (1, "deploy", 1),
        (2, "env", 1),
        (3, "deploy", 3),
    ]
    assert Variables(store, KeyFile(paths.key)).values(Owner("app", "greeter")) == {"GREETING": "Hello"}
    assert [token.name for token in store.tokens("greeter")] == ["ci", "default"]
    token = Users(store).find(USER)
    assert (token and token.user.name) == "bob"
    store.close()
    repository = Repository(paths.repository("greeter"))
    assert repository.head() == repository.of_release(3) != ""
    assert (paths.storage("greeter") / "file").read_text() == "kept\n"
    assert (paths.release("greeter", 2) / "log" / "build.log").exists()
    assert [number for number in (1, 2, 3) if paths.unbuilt("greeter", number).exists()] == [1, 3]
    assert not paths.secret.exists(), "the keys of sessions are made anew"


@pytest.mark.slow
@every_backup
def test_a_host_restored_from_an_earlier_format_serves_its_apps(backup: Path, tmp_path: Path) -> None:
    with host(restored(backup, tmp_path / "data").data) as running:
        eventually(lambda: running.status("greeter").state == "up")
        assert running.call("greeter", "greet", TOKEN) == {"result": "Hello"}
        assert running.portway("rollback", "greeter", "1").returncode == 0
        assert running.call("greeter", "greet", TOKEN) == {"result": "not set"}
