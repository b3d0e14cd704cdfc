"""What a backup is, and bounds: a tar compressed by gzip whose members have names and sizes that are known.

    portway-backup.json                   the manifest
    portway.db                            the database, without what belongs to the machine
    apps/APP/repository.bundle            the commits of its releases, as a git bundle
    apps/APP/releases/N/source/…          the source of a build that has no commit
    apps/APP/known_hosts, releases/N/log  the keys of the host its link fetches from, and its logs
    apps/APP/storage/…                    what the app keeps
    calls/*.jsonl                         the call record
    end.json                              how many members there are before it, and their digest

The key of the variables is not in it.
"""

import hashlib
import os
import re
import tarfile
from typing import Annotated

import msgspec

from portway.counted import counted
from portway.host.sources.source import NAME

FORMAT = 1
MANIFEST, DATABASE, BUNDLE, END = "portway-backup.json", "portway.db", "repository.bundle", "end.json"
PIECE_BYTES = 256 * 1024
PROBE = b"backup"
"""The purpose of a manifest's probe."""

LATEST = 2**40
"""The latest time of a file in a backup, in Unix seconds; the earliest is 0."""

LARGEST_TEXT = 1024 * 1024  # of the manifest and the end
_MOST_WARNINGS = 20
_GIGABYTE = 2**30
_APP = rf"apps/(?:{NAME})"
_RELEASE = rf"{_APP}/releases/[1-9]\d{{0,8}}"
_FILES = (
    (re.compile(re.escape(DATABASE)), 16 * _GIGABYTE),
    (re.compile(rf"{_APP}/{re.escape(BUNDLE)}"), 64 * _GIGABYTE),
    (re.compile(rf"{_APP}/known_hosts"), LARGEST_TEXT),
    (re.compile(rf"{_RELEASE}/log/(?:build|instance)\.log"), 64 * 2**20),
    (re.compile(r"calls/\d{12}\.jsonl"), 64 * 2**20),
)
_TREE = re.compile(rf"({_APP}/storage|{_RELEASE}/source)(?:/(.+))?", re.DOTALL)
_LONGEST_PATH, _LONGEST_NAME = 3072, 255


class BackupError(Exception):
    """A backup cannot be made or restored; the message is one sentence for the operator."""


_Line = Annotated[str, msgspec.Meta(max_length=4096, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Manifest(msgspec.Struct, frozen=True):
    """The first member. `schema` is the revision of the database, `made` a time in Unix seconds.

    `host` names the machine and `data` the data directory it was made of. `probe` is encrypted by the key of the
    variables, so that a wrong key is noticed at once; it is empty when nothing in the backup is encrypted.
    """

    format: int
    portway: str
    schema: str
    made: Annotated[int, msgspec.Meta(ge=0, le=LATEST)]
    host: _Line
    data: _Line
    apps: list[str]
    probe: str


class End(msgspec.Struct, frozen=True):
    """The last member; see `Tally`."""

    members: int
    sha256: str


class Tally:
    """Counts the members of a backup, and makes one digest of their heads and their content."""

    def __init__(self) -> None:
        self._members = 0
        self._digest = hashlib.sha256()

    def begin(self, member: tarfile.TarInfo) -> None:
        self._members += 1
        numbers = f"{member.size} {member.mode} {int(member.mtime)} "
        for field in (numbers + member.type.decode("latin-1"), member.name, member.linkname):
            self._digest.update(os.fsencode(field) + b"\0")

    def add(self, content: bytes) -> None:
        self._digest.update(content)

    def end(self) -> End:
        return End(self._members, self._digest.hexdigest())


class Warnings:
    """What is not as it should be with files of apps: the first of it, and how much more there is."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._count = 0

    def add(self, path: str, what: str) -> None:
        self._count += 1
        if self._count <= _MOST_WARNINGS:
            self._first.append(f"{path if path.isprintable() else ascii(path)} {what}")

    def lines(self) -> list[str]:
        more = self._count - len(self._first)
        return [*self._first, *([f"and {counted(more, 'file')} more"] if more else [])]


def largest(name: str) -> int | None:
    """Return how many bytes the file of that name may have in a backup, None when a backup has no such file."""
    return next((most for pattern, most in _FILES if pattern.fullmatch(name)), None)


def place_in_tree(name: str) -> str | None:
    """Return the folder of an app's files that a member belongs to, None when its name is none of such a member."""
    found = _TREE.fullmatch(name)
    if found is None:
        return None
    parts = (found[2] or "_").split("/")
    is_long = len(os.fsencode(name)) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts)
    if is_long or "\0" in name or not {"", ".", ".."}.isdisjoint(parts):
        return None
    return found[1]
