"""Rules as a blueprint says them, and what the contract of a release says of a tool."""

import msgspec


class PolicyRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule: what it is for, and which scopes a caller needs for that.

    It is for the tools whose name is `tool`, the prompts whose name is `prompt` or the resources whose URI or URI
    template is `resource`; `*` stands for any text. `read_only` and `destructive` are for the tools whose annotations
    say so, of the name `tool` if there is one.
    """

    tool: str = ""
    prompt: str = ""
    resource: str = ""
    read_only: bool | None = None
    destructive: bool | None = None
    scopes: list[str] = []


class ToolHints(msgspec.Struct, frozen=True, array_like=True):
    """The annotations of a tool that rules look at. The defaults are those of the specification (server/tools)."""

    read_only: bool = False
    destructive: bool = True
