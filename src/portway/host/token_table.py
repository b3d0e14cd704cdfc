"""The tokens of all apps, which control writes and the gate reads: a file of changes, one JSON line each.

A change appends a line, so it costs the same however many tokens there are. Control replaces the file when it starts,
and when most of its lines are outdated; the gate sees that, and reads the new file from the beginning.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from portway.host.files import write_durably

_LEAST_LINES = 1000  # appended before the file is replaced
_PIECE_BYTES = 128 * 1024  # read and decoded at a time


class Token(msgspec.Struct, frozen=True):
    """A bearer token. `digest` is its SHA-256 in hex; the token itself is stored nowhere.

    `expires` is in Unix seconds, None for never.
    """

    digest: str
    app: str
    name: str
    id: int
    scopes: list[str] = []
    expires: int | None = None


class TokenChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: a token to `add`, or the digest of one to `drop`."""

    add: Token | None = None
    drop: str = ""


_FIRST = TokenChange()
"""The first line, so that a file without tokens is not empty."""


def apply(changes: Iterable[TokenChange], tokens: dict[str, Token]) -> None:
    """Make changes to the tokens, by digest."""
    for change in changes:
        if change.add is not None:
            tokens[change.add.digest] = change.add
        else:
            tokens.pop(change.drop, None)


class TokenWriter:
    """Control's end of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._appended = self._most = 0
        self._written: os.stat_result | None = None

    def write(self, tokens: Iterable[Token]) -> None:
        """Replace the file. Raises OSError."""
        lines = [_FIRST, *(TokenChange(token) for token in tokens)]
        write_durably(self._path, msgspec.json.Encoder().encode_lines(lines))
        self._appended, self._most = 0, max(_LEAST_LINES, len(lines))
        self._written = self._path.stat()

    def append(self, changes: Iterable[TokenChange]) -> bool:
        """Add changes. Return False when the file must be replaced instead. Raises OSError."""
        if self._appended > self._most or not self.is_intact():
            return False
        lines = list(changes)
        with self._path.open("ab", buffering=0) as file:
            data = msgspec.json.Encoder().encode_lines(lines)
            if file.write(data) < len(data):
                self._written = None
                raise OSError("no room for all of it")
            self._written = os.fstat(file.fileno())
        self._appended += len(lines)
        return True

    def is_intact(self) -> bool:
        """Whether the file is as this writer left it."""
        try:
            found = self._path.stat()
        except OSError:
            return False
        written = self._written
        return written is not None and os.path.samestat(found, written) and found.st_size == written.st_size


class TokenReader:
    """The gate's end of the file. It keeps the file open, so that it can tell when the file has been replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def reopen_if_replaced(self) -> bool:
        """Open the file if it was replaced since the last time, and return whether it was.

        Raises OSError when it is missing or empty.
        """
        file = self._file
        if file is not None and os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
            return False
        self.close()
        file = self._path.open("rb")
        if not file.readline():
            file.close()
            raise FileNotFoundError(self._path)
        self._file = file
        return True

    def pieces(self) -> Iterator[list[TokenChange]]:
        """Yield the changes since the last time, in batches. Raises `msgspec.DecodeError` on a damaged line."""
        assert self._file is not None
        decode = msgspec.json.Decoder(TokenChange).decode_lines
        while data := self._file.read(_PIECE_BYTES):
            whole = data.rfind(b"\n") + 1
            self._file.seek(whole - len(data), os.SEEK_CUR)
            if not whole:
                return  # the rest of the line is yet to come
            yield decode(data[:whole])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
