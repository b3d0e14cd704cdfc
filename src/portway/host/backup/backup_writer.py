"""Writes the file of a backup, member by member."""

import gzip
import io
import stat
import tarfile
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from portway.host.backup.backup_format import END, LATEST, Tally
from portway.host.backup.file_tree import Found

_FAST = 1  # the level of gzip: calls need the processor more than the backup needs the last tenth


class BackupWriter:
    """Writes to `output`; `close` ends the backup, and `size` counts its bytes."""

    def __init__(self, output: BinaryIO) -> None:
        self._zip = gzip.GzipFile("", "wb", _FAST, output, 0)
        self._tar = tarfile.open(  # noqa: SIM115  # `close` ends it
            fileobj=self._zip, mode="w|", format=tarfile.PAX_FORMAT
        )
        self._tally = Tally()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def add_bytes(self, name: str, content: bytes) -> None:
        member = _member(name, tarfile.REGTYPE, 0o600)
        member.size = len(content)
        self._add(member, _Exactly(io.BytesIO(content), self._tally))

    def add_file(self, name: str, path: Path) -> None:
        """Add the bytes that a file has now. Raises `OSError`."""
        with path.open("rb") as file:
            member = _member(name, tarfile.REGTYPE, 0o600)
            member.size = file.seek(0, io.SEEK_END)
            file.seek(0)
            self._add(member, _Exactly(file, self._tally))

    def add_found(self, name: str, found: Found, size: int | None = None) -> bool:
        """Add a file, a folder or a link; `size` is that of a file unless its status has it.

        Return False if a file has become shorter meanwhile: zeros take the place.
        """
        mode, seconds = stat.S_IMODE(found.status.st_mode) & 0o777, min(max(int(found.status.st_mtime), 0), LATEST)
        if found.target is not None:
            member = _member(name, tarfile.SYMTYPE, mode, seconds)
            member.linkname = found.target
        elif found.file is None:
            member = _member(name, tarfile.DIRTYPE, mode, seconds)
        else:
            member = _member(name, tarfile.REGTYPE, mode, seconds)
            member.size = found.status.st_size if size is None else size
            content = _Exactly(found.file, self._tally)
            self._add(member, content)
            return not content.was_short
        self._add(member, None)
        return True

    def close(self) -> None:
        """Write the last member and the end of the file."""
        end = msgspec.json.encode(self._tally.end())
        self.add_bytes(END, end)
        self._tar.close()
        self._zip.close()

    def _add(self, member: tarfile.TarInfo, content: "_Exactly | None") -> None:
        self._tally.begin(member)
        self._tar.addfile(member, content)  # type: ignore[arg-type]  # it has the one method that is used
        self._tar.members.clear()  # type: ignore[attr-defined]  # it remembers each


class _Exactly:
    """Reads as many bytes as are asked for: zeros when a file has no more."""

    def __init__(self, file: BinaryIO, tally: Tally) -> None:
        self.was_short = False
        self._file = file
        self._tally = tally

    def read(self, count: int) -> bytes:
        content = self._file.read(count)
        while len(content) < count:
            more = self._file.read(count - len(content))
            if not more:
                self.was_short = True
                more = bytes(count - len(content))
            content += more
        self._tally.add(content)
        return content


def _member(name: str, kind: bytes, mode: int, seconds: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, seconds
    return member
