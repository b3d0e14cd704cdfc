"""The msgspec engine: which types it takes, how it decodes one parameter, checks and encodes one result, and reads its
own error messages.
"""

import contextlib
import dataclasses
import datetime as dt
import functools
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING
from decimal import Decimal
from enum import EnumType
from types import NoneType
from typing import Any, TypeVar

import msgspec

from portway.exceptions import OutputError
from portway.plans.faults import Fault, Refused
from portway.plans.output import encode_json
from portway.plans.schema import REF_PREFIX, Path, Schema, without_class_titles
from portway.plans.signature import Parameter, is_pydantic

_REF_TEMPLATE = REF_PREFIX + "{name}"
_AT = re.compile(r"(?P<key>`key` in )?`\$(?P<path>.*)`", re.DOTALL)
_STEP = re.compile(r"\[(\d+)\]|\[\.\.\.\]|\.([^.\[]+)")
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
_FORMATS: dict[object, Any] = {
    dt.datetime: typing.Annotated[dt.datetime, msgspec.Meta(extra_json_schema={"format": "date-time"})],
    dt.time: typing.Annotated[dt.time, msgspec.Meta(extra_json_schema={"format": "time"})],
}
_SCALARS = (str, int, float, bool)


def understands(annotation: object) -> bool:
    """Return whether msgspec reads the whole type, and as its author means it."""
    return all(map(_is_plain, _types_in(annotation, {})))


def _types_in(annotation: object, seen: dict[int, object]) -> Iterator[object]:
    """Yield a type and all types inside it, also those of a class's fields. `seen` keeps them, so ids stay unique."""
    if id(annotation) in seen:
        return
    seen[id(annotation)] = annotation
    yield annotation
    inner: tuple[object, ...] = typing.get_args(annotation)
    if hasattr(annotation, "__value__"):  # a `type X = ...` alias
        inner = (annotation.__value__,)
    plain = typing.get_origin(annotation) or annotation
    if isinstance(plain, type) and plain.__module__ != "builtins":
        with contextlib.suppress(NameError, TypeError):  # the engine itself says what is wrong with it
            inner += tuple(typing.get_type_hints(plain, include_extras=True).values())
    if typing.get_origin(annotation) is not typing.Literal:
        for part in inner:
            yield from _types_in(part, seen)


def _is_plain(annotation: object) -> bool:
    """Return whether msgspec reads a type as its author means it, leaving the types inside it aside."""
    if any(map(is_pydantic, getattr(annotation, "__metadata__", ()))):
        return False
    if hasattr(annotation, "__pydantic_validator__") or hasattr(annotation, "__get_pydantic_core_schema__"):
        return False
    members = list(_members(annotation))
    texts = [member.lower() for member in members if isinstance(member, str)]
    converts = any(member is kind or isinstance(member, kind) for member in members for kind in (int, float, bool))
    # In each of these unions msgspec would convert a text to another member, though it is exactly one of them.
    return not (
        (converts and any(map(_is_value, texts)))
        or ("null" in texts and (None in members or NoneType in members))
        or (float in members and Decimal in members)
    )


