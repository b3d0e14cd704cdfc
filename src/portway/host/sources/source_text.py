"""Reads a small text file of a source."""

from pathlib import Path

from portway.host.builds.build_error import BuildError
from portway.host.files import read_start

LARGEST = 256 * 1024


def source_text(path: Path) -> str:
    """Return what is in the file. Raises `BuildError` if it is larger than `LARGEST` bytes, `OSError` if it is none."""
    content = read_start(path, LARGEST + 1)
    if len(content) > LARGEST:
        raise BuildError(f"{path.name} is larger than {LARGEST // 1024} KB")
    return content.decode(errors="replace")
