"""The structs of a rule: what it is for, its scopes and its limits, as a blueprint says them; and the annotations of a
tool that rules look at.
"""

from collections.abc import Sequence

import msgspec


class Limit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, rename="camel"):
    """What one argument of a tool may be; all that is given must hold, for a list of each of its items.

    `allow` lists the values. `pattern` is a regular expression (RE2, no backreferences) for the whole of a text;
    lengths count characters. `minimum` and `maximum` are for numbers. `under` is the folder that a path stays in,
    without `..`: an absolute one for absolute paths, `.` or a relative one for relative paths. `hosts` are those a URL
    may have: `example.com`, `*.example.com`, or `*` for any on the internet. `required`: it may not be left out.
    """

    allow: Sequence[str | int | float | bool] | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    under: str | None = None
    hosts: Sequence[str] | None = None
    required: bool = False


class PolicyRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule: what it is for, which scopes a caller needs for that, and what limits the calls of a tool.

    It is for the tools whose name is `tool`, the prompts whose name is `prompt` or the resources whose URI or URI
    template is `resource`; `*` stands for any text. `read_only` and `destructive` are for the tools whose annotations
    say so, of the name `tool` if there is one. `arguments` limits what a schema cannot, `rate` (10/minute) how often
    and `concurrency` how many times at once each caller may call each of the tools. `confirm`: the user agrees to each
    call; a text says how to ask.
    """

    tool: str = ""
    prompt: str = ""
    resource: str = ""
    read_only: bool | None = None
    destructive: bool | None = None
    scopes: list[str] = []
    arguments: dict[str, Limit] = {}
    rate: str = ""
    concurrency: int = 0
    confirm: bool | str = False

    @property
    def limits_calls(self) -> bool:
        """Whether it limits the calls of tools."""
        return bool(self.arguments or self.rate or self.concurrency or self.confirm)


class ToolHints(msgspec.Struct, frozen=True, array_like=True):
    """The annotations of a tool that rules look at. The defaults are those of the specification (server/tools)."""

    read_only: bool = False
    destructive: bool = True
