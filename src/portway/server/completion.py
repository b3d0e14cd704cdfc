"""Completion of the arguments of prompts and resource templates: the author's functions, and choices from types
(specification: server/utilities/completion).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from portway.exceptions import OutputError, RegistrationError
from portway.plans.plan import Plan, compile_plan
from portway.server.context import Context

if TYPE_CHECKING:
    from portway.plans.schema import Schema

MAX_VALUES = 100


class Reference(msgspec.Struct):
    """The component that has the argument: a prompt by its name, or a resource template by its text."""

    type: Literal["ref/prompt", "ref/resource"]
    name: str = ""
    uri: str = ""


class Typed(msgspec.Struct):
    """The argument, and the text the user has typed so far."""

    name: str
    value: str


class Given(msgspec.Struct):
    """The arguments that already have values."""

    arguments: dict[str, str] = {}


class CompleteParams(msgspec.Struct):
    """The params of completion/complete."""

    ref: Reference
    argument: Typed
    context: Given = msgspec.field(default_factory=Given)


def compile_completion(fn: Callable[..., Any]) -> Plan:
    """Compile `fn(value)` or `fn(value, arguments)`; raise RegistrationError for another shape."""
    plan = compile_plan(fn, context_type=Context, result=False)
    if not plan.listed or sum(argument.required for argument in plan.listed) > 2:
        raise RegistrationError(
            f"{plan.name} completes an argument, so it takes the text typed so far and, if it wants them, the "
            "arguments given already: (value: str, arguments: dict[str, str])."
        )
    return plan


def choice_completers(plan: Plan) -> dict[str, Plan]:
    """Return the completers of arguments of a Literal, Enum or bool type, by their names."""
    schema = msgspec.json.decode(plan.input_schema)
    choices = {name: _choices(member) for name, member in schema.get("properties", {}).items()}
    return {name: compile_completion(_prefix_completer(values)) for name, values in choices.items() if values}


def named_values(completer: Plan, params: CompleteParams) -> dict[str, object]:
    """Return the text typed so far and the arguments given already, under the names of a completer's parameters."""
    names = [argument.name for argument in completer.listed]
    return dict(zip(names, (params.argument.value, params.context.arguments), strict=False))


def encode_completion(values: object, name: str) -> bytes:
    """Return the JSON of the result without its closing brace; raise OutputError for anything but a list of str."""
    found = list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes) else [None]
    if not all(isinstance(value, str) for value in found):
        raise OutputError(f"what completes an argument of {name} must return a list of str")
    completion = {"values": found[:MAX_VALUES], "total": len(found), "hasMore": len(found) > MAX_VALUES}
    return b'{"completion":%b' % msgspec.json.encode(completion)


def _choices(schema: Schema) -> list[str]:
    """Return the values that a schema allows, as text; none where it allows any."""
    if schema.get("type") == "boolean":
        return ["true", "false"]
    values = [value for value in schema.get("enum") or [schema.get("const")] if value is not None]
    texts = [value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in values]
    return texts + [value for option in schema.get("anyOf", ()) for value in _choices(option)]


def _prefix_completer(choices: list[str]) -> Callable[..., Any]:
    async def complete(value: str) -> list[str]:
        prefix = value.casefold()
        return [choice for choice in choices if choice.casefold().startswith(prefix)]

    return complete
