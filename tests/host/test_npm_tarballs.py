"""Builds of Node apps with the machine's npm, and a registry on the loopback that counts what is fetched."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from portway.host.app_config import AppConfig
from portway.host.builds import npm_tarballs
from portway.host.builds.build import build
from portway.host.builds.node_recipe import NodeRecipe
from portway.host.builds.recipe import read_recipe
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.sandbox.walls import Walls
from tests.host.required_walls import required_walls

CONTENT = ".npm/_cacache/content-v2/sha512"
FILES = f'$(find "$HOME/{CONTENT}" -type f)'


def tarball(name: str) -> bytes:
    package = json.dumps({"name": name, "version": "1.0.0"}).encode()
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/package.json")
        member.size = len(package)
        archive.addfile(member, io.BytesIO(package))
    return written.getvalue()


@dataclass
class Registry:
    """The tarballs it has, and the names of those that were asked for."""

    url: str
    tarballs: dict[str, bytes]
    asked: list[str] = field(default_factory=list)

    def lock(self) -> str:
        packages: dict[str, object] = {"": {"dependencies": dict.fromkeys(self.tarballs, "1.0.0")}}
        for name, content in self.tarballs.items():
            integrity = f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"
            resolved = f"{self.url}/{name}"
            packages[f"node_modules/{name}"] = {"version": "1.0.0", "resolved": resolved, "integrity": integrity}
        return json.dumps({"lockfileVersion": 3, "requires": True, "packages": packages})

    def digests(self) -> list[str]:
        return [hashlib.sha512(content).hexdigest() for content in self.tarballs.values()]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            found.asked.append(name)
            self.send_response(200 if name in found.tarballs else 404)
            self.end_headers()
            self.wfile.write(found.tarballs.get(name, b""))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        found = Registry(url, {name: tarball(name) for name in ("left", "right")})
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("npm_config_registry", url)
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def walls(paths: Paths) -> Walls:
    return required_walls(paths, "files")


def install(paths: Paths, walls: Walls, registry: Registry, app: str, script: str = "", **files: str) -> None:
    """Build a Node app; `script` runs within its installation."""
    release = Release(app, 1, paths.release(app, 1), AppConfig(start_command="node main.js"))
    release.folder.mkdir(parents=True)
    scripts = {"postinstall": script} if script else {}
    package = {"dependencies": dict.fromkeys(registry.tarballs, "1.0.0"), "scripts": scripts}
    for name, content in {"package.json": json.dumps(package), "package-lock.json": registry.lock(), **files}.items():
        (release.folder / name).write_text(content)
    recipe = read_recipe(release.folder, release.config, {})
    assert isinstance(recipe, NodeRecipe)
    asyncio.run(build(release, recipe, paths, {}, walls))
    for name in registry.tarballs:
        assert json.loads((release.folder / "node_modules" / name / "package.json").read_text())["name"] == name


@pytest.mark.slow
def test_what_one_app_has_fetched_from_npm_is_not_fetched_for_another(
    paths: Paths, walls: Walls, registry: Registry
) -> None:
    install(paths, walls, registry, "one")
    assert sorted(registry.asked) == ["left", "right"]
    install(paths, walls, registry, "two")
    assert len(registry.asked) == 2
    shared, own = (paths.npm_tarballs / registry.digests()[0], _own(paths, "two", registry.digests()[0]))
    assert shared.read_bytes() == own.read_bytes()
    assert not shared.samefile(own), "a build could write what others get"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "files"),
    [
        (f"for f in {FILES}; do chmod u+w $f; echo more >> $f; done", {}),
        (f"for f in {FILES}; do mv $f $HOME/x; ln -s $HOME/x $f; done", {}),
        (f"for f in {FILES}; do rm $f; mkfifo $f; done", {}),
        ("mv $HOME/.npm $HOME/moved; ln -s moved $HOME/.npm", {}),
        ("", {".npmrc": "//npm.example/:_authToken=${TOKEN}"}),
    ],
    ids=["other bytes", "links", "pipes", "a link to the cache", "an .npmrc of its own"],
)
def test_what_others_must_not_get_is_not_shared(
    paths: Paths, walls: Walls, registry: Registry, script: str, files: dict[str, str]
) -> None:
    install(paths, walls, registry, "evil", script, **files)
    assert not list(paths.npm_tarballs.glob("*"))
    install(paths, walls, registry, "other")
    assert sorted(registry.asked) == ["left", "left", "right", "right"]


def _own(paths: Paths, app: str, digest: str) -> Path:
    return paths.app_cache(app) / CONTENT / digest[:2] / digest[2:4] / digest[4:]


def _fetched(paths: Paths, app: str, registry: Registry) -> None:
    """Put the tarballs into the app's cache, as npm does."""
    for digest, content in zip(registry.digests(), registry.tarballs.values(), strict=True):
        _own(paths, app, digest).parent.mkdir(parents=True)
        _own(paths, app, digest).write_bytes(content)


def test_tarballs_are_not_lent_through_a_link_that_a_build_has_left(paths: Paths, registry: Registry) -> None:
    _fetched(paths, "one", registry)
    npm_tarballs.share_tarballs(paths, "one", registry.digests())
    assert len(list(paths.npm_tarballs.iterdir())) == 2
    outside = paths.data / "outside"
    outside.mkdir()
    paths.app_cache("evil").mkdir(parents=True)
    (paths.app_cache("evil") / ".npm").symlink_to(outside)
    npm_tarballs.lend_tarballs(paths, "evil", registry.digests())
    assert not list(outside.iterdir())


def test_damaged_and_least_recently_used_tarballs_are_removed(
    paths: Paths, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = registry.digests()
    _fetched(paths, "one", registry)
    npm_tarballs.share_tarballs(paths, "one", [first, second])
    for digest in (first, second):
        os.utime(paths.npm_tarballs / digest, (0, 0))
    paths.app("two").mkdir()
    npm_tarballs.lend_tarballs(paths, "two", [first])
    monkeypatch.setattr(npm_tarballs, "_MOST_BYTES", len(registry.tarballs["left"]) + 1)
    npm_tarballs.share_tarballs(paths, "two", [])
    assert [path.name for path in paths.npm_tarballs.iterdir()] == [first]
    (paths.npm_tarballs / first).write_bytes(b"")
    paths.app("three").mkdir()
    npm_tarballs.lend_tarballs(paths, "three", [first])
    assert not list(paths.npm_tarballs.iterdir())
    assert not list((_own(paths, "three", first).parent).iterdir())
