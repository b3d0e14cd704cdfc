"""The pydantic engine: decodes one parameter, checks and encodes one result, reads pydantic's errors. The only module
that imports pydantic.
"""

import contextlib
import re
from collections.abc import Callable
from typing import Any, NotRequired

import msgspec
import pydantic
import pydantic_core
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

from portway.exceptions import OutputError
from portway.plans.faults import Fault, Lost, Refused, step_into
from portway.plans.jsonschema_validation import GivenSchema
from portway.plans.output import check_finite
from portway.plans.schema import REF_PREFIX, Schema, without_class_titles
from portway.plans.signature import Parameter

REFUSALS = (pydantic.PydanticUserError, pydantic_core.SchemaError, TypeError, NameError)
_REF_TEMPLATE = REF_PREFIX + "{model}"
_SCHEMA_SAYS = re.compile(
    r"\w+_type|(bool|int|float|decimal|date|datetime|time|time_delta|uuid)_(parsing|from)\w*|\w+_too_(short|long)|"
    r"(greater|less)_than\w*|multiple_of|string_pattern_mismatch|literal_error|enum"
)
"""The kinds of error whose reason is in the schema; for the others, show pydantic's own message."""
_MAX_DETAILS = 1000  # pydantic gives details of all faults or of none, and a million take seconds


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles pydantic makes from names; an author's own stay."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401 - the inherited signature
        return False


class Engine:
    """Decodes one parameter; see `engines.Engine`. Raises one of REFUSALS for a type that pydantic does not know.

    It is the only field of a TypedDict, because a Field's alias and default count only in one.
    """

    def __init__(self, parameter: Parameter) -> None:
        kind = parameter.annotation if parameter.required else NotRequired[parameter.annotation]
        make: Any = TypedDict  # Any: a type checker allows only literal fields
        holder = make("Arguments", {parameter.name: kind})
        self._adapter: pydantic.TypeAdapter[dict[str, object]] = pydantic.TypeAdapter(holder)
        schema = self._adapter.json_schema(schema_generator=_Untitled, ref_template=_REF_TEMPLATE)
        ((self.name, self.schema),) = schema["properties"].items()
        self.defs = without_class_titles(schema.get("$defs", {}))
        self.field = msgspec.Raw
        self._key, self._prefix = parameter.name, b"{%b:" % msgspec.json.encode(self.name)

    def finish(self, value: object) -> object:
        """Decode the JSON of one argument, a Raw; anything else is the default. Raises pydantic.ValidationError."""
        if not isinstance(value, msgspec.Raw):
            return value
        return self._adapter.validate_json(b"%b%b}" % (self._prefix, value))[self._key]

    def decode(self, raw: msgspec.Raw | bytes) -> object:
        """Decode the JSON of one argument; raises Refused."""
        try:
            return self.finish(msgspec.Raw(raw))
        except pydantic.ValidationError as error:
            if (places := error.error_count()) > _MAX_DETAILS:
                raise Refused([Fault("invalid", (), f"{places} places are wrong", says_more=True)]) from None
            value = msgspec.json.decode(raw)
            raise Refused([_fault(detail, value) for detail in error.errors(include_url=False)]) from None


def _fault(detail: pydantic_core.ErrorDetails, value: object) -> Fault:
    """Remove from a location what pydantic adds: the names of union members and validators."""
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
    return Fault("invalid", tuple(path), said, says_more=not _SCHEMA_SAYS.fullmatch(detail["type"]))


def compile_result(annotation: Any, name: str) -> tuple[Callable[[object], bytes], Schema, dict[str, Schema]]:  # noqa: ANN401
    """Compile a declared return type: the checked encoder, its schema and definitions. Raises one of REFUSALS."""
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
    schema = adapter.json_schema(mode="serialization", schema_generator=_Untitled, ref_template=_REF_TEMPLATE)
    defs = without_class_titles(schema.pop("$defs", {}))
    if schema.get("title") == getattr(annotation, "__name__", None):
        schema.pop("title", None)

    always_held = _is_customised(adapter.core_schema)
    given: list[GivenSchema] = []  # made when it is first needed

    def dump(valid: object) -> bytes:
        """Encode a result; validate it against the schema where its JSON may differ."""
        with contextlib.suppress(pydantic_core.PydanticSerializationError):
            if not always_held:
                return adapter.dump_json(valid, by_alias=True, warnings="error")  # raises for most that differs
        body = adapter.dump_json(valid, by_alias=True, warnings=False)
        if not given:
            given.append(GivenSchema("output_schema", name, schema | {"$defs": defs}))
        if problems := given[0].problems(msgspec.json.decode(body)):
            raise OutputError(f"{name} broke its declared return type: {'; '.join(problems)}")
        return body

    def to_json(result: object) -> bytes:
        try:
            valid = adapter.validate_python(result, by_alias=True, by_name=True)
            body = dump(valid)
            if b"null" in body:
                check_finite(adapter.dump_python(valid, by_alias=True, warnings=False), name)
            return body
        except pydantic.ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'result'}: {e['msg']}" for e in error.errors())
            raise OutputError(f"{name} broke its declared return type: {said}") from None
        except pydantic_core.PydanticSerializationError as error:
            raise OutputError(f"{name} returned what JSON cannot express: {error}") from None

    return to_json, schema, defs


def _is_customised(node: object) -> bool:
    """Tell whether the author's own code or schema may make the sent JSON differ from the listed schema."""
    if isinstance(node, list | tuple):
        return any(map(_is_customised, node))
    if not isinstance(node, dict):
        return False
    serialization, metadata = node.get("serialization"), node.get("metadata")
    functions = [serialization.get("function")] if isinstance(serialization, dict) else []
    if isinstance(metadata, dict):
        functions += metadata.get("pydantic_js_functions", []) + metadata.get("pydantic_js_annotation_functions", [])
    extra = isinstance(metadata, dict) and metadata.get("pydantic_js_extra")
    duck_typed = isinstance(serialization, dict) and serialization["type"] == "any"  # SerializeAsAny
    if extra or duck_typed or getattr(node.get("cls"), "model_config", {}).get("json_schema_extra"):
        return True
    inner = [item for key, item in node.items() if key != "metadata"]
    return any(map(_is_authors, functions)) or any(map(_is_customised, inner))


def _is_authors(function: Any) -> bool:  # noqa: ANN401 - any callable, or None
    """Tell whether a function of a core schema, or the JSON schema it gives, is not pydantic's own."""
    function = getattr(function, "func", function)  # of a partial
    module, name = getattr(function, "__module__", None) or "", getattr(function, "__qualname__", "")
    own = function is None or module.partition(".")[0] in {"pydantic", "pydantic_core"}
    return not own or name.startswith("WithJsonSchema")
