"""The JSON of a call's arguments, read so that there is one meaning of it."""

import json


class TwoMembers(ValueError):
    """An object has two members of one name, and readers differ on which one counts."""


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise TwoMembers("an object in them has two members of one name")
    return members


_decode = json.JSONDecoder(object_pairs_hook=_members).decode


def read_arguments(text: bytes | memoryview | str) -> object:
    """Decode JSON in UTF-8. Raises ValueError, TwoMembers among them, and RecursionError."""
    return _decode(text if isinstance(text, str) else str(text, "utf-8"))
