"""The JSON of a call's arguments, read so that there is one meaning of it."""

import json


class TwoMembers(ValueError):
    """An object has two members of one name, and readers differ on which one counts."""


def read_arguments(text: bytes | memoryview | str) -> object:
    """Decode JSON. Raises ValueError, TwoMembers among them, and RecursionError."""
    return json.loads(text if isinstance(text, str) else bytes(text), object_pairs_hook=_members)


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise TwoMembers("an object in them has two members of one name")
    return members
