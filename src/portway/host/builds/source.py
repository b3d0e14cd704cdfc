"""A release's source: a private copy of the author's folder."""

import os
import re
import shutil
from pathlib import Path

_SKIPPED = {
    ".git",
    ".hg",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".env",
}
_LARGEST = 512 * 1024 * 1024
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")


class SourceError(Exception):
    """The folder cannot become a release; the message is one sentence for its author."""


def app_name(folder: Path, given: str | None) -> str:
    """The one given, else one made of the folder's. Raises `SourceError` unless a host name can hold it."""
    name = given or re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
    if not _NAME.fullmatch(name):
        raise SourceError(
            f"{name!r} cannot name an app: give --name up to 40 lower-case letters, digits, hyphens, a letter first"
        )
    return name


def copy_source(folder: Path, target: Path) -> None:
    """Copy `folder` to a new `target`. Raises `SourceError` for a link out of it, a special file, or too much."""
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder}: give the one that holds your server")
    root = folder.resolve()
    size = 0
    target.mkdir(parents=True)
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        here = Path(place)
        there = target / here.relative_to(root)
        for name in [*folders, *files]:
            path = here / name
            if name in _SKIPPED:
                continue
            if path.is_symlink():
                _copy_link(path, there / name, root)
            elif path.is_dir():
                (there / name).mkdir()
            elif path.is_file():
                size += path.stat().st_size
                if size > _LARGEST:
                    raise SourceError(
                        f"{folder} holds more than {_LARGEST // 2**20} MB: move what the server does not need out of it"
                    )
                shutil.copy2(path, there / name)
            else:
                raise SourceError(f"{path} is neither a file nor a folder: remove it from what you deploy")


def _copy_link(link: Path, target: Path, root: Path) -> None:
    try:
        pointed = link.resolve()
    except (RuntimeError, OSError):  # a loop: the former until Python 3.12
        raise SourceError(f"{link} is a link that leads to itself: remove it") from None
    if not pointed.is_relative_to(root) or link.readlink().is_absolute():
        raise SourceError(f"{link} is a link out of the folder (to {link.readlink()}): replace it by what it points to")
    target.symlink_to(link.readlink())
