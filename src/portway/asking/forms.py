"""Forms of elicitation: from a Python type to the schema that a user fills in, and from the answer back to the type.

A form is a flat object of text, numbers, booleans and choices (specification: client/elicitation, requested schema).
"""

import datetime as dt
import functools
import inspect
import typing
from collections.abc import Mapping, Sequence
from enum import Enum, EnumType
from typing import Any, Literal, NotRequired, Required, TypedDict

import msgspec

from portway.exceptions import RegistrationError
from portway.plans import engines, faults
from portway.plans.schema import Schema, Shape, flatten
from portway.plans.signature import Parameter, parse_docstring

FORMS_SINCE = "2025-06-18"
FULL_FORMS_SINCE = "2025-11-25"
"""Earlier revisions have no multi-select, titles of choices only as `enumNames`, and defaults for booleans only."""

_FORMATS = {"email", "uri", "date", "date-time"}
_KEPT: dict[str, tuple[str, ...]] = {
    "string": ("minLength", "maxLength"),
    "integer": ("minimum", "maximum"),
    "number": ("minimum", "maximum"),
    "boolean": (),
}
_ALLOWED = "text, numbers, booleans, dates, and choices (a Literal or Enum of strings, or a list of one)"


class Unfit(Exception):
    """The content of an answer does not fit the form; the message lists the faults."""


class Form(msgspec.Struct, frozen=True):
    """A compiled form. `whole`: the answer is the whole object, not its single field. `engine`: None without fields."""

    properties: dict[str, Schema]
    required: list[str]
    engine: engines.Engine | None = None
    whole: bool = True
    nullable: frozenset[str] = frozenset()

    @property
    def since(self) -> str:
        """The first protocol revision whose clients can show it."""
        multiple = any(schema["type"] == "array" for schema in self.properties.values())
        return FULL_FORMS_SINCE if multiple else FORMS_SINCE

    def schema(self, version: str) -> Schema:
        """Return the `requestedSchema` for a client that speaks `version`."""
        properties = self.properties
        if version < FULL_FORMS_SINCE:
            properties = {name: _older(schema) for name, schema in properties.items()}
        schema: Schema = {"type": "object", "properties": properties}
        return {**schema, "required": self.required} if self.required else schema

    def read(self, content: Mapping[str, object]) -> object:
        """Convert the content of an answer to the form's type; raise Unfit."""
        if self.engine is None:
            return None
        name, shape = self.engine.name, Shape({self.engine.name: self.engine.schema}, self.engine.defs)
        value: object = {**dict.fromkeys(self.nullable), **content} if self.whole else content.get(name, faults.Lost)
        try:
            if value is faults.Lost:
                if name not in self.nullable:
                    raise Unfit(faults.missing((name,), shape.describe(shape.at((name,)))))
                value = None
            return self.engine.decode(msgspec.json.encode(value))
        except faults.Refused as refused:
            lines = faults.describe(shape, name, value, refused.faults)
            raise Unfit("; ".join(line.removeprefix(f"{name}.") for line in lines)) from None


def form_of(kind: object, field: str) -> Form:
    """Compile `kind`; a type that is no object becomes the only field, named `field`. A dict is the schema itself.

    Raises RegistrationError for a type that no form can hold.
    """
    if kind is None:
        return Form({}, [])
    if isinstance(kind, dict):
        return _verbatim(kind)
    try:
        return _compile(kind, field, repr(kind))  # the text too, because Literal["a", "b"] equals Literal["b", "a"]
    except TypeError as error:
        if isinstance(error, RegistrationError) or "unhashable" not in str(error):
            raise
        return _compile.__wrapped__(kind, field)


@functools.lru_cache(maxsize=256)
def _compile(kind: Any, field: str, _text: str = "") -> Form:  # noqa: ANN401 - a type expression
    name = f"The form {engines.type_name(kind)}"
    engine = engines.choose(Parameter(field, kind), name)
    wire = engine.name
    flat: Schema = flatten(engine.schema, engine.defs)
    if "properties" not in flat:
        schema, null = _property(name, field, flat, kind)
        return Form({wire: schema}, [] if null else [wire], engine, False, frozenset({wire} if null else ()))
    properties: dict[str, Schema] = {}
    nullable: set[str] = set()
    required = flat.get("required", [])
    for label, (schema, annotation, documented) in _fields(kind, flat["properties"]).items():
        properties[label], null = _property(name, label, schema, annotation)
        if documented:
            properties[label].setdefault("description", documented)
        if null and label in required:
            nullable.add(label)
    wanted = [label for label in required if label not in nullable]
    return Form(properties, wanted, engine, True, frozenset(nullable))


def _verbatim(schema: Schema) -> Form:
    """Compile a requestedSchema that the author wrote; answers are read as a dict."""
    members = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(members, dict):
        raise RegistrationError('The form is no requestedSchema: it needs "type": "object" and "properties".')
    required = schema.get("required", [])
    fields: dict[str, Any] = {}
    for label, member in members.items():
        kind = _type(_property("The form", label, member, None)[0])
        fields[label] = Required[kind] if label in required else NotRequired[kind]
    make: Any = TypedDict  # Any: a type checker allows only literal fields
    form = _compile.__wrapped__(make("Form", fields), "form")
    return msgspec.structs.replace(form, properties=members, required=list(required))


