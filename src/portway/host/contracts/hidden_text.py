"""Refuses a contract with characters that people do not see, in anything that people or models read."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from portway.host.contracts.contract_changes import shown
from portway.host.contracts.hidden_characters import character_name, hidden_characters
from portway.host.contracts.read_contract import LISTS

_MOST = 10
_KINDS = {"tools": "tool", "resources": "resource", "resourceTemplates": "resource template", "prompts": "prompt"}


class HiddenText(Exception):
    """The contract has characters that hide text."""


def refuse_hidden_text(contract: bytes) -> None:
    """Raise `HiddenText` with the first characters that hide text, each with its component and its field."""
    found: dict[str, None] = {}
    for shown_ in json.loads(contract).values():
        for line in _faults(shown_):
            found[line] = None
            if len(found) > _MOST:
                break
    if found:
        lines = "\n  ".join([*list(found)[:_MOST], *(["and more"] if len(found) > _MOST else [])])
        raise HiddenText("the server shows characters that people do not see and models read: remove them\n  " + lines)


def _faults(contract: Mapping[str, Any]) -> Iterator[str]:
    for key in ("server", "instructions"):
        for field, character in _in_value(contract[key], key):
            yield f"server: {shown(field)}: {character_name(character)}"
    for member, (_, key) in LISTS.items():
        for entry in contract[member]:
            for field, character in _in_value(entry, ""):
                yield f"{_KINDS[member]} {shown(entry[key])}: {shown(field)}: {character_name(character)}"


def _in_value(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each text in a JSON value with each character in it that hides something."""
    if isinstance(value, str):
        for character in hidden_characters(value):
            yield path, character
    elif isinstance(value, dict):
        for name, inner in value.items():
            below = f"{path}.{name}" if path else name
            for character in hidden_characters(name):
                yield f"the name {below}", character
            yield from _in_value(inner, below)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _in_value(inner, f"{path}[{number}]")
