"""Takes secrets out of `portway logs`, also one that the pieces of a long line have in parts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from portway.host.logs.log_entry import LogEntry
from portway.host.secrets.redact import SHORTEST, hide

_BETWEEN_LINES = "\n\0\n"  # in no line, and in no variable
_LONG = 16_384  # characters: a piece of a line has at least so many (`log_file.py`)


def without_secrets(entries: Sequence[LogEntry], secrets: Mapping[int, Mapping[str, str]]) -> list[LogEntry]:
    """Return the entries with each secret replaced by its name, and each line of a secret that has several.

    `secrets` are those of each release, by the names of their variables.
    """
    texts = _joined_at_cuts(entries, secrets)
    shown = {}
    for number, values in secrets.items():
        of_release = [text or "" for entry, text in zip(entries, texts, strict=True) if entry.release == number]
        shown[number] = iter(hide(_BETWEEN_LINES.join(of_release), values).split(_BETWEEN_LINES))
    texts_in_order = [next(shown[entry.release]) for entry in entries]
    return [
        entry if entry.text in (None, text) else replace(entry, text=text)
        for entry, text in zip(entries, texts_in_order, strict=True)
    ]


def _joined_at_cuts(entries: Sequence[LogEntry], secrets: Mapping[int, Mapping[str, str]]) -> list[str | None]:
    """Return the texts of the entries; a secret that begins in one piece of a line is whole there, not in the next."""
    texts = [entry.text for entry in entries]
    long: dict[tuple[int, str, str | None], int] = {}  # the last entry of each source, if it may be a piece
    for number, entry in enumerate(entries):
        source = entry.release, entry.kind, entry.instance
        before = long.pop(source, None)
        first, second = None if before is None else texts[before], texts[number]
        if before is not None and first is not None and second is not None:
            missing = max((_rest(first, second, value) for value in secrets[entry.release].values()), default=0)
            texts[before], texts[number] = first + second[:missing], second[missing:]
        if entry.text is not None and len(entry.text) >= _LONG:
            long[source] = number
    return texts


def _rest(first: str, second: str, secret: str) -> int:
    """Return how many characters of a secret that `first` ends with are at the beginning of `second`."""
    if len(secret) < SHORTEST:
        return 0
    cuts = range(1, len(secret))
    return next(
        (len(secret) - cut for cut in cuts if first.endswith(secret[:cut]) and second.startswith(secret[cut:])), 0
    )
