"""The call record: one JSON line per call, numbered, on disk within 100 ms; calls are refused while the disk takes
none.

One thread writes and syncs lines in batches, and deletes the oldest files (`record_files.py`).
States: writing; failing, when the disk refuses a batch. While failing, the batch is kept and retried, and the gate
refuses new calls, so that no call is missing from the record. Of the calls refused meanwhile, those beyond 10,000 are
only counted, in one `omitted` line. A killed gate loses at most the last 100 ms; the `gate-started` line of the next
one marks the place. Handed over, when another gate writes the record: it takes the lines that still come.
"""

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import msgspec

from portway.host.gate.record_files import Retention, count_dropped, drop_old, file_for, record_files
from portway.host.timestamps import now

logger = logging.getLogger("portway.gate")

_BATCH_SECONDS = 0.06
_RETRY_SECONDS = 0.5
_MOST_WAITING = 10_000  # lines kept while the disk refuses, so that a flood of refused calls does not fill the memory
_LOOK_SECONDS = 3600.0  # between looks for files that are too old, besides one at each new file
_TAIL_BYTES = 1024 * 1024  # longer than any line
DEFERRED = "deferred"
"""The outcome of a call whose reply the client fetches on another stream."""
SUCCESSES = ("ok", DEFERRED)
"""The outcomes of calls that did not fail."""


_RETENTION = Retention()


class Line(msgspec.Struct, omit_defaults=True):
    """One line of the record. `ms` is the duration of the call, `arguments` a keyed digest of them.

    `bytes_in` and `bytes_out` are the sizes of the bodies the client sent and got. `outcome` is one of: ok, isError,
    "error CODE", refused, cut (the instance died or sent what is no valid reply), cancelled (the client left), deferred
    (the instance ended the stream, and the client fetches the reply on another).
    """

    seq: int = 0
    time: str = ""
    event: str = "call"
    app: str = ""
    release: int = 0
    instance: str = ""
    principal: str = ""
    era: str = ""
    method: str = ""
    name: str = ""
    arguments: str = ""
    outcome: str = "refused"
    status: int = 0
    ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    request: str = ""
    count: int = 0  # in an `omitted` line: the number of refused calls that have no line


