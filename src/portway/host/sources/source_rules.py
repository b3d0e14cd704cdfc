"""What every kind of source is held to: its size (512 MB) and number of files, what is left out of it (.git, .venv …),
where its links lead.
"""

from pathlib import Path

from portway.host.sources.source import SourceError

SKIPPED = frozenset(
    (
        *(".git", ".hg", ".venv", "venv", "node_modules", "__pycache__"),
        *(".mypy_cache", ".ruff_cache", ".pytest_cache"),
    )
)
LARGEST_BYTES = 512 * 1024 * 1024  # of all files together
MOST_FILES = 50_000  # with folders, where a source has these


def refuse_large(size: int, name: str) -> None:
    """Raise `SourceError` when the files of the source `name` have more bytes together than one may have."""
    if size > LARGEST_BYTES:
        limit = LARGEST_BYTES // 2**20
        raise SourceError(f"{name} holds more than {limit} MB: move what the server does not need out of it")


def refuse_many(count: int, name: str) -> None:
    """Raise `SourceError` when the source `name` has more files than one may have."""
    if count > MOST_FILES:
        raise SourceError(f"{name} has more than {MOST_FILES} files: leave out what the server does not need")


def refuse_link_out(link: Path, root: Path, name: str) -> None:
    """Raise `SourceError` unless the link, called `name`, leads to a place in `root` from wherever that is."""
    try:
        pointed = link.resolve()
    except (RuntimeError, OSError):  # a loop: the former until Python 3.12
        raise SourceError(f"{name} is a link that leads to itself: remove it") from None
    if not pointed.is_relative_to(root) or link.readlink().is_absolute():
        raise SourceError(f"{name} is a link out of the folder (to {link.readlink()}): replace it by what it points to")
