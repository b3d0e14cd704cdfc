"""Bytecode (.pyc) of installed packages, compiled once on a host, then linked into every environment that has the same
files.

A package's bytecode is kept under the digests of its Python files, as its RECORD (of a wheel) lists them, and the
version of Python. It is kept only if the files have these digests, and no code of an app takes part in compiling them:
so no app can give its own bytecode to another.
"""

import asyncio
import base64
import contextlib
import csv
import functools
import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from portway.host.builds import compile_files
from portway.host.builds.build_commands import BuildCommands
from portway.host.files import read_start, remove_tree
from portway.host.paths import Paths
from portway.host.releases.release import Release

_MOST_KEPT = 1000  # packages
_MOST_FILES = 20_000  # of one package, and of the app's own
_LARGEST = 16 * 1024 * 1024  # bytes of a file that is read here


@dataclass(frozen=True, slots=True)
class _Package:
    """An installed package: its Python files, below `root`, with their digests in RECORD; its place in the cache."""

    root: Path
    files: dict[str, str]
    kept: Path


async def add_bytecode(release: Release, interpreter: Path, commands: BuildCommands, paths: Paths) -> None:
    """Give the app's environment and its own files their bytecode. Raises `BuildError`.

    `interpreter` is what the environment was made with, before anything of the app ran.
    """
    if await asyncio.to_thread((release.venv / "bin" / "python").resolve) != interpreter:
        return  # the build has put another program there
    # With -I and -S no file of the environment runs.
    compiler = [str(interpreter), "-I", "-S", compile_files.__file__]
    tag, version = (await commands.ask(compiler, "ask Python for its version")).split()
    packages = await asyncio.to_thread(_packages, release, paths.cache / "bytecode", version)
    missing = await asyncio.to_thread(_link_kept, packages, tag)
    files = [str(package.root / name) for package in missing for name in package.files]
    files += await asyncio.to_thread(_own_files, release)
    listed = release.tools / "compiled.txt"  # where no build can put a link
    listed.write_text("".join(f"{file}\n" for file in files if "\n" not in file))
    await commands.run([*compiler, str(listed)], "compile its packages")
    await asyncio.to_thread(_keep, missing, tag, paths.cache / "bytecode")


def _packages(release: Release, cache: Path, version: str) -> list[_Package]:
    found, venv = [], release.venv.resolve()

    @functools.cache
    def is_own(folder: Path) -> bool:
        """Return whether a folder and its bytecode are in the environment, whatever links a build has made."""
        return folder.resolve().is_relative_to(venv) and not (folder / "__pycache__").is_symlink()

    for record in release.venv.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        root, files = record.parents[1], dict[str, str]()
        for row in _rows(record):
            is_python = len(row) > 1 and row[0].endswith(".py") and len(files) < _MOST_FILES
            if is_python and is_own((root / row[0]).parent) and _is_plain(root / row[0]):
                files[row[0]] = row[1]
        digest = hashlib.sha256(repr((version, sorted(files.items()))).encode()).hexdigest()[:32]
        found.append(_Package(root, files, cache / digest))
    return found


def _rows(record: Path) -> list[list[str]]:
    """Return the rows of a package's RECORD; none when a build has put something else there."""
    try:
        return list(csv.reader(read_start(record, _LARGEST).decode(errors="replace").splitlines()))
    except (OSError, csv.Error):
        return []


def _own_files(release: Release) -> list[str]:
    """Return the Python files of the app itself, without those of packages in its folder.

    No link is followed: one that a build has made could lead to the files of another app.
    """
    found: list[str] = []
    for place, folders, files in os.walk(release.source):
        folders[:] = [name for name in folders if name not in {"node_modules", "site-packages"}]
        if not os.path.islink(os.path.join(place, "__pycache__")):
            paths = (os.path.join(place, name) for name in files if name.endswith(".py"))
            found += [path for path in paths if _is_plain(path)]
        if len(found) > _MOST_FILES:
            break
    return found[:_MOST_FILES]


def _is_plain(path: Path | str) -> bool:
    """Return whether there is a file, no link and no pipe."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def _link_kept(packages: list[_Package], tag: str) -> list[_Package]:
    """Link what is kept into the environment; return the packages of which nothing is, without any bytecode.

    Bytecode that cannot be removed is the build's own: its package is left out.
    """
    missing = []
    for package in packages:
        if package.kept.is_dir():
            os.utime(package.kept)
            for name in package.files:
                source = package.kept / _flat(name)
                if source.is_file():
                    _link(source, _compiled(package.root / name, tag))
        else:
            with contextlib.suppress(OSError):
                for name in package.files:
                    _compiled(package.root / name, tag).unlink(missing_ok=True)
                missing.append(package)
    return missing


def _keep(packages: list[_Package], tag: str, cache: Path) -> None:
    """Link the bytecode of packages into the cache, and forget those that were used least lately."""
    cache.mkdir(exist_ok=True)
    for package in packages:
        draft = cache / f"{package.kept.name}.{os.getpid()}"
        draft.mkdir(exist_ok=True)
        for name, digest in package.files.items():
            compiled = _compiled(package.root / name, tag)
            if compiled.is_file():
                if not _is_as_recorded(package.root / name, digest):
                    break
                _link(compiled, draft / _flat(name))
        else:
            if not package.kept.exists():
                draft.rename(package.kept)
        remove_tree(draft)
    kept = sorted(cache.iterdir(), key=lambda each: each.stat().st_mtime)
    for old in kept[: max(0, len(kept) - _MOST_KEPT)]:
        remove_tree(old)


def _is_as_recorded(path: Path, digest: str) -> bool:
    algorithm, _, wanted = digest.partition("=")
    try:
        content = read_start(path, _LARGEST)
    except OSError:
        return False
    found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return algorithm == "sha256" and found == wanted


def _compiled(path: Path, tag: str) -> Path:
    return path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc"


def _flat(name: str) -> str:
    """Return a file's name in the cache, which has no folders of its own."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:  # another file system, or too many links
        shutil.copyfile(source, target)
