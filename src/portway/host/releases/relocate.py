"""Mends the releases of a data directory that was moved or copied: their venvs name its old place."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from portway.host.files import write_durably
from portway.host.paths import Paths

_LARGEST = 256 * 1024  # no script of a venv is larger


def relocate(paths: Paths) -> None:
    """Rewrite the files that name the old place, if there is one, and store the present one.

    If interrupted, it is repeated at the next start. uv's cache is deleted: uv fills it again.
    """
    here = os.fsencode(paths.data)
    there = paths.location.read_bytes() if paths.location.exists() else here
    if there != here:
        releases = paths.data / "apps"
        for pattern in ("venv", "venv/bin", "venv/lib/python*/site-packages", "bin"):
            for folder in releases.glob(f"*/releases/*/{pattern}"):
                if folder.resolve() == folder:  # a build may have put a link there, which leads elsewhere
                    _rewrite(folder, there, here)
        for folder in paths.cache.glob(".local/share/uv/python"):  # interpreters that uv has fetched
            _rewrite(folder, there, here)
        shutil.rmtree(paths.cache / ".cache", ignore_errors=True)
    if there != here or not paths.location.exists():
        write_durably(paths.location, here)


def _rewrite(folder: Path, there: bytes, here: bytes) -> None:
    """Rewrite the links of a folder, its scripts and settings, and the files that add folders to `sys.path`."""
    with _writable(folder):
        for path in list(folder.iterdir()):
            if path.is_symlink():
                target = os.fsencode(path.readlink())
                if target.startswith(there + b"/"):
                    path.unlink()
                    path.symlink_to(os.fsdecode(here + target.removeprefix(there)))
            elif path.is_file() and (folder.name == "bin" or path.suffix in (".cfg", ".pth")):
                _replace(path, there, here)


def _replace(path: Path, there: bytes, here: bytes) -> None:
    """Replace a file instead of changing it: it may be a hard link shared with another venv or uv's cache."""
    if path.stat().st_size > _LARGEST:
        return
    content = path.read_bytes()
    if there + b"/" in content:
        draft = path.with_name(f"{path.name}.new")
        draft.unlink(missing_ok=True)  # a link that a build has put there
        draft.write_bytes(content.replace(there + b"/", here + b"/"))
        draft.chmod(path.stat().st_mode)
        draft.replace(path)


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Let a read-only folder be written while the block lasts."""
    mode = folder.stat().st_mode
    folder.chmod(mode | 0o200)
    try:
        yield
    finally:
        folder.chmod(mode)
