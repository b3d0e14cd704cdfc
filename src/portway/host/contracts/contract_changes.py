"""The changes between two contracts in words: lines for people, the report of a deploy, the id of exactly these
changes.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from portway.counted import counted

Kind = Literal["tool", "resource", "resource template", "prompt", "server"]
Action = Literal["added", "changed", "removed"]

_LONGEST = 100
_LINE = 160
_NAMED = 5
_MOST_LINES = 60
_MOST_LISTED = 100
_QUOTED = 2000
_SIGNS: dict[Action, str] = {"added": "+", "changed": "~", "removed": "-"}


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that has changed in a component, in words. `breaks` says whether callers may fail by it."""

    text: str
    breaks: bool


@dataclass(frozen=True, slots=True)
class ComponentChange:
    """A component that was added, changed or removed. `before` and `after` are its entries in the lists, as JSON.

    `name` is the URI of a resource and the URI template of a template. A server's own change has no name.
    """

    kind: Kind
    name: str
    action: Action
    notes: list[Note]
    before: str | None
    after: str | None

    @property
    def breaks(self) -> bool:
        return any(note.breaks for note in self.notes)


@dataclass(frozen=True, slots=True)
class ContractChanges:
    """The changes from one contract to another."""

    changes: list[ComponentChange]

    @property
    def breaking(self) -> list[ComponentChange]:
        return [change for change in self.changes if change.breaks]

    def lines(self) -> list[str]:
        """Return the changes for people: in one line when they are few, else a line for each."""
        if not self.changes:
            return ["unchanged"]
        names = list(dict.fromkeys(shown(change.name) or change.kind for change in self.breaking))
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        breaking = f"breaking: {', '.join(names[:_NAMED]) or 'none'}{more}"
        groups: dict[str, list[str]] = {}
        for change in self.changes:
            groups.setdefault(f"{change.kind}s:" if change.kind != "server" else "server:", []).append(_short(change))
        line = "   ".join([*(f"{kind} {'   '.join(words)}" for kind, words in groups.items()), breaking])
        if len(line) <= _LINE:
            return [line]
        return [f"{counted(len(self.changes), 'change')}   {breaking}", *detailed(self.changes)]

    def report(self, accepted: str) -> "ContractReport":
        """Return the changes with bounds on their number and on the length of what each quotes."""
        listed = [
            replace(change, notes=change.notes[:_MOST_LISTED], before=_cut(change.before), after=_cut(change.after))
            for change in self.changes[:_MOST_LISTED]
        ]
        return ContractReport(listed, len(self.changes) - len(listed), len(self.breaking), accepted)


@dataclass(frozen=True, slots=True)
class ContractReport:
    """What a deploy has changed in the contract: the first `changes`, and how many `more` there are.

    `breaking` counts the components that callers may fail by; `accepted` is the id by which someone accepted this.
    """

    changes: list[ComponentChange]
    more: int
    breaking: int
    accepted: str


def detailed(changes: Iterable[ComponentChange]) -> list[str]:
    """Return a line for each thing that has changed, bounded."""
    lines = []
    for change in changes:
        head = f"{_SIGNS[change.action]} {change.kind} {shown(change.name)}".rstrip()
        for note in change.notes:
            words = {"added": note.text, "removed": ""}.get(change.action, f": {note.text}")
            lines.append(f"  {head}{words}{'   (breaking)' if note.breaks else ''}")
    more = [f"  … and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return lines[:_MOST_LINES] + more


def digest(changes: Iterable[ComponentChange]) -> str:
    """Return what names exactly these changes: 12 hexadecimal digits of a SHA-256."""
    found = hashlib.sha256()
    for change in changes:
        for part in (change.kind, change.name, change.before or "", change.after or ""):
            data = part.encode(errors="surrogatepass")
            found.update(b"%d:%b" % (len(data), data))
    return found.hexdigest()[:12]


def as_json(value: object) -> str:
    """Return JSON in which the order of names makes no difference."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def shown(text: str) -> str:
    """Return a server's text as it can be printed: in one line, cut, without characters that are not printable."""
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return "".join(each if each.isprintable() else f"\\u{{{ord(each):x}}}" for each in cut)


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _QUOTED else f"{text[: _QUOTED - 1]}…"


def _short(change: ComponentChange) -> str:
    """Return a change in few words, as in "~ get_weather(units: new optional)"."""
    name = shown(change.name)
    words = "; ".join(note.text for note in change.notes)
    if change.action == "added":
        return f"+ {name}{words}"
    return f"- {name}" if change.action == "removed" else f"~ {name}({words})"
