"""`portway logs`: the logs of an app joined by time, the last entries, and what came after a cursor."""

from collections.abc import Iterator, Sequence
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
        """Name the place after what was taken, and the file before it."""
        parts = self._source.parts
        index, offset = self._place
        if not parts:
            return ""
        if index == len(parts):  # what comes after them is not made yet
            index, offset = index - 1, parts[-1].size
        before = f"/{parts[index - 1].name(0)}" if index else ""
        return f"{self._source.key}:{parts[index].name(offset)}{before}"

    def _find(self) -> None:
        self.head = None
        for line, after in self._lines:
            if line is not None and (entry := self._source.read(line)):
                self.head, self._after_head = entry, after
                return
            self._place = after


def _cursor_places(sources: Sequence[LogSource], cursor: str) -> Iterator[Place]:
    """Yield where to go on in each log.

    It is its beginning where the cursor names no file, or one that is gone; but after a file that came before that.
    """
    named = {key: rest for key, _, rest in (part.partition(":") for part in cursor.split(" "))}
    for source in sources:
        name, _, before = named.get(source.key, "").partition("/")
        offset = name.partition(":")[0]
        place = int(offset) if offset.isdecimal() else 0
        seen = max((index + 1 for index, part in enumerate(source.parts) if part.name(0) == before), default=0)
        found = (index for index, part in enumerate(source.parts) if place <= part.size and part.name(place) == name)
        index = next(found, None)
        yield (seen, 0) if index is None else (index, place)


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
