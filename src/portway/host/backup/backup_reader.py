"""Reads a backup and believes nothing of it: damaged, cut, or of an unknown format."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import msgspec

from portway.host.backup.backup_format import (
    END,
    FORMAT,
    LARGEST_TEXT,
    LATEST,
    MANIFEST,
    PIECE_BYTES,
    BackupError,
    End,
    Manifest,
    Tally,
)
from portway.host.store.tables import HEAD

_HEAD_BYTES = 64 * 1024  # of one member, with the long names that go before it
_AHEAD_BYTES = 64 * 1024  # that tarfile reads at a time


class _Format(msgspec.Struct):
    format: int


class BackupReader:
    """Reads from `stream`, whose name in messages is `name`. Every method raises `BackupError`."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        """Read the manifest."""
        self._name = name
        self._tally = Tally()
        self._bounded = _Bounded(gzip.GzipFile(fileobj=stream, mode="rb"))
        try:
            self._tar = tarfile.open(fileobj=self._bounded, mode="r|", bufsize=_AHEAD_BYTES)  # type: ignore[call-overload]  # noqa: SIM115  # a stream to its end
            first = self._next()
            text = b"" if first is None or first.name != MANIFEST else self.text(first)
            found = msgspec.json.decode(text, type=_Format)
        except (BackupError, msgspec.DecodeError, OSError, EOFError, tarfile.TarError, zlib.error):
            raise BackupError(f"{name} is not a backup of Portway, or its beginning is damaged") from None
        newer = BackupError(f"{name} was made by a newer Portway: upgrade this one, then restore it")
        if found.format > FORMAT:
            raise newer
        with self._read_whole():
            self.manifest = msgspec.json.decode(text, type=Manifest)
        if self.manifest.schema > HEAD:
            raise newer

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield what follows the manifest. Of each file, the caller reads all before it asks for the next.

        After the last, what was read is compared with the digest.
        """
        while True:
            expected = self._tally.end()
            member = self._next()
            if member is None:
                raise self.damaged()
            if member.name == END:
                with self._read_whole():
                    if msgspec.json.decode(self.text(member), type=End) != expected or self._next() is not None:
                        raise self.damaged()
                    self._bounded.read_to_end()
                return
            yield member

    def pieces(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        """Yield the content of a file."""
        with self._read_whole():
            file = self._tar.extractfile(member)
            left = member.size
            while left:
                self._bounded.left = PIECE_BYTES + _AHEAD_BYTES
                content = file.read(min(left, PIECE_BYTES)) if file else b""
                if not content:
                    raise self.damaged()
                left -= len(content)
                self._tally.add(content)
                yield content

    def text(self, member: tarfile.TarInfo) -> bytes:
        """Return the content of a short file."""
        if not member.isreg() or member.size > LARGEST_TEXT:
            raise self.damaged()
        return b"".join(self.pieces(member))

    def damaged(self) -> BackupError:
        return BackupError(f"{self._name} is damaged or cut off: restore another backup")

    def _next(self) -> tarfile.TarInfo | None:
        with self._read_whole():
            self._bounded.left = _HEAD_BYTES + _AHEAD_BYTES
            member: tarfile.TarInfo | None = self._tar.next()
            self._tar.members.clear()  # it remembers each
            if member is not None:
                if member.size < 0 or member.issparse() or not 0 <= member.mtime <= LATEST:
                    raise self.damaged()
                self._tally.begin(member)
            return member

    @contextmanager
    def _read_whole(self) -> Iterator[None]:
        """Raise `BackupError` for what gzip, tar and JSON say of damage."""
        try:
            yield
        except (OSError, EOFError, tarfile.TarError, zlib.error, msgspec.DecodeError, UnicodeError, ValueError):
            raise self.damaged() from None


class _Bounded:
    """A stream of which no more than `left` bytes are read: tarfile holds a member's head in memory, however long."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.left = _HEAD_BYTES + _AHEAD_BYTES
        self._stream = stream

    def read(self, count: int) -> bytes:
        self.left -= count
        if self.left < 0:
            raise tarfile.ReadError
        return self._stream.read(count)

    def read_to_end(self) -> None:
        """Read what follows the tar, zeros, and compare gzip's own checksum. Raises `OSError` or `EOFError`."""
        while content := self._stream.read(PIECE_BYTES):
            if content.strip(b"\0"):
                raise EOFError
