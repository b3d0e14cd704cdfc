"""Chooses the engine for one type: msgspec if it understands the whole type, else pydantic; words the error for a type
that neither knows.

Only the annotation decides, never the other parameters, so a type is read the same everywhere.
"""

import typing
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from portway.exceptions import RegistrationError
from portway.plans import msgspec_engine
from portway.plans.schema import Schema
from portway.plans.signature import Parameter, unresolved

CompiledResult = tuple[Callable[[object], bytes], Schema, dict[str, Schema]]


class Engine(Protocol):
    """Decodes one parameter. `name` is the argument's name on the wire; `schema` refers to `defs`.

    All arguments of a call are decoded into one struct, where this one is a field of type `field`. `finish`, if it is
    not None, turns the value of that field into the argument, or raises ValueError.
    """

    name: str
    schema: Schema
    defs: dict[str, Schema]
    field: Any  # Any: a type expression
    finish: Callable[[Any], object] | None

    def decode(self, raw: msgspec.Raw | bytes) -> object:
        """Decode the JSON of this argument alone; raises faults.Refused."""


def choose(parameter: Parameter, name: str) -> Engine:
    """Return the engine of a parameter of `name`; raises RegistrationError."""
    part = f"parameter {parameter.name} ({type_name(parameter.annotation)})"
    engine: Engine = _chosen(parameter.annotation, lambda module: module.Engine(parameter), name, part)
    return engine


def compile_result(annotation: object, name: str) -> CompiledResult:
    """Compile the return type of `name`: the checked encoder, its schema and definitions. Raises RegistrationError."""
    part = f"the return type ({type_name(annotation)})"
    result: CompiledResult = _chosen(annotation, lambda module: module.compile_result(annotation, name), name, part)
    return result


def _chosen(annotation: object, make: Callable[[Any], Any], name: str, part: str) -> Any:  # noqa: ANN401 - two kinds
    if msgspec_engine.understands(annotation):
        try:
            return make(msgspec_engine)
        except NameError as error:
            raise unresolved(name, error) from None
        except (TypeError, RecursionError):
            pass  # one of msgspec's documented limits; pydantic knows more types
    try:
        from portway.plans import pydantic_engine
    except ImportError:
        raise RegistrationError(f"{name}: {part} needs pydantic: pip install 'portway[pydantic]'") from None
    try:
        return make(pydantic_engine)
    except pydantic_engine.REFUSALS as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise RegistrationError(
            f"{name}: {part} cannot be described to a client ({reason}); use plain types, a dataclass, a TypedDict or "
            "a pydantic model"
        ) from None


def type_name(annotation: object) -> str:
    """Spell a type as its author would."""
    plain = isinstance(annotation, type) and typing.get_origin(annotation) is None
    return getattr(annotation, "__name__", "") if plain else str(annotation).replace("typing.", "")
