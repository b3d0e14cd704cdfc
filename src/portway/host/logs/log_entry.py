"""The entries that `portway logs` shows, and which of them are wanted (`--since`, `--tool`, `--failed` …)."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["build", "app", "call"]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of a build or of an app has a `text`, a call the fields after it, as they are in the call record.

    `time` is when it was written, a call's when it ended. A build has no instance, nor has a call that reached none.
    """

    time: str
    kind: Kind
    release: int
    instance: str | None = None
    text: str | None = None
    caller: str | None = None
    era: str | None = None
    method: str | None = None
    name: str | None = None
    arguments: str | None = None
    outcome: str | None = None
    status: int | None = None
    ms: float | None = None
    request: str | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some entries by their time, and the `cursor` that asks for those after them: at once when there is `more`."""

    entries: list[LogEntry]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries are wanted: not older than `since`, of a kind, a release, an instance; of a tool, failed."""

    since: str = ""
    kind: Kind | None = None
    release: int | None = None
    instance: str = ""
    tool: str = ""
    failed: bool = False