def _fields(kind: object, properties: Mapping[str, Schema]) -> dict[str, tuple[Schema, object, str | None]]:
    """Return each property with its annotation, if known, and its description in the class's docstring."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    hints: Mapping[str, object] = {}
    documented: dict[str, str] = {}
    if isinstance(kind, type):
        documented = parse_docstring(inspect.getdoc(kind))[1]
        hints = typing.get_type_hints(kind, include_extras=True)
    names = list(hints) if len(hints) == len(properties) else list(properties)  # aliases keep the order
    return {
        label: (schema, hints.get(name), documented.get(name))
        for (label, schema), name in zip(properties.items(), names, strict=True)
    }


def _property(form: str, label: str, schema: Schema, annotation: object) -> tuple[Schema, bool]:
    """Return one field in the keywords that the specification allows, and whether it may be null.

    Raises RegistrationError for a field that no form can hold.
    """
    schema, null = _without_null(schema) if isinstance(schema, dict) else ({}, False)
    parts = list(_parts(annotation))
    kind = schema.get("type")
    field: Schema
    options = _options(schema, parts)
    if options is not None:
        field = {"type": "string", **_choice(options, "oneOf")}
    elif kind == "array" and (options := _options(schema.get("items"), parts)) is not None:
        items = _choice(options, "anyOf")
        field = {"type": "array", "items": items if "anyOf" in items else {"type": "string", **items}}
        field |= {key: schema[key] for key in ("minItems", "maxItems") if key in schema}
    elif kind in _KEPT:
        field = {"type": kind} | {key: schema[key] for key in _KEPT[kind] if key in schema}
        wanted = "date-time" if dt.datetime in parts else schema.get("format")  # msgspec leaves it out inside a class
        if wanted in _FORMATS:
            field["format"] = wanted
    else:
        raise RegistrationError(f"{form}: {label} cannot be a field of a form; a form holds {_ALLOWED}.")
    field |= {key: schema[key] for key in ("title", "description") if isinstance(schema.get(key), str)}
    text = next((part for part in parts if isinstance(part, str)), None)
    if text:
        field.setdefault("description", text)
    if schema.get("default") is not None:
        field["default"] = schema["default"]
    return field, null


def _without_null(schema: Schema) -> tuple[Schema, bool]:
    """Return a schema without the null that `X | None` adds, and whether it had one."""
    options = schema.get("anyOf", [])
    kept = [option for option in options if option.get("type") != "null"]
    if len(kept) == 1:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**kept[0], **rest}, len(options) > 1
    values = schema.get("enum")
    if isinstance(values, list) and None in values:  # Literal["a", None]
        return {**schema, "enum": [value for value in values if value is not None]}, True
    return schema, False


def _parts(annotation: object) -> typing.Iterator[object]:
    """Yield the types that a type consists of and the metadata of Annotated; for a choice, a tuple of its values."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        yield parts
    elif isinstance(annotation, EnumType):
        yield tuple(member.value for member in typing.cast("type[Enum]", annotation))
    elif origin is typing.Annotated:
        yield from typing.cast("Any", annotation).__metadata__
        yield from _parts(parts[0])
    elif parts:
        for part in parts:
            yield from _parts(part)
    else:
        yield annotation


def _options(schema: object, parts: Sequence[object]) -> dict[str, str | None] | None:
    """Return the values of a choice with their titles, in the author's order; None if it is no choice of strings."""
    if not isinstance(schema, dict):
        return None
    listed = schema.get("oneOf") or schema.get("anyOf")
    if isinstance(listed, list):
        options: dict[Any, Any] = {item.get("const"): item.get("title") for item in listed if isinstance(item, dict)}
    else:
        options = dict.fromkeys([schema["const"]] if "const" in schema else schema.get("enum", ()))
    if not options or not all(isinstance(value, str) for value in options):
        return None
    for part in parts:
        if isinstance(part, dict):
            options |= {key.value if isinstance(key, Enum) else key: title for key, title in part.items()}
        elif isinstance(part, tuple):  # msgspec sorts them
            options = {value: options[value] for value in part if value in options}
    return options


def _choice(options: Mapping[str, str | None], titled: str) -> Schema:
    if not any(options.values()):
        return {"enum": list(options)}
    return {titled: [{"const": value, "title": title or value} for value, title in options.items()]}


def _older(schema: Schema) -> Schema:
    """Return a field in the keywords of clients before 2025-11-25."""
    kept = {key: value for key, value in schema.items() if key != "oneOf"}
    if schema["type"] != "boolean":
        kept.pop("default", None)
    if "oneOf" in schema:
        kept["enum"] = [option["const"] for option in schema["oneOf"]]
        kept["enumNames"] = [option["title"] for option in schema["oneOf"]]
    return kept


_SCALARS: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool}
_LIMITS = {
    "minLength": "min_length",
    "maxLength": "max_length",
    "minimum": "ge",
    "maximum": "le",
    "minItems": "min_length",
    "maxItems": "max_length",
}


def _type(field: Schema) -> Any:  # noqa: ANN401 - a type expression
    """Return the type of the values that one field of an author's schema allows."""
    items = field.get("items", field)
    options = _options(items, ())
    kind: Any = Literal[tuple(options)] if options is not None else _SCALARS[field["type"]]
    if field["type"] == "array":
        kind = list[kind]
    limits = {word: field[key] for key, word in _LIMITS.items() if key in field}
    return typing.Annotated[kind, msgspec.Meta(**limits)] if limits else kind