class CallRecord:
    """The call record. `add` is called on the loop's thread; while `failing` is true, calls must be refused.

    `dropped` is the number of lines that are kept no longer. Before `open`, nothing may be added.
    """

    def __init__(self, directory: Path, key: bytes, retention: Retention = _RETENTION) -> None:
        self.failing = False
        self.dropped = 0
        self._successor: Callable[[Line], None] | None = None
        self._directory = directory
        self._keyed = blake2b(key=key[:64], digest_size=16)
        self._retention = retention
        self._seq = 0
        self._lines: deque[Line] = deque()
        self._omitted = 0
        self._fd = -1
        self._size = 0
        self._opened = 0.0
        self._some = threading.Event()
        self._is_awake = False  # `_some` is set, or about to be
        self._stop = threading.Event()
        self._encode_lines = msgspec.json.Encoder().encode_lines
        self._thread = threading.Thread(target=self._run, name="call-record", daemon=True)

    def open(self) -> None:
        """Cut off a torn last line and start the writer. Raises OSError when the directory cannot be read."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._seq = _repair(self._directory)
        self.dropped = count_dropped(self._directory)
        self._thread.start()
        self.add(Line(time=now(), event="gate-started", outcome="ok"))

    def digest(self, arguments: bytes | msgspec.Raw) -> str:
        """Return the keyed digest of a call's arguments, over the bytes as the client sent them."""
        digest = self._keyed.copy()
        digest.update(arguments)
        return digest.hexdigest()

    def add(self, line: Line) -> None:
        """Number a line and queue it for writing."""
        if self._successor is not None:
            self._successor(line)
            return
        if self.failing:
            if line.outcome == "refused" and len(self._lines) >= _MOST_WAITING:
                self._omitted += 1
                return
        elif self._omitted:
            self._add_omitted()
        self._seq = line.seq = self._seq + 1
        self._lines.append(line)
        if not self._is_awake:
            self._is_awake = True
            self._some.set()

    async def hand_over(self, successor: Callable[[Line], None]) -> None:
        """Write all queued lines and close the file. The `successor` gets those that are refused or come later."""
        if self._omitted:
            self._add_omitted()
        self._successor, self.failing = successor, False
        self._stop.set()
        self._some.set()
        await asyncio.to_thread(self._thread.join)
        while self._lines:
            successor(self._lines.popleft())

    def close(self) -> None:
        """Write all queued lines and stop the writer; a disk that refuses is tried once more."""
        if self._successor is not None or self._thread.ident is None:
            return
        if self._omitted:
            self._add_omitted()
        self._stop.set()
        self._some.set()
        self._thread.join()
        if self._lines:
            logger.error("%d lines of the call record could not be written", len(self._lines))

    def _add_omitted(self) -> None:
        count, self._omitted = self._omitted, 0
        self._seq += 1
        self._lines.append(Line(seq=self._seq, time=now(), event="omitted", status=503, count=count))

    def _run(self) -> None:
        batch: list[Line] = []
        while not (self._stop.is_set() and not self._lines):
            if not self._some.wait(_LOOK_SECONDS):
                self._drop_old()
            self._stop.wait(_RETRY_SECONDS if self.failing else _BATCH_SECONDS)
            self._some.clear()
            self._is_awake = False  # reset before the lines are taken, so that a later one wakes the writer again
            while self._lines:
                batch.append(self._lines.popleft())
            try:
                self._write(batch)
            except OSError as error:
                self._refused(batch, error)
                batch.clear()
                if self._stop.is_set():
                    return
            else:
                batch.clear()
                if self.failing:
                    self.failing = False
                    logger.warning("the call record is written again; calls are accepted")
        if self._fd >= 0:
            os.close(self._fd)

    def _write(self, batch: list[Line]) -> None:
        if not batch:
            return
        if self._fd < 0 or self._is_full():
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            path = file_for(self._directory, batch[0].seq)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size, self._opened = os.fstat(self._fd).st_size, time.monotonic()
            self._drop_old()
        data = self._encode_lines(batch)
        try:
            if os.write(self._fd, data) < len(data):
                raise OSError("no room for all of it")
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._size)  # the whole batch is written again
            raise
        self._size += len(data)

    def _is_full(self) -> bool:
        is_old = time.monotonic() - self._opened >= self._retention.file_seconds
        return is_old or self._size >= self._retention.file_bytes

    def _drop_old(self) -> None:
        try:
            dropped = drop_old(self._directory, self._retention)
        except OSError as error:
            logger.warning("old calls of the record cannot be deleted: %s", error)
            return
        if dropped:
            self.dropped += dropped
            logger.info("%d old calls of the record were deleted, %d in all", dropped, self.dropped)

    def _refused(self, batch: list[Line], error: OSError) -> None:
        self._lines.extendleft(reversed(batch))
        self._some.set()
        if not self.failing:
            self.failing = True
            logger.error("the call record cannot be written (%s); calls are refused until it can", error)


def _repair(directory: Path) -> int:
    """Cut off the line that a crash left incomplete; return the last number written, 0 for a new record."""
    for path in reversed(record_files(directory)):
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            end, seq = len(tail), 0
            while end:
                begin = tail.rfind(b"\n", 0, end - 1) + 1
                try:
                    if tail[end - 1 : end] == b"\n":
                        seq = msgspec.json.decode(tail[begin:end], type=Line).seq
                    if seq:
                        break
                except (msgspec.DecodeError, UnicodeDecodeError):
                    pass
                end = begin
            if start + end < size:
                logger.warning(
                    "the call record ended in half a line: %d bytes of %s cut", size - start - end, path.name
                )
                file.truncate(start + end)
                os.fsync(file.fileno())
        if seq:
            return seq
        path.unlink()
    return 0
