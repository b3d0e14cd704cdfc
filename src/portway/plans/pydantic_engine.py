"""The pydantic engine, for signatures msgspec does not fully understand. The only module that imports pydantic."""

from collections.abc import Callable, Sequence
from typing import Any, NotRequired

import msgspec
import pydantic
import pydantic_core
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

from portway.exceptions import OutputError
from portway.plans.faults import Fault, Lost, Refused, step_into
from portway.plans.output import check_finite
from portway.plans.schema import REF_PREFIX, Schema, Shape, without_class_titles
from portway.plans.signature import Parameter

REFUSALS = (pydantic.PydanticUserError, pydantic_core.SchemaError, TypeError, NameError)
_Adapter = pydantic.TypeAdapter[dict[str, object]]
_REF_TEMPLATE = REF_PREFIX + "{model}"


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles pydantic makes from names; an author's own stay."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401 - the inherited signature
        return False


class PydanticArguments:
    """Decodes and converts the arguments of one function. Raises one of REFUSALS where pydantic cannot."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._parameters = tuple(parameters)
        self._adapter = _adapter(parameters)
        schema = self._adapter.json_schema(schema_generator=_Untitled, ref_template=_REF_TEMPLATE)
        self.shape = Shape(schema.get("properties", {}), without_class_titles(schema.get("$defs", {})))
        self.names = list(self.shape.properties)  # the wire's names: a Field's alias wins over the parameter's name
        self._single: dict[int, _Adapter] = {}

    def decode(self, raw: bytes | memoryview | msgspec.Raw) -> tuple[object, ...]:
        """Decodes a JSON object into values in the order of the parameters; raises pydantic.ValidationError."""
        values = self._adapter.validate_json(bytes(raw))
        return tuple(values[p.name] if p.name in values else p.fallback() for p in self._parameters)

    def convert(self, index: int, value: object) -> object:
        """Converts one argument; raises Refused."""
        adapter = self._single.get(index)
        if adapter is None:
            adapter = self._single[index] = _adapter(self._parameters[index : index + 1])
        try:
            return adapter.validate_python({self.names[index]: value})[self._parameters[index].name]
        except pydantic.ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            raise Refused([_fault(detail, value) for detail in details]) from None


def _adapter(parameters: Sequence[Parameter]) -> _Adapter:
    """Builds the adapter of an object that holds these parameters and no others."""
    fields: dict[str, Any] = {}
    for parameter in parameters:
        fields[parameter.name] = parameter.annotation if parameter.required else NotRequired[parameter.annotation]
    make: Any = TypedDict  # Any: a type checker allows only literal fields
    arguments = make("Arguments", fields)
    arguments.__pydantic_config__ = pydantic.ConfigDict(extra="forbid")
    return pydantic.TypeAdapter(arguments)


def _fault(detail: pydantic_core.ErrorDetails, value: object) -> Fault:
    """Keeps of a location what exists in the value: pydantic adds the names of union members and validators."""
    path: list[str | int] = []
    for step in detail["loc"][1:]:  # the first is the argument
        if (inner := step_into(value, step)) is not Lost:
            value = inner
            path.append(step)
    if detail["type"] == "missing":
        return Fault("missing", (*path, detail["loc"][-1]))
    if detail["type"] == "extra_forbidden":
        return Fault("unknown", tuple(path))
    said = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return Fault("invalid", tuple(path), said)


def pydantic_returns(annotation: Any, name: str) -> tuple[Callable[[object], bytes], Schema, dict[str, Schema]]:  # noqa: ANN401
    """Compiles a declared return type: the checked encoder, its schema and definitions. Raises one of REFUSALS."""
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
    schema = adapter.json_schema(mode="serialization", schema_generator=_Untitled, ref_template=_REF_TEMPLATE)
    defs = without_class_titles(schema.pop("$defs", {}))
    if schema.get("title") == getattr(annotation, "__name__", None):
        schema.pop("title", None)

    def to_json(result: object) -> bytes:
        try:
            valid = adapter.validate_python(result, by_alias=True, by_name=True)
            body = adapter.dump_json(valid, by_alias=True)
            if b"null" in body:
                check_finite(adapter.dump_python(valid, by_alias=True), name)
            return body
        except pydantic.ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'result'}: {e['msg']}" for e in error.errors())
            raise OutputError(f"{name} broke its declared return type: {said}") from None
        except pydantic_core.PydanticSerializationError as error:
            raise OutputError(f"{name} returned what JSON cannot express: {error}") from None

    return to_json, schema, defs


def refuses(annotation: Any) -> bool:  # noqa: ANN401 - a type expression
    """Tells whether pydantic cannot describe a type."""
    try:
        pydantic.TypeAdapter(annotation).json_schema()
    except REFUSALS:
        return True
    return False


def to_builtins(value: object) -> object:
    """Turns a pydantic model that no annotation announced into plain data."""
    return pydantic_core.to_jsonable_python(value, by_alias=True)
