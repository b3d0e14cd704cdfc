"""Reads how a Node app is built and started: the versions of Node that it admits, its package manager, the scripts of
its package.json.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from portway.host.app_config import AppConfig
from portway.host.builds.build_error import BuildError
from portway.host.sources.source_text import source_text

Manager = Literal["npm", "pnpm", "yarn"]

LOCKS: dict[str, Manager] = {
    "package-lock.json": "npm",
    "npm-shrinkwrap.json": "npm",
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "yarn",
}
OLDEST = 20
_ANY = range(OLDEST, 100)
_COMPARATOR = re.compile(r"(>=|<=|>|<|=|\^|~)?\s*v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?[-+.\w]*")


class _Package(msgspec.Struct, rename="camel"):
    """What matters here of a package.json."""

    scripts: dict[str, str] = {}
    engines: dict[str, str] = {}
    dependencies: dict[str, str] = {}
    package_manager: str = ""
    main: str = ""


@dataclass(frozen=True, slots=True)
class NodeRecipe:
    """What is read from a Node app's files.

    `majors` are the major versions of Node that it admits, as `wish` says, which comes from `wisher`. `manager` is the
    package manager with its version if the app names one ("" if not), `lock` its lock file, "" if there is none.
    `start` is the command that serves it, when the app has no start command of its own.
    """

    wish: str
    wisher: str
    majors: frozenset[int]
    manager: Manager
    manager_version: str
    lock: str
    has_build: bool
    start: str = ""

    def describe(self) -> str:
        """Return one line for a deploy's log."""
        wish = f" ({self.wisher}: {self.wish})" if self.wish else ""
        return f"node{wish}, {self.lock or 'package.json, no lock'}"


def read_node_recipe(folder: Path, config: AppConfig, variables: Mapping[str, str]) -> NodeRecipe:
    """Read it from the files of an app. Raises `BuildError` when they cannot be what a start needs."""
    package = _package(folder / "package.json")
    wisher, wish = _wish(folder, package, variables)
    majors = frozenset(admitted(wish))
    if not majors:
        raise BuildError(f"{wisher} asks for Node {wish}, but Portway runs Node {OLDEST} and later")
    locks = [name for name in LOCKS if (folder / name).is_file()]
    named, _, version = package.package_manager.partition("@")
    if not config.build_command and named not in {"", *LOCKS.values()}:
        raise BuildError(f"package.json asks for {named}: use npm, pnpm or yarn, or give a --build command")
    if not config.build_command and not locks and ((folder / "bun.lock").is_file() or (folder / "bun.lockb").is_file()):
        raise BuildError("the lock file is bun's: use npm, pnpm or yarn, or give a --build command")
    lock = next((name for name in locks if LOCKS[name] == named), locks[0] if locks else "")
    manager: Manager = LOCKS[lock] if lock else msgspec.convert(named or "npm", Manager)
    if not re.fullmatch(r"\d+(\.\d+){0,2}[-.\w]*", version.partition("+")[0]) or named != manager:
        version = ""
    start = "" if config.start_command else _start(folder, package)
    return NodeRecipe(wish, wisher, majors, manager, version.partition("+")[0], lock, "build" in package.scripts, start)


def admitted(wish: str) -> list[int]:
    """Return the major versions from `OLDEST` on that a version or an npm range admits; all of them for an alias."""
    found: set[int] = set()
    for alternative in wish.split("||"):
        majors = set(_ANY)
        text = re.sub(r"(\S+)\s+-\s+(\S+)", r">=\1 <=\2", alternative.strip())
        for operator, major, minor, patch in _COMPARATOR.findall(text):
            if not major.isdigit():
                continue
            number = int(major)
            is_whole = not minor.isdigit() and not patch.isdigit()
            starts_at = not any(part.isdigit() and int(part) for part in (minor, patch))
            low, high = {
                ">=": (number, 100),
                ">": (number + is_whole, 100),
                "<": (0, number if starts_at else number + 1),
                "<=": (0, number + 1),
            }.get(operator, (number, number + 1))
            majors &= set(range(low, high))
        found |= majors
    return sorted(found)


def _package(path: Path) -> _Package:
    if not path.is_file():
        return _Package()
    try:
        return msgspec.json.decode(source_text(path), type=_Package)
    except msgspec.DecodeError as error:
        raise BuildError(f"package.json cannot be read: {error}") from None


def _wish(folder: Path, package: _Package, variables: Mapping[str, str]) -> tuple[str, str]:
    """Return what says which Node the app wants, and what it says; two empty texts if nothing does."""
    if wanted := variables.get("NODE_VERSION", "").strip():
        return "NODE_VERSION", wanted
    for name in (".node-version", ".nvmrc"):
        if (folder / name).is_file():
            lines = source_text(folder / name).splitlines()
            wanted = next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")
            return name, wanted
    return ("engines in package.json", package.engines["node"]) if package.engines.get("node") else ("", "")


def _start(folder: Path, package: _Package) -> str:
    """Return what `npm start` runs. Raises `BuildError` when there is nothing to run."""
    if script := package.scripts.get("start"):
        before = package.scripts.get("prestart")
        return f"{before} && {script}" if before else script
    if (folder / "server.js").is_file():
        return "node server.js"
    candidates = (package.main, "index.js", "server.mjs", "index.mjs", "dist/index.js", "build/index.js")
    guess = next((name for name in candidates if name and (folder / name).is_file()), "server.js")
    raise BuildError(
        f"package.json has no start script: add one, or give the command that serves MCP over HTTP on the port PORT, "
        f"as in --start 'node {guess}'"
    )
