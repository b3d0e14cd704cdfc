from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.host import routing_table
from portway.host.paths import PathError, claim, locate


@pytest.fixture(autouse=True)
def own_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # pytest's own are too long to hold sockets
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        yield


def test_all_of_it_is_private(tmp_path: Path) -> None:
    paths = claim(tmp_path / "data")
    for directory in (paths.data, paths.calls, paths.run, paths.instances):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(paths.secret.stat().st_mode) == 0o600
    secret = paths.secret.read_bytes()
    assert len(secret) == 32
    assert claim(tmp_path / "data").secret.read_bytes() == secret


def test_a_socket_path_fits_wherever_the_data_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("long" * 20)))
    paths = locate(tmp_path / ("deep/" * 40))
    assert len(str(paths.instance_socket("0123abcd"))) < 100
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert locate(tmp_path / ("deep/" * 40)) == paths


def test_the_command_line_finds_the_sockets_of_a_host_with_another_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = claim(tmp_path / "data").run
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert locate(tmp_path / "data").run == run


def test_a_folder_with_other_things_in_it_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o755)  # whatever the umask
    (tmp_path / "home" / "thesis.tex").touch()
    with pytest.raises(PathError, match="holds something else: give --data a directory of its own"):
        claim(tmp_path / "home")
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o755


def test_a_planted_run_directory_is_not_trusted(tmp_path: Path) -> None:
    run = locate(tmp_path / "data").run
    run.parent.mkdir(mode=0o700)
    (tmp_path / "elsewhere").mkdir()
    run.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PathError, match="is not a directory of its own"):
        claim(tmp_path / "data")


def test_the_routing_table_survives_the_file(tmp_path: Path) -> None:
    instance = routing_table.InstanceAddress("i", "unix:/run/i.sock")
    table = routing_table.Table(3, "example.org", {"weather": routing_table.App("weather", 2, instances=[instance])})
    path = tmp_path / "routes.json"
    assert routing_table.load(path) == routing_table.Table()
    routing_table.save(path, table)
    assert routing_table.load(path) == table
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
