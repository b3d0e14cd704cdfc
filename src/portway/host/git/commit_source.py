"""A commit as the source of a release: its files written to a folder; submodules, Git LFS and odd paths are refused."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from portway.host.git.git_command import FULL, GitError, open_git
from portway.host.git.repository import Repository, commit_id
from portway.host.sources.source import SourceError
from portway.host.sources.source_rules import SKIPPED, refuse_large, refuse_link_out, refuse_many

_LONGEST_PATH = 1024
_LONGEST_LINK = 4096
_PIECE_BYTES = 1024 * 1024
_NOT_WHOLE = "the commit cannot be read: some of its files are missing"
_LFS = b"version https://git-lfs.github.com/spec/"  # the start of a pointer file
_LFS_BYTES = 1024  # pointers are shorter
_ENTRY = re.compile(rb"(\d{6}) (\w+) ([0-9a-f]+) +(-|\d+)\t(.*)", re.DOTALL)
_LINK, _SUBMODULE, _PROGRAM = b"120000", b"160000", b"100755"


@dataclass(frozen=True, slots=True)
class CommitSource:
    """A `Source`: the files of a commit, as they were committed. `slug` is OWNER/NAME of where it comes from.

    A push takes the place of what is live if its history holds that, or if it `replaces` just that. With None, the
    commit takes the place of anything.
    """

    repository: Repository
    commit: str
    branch: str
    location: str
    name: str
    slug: str = ""
    replaces: str | None = None

    async def variables(self) -> dict[str, str]:
        found = {
            "RENDER_GIT_COMMIT": self.commit,
            "RENDER_GIT_BRANCH": self.branch,
            "RENDER_GIT_REPO_SLUG": self.slug,
        }
        return {name: value for name, value in found.items() if value}

    def copy_to(self, target: Path) -> None:
        """Raise `SourceError` for a submodule, a file in Git LFS, a link out of the commit, or more than 512 MB."""
        try:
            copy_commit(self.repository, self.commit, target)
        except GitError as error:
            raise SourceError(str(error)) from None

    def refuse_loss(self, live: str) -> None:
        """Raise `SourceError` when the commit lacks what is live, as after another's push. Raises `GitError`."""
        if not live or self.replaces in (None, live):
            return
        if not self.repository.has_ancestor(self.commit, live):
            raise SourceError(
                f"{live[:7]} is live and not in the history of {self.commit[:7]}: pull it, or replace it by "
                "`git push --force -o force`"
            )


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: bytes
    id: bytes
    size: int
    path: str


def copy_commit(repository: Repository, commit: str, target: Path) -> None:
    """Write the files of a commit into the new folder `target`, but for those that no source brings.

    Sizes and paths are checked before anything is written. Raises `SourceError` and `GitError`.
    """
    entries = list(_entries(repository, commit))
    target.mkdir(parents=True)
    links = []
    with open_git(repository.environment(), "cat-file", "--batch") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for entry in entries:
            process.stdin.write(entry.id + b"\n")
            process.stdin.flush()
            head = process.stdout.readline().split()
            if len(head) != 3 or int(head[2]) != entry.size:
                raise GitError(_NOT_WHOLE)
            if entry.mode == _LINK:
                links.append((entry.path, os.fsdecode(process.stdout.read(entry.size))))
            else:
                _write(entry, process.stdout, target)
            process.stdout.read(1)  # the end of its line
    for path, pointed in links:  # last, so that nothing is written through a link
        with _said(path):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).symlink_to(pointed)
    root = target.resolve()
    for path, _ in links:
        refuse_link_out(target / path, root, _shown(path))


def _entries(repository: Repository, commit: str) -> Iterator[_Entry]:
    """Yield what is copied of a commit."""
    size = 0
    with open_git(repository.environment(), "ls-tree", "-r", "-z", "-l", "--full-tree", commit_id(commit)) as process:
        assert process.stdout is not None
        for count, line in enumerate(_split(process.stdout), 1):
            found = _ENTRY.fullmatch(line)
            if found is None:
                raise GitError(_NOT_WHOLE)
            mode, _, identity, length, path = found.groups()
            entry = _Entry(mode, identity, 0 if length == b"-" else int(length), os.fsdecode(path))
            refuse_many(count, "the commit")
            _check(entry)
            if not SKIPPED.isdisjoint(entry.path.split("/")):
                continue
            size += entry.size
            refuse_large(size, "the commit")
            yield entry
        if process.wait():
            raise GitError(_NOT_WHOLE)


def _split(output: IO[bytes]) -> Iterator[bytes]:
    """Yield what stands before each NUL. What is longer than a line of `ls-tree` can be here comes in pieces."""
    rest = b""
    while piece := output.read(_PIECE_BYTES):
        *whole, rest = (rest + piece).split(b"\0")
        yield from whole
        if len(rest) > _PIECE_BYTES:
            yield rest


def _check(entry: _Entry) -> None:
    """Raise `SourceError` for what is neither a file nor a link with a sensible path."""
    named, parts = _shown(entry.path), entry.path.split("/")
    if entry.mode == _SUBMODULE:
        raise SourceError(f"{named} is a submodule, which is not fetched: commit its files to this repository")
    if any(part.lower() in ("", ".", "..", ".git") for part in parts):
        raise SourceError(f"{named} is no path of a source: rename it")
    if len(os.fsencode(entry.path)) > _LONGEST_PATH or (entry.mode == _LINK and entry.size > _LONGEST_LINK):
        raise SourceError(f"{named[:100]}… is too long a path: shorten it")


def _write(entry: _Entry, content: IO[bytes], target: Path) -> None:
    """Write the next `entry.size` bytes of `content` into the file of an entry."""
    path, left = target / entry.path, entry.size
    mode = 0o777 if entry.mode == _PROGRAM else 0o666
    with _said(entry.path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
            while left:
                piece = content.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise GitError(_NOT_WHOLE)
                if entry.size < _LFS_BYTES and piece.startswith(_LFS):
                    raise SourceError(
                        f"{_shown(entry.path)} is in Git LFS, and only its pointer is in the commit: commit the file "
                        "itself, as by `git lfs migrate export`"
                    )
                file.write(piece)
                left -= len(piece)


@contextmanager
def _said(path: str) -> Iterator[None]:
    """Say which file the system does not take, such as a name that is too long or there twice."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SourceError(FULL) from None
        raise SourceError(f"no file can be named {_shown(path)}: {error.strerror}") from None


def _shown(path: str) -> str:
    return path if path.isprintable() else ascii(path)
