"""Paths of a host of which only parts run; repositories elsewhere, and a host that fetches them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.host.paths import Paths
from portway.host.secrets.key_file import KeyFile
from portway.host.secrets.variables import Owner, Variables
from portway.host.store import Store
from tests.host.backup_verbs import back_up
from tests.host.git_upstream import Upstream, upstream
from tests.host.log_writer import log_writer
from tests.host.running_host import Host, host


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    with tempfile.TemporaryDirectory(dir="/tmp") as run:
        paths = Paths(tmp_path / "data", Path(run) / "run")
        paths.prepare()
        with log_writer(paths):
            yield paths


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that fetches from this machine, too."""
    with host(tmp_path_factory.mktemp("host") / "data", options=["--allow-private-sources"]) as running:
        yield running


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Upstream]:
    """A server of repositories elsewhere."""
    with upstream(tmp_path / "elsewhere") as serving:
        yield serving


@pytest.fixture
def host_data(paths: Paths) -> Path:
    """Return the data directory of a host with a variable and with storage of every kind of file."""
    store = Store(paths.database)
    store.begin_release("app", "/")
    Variables(store, KeyFile(paths.key)).set(Owner("app", "app"), {"PASSWORD": "secret"})
    store.close()
    storage = paths.storage("app")
    (storage / "folder" / "empty").mkdir(parents=True)
    (storage / "folder" / "file").write_bytes(os.urandom(1000))
    (storage / "folder" / "file").chmod(0o640)
    (storage / os.fsdecode(b"not \xff text\n")).write_text("named")
    (storage / "inside").symlink_to("folder/file")
    (storage / "absolute").symlink_to(storage / "folder")
    (storage / "outside").symlink_to("../../../key")
    for number in range(38):
        (storage / "folder" / f"outside-{number}").symlink_to("/etc")
    os.mkfifo(storage / "pipe")
    os.utime(storage / "folder" / "file", (-5, -5))
    deep = storage
    for _ in range(13):
        deep /= "deep" * 60
    deep.mkdir(parents=True)
    (paths.calls / "000000000001.jsonl").write_text("{}\n")
    return paths.data


@pytest.fixture
def backup(host_data: Path, tmp_path: Path) -> Path:
    file = tmp_path / "host.backup"
    made = back_up(host_data, file, "--key-to", str(tmp_path / "host.key"))
    assert made.exit_code == 0, made.output
    return file
