"""Parses YAML into a tree with the place of each node, within bounds; refuses what is no YAML, two documents, a key
that is given twice.

No object is constructed from it: a scalar stays the text that is written, and whoever reads a field decides what it
means. So `off`, `1.10` and `010` mean the same under YAML 1.1 and 1.2. What a file can cost is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portway.host.blueprint.problems import Place, Problems, no_yaml

if TYPE_CHECKING:
    from ruamel.yaml.events import Event

LARGEST_BYTES = 256 * 1024
_DEEPEST = 32
_MOST_NODES = 20_000
_START = Place(1, 1)
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "map", "null", "seq", "str")}
_TEXT_TAG = "tag:yaml.org,2002:str"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text. A plain one stands without quotation marks and may mean a number, a boolean or nothing."""

    text: str
    place: Place
    is_plain: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    nodes: list[Node]
    place: Place


@dataclass(frozen=True, slots=True)
class Members:
    """A mapping; no key stands twice in `entries`."""

    entries: dict[str, tuple[Place, Node]]
    place: Place


Node = Scalar | Items | Members


def read_tree(content: bytes, problems: Problems) -> Node:
    """Return the tree of a file. Raises `BlueprintError` when it is not YAML or exceeds a bound."""
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
    except ImportError:
        raise no_yaml() from None
    if len(content) > LARGEST_BYTES:
        problems.refuse(_START, f"the file is larger than {LARGEST_BYTES // 1024} KB: keep only the services in it")
    try:
        text = content.decode("utf-8-sig")
        return _Builder(YAML(typ="safe", pure=True).parse(text), problems).document()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.refuse(Place(line, 1), "this is not UTF-8: save the file as UTF-8")
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = Place(mark.line + 1, mark.column + 1) if mark else _START
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        problems.refuse(place, f"this is not YAML: {reason}")


class _Builder:
    """Builds the tree of one document from the parser's events."""

    def __init__(self, events: Iterator[Event], problems: Problems) -> None:
        self._events = events
        self._problems = problems
        self._anchors: dict[str, Node | None] = {}  # None while the node is being built
        self._count = 0

    def document(self) -> Node:
        from ruamel.yaml.events import DocumentStartEvent, StreamEndEvent

        next(self._events)  # the start of the stream
        if isinstance(next(self._events), StreamEndEvent):
            self._problems.refuse(_START, "the file is empty: list your services in it")
        root = self._node(next(self._events), 0)
        next(self._events)  # the end of the document
        after = next(self._events)
        if isinstance(after, DocumentStartEvent):
            self._problems.refuse(_place(after), "a second document begins here: keep one")
        return root

    def _node(self, event: Event, depth: int) -> Node:
        from ruamel.yaml.events import AliasEvent, CollectionStartEvent, ScalarEvent

        place = _place(event)
        self._count_node(place)
        if depth > _DEEPEST:
            self._problems.refuse(place, f"this is nested more than {_DEEPEST} deep: no field is")
        if isinstance(event, AliasEvent):
            return self._named(event.anchor, place)
        assert isinstance(event, ScalarEvent | CollectionStartEvent)
        tag, anchor = event.tag, event.anchor
        if tag is not None and tag not in _TAGS:
            self._problems.refuse(place, f"the tag `{shortened(tag)}` has no meaning here: leave it out")
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, ScalarEvent):
            node: Node = Scalar(event.value, place, is_plain=not event.style and tag != _TEXT_TAG)
        else:
            node = self._collection(event, place, depth)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _named(self, anchor: str, place: Place) -> Node:
        found = self._anchors.get(anchor)
        if found is None:  # or is being built, and would hold itself
            name = shortened(anchor)
            self._problems.refuse(place, f"`*{name}` stands for nothing above it: give `&{name}` first")
        return found

    def _collection(self, event: Event, place: Place, depth: int) -> Node:
        from ruamel.yaml.events import SequenceStartEvent

        return self._items(place, depth) if isinstance(event, SequenceStartEvent) else self._members(place, depth)

    def _items(self, place: Place, depth: int) -> Items:
        from ruamel.yaml.events import SequenceEndEvent

        nodes = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            nodes.append(self._node(event, depth + 1))
        return Items(nodes, place)

    def _members(self, place: Place, depth: int) -> Members:
        from ruamel.yaml.events import MappingEndEvent

        entries: dict[str, tuple[Place, Node]] = {}
        merged: list[Node] = []
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if isinstance(value, Scalar) and value.is_plain and not value.text:
                value = Scalar("", key.place, is_plain=True)  # the parser places it at whatever follows
            if not isinstance(key, Scalar):
                self._problems.error(key.place, "this key is no text: write the name of a field")
            elif key.text == "<<" and key.is_plain:
                merged += value.nodes if isinstance(value, Items) else [value]
            elif key.text in entries:
                first = entries[key.text][0].line
                self._problems.error(
                    key.place, f"`{shortened(key.text)}` is given twice, first in line {first}: keep one"
                )
            else:
                entries[key.text] = key.place, value
        for node in merged:
            if not isinstance(node, Members):
                self._problems.refuse(node.place, "`<<` takes in a mapping: name one by `*`")
            for name, entry in node.entries.items():
                self._count_node(node.place)
                entries.setdefault(name, entry)
        return Members(entries, place)

    def _count_node(self, place: Place) -> None:
        self._count += 1
        if self._count > _MOST_NODES:
            self._problems.refuse(place, f"the file holds more than {_MOST_NODES} values: keep only the services in it")


def shortened(text: str) -> str:
    """Return a text of the file as a message may show it: printable, with 40 characters at most."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:41])
    return f"{shown[:39]}…" if len(text) > 40 else shown


def _place(event: Event) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)
