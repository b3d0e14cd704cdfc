"""The annotations of a contract's tools (read-only, destructive …), as policies look at them."""

import msgspec
from msgspec import UNSET, UnsetType

from portway.policy.rules import ToolHints


class _Annotations(msgspec.Struct):
    read_only: object = msgspec.field(name="readOnlyHint", default=None)
    destructive: object = msgspec.field(name="destructiveHint", default=None)


class _Tool(msgspec.Struct):
    name: str
    annotations: _Annotations | None = None


class _Era(msgspec.Struct):
    tools: list[_Tool] | UnsetType = UNSET


def tool_hints(contract: str) -> dict[str, ToolHints]:
    """Return the tools that a contract lists in any era. Where the eras differ, the stricter hint counts."""
    found: dict[str, ToolHints] = {}
    for era in msgspec.json.decode(contract or "{}", type=dict[str, _Era]).values():
        for tool in era.tools or ():
            hints, known = _hints(tool.annotations or _Annotations()), found.get(tool.name)
            if known is not None:
                hints = ToolHints(hints.read_only and known.read_only, hints.destructive or known.destructive)
            found[tool.name] = hints
    return found


def _hints(annotations: _Annotations) -> ToolHints:
    """Return the hints with the specification's defaults. What only reads destroys nothing unless it says so."""
    read_only = annotations.read_only is True
    destructive = annotations.destructive
    return ToolHints(read_only, destructive if isinstance(destructive, bool) else not read_only)
