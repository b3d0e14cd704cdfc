"""Reads the logs of an app, joined by time: the last entries, and what was written after a cursor."""

from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heapreplace, merge
from itertools import islice

from portway.host.logs.log_entry import LogEntry, LogPage
from portway.host.logs.log_lines import Place, end_of, lines_backward, lines_forward, place_of_time
from portway.host.logs.log_sources import LogSource

_PAGE_BYTES = 1024 * 1024
_ENTRY_BYTES = 200  # what an entry has beside its text


def read_page(sources: Sequence[LogSource], count: int | None, cursor: str, *, unfinished: bool) -> LogPage:
    """Return the last `count` entries that are wanted, all if None, or those after `cursor`.

    A page is bounded; the next one has the rest. A log that `cursor` does not name is shown from its beginning. What
    follows the last newline of a log is a line if `unfinished`.
    """
    places = _cursor_places(sources, cursor) if cursor else _first_places(sources, count, unfinished=unfinished)
    readings = [_Reading(source, place, unfinished) for source, place in zip(sources, places, strict=True)]
    heap = [(reading.head.time, number) for number, reading in enumerate(readings) if reading.head]
    heapify(heap)
    entries: list[LogEntry] = []
    size = 0
    while heap and size < _PAGE_BYTES:
        number = heap[0][1]
        entry = readings[number].take()
        entries.append(entry)
        size += _ENTRY_BYTES + len(entry.text or "")
        if following := readings[number].head:
            heapreplace(heap, (following.time, number))
        else:
            heappop(heap)
    return LogPage(entries, " ".join(name for reading in readings if (name := reading.cursor())) or "-", bool(heap))


class _Reading:
    """One log that is being read. `head` is the next entry that is wanted, None at the end."""

    def __init__(self, source: LogSource, place: Place, unfinished: bool) -> None:
        self._source = source
        self._place = self._after_head = place
        self._lines = lines_forward(source.parts, place, source.lines, unfinished=unfinished)
        self.head: LogEntry | None = None
        self._find()

    def take(self) -> LogEntry:
        """Return the head and go on to the next one."""
        entry, self._place = self.head, self._after_head
        assert entry is not None
        self._find()
        return entry

    def cursor(self) -> str:
        """Name the place after what was taken."""
        parts = self._source.parts
        index, offset = self._place
        return f"{self._source.key}:{parts[index].inode}:{offset}" if index < len(parts) else ""

    def _find(self) -> None:
        self.head = None
        for line, after in self._lines:
            if line is not None and (entry := self._source.read(line)):
                self.head, self._after_head = entry, after
                return
            self._place = after


def _cursor_places(sources: Sequence[LogSource], cursor: str) -> Iterator[Place]:
    """Yield where to go on in each log: at a file's beginning where the cursor's is gone, or names none."""
    named: Mapping[str, list[str]] = {key: rest for key, *rest in (part.split(":") for part in cursor.split(" "))}
    for source in sources:
        inode, offset = [int(part) if part.isdecimal() else 0 for part in [*named.get(source.key, ()), "", ""][:2]]
        is_new = source.only_deleted or source.key not in named
        anew = 0 if is_new else max(len(source.parts) - 1, 0), 0
        parts = enumerate(source.parts)
        yield next(((index, offset) for index, part in parts if part.inode == inode and offset <= part.size), anew)


def _first_places(sources: Sequence[LogSource], count: int | None, *, unfinished: bool) -> list[Place]:
    """Return where the last `count` entries, or all, begin in each log."""
    begins = [place_of_time(source.parts, source.selection.since, source.time_of) for source in sources]
    if count is None:
        return begins
    places = [end_of(source.parts, unfinished=unfinished) for source in sources]

    def entries(number: int) -> Iterator[tuple[str, int, Place]]:
        source = sources[number]
        for line, place in lines_backward(source.parts, places[number], source.lines):
            if place < begins[number]:
                return
            if entry := source.read(line):
                yield entry.time, number, place

    newest = merge(*[entries(number) for number in range(len(sources))], key=lambda found: found[0], reverse=True)
    for _, number, place in islice(newest, count):
        places[number] = place
    return places