def _is_value(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in {"true", "false"}
    return True


def _members(annotation: Any) -> Iterator[object]:  # noqa: ANN401 - a type expression
    """Yield the values of a Literal or Enum, the members of each part of a union, or else the type itself."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        yield from parts
    elif isinstance(annotation, EnumType):
        yield from (member.value for member in annotation)  # type: ignore[var-annotated]
    elif origin in {typing.Union, types.UnionType, typing.Annotated}:
        for part in parts if origin is not typing.Annotated else parts[:1]:
            yield from _members(part)
    else:
        yield annotation


def _dated(annotation: Any) -> Any:  # noqa: ANN401 - a type expression
    """Add the format of dates and times to the schema: msgspec leaves it out, and models then guess it."""
    if isinstance(annotation, type) and annotation in _FORMATS:
        return _FORMATS[annotation]
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    dated = tuple(map(_dated, parts)) if origin not in {None, typing.Annotated, typing.Literal} else parts
    if dated == parts:
        return annotation
    return typing.Union[dated] if origin in {typing.Union, types.UnionType} else origin[dated]  # noqa: UP007


class Engine:
    """Decodes one parameter; see `engines.Engine`. Raises TypeError for a type that msgspec does not know."""

    def __init__(self, parameter: Parameter) -> None:
        self.name = parameter.name
        self.field = parameter.annotation
        (self.schema,), defs = msgspec.json.schema_components([_dated(self.field)], ref_template=_REF_TEMPLATE)
        self.defs = without_class_titles(defs)
        self.finish = _finisher(self.field)
        self._decode = msgspec.json.Decoder(self.field, strict=False).decode

    def decode(self, raw: msgspec.Raw | bytes) -> object:
        """Decode the JSON of one argument; raises Refused."""
        try:
            value = self._decode(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Refused([_fault(str(error))]) from None
        return value if self.finish is None else self.finish(value)


def _fault(text: str) -> Fault:
    begun, _, place = text.rpartition(" - at ")
    match = _AT.fullmatch(place)
    said, where = (begun, match["path"]) if match else (text, "")
    path: Path = tuple(int(index) if index else name or "*" for index, name in _STEP.findall(where))
    if field := _FIELD.fullmatch(said):
        return Fault("missing" if field[1].startswith("missing") else "unknown", (*path, field[2]))
    if match and match["key"]:
        said = f"a key of this object is wrong: {said}"
    return Fault("invalid", path, said.replace("`", ""))


def _finisher(annotation: object) -> Callable[[Any], object] | None:
    """Return `_with_defaults` for a type that may hold a dataclass with fields that msgspec leaves to the class."""
    found = any(isinstance(kind, TypeVar) or _left_to_class(kind) for kind in _types_in(annotation, {}))
    return _with_defaults if found else None


def _with_defaults(value: Any) -> Any:  # noqa: ANN401 - any value that msgspec decodes
    """Set the fields of dataclasses that msgspec left to the class: its encoder and `vars` miss those.

    The objects are new, so they are changed in place.
    """
    if isinstance(value, dict):
        inner: Any = value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        inner = value
    else:
        fields, inner_names = _fields(type(value))  # type: ignore[arg-type]
        for field in fields:
            if (name := field.name) not in (own := value.__dict__):
                own[name] = field.default if field.default_factory is MISSING else field.default_factory()
        inner = [getattr(value, name) for name in inner_names]
    for item in inner:
        _with_defaults(item)
    return value


@functools.lru_cache(maxsize=256)
def _fields(kind: Any) -> tuple[list[dataclasses.Field[Any]], list[str]]:  # noqa: ANN401 - a class
    """Return the fields that msgspec leaves unset, and the names of all whose values may hold such objects."""
    hints = {} if getattr(kind, "__module__", "") == "builtins" else typing.get_type_hints(kind, include_extras=True)
    return _left_to_class(kind), [name for name, hint in hints.items() if _finisher(hint)]


def _left_to_class(annotation: Any) -> list[dataclasses.Field[Any]]:  # noqa: ANN401 - a type expression
    """Return the fields of a dataclass that msgspec leaves unset: their default is a class attribute."""
    kind = typing.get_origin(annotation) or annotation
    if not dataclasses.is_dataclass(kind) or not getattr(kind, "__dictoffset__", 0):
        return []
    fields = [(field, getattr(kind, field.name, MISSING)) for field in dataclasses.fields(kind)]
    # The class attribute of a slot is a descriptor, not a default.
    return [field for field, own in fields if own is not MISSING and not hasattr(own, "__set__")]


def compile_result(annotation: Any, name: str) -> tuple[Callable[[object], bytes], Schema, dict[str, Schema]]:  # noqa: ANN401
    """Compile a declared return type: the checked encoder, its schema and definitions. Raises TypeError.

    An instance of the declared class is trusted (its fields are the author's own); everything else is checked whole.
    """
    (schema,), defs = msgspec.json.schema_components([_dated(annotation)], ref_template=_REF_TEMPLATE)
    holder = msgspec.defstruct("Returned", [("result", annotation)])
    finish = _finisher(annotation)
    exact = annotation if isinstance(annotation, type) and typing.get_origin(annotation) is None else None
    if annotation == dict[str, Any]:
        exact = dict
    if exact is not None and (hasattr(exact, "__total__") or issubclass(exact, (tuple, list, set, frozenset))):
        exact = None

    def to_json(result: object) -> bytes:
        if exact is None or (type(result) is not exact and (exact in _SCALARS or not isinstance(result, exact))):
            try:
                result = msgspec.convert({"result": result}, holder).result  # type: ignore[attr-defined]
            except msgspec.ValidationError as error:
                said = str(error).replace("$.result", "$")
                raise OutputError(f"{name} broke its declared return type: {said}") from None
            if finish is not None:
                result = finish(result)
        return encode_json(result, name)

    return to_json, schema, without_class_titles(defs)
