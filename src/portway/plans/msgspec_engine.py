"""The msgspec engine: arguments decoded straight into a struct of the signature, results checked and encoded."""

import datetime as dt
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from portway.exceptions import OutputError
from portway.plans.faults import Fault, Refused
from portway.plans.output import encode_json
from portway.plans.schema import REF_PREFIX, Path, Schema, Shape, without_class_titles
from portway.plans.signature import Parameter, is_pydantic

_REF_TEMPLATE = REF_PREFIX + "{name}"
_AT = re.compile(r"(?P<said>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\[(\d+)\]|\[\.\.\.\]|\.([^.\[]+)")
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
_astuple = msgspec.structs.astuple
_FORMATS: dict[object, Any] = {
    dt.datetime: typing.Annotated[dt.datetime, msgspec.Meta(extra_json_schema={"format": "date-time"})],
    dt.time: typing.Annotated[dt.time, msgspec.Meta(extra_json_schema={"format": "time"})],
}
_SCALARS = (str, int, float, bool)


def understands(annotation: object) -> bool:
    """Tells whether msgspec would take in all of a type: it drops pydantic's metadata and validators silently."""
    return _plain(annotation, set())


def _plain(annotation: object, seen: set[int]) -> bool:
    if id(annotation) in seen:
        return True
    seen.add(id(annotation))
    if any(map(is_pydantic, getattr(annotation, "__metadata__", ()))):
        return False
    if hasattr(annotation, "__value__"):  # a `type X = ...` alias
        return _plain(annotation.__value__, seen)
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        if hasattr(annotation, "__pydantic_validator__") or hasattr(annotation, "__get_pydantic_core_schema__"):
            return False
        if annotation.__module__ == "builtins" or not hasattr(annotation, "__annotations__"):
            return True
        try:
            fields = typing.get_type_hints(annotation, include_extras=True)
        except (NameError, TypeError):
            return True  # the engine itself says what is wrong with it
        return all(_plain(field, seen) for field in fields.values())
    return all(_plain(part, seen) for part in typing.get_args(annotation))


def _dated(annotation: Any) -> Any:  # noqa: ANN401 - a type expression
    """Gives dates with a time their format in the schema: msgspec leaves it out, and models then guess at the form."""
    if isinstance(annotation, type) and annotation in _FORMATS:
        return _FORMATS[annotation]
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    dated = tuple(map(_dated, parts)) if origin not in {None, typing.Annotated, typing.Literal} else parts
    if dated == parts:
        return annotation
    return typing.Union[dated] if origin in {typing.Union, types.UnionType} else origin[dated]  # noqa: UP007


class NativeArguments:
    """Decodes and converts the arguments of one function. Raises TypeError where msgspec cannot."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._types = [parameter.annotation for parameter in parameters]
        self.names = [parameter.name for parameter in parameters]
        dated = map(_dated, self._types)
        schemas, defs = msgspec.json.schema_components(dated, ref_template=_REF_TEMPLATE)
        self.shape = Shape(dict(zip(self.names, schemas, strict=True)), without_class_titles(defs))
        fields = [(parameter.name, parameter.annotation, _default(parameter)) for parameter in parameters]
        struct = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        self._decode = msgspec.json.Decoder(struct, strict=False).decode

    def decode(self, raw: bytes | memoryview | msgspec.Raw) -> tuple[object, ...]:
        """Decodes a JSON object into values in the order of the parameters; raises msgspec.MsgspecError, ValueError."""
        return _astuple(self._decode(raw))

    def convert(self, index: int, value: object) -> object:
        """Converts one argument; raises Refused."""
        try:
            return msgspec.convert(value, self._types[index], strict=False, str_keys=True)
        except msgspec.ValidationError as error:
            raise Refused([_fault(str(error))]) from None


def _default(parameter: Parameter) -> Any:  # noqa: ANN401 - msgspec's own field description
    if parameter.required:
        return msgspec.NODEFAULT
    if parameter.factory is not None:
        return msgspec.field(default_factory=parameter.factory)
    return msgspec.field(default=parameter.default)


def _fault(text: str) -> Fault:
    match = _AT.fullmatch(text)
    said, where = (match["said"], match["path"] or "") if match else (text, "")
    path: Path = tuple(int(index) if index else name or "*" for index, name in _STEP.findall(where))
    if field := _FIELD.fullmatch(said):
        return Fault("missing" if field[1].startswith("missing") else "unknown", (*path, field[2]))
    if match and match["key"]:
        said = f"a key of this object is wrong: {said}"
    return Fault("invalid", path, said.replace("`", ""))


def native_returns(annotation: Any, name: str) -> tuple[Callable[[object], bytes], Schema, dict[str, Schema]]:  # noqa: ANN401
    """Compiles a declared return type: the checked encoder, its schema and definitions. Raises TypeError.

    An instance of the declared class is trusted (its fields are the author's own); everything else is checked whole.
    """
    (schema,), defs = msgspec.json.schema_components([_dated(annotation)], ref_template=_REF_TEMPLATE)
    holder = msgspec.defstruct("Returned", [("result", annotation)])
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
        return encode_json(result, name)

    return to_json, schema, without_class_titles(defs)
