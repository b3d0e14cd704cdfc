"""The choice of engine: msgspec where it reads a whole type, else pydantic. No type's engine depends on another's."""

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
    """Decodes one parameter."""

    @property
    def name(self) -> str:
        """The name of the argument on the wire."""

    @property
    def schema(self) -> Schema:
        """The JSON Schema of the argument; `defs` has the definitions that it refers to."""

    @property
    def defs(self) -> dict[str, Schema]: ...

    @property
    def field(self) -> Any:  # noqa: ANN401 - a type expression
        """The type of its field in the struct that all arguments are decoded into."""

    @property
    def finish(self) -> Callable[[Any], object] | None:
        """What makes the value of that field the argument, where it is not one already; raises ValueError."""

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
