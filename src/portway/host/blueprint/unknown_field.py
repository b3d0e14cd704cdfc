"""The error for a field that nothing knows, with the one that was meant."""

import difflib
from collections.abc import Iterable

from portway.host.blueprint.yaml_tree import shortened


def unknown_field(name: str, known: Iterable[str], place: str) -> str:
    """Return the error for a field of what `place` names, with the one of the `known` that was meant, if any."""
    names = {_plain(each): each for each in known}
    near = difflib.get_close_matches(_plain(name[:80]), names, 1)
    if near:
        return f"unknown field `{shortened(name)}`; did you mean `{names[near[0]]}`?"
    return f"unknown field `{shortened(name)}` of {place}: remove it"


def _plain(name: str) -> str:
    """Return a name without what people spell differently: case, hyphens and underscores."""
    return name.lower().replace("_", "").replace("-", "")
