"""Builds with the real uv, from the index the machine is set up for."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portway.host.builds import build
from portway.host.builds.folder_source import FolderSource
from portway.host.builds.recipe import BuildError, Recipe, read_recipe
from portway.host.builds.wheel import running_wheel
from portway.host.paths import Paths, claim
from portway.host.releases.release import Release
from tests.host.log_writer import log_writer
from tests.host.running_host import build_environment
from tests.support import eventually

SERVER = 'from portway import Server\nserver = Server("s")\n'
PROJECT = '[project]\nname = "p"\nversion = "1"\n'
NO_BACKEND = """
import os, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    with open(os.environ["HOME"] + "/seen", "w") as file:
        file.write(repr(dict(os.environ)))
    with zipfile.ZipFile(os.path.join(folder, "dep-1-py3-none-any.whl"), "w") as archive:
        archive.writestr("dep.py", "")
        archive.writestr("dep-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: dep\\nVersion: 1\\n")
        archive.writestr("dep-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("dep-1.dist-info/RECORD", "")
    return "dep-1-py3-none-any.whl"
"""


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    for name, value in build_environment().items():
        monkeypatch.setenv(name, value)
    paths = claim(tmp_path / "data")
    with log_writer(paths):
        yield paths
    paths.forget_run()


def built(paths: Paths, files: dict[str, str]) -> tuple[Release, str]:
    folder = paths.data.parent / "app"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    release = Release("app", 1, paths.release("app", 1))
    FolderSource(folder).copy_to(release.source)
    start = asyncio.run(build.build(release, read_recipe(release.source), paths, {"GREETING": "hello"}))
    return release, start.name


@pytest.mark.parametrize(
    ("files", "python", "requirements"),
    [
        ({}, None, ""),
        ({"requirements.txt": "idna"}, None, "requirements.txt"),
        ({"pyproject.toml": PROJECT}, None, ""),
        ({"pyproject.toml": PROJECT + 'dependencies = ["idna"]'}, None, "pyproject.toml"),
        ({"pyproject.toml": PROJECT, "uv.lock": "", "requirements.txt": ""}, None, "uv.lock"),
        ({"pyproject.toml": PROJECT + 'requires-python = ">=3.11, <4"'}, None, ""),
        ({"pyproject.toml": PROJECT + 'requires-python = ">=3.99"'}, ">=3.99", ""),
        ({"pyproject.toml": PROJECT + 'requires-python = "~=3.12"'}, "~=3.12", ""),
        ({"pyproject.toml": PROJECT + 'requires-python = ">=3.99"', ".python-version": "3.12\n"}, "3.12", ""),
    ],
)
def test_a_folder_says_how_it_is_built(
    tmp_path: Path, files: dict[str, str], python: str | None, requirements: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert read_recipe(tmp_path) == Recipe(python or sys.executable, requirements)


def test_a_pyproject_that_is_not_toml_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("= 1")
    with pytest.raises(BuildError, match=r"pyproject\.toml is not TOML"):
        read_recipe(tmp_path)


def test_the_wheel_of_the_running_portway_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = running_wheel(tmp_path / "a")
    with ThreadPoolExecutor(8) as deploys:
        second, *others = deploys.map(running_wheel, [tmp_path / "b"] * 8)
    assert set(others) == {second}
    assert first.read_bytes() == second.read_bytes()
    assert first.parent.name == second.parent.name
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
    assert {"portway/__init__.py", "portway/py.typed", "portway/host/store/migrations/env.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_no_index_can_put_another_portway_in_place_of_the_running_one(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoy = tmp_path / "index" / "portway-99.0-py3-none-any.whl"
    decoy.parent.mkdir()
    with zipfile.ZipFile(decoy, "w") as archive:
        archive.writestr("portway-99.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: portway\nVersion: 99.0\n")
        archive.writestr("portway-99.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("portway-99.0.dist-info/RECORD", "")
    monkeypatch.setenv("UV_FIND_LINKS", f"{decoy.parent} {os.environ.get('UV_FIND_LINKS', '')}".strip())

    release, server = built(paths, {"server.py": SERVER, "requirements.txt": "portway[pydantic]\n"})

    assert server == "server.py"
    (packages,) = release.venv.glob("lib/*/site-packages")
    assert (packages / "portway" / "host" / "builds" / "build.py").read_bytes() == Path(build.__file__).read_bytes()
    assert (packages / "pydantic").is_dir(), "the extra was lost"


def test_a_build_knows_nothing_of_the_host_and_leaves_a_release_that_cannot_change(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_SECRET", "hunter2")
    files = {
        "server.py": f"import dep, os, subprocess\nprint(dict(os.environ))\n{SERVER}\n"
        "print('left', subprocess.Popen(['setsid', 'sleep', '1000']).pid)",
        "requirements.txt": "./dep\n",
        "dep/pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "dep"\nversion = "1"\n',
        "dep/backend.py": NO_BACKEND,
    }
    release, _ = built(paths, files)

    left = re.search(r"^left (\d+)$", release.build_log.read_text(), re.MULTILINE)
    assert left
    assert eventually(lambda: not Path("/proc", left[1], "exe").exists()), "a build left a process behind"
    seen = (paths.cache / "seen").read_text() + release.build_log.read_text()
    assert "hunter2" not in seen
    assert "'GREETING': 'hello'" in release.build_log.read_text(), "the app's own variables are there at import"
    for path in (release.source, release.source / "server.py", release.venv / "bin", release.venv / "pyvenv.cfg"):
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH), path
    assert list(release.source.glob("__pycache__/server.*.pyc"))
    release.remove(keep_log=True)
    assert {path.name for path in release.directory.iterdir()} == {"log"}


def test_a_build_that_fails_ends_with_what_its_command_said(paths: Paths) -> None:
    with pytest.raises(BuildError, match=r"could not install its requirements:(.|\n)*portway>=99"):
        built(paths, {"server.py": SERVER, "requirements.txt": "portway>=99"})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"readme": ""}, r"there is no server\.py, main\.py or app\.py here"),
        ({"app.py": "x = 1"}, r"app\.py holds no server"),
        ({"server.py": SERVER + 'mcp = Server("t")'}, r"server\.py holds several servers"),
        ({"server.py": SERVER, "app.py": SERVER}, r"several servers, in server\.py and app\.py: keep one"),
        ({"server.py": "import nothing_here"}, r"No module named 'nothing_here'"),
    ],
)
def test_a_folder_without_exactly_one_server_says_what_mends_it(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    refused = probed(tmp_path, files)
    assert refused.returncode == 1
    assert re.search(message, refused.stderr)


def test_a_file_that_only_imports_the_server_of_another_is_no_second_one(tmp_path: Path) -> None:
    found = probed(tmp_path, {"server.py": "print('hello')\n" + SERVER, "main.py": "from server import server"})
    assert found.stdout == "server.py", "and what the author's module prints is not the answer"


def probed(folder: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run what a build runs to find the server, on a folder of these files."""
    for name, content in files.items():
        (folder / name).write_text(content)
    command = [sys.executable, "-m", "portway.cli.find_server", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
