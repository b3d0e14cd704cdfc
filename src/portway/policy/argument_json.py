"""Reads the JSON of a limited or confirmed call's arguments so that there is one meaning of it (no member twice), and
words the refusal of arguments.
"""

import json
from collections.abc import Sequence

import msgspec

from portway.exceptions import ArgumentError
from portway.protocol.jsonrpc import UNREADABLE


class TwoMembers(ValueError):
    """An object has two members of one name, and readers differ on which one counts."""


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise TwoMembers("an object in them has two members of one name")
    return members


read_json = json.JSONDecoder(object_pairs_hook=_members).decode
"""Decodes JSON. Raises ValueError, TwoMembers among them, and RecursionError."""


def read_arguments(arguments: bytes | memoryview | msgspec.Raw | None) -> object:
    """Decode the arguments of a call, JSON in UTF-8; None stands for no arguments. Raises as `read_json`.

    What an encoder makes of a dict has each member once. So arguments that it would write as they are, byte for byte,
    have one meaning, and need not be read by `read_json`, which is slower.
    """
    if arguments is None:
        return {}
    given = bytes(arguments)
    try:
        value: object = msgspec.json.decode(given)
        if msgspec.json.encode(value) == given:
            return value
    except UNREADABLE:
        pass
    return read_json(given.decode())


def unreadable(tool: str, error: Exception) -> ArgumentError:
    """Return the refusal of a call of `tool` for an error of `read_json`."""
    return refused(tool, [str(error) if isinstance(error, TwoMembers) else "they cannot be read as JSON"])


def refused(tool: str, problems: Sequence[str]) -> ArgumentError:
    """Return the refusal of a call of `tool` for what is wrong with its arguments."""
    return ArgumentError(f"{tool} may not be called with these arguments", problems)
