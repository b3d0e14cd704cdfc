"""Refuses a contract with characters that people do not see, and says where they are."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from portway.host.contracts.contract_changes import shown
from portway.host.contracts.hidden_characters import character_name, hidden_characters
from portway.host.contracts.read_contract import LISTS

_MOST = 10
_MOST_FAULTS = 1000  # that are looked at, as many may be of one kind in one place
_KINDS = {"tools": "tool", "resources": "resource", "resourceTemplates": "resource template", "prompts": "prompt"}


class HiddenText(Exception):
    """The contract has characters that hide text."""


def refuse_hidden_text(contract: bytes) -> None:
    """Raise `HiddenText` with the first characters that hide text, each with its component and its field."""
    found: dict[str, None] = {}
    clean: set[str] = set()
    for shown_ in json.loads(contract).values():
        for line in itertools.islice(_faults(shown_, clean), _MOST_FAULTS):
            found[line] = None
            if len(found) > _MOST:
                break
    if found:
        lines = "\n  ".join([*list(found)[:_MOST], *(["and more"] if len(found) > _MOST else [])])
        raise HiddenText("the server shows characters that people do not see and models read: remove them\n  " + lines)


def _faults(contract: Mapping[str, Any], clean: set[str]) -> Iterator[str]:
    """Yield a line for each character that hides something. Texts without one are added to `clean`."""
    for key in ("server", "instructions"):
        for field, character in _in_value(contract[key], key, clean):
            yield f"server: {shown(field)}: {character_name(character)}"
    for member, (_, key) in LISTS.items():
        for entry in contract[member]:
            for field, character in _in_value(entry, "", clean):
                yield f"{_KINDS[member]} {shown(entry[key])}: {shown(field)}: {character_name(character)}"


def _in_value(value: object, path: str, clean: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the path of each text in a JSON value with each character in it that hides something.

    Those that are `clean` are not looked at again: most are the same in both eras.
    """
    if isinstance(value, str):
        yield from ((path, character) for character in _in_text(value, clean))
    elif isinstance(value, dict):
        for name, inner in value.items():
            below = f"{path}.{name}" if path else name
            yield from ((f"the name {below}", character) for character in _in_text(name, clean))
            yield from _in_value(inner, below, clean)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _in_value(inner, f"{path}[{number}]", clean)


def _in_text(text: str, clean: set[str]) -> Iterator[str]:
    if text not in clean:
        hidden = hidden_characters(text)
        if first := next(hidden, ""):
            yield first
            yield from hidden
        else:
            clean.add(text)
