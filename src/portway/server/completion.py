"""Completion of the arguments of prompts and resource templates (specification: server/utilities/completion)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from portway.exceptions import OutputError, RegistrationError
from portway.plans.signature import parse

if TYPE_CHECKING:
    from portway.plans.plan import Arguments, Call
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


@dataclass(frozen=True, slots=True)
class Completer:
    """How to call what completes one argument; `parameters` are those besides the context, one or two."""

    fn: Callable[..., Any]
    is_async: bool
    parameters: tuple[str, ...]
    context: str | None = None

    def bind(self, params: CompleteParams, context: object) -> Call:
        """The call that completes."""
        values = (params.argument.value, params.context.arguments)
        keywords: dict[str, object] = dict(zip(self.parameters, values, strict=False))
        return (), keywords if self.context is None else {**keywords, self.context: context}


def compile_completion(fn: Callable[..., Any], *, context_type: type) -> Completer:
    """Compiles `fn(value)` or `fn(value, arguments)`; raises RegistrationError."""
    signature = parse(fn, context_type)
    parameters = tuple(parameter.name for parameter in signature.parameters)
    required = sum(parameter.required for parameter in signature.parameters)
    if not parameters or required > 2:
        raise RegistrationError(
            f"{signature.name} completes an argument, so it takes the text typed so far and, if it wants them, the "
            "arguments given already: (value: str, arguments: dict[str, str])."
        )
    return Completer(fn, signature.is_async, parameters[:2], signature.context)


def automatic(plan: Arguments) -> dict[str, Completer]:
    """The completers of the arguments that say themselves what they can be: Literal, Enum and bool."""
    schema = msgspec.json.decode(plan.input_schema())
    choices = {name: _choices(member) for name, member in schema.get("properties", {}).items()}
    return {name: _beginning(values) for name, values in choices.items() if values}


def encode_completion(values: object, name: str) -> bytes:
    """The JSON of the result, without its end; raises OutputError for what is no list of texts."""
    found = list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes) else [None]
    if not all(isinstance(value, str) for value in found):
        raise OutputError(f"what completes an argument of {name} must return a list of str")
    completion = {"values": found[:MAX_VALUES], "total": len(found), "hasMore": len(found) > MAX_VALUES}
    return b'{"completion":%b' % msgspec.json.encode(completion)


def _choices(schema: Schema) -> list[str]:
    if schema.get("type") == "boolean":
        return ["true", "false"]
    values = [value for value in schema.get("enum") or [schema.get("const")] if value is not None]
    texts = [value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in values]
    return texts + [value for option in schema.get("anyOf", ()) for value in _choices(option)]


def _beginning(choices: list[str]) -> Completer:
    async def beginning(value: str) -> list[str]:
        begun = value.casefold()
        return [choice for choice in choices if choice.casefold().startswith(begun)]

    return Completer(beginning, is_async=True, parameters=("value",))
