"""The logs that `portway logs` joins: of each build, of each release's instances, and the call record."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from portway.host.gate.call_record import SUCCESSES, Line
from portway.host.gate.record_files import record_files
from portway.host.logs.log_entry import LogEntry, Selection
from portway.host.logs.log_file import previous
from portway.host.logs.log_lines import LineFilter, LogPart, open_parts
from portway.host.logs.stamp import read_stamp
from portway.host.releases.release import Release

_ALL = LineFilter()
_decode_line = msgspec.json.Decoder(Line).decode


class LogSource(ABC):
    """One log, with its open files, oldest first. `key` names it in a cursor; `lines` are those that may be wanted."""

    def __init__(self, key: str, parts: list[LogPart], selection: Selection, lines: LineFilter = _ALL) -> None:
        self.key = key
        self.parts = parts
        self.lines = lines
        self.selection = selection

    @abstractmethod
    def time_of(self, line: bytes) -> str:
        """Return when a line was written."""

    @abstractmethod
    def read(self, line: bytes) -> LogEntry | None:
        """Return what a line holds if that is wanted."""


class _Output(LogSource):
    """What a build or the instances of a release wrote. A line of an older host has the time of its release."""

    def __init__(
        self,
        kind: Literal["build", "app"],
        log: Path,
        release: int,
        created: str,
        selection: Selection,
        stack: ExitStack,
    ) -> None:
        super().__init__(f"{kind}{release}", open_parts((previous(log), log), stack), selection)
        self._kind = kind
        self._release = release
        self._created = created

    def time_of(self, line: bytes) -> str:
        return read_stamp(line)[0] or self._created

    def read(self, line: bytes) -> LogEntry | None:
        time, instance, text = read_stamp(line)
        time = time or self._created
        if time < self.selection.since or self.selection.instance not in ("", instance):
            return None
        return LogEntry(time, self._kind, self._release, instance or None, text.decode(errors="replace"))


class _Calls(LogSource):
    """The lines of the call record about an app, without those about an earlier app of that name."""

    def __init__(self, files: Sequence[Path], app: str, created: str, selection: Selection, stack: ExitStack) -> None:
        selection = replace(selection, since=max(selection.since, created))
        wanted = [b'"app":' + msgspec.json.encode(app)]
        if selection.tool:
            wanted.append(b'"name":' + msgspec.json.encode(selection.tool))
        unwanted = b'"outcome":"ok"' if selection.failed else b""
        super().__init__("calls", open_parts(files, stack), selection, LineFilter(tuple(wanted), unwanted))

    def time_of(self, line: bytes) -> str:
        try:
            return _decode_line(line).time
        except msgspec.DecodeError:
            return ""

    def read(self, line: bytes) -> LogEntry | None:
        try:
            call = _decode_line(line)
        except msgspec.DecodeError:
            return None
        wanted = self.selection
        if (
            call.time < wanted.since
            or wanted.release not in (None, call.release)
            or wanted.instance not in ("", call.instance)
            or (wanted.tool and (call.method, call.name) != ("tools/call", wanted.tool))
            or (wanted.failed and call.outcome in SUCCESSES)
        ):
            return None
        return LogEntry(
            call.time,
            "call",
            call.release,
            call.instance or None,
            None,
            call.principal,
            call.era or None,
            call.method,
            call.name or None,
            call.arguments or None,
            call.outcome,
            call.status,
            call.ms,
            call.request,
        )


@dataclass(frozen=True, slots=True)
class AppLogs:
    """Where an app's logs are. `created` is when the app was made; each release comes with its own time."""

    app: str
    created: str
    releases: Sequence[tuple[Release, str]]
    calls: Path


def open_sources(logs: AppLogs, selection: Selection, stack: ExitStack) -> list[LogSource]:
    """Open the logs of an app that may hold what is wanted."""
    wants_calls = bool(selection.tool or selection.failed)
    sources: list[LogSource] = []
    if selection.kind in (None, "call"):
        sources.append(_Calls(record_files(logs.calls), logs.app, logs.created, selection, stack))
    for release, created in logs.releases:
        if wants_calls or selection.release not in (None, release.number):
            continue
        if selection.kind in (None, "build"):
            sources.append(_Output("build", release.build_log, release.number, created, selection, stack))
        if selection.kind in (None, "app"):
            sources.append(_Output("app", release.log, release.number, created, selection, stack))
    return sources
