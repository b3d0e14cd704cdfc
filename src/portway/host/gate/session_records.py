"""What the gate remembers of sessions: log level, subscriptions, where they are open; of how many, for a day without
use, in a file that outlives it.

A change appends a line to a file, which a gate that is started after a kill reads. The file is replaced by one with a
line a session when the gate starts, and when most of its lines are outdated.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from portway.host.files import write_durably
from portway.host.gate.session_ids import Session

_MOST = 10_000  # sessions; the one that was unused for longest is forgotten
_MOST_BYTES = 16 * 1024 * 1024  # of the settings of all of them
_MOST_EACH = 1024  # settings of one session
_MOST_BYTES_EACH = 131_072
_IDLE_SECONDS = 86_400
_USE_SECONDS = 3600  # between notes of a session's use
_LEAST_BYTES = 1024 * 1024  # appended before the file is replaced
_LONGEST_LINE = 1024 * 1024


class SessionLine(msgspec.Struct, array_like=True, omit_defaults=True):
    """A change of one session, named by the `key` in its id. `used` is in seconds since the epoch.

    `instance` has opened it, as `upstream`. `settings` are requests by what they set, "" for one that is undone; None
    when there were too many.
    """

    key: str
    used: int
    instance: str = ""
    upstream: str = ""
    settings: dict[str, str] | None = {}
    has_ended: bool = False


class SessionRecord:
    """What the gate knows of one session."""

    __slots__ = ("instance", "is_whole", "opening", "settings", "upstreams", "used")

    def __init__(self, instance: str, upstream: bytes) -> None:
        self.instance = instance  # where its calls go
        self.upstreams = {instance: upstream}  # its id at each instance where it is open; empty if the server has none
        self.settings: dict[str, str] = {}  # requests: by URI the subscriptions, by "" the log level
        self.is_whole = True  # False when there were too many settings to keep
        self.used = int(time.time())
        self.opening = asyncio.Lock()

    @property
    def size(self) -> int:
        """The bytes of its settings."""
        return sum(len(name) + len(request) for name, request in self.settings.items())

    def apply(self, line: SessionLine) -> None:
        """Make a change."""
        self.used = line.used
        if line.instance:
            self.instance = line.instance
            self.upstreams[line.instance] = line.upstream.encode()
        for name, request in (line.settings or {}).items():
            self.settings.pop(name, None)
            if request:
                self.settings[name] = request
        if line.settings is None or len(self.settings) > _MOST_EACH or self.size > _MOST_BYTES_EACH:
            self.settings.clear()
            self.is_whole = False

    def line(self, key: str) -> SessionLine:
        """Return all of it as one change."""
        settings = self.settings.copy() if self.is_whole else None
        return SessionLine(key, self.used, self.instance, self.upstreams[self.instance].decode(), settings)


class SessionRecords:
    """The records of a bounded number of sessions, of a bounded size, in memory and in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path, self._draft = path, path.with_suffix(".draft")
        self._records: dict[str, SessionRecord] = {}  # by the key in the session's id; the one unused for longest first
        self._bytes = 0  # of their settings
        self._file: BinaryIO | None = None
        self._appended = self._most = 0
        self._late: list[bytes] = []  # lines that came while the file was being replaced
        self._replacing: asyncio.Task[None] | None = None
        self._successor: Callable[[SessionLine], None] | None = None

    def open(self) -> None:
        """Read the file and replace it. Without a file that can be written, records last as long as this process.

        Raises OSError.
        """
        with contextlib.suppress(FileNotFoundError):
            self._read()
        with contextlib.suppress(OSError):
            self._use(self._write_draft(self._lines()))

    def get(self, session: Session) -> SessionRecord | None:
        """Return what is known of a session."""
        record = self._records.get(session.key) if self._records else None
        if record is not None and time.time() - record.used > _USE_SECONDS:
            self._change(session, SessionLine(session.key, int(time.time())))
        return record

    def of(self, session: Session, instance: str) -> SessionRecord:
        """Return what is known of a session; one of which nothing is known is open at `instance`."""
        record = self._records.get(session.key)
        if record is None:
            self._records[session.key] = record = SessionRecord(instance, session.upstream if session.opening else b"")
            self._forget_oldest()
        return record

    def note(self, session: Session, instance: str, upstream: bytes, settings: dict[str, str] | None = None) -> None:
        """Note where the session's calls go, what its id is there, and which settings have changed."""
        self.of(session, instance)
        self._change(session, SessionLine(session.key, int(time.time()), instance, upstream.decode(), settings or {}))

    def end(self, session: Session) -> None:
        """Forget a session that has ended."""
        record = self._records.pop(session.key, None)
        if record is not None:
            self._bytes -= record.size
            self._append(SessionLine(session.key, record.used, has_ended=True))

    def take(self, line: SessionLine) -> None:
        """Make and keep a change that another gate has sent."""
        self._read_line(line)
        self._append(line)

    async def hand_over(self, successor: Callable[[SessionLine], None]) -> None:
        """Close the file. The `successor` gets the changes that still come."""
        if self._replacing is not None:
            await asyncio.wait((self._replacing,))
        self._successor = successor
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._replacing is not None:
            self._replacing.cancel()
        if self._file is not None:
            self._file.close()

    def _change(self, session: Session, line: SessionLine) -> None:
        record = self._records.pop(session.key)
        self._records[session.key] = record
        self._apply(record, line)
        self._append(line if record.is_whole else record.line(session.key))

    def _apply(self, record: SessionRecord, line: SessionLine) -> None:
        self._bytes -= record.size
        record.apply(line)
        self._bytes += record.size
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        while self._records:
            key = next(iter(self._records))
            record = self._records[key]
            is_idle = time.time() - record.used > _IDLE_SECONDS
            if not is_idle and len(self._records) <= _MOST and self._bytes <= _MOST_BYTES:
                return
            del self._records[key]
            self._bytes -= record.size

    def _read(self) -> None:
        """Read the file; a line that a kill or a full disk has left incomplete is skipped. Raises OSError."""
        decode = msgspec.json.Decoder(SessionLine).decode
        with self._path.open("rb") as file:
            while text := file.readline(_LONGEST_LINE):
                try:
                    line = decode(text)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                self._read_line(line)

    def _read_line(self, line: SessionLine) -> None:
        record = self._records.pop(line.key, None)
        if line.has_ended:
            self._bytes -= 0 if record is None else record.size
        elif record is not None or line.instance:
            self._records[line.key] = record = record or SessionRecord(line.instance, b"")
            self._apply(record, line)

    def _lines(self) -> list[SessionLine]:
        return [record.line(key) for key, record in self._records.items()]

    def _append(self, line: SessionLine) -> None:
        if self._successor is not None:
            self._successor(line)
            return
        data = msgspec.json.encode(line) + b"\n"
        try:
            is_written = self._file is not None and self._file.write(data) == len(data)
        except OSError:
            is_written = False
        self._appended += len(data)
        if self._replacing is not None:
            self._late.append(data)
        elif self._appended > self._most or not is_written:
            self._replacing = asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        """Replace the file by what is known; most of that is written on a thread."""
        try:
            self._use(await asyncio.to_thread(self._write_draft, self._lines()))
        except OSError:  # it is tried again with the next change; that the disk refuses, the call record tells
            pass
        finally:
            self._late.clear()
            self._replacing = None

    def _write_draft(self, lines: list[SessionLine]) -> int:
        """Write the next file; return its size. Raises OSError."""
        data = msgspec.json.Encoder().encode_lines(lines)
        write_durably(self._draft, data)
        return len(data)

    def _use(self, size: int) -> None:
        """Replace the file by the draft and what has changed since. Raises OSError."""
        file = self._draft.open("ab", buffering=0)
        self._appended, self._most = file.write(b"".join(self._late)) or 0, max(_LEAST_BYTES, size)
        self._draft.replace(self._path)
        if self._file is not None:
            self._file.close()
        self._file = file
