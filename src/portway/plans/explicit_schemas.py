"""A tool with schemas of the author's own: served as they are, and held to with the `jsonschema` library.

2020-12 is the dialect where `$schema` names none. References stay inside the schema; nothing is ever fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Protocol, get_args, get_origin

import msgspec

from portway.exceptions import ArgumentError, OutputError, RegistrationError
from portway.plans import faults
from portway.plans.output import Encoded, Output, encode_json
from portway.plans.plan import Call, JsonBytes, compile_arguments, compile_plan
from portway.plans.schema import LIMITS, Path, Schema, Shape, show, subschemas
from portway.plans.signature import Signature, parse

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
_MAX_FAULTS = 20  # named in one error; a list of a million wrong items has no more to say
_MAX_WORDS = 200

_DIALECTS = {
    "https://json-schema.org/draft/2020-12/schema": "Draft202012Validator",
    "https://json-schema.org/draft/2019-09/schema": "Draft201909Validator",
    "http://json-schema.org/draft-07/schema": "Draft7Validator",
}
_DEFAULT_DIALECT = next(iter(_DIALECTS))
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DESCRIBED = frozenset({"type", "enum", "const", "anyOf", "oneOf", "format", *LIMITS})


class _Problem(Protocol):
    """What is read of a `jsonschema.ValidationError`."""

    absolute_path: Iterable[str | int]
    instance: Any  # Any: JSON, as are the two below
    schema: Any
    validator: Any


class _Validator(Protocol):
    """What is used of a `jsonschema` validator."""

    def iter_errors(self, instance: object) -> Iterator[_Problem]:
        """What is wrong with JSON."""


class ExplicitPlan:
    """How to call a tool whose author gave one schema or both: `Plan`'s interface over other means.

    The members of the arguments become keyword arguments, or one dict where the function's only parameter is a dict.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        input_schema: Mapping[str, Any] | str | bytes | None,
        output_schema: Mapping[str, Any] | str | bytes | None,
        *,
        context_type: type,
        name: str | None = None,
    ) -> None:
        signature = parse(fn, context_type)
        self.fn = fn
        self.name = signature.name if name is None else name
        self.description = signature.description
        self.is_async = signature.is_async
        self.context = signature.context
        self.questions = signature.questions
        self.output_schema: bytes | None
        self.encode: Callable[[object], Encoded]
        self.bind: Callable[[JsonBytes | None, object], Call]
        if input_schema is None:
            arguments = compile_arguments(fn, context_type=context_type, name=name)
            self.input_schema, self.bind = arguments.input_schema(), arguments.bind
        else:
            given = _Given("input_schema", self.name, input_schema)
            self.input_schema, self.bind = given.json, _Binder(given, signature, self.name).bind
        if output_schema is None:
            returns = compile_plan(_returning(signature), context_type=context_type, name=self.name)
            self.output_schema, self.encode = returns.output_schema, returns.encode
        else:
            checked = _Given("output_schema", self.name, output_schema)
            self.output_schema, self.encode = checked.json, Output(self.name, _checker(checked, self.name)).encode


class _Given:
    """A schema as its author wrote it: `json` to serve, `data` to look at, `problems` to judge by.

    Raises RegistrationError.
    """

    def __init__(self, keyword: str, tool: str, schema: Mapping[str, Any] | str | bytes) -> None:
        self._where = f"{tool}: {keyword}"
        self._root: Path = () if keyword == "input_schema" else ("result",)
        self.json = self._normalised(schema)
        data = msgspec.json.decode(self.json)
        if not isinstance(data, dict):
            raise RegistrationError(f"{self._where} must be an object.")
        if keyword == "input_schema" and data.get("type") != "object":
            raise RegistrationError(f'{self._where} must have "type": "object" at its top, as MCP asks of tools.')
        if _is_deeper(data, MAX_DEPTH):
            raise RegistrationError(
                f"{self._where} is nested more than {MAX_DEPTH} levels deep; move parts of it into $defs."
            )
        dialect = data.get("$schema", _DEFAULT_DIALECT)
        kind = _DIALECTS.get(dialect.removesuffix("#")) if isinstance(dialect, str) else None
        if kind is None:
            known = ", ".join(_DIALECTS)
            raise RegistrationError(
                f"{self._where} is written in the dialect {show(dialect)}, which is not supported; use one of {known}."
            )
        for reference, _ in _references(data):
            if not reference.startswith("#"):
                raise RegistrationError(
                    f"{self._where} refers to {show(reference)}, and nothing is ever fetched; copy what that names "
                    "into $defs."
                )
        self.data: Schema = data
        self._dialect, self._kind = dialect, kind
        self._validator: _Validator | None = None

    def problems(self, value: object) -> list[str]:
        """What is wrong with a value, each place once; nothing when it fits."""
        lines: dict[Path, str] = {}
        validator = self._validator or self._compiled()
        try:
            for error in validator.iter_errors(value):
                for path, line in self._describe(error):
                    lines.setdefault(path, line)
                    if len(lines) == _MAX_FAULTS:
                        return list(lines.values())
        except RecursionError:
            return ["nested too deeply"]
        except OverflowError:
            return ["a number is too large"]
        return list(lines.values())

    def _normalised(self, schema: Mapping[str, Any] | str | bytes) -> bytes:
        try:
            if isinstance(schema, str | bytes):
                msgspec.json.decode(schema)  # `format` looks at the structure only
                json.loads(schema, object_pairs_hook=self._without_twins)
                text = schema.encode() if isinstance(schema, str) else schema
                compact = msgspec.json.format(text, indent=-1)
            else:
                compact = encode_json(dict(schema) if isinstance(schema, Mapping) else schema, self._where, "holds")
        except OutputError as error:
            raise RegistrationError(str(error)) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise RegistrationError(f"{self._where} is not JSON ({error}).") from None
        if len(compact) > MAX_BYTES:
            raise RegistrationError(
                f"{self._where} has {len(compact)} bytes, more than the {MAX_BYTES} a schema may have."
            )
        return compact

    def _without_twins(self, members: list[tuple[str, object]]) -> None:
        names = [name for name, _ in members]
        if twin := next((name for name in names if names.count(name) > 1), None):
            raise RegistrationError(f"{self._where} has the member {twin!r} twice in one object.")

    def _compiled(self) -> _Validator:
        """The validator, made for the first call: its library takes longer to import than all else a server needs.

        Raises RegistrationError for what only the library sees.
        """
        import jsonschema  # type: ignore[import-untyped]
        from referencing import Registry
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import specification_with

        kind = _bounded(getattr(jsonschema, self._kind))
        try:
            kind.check_schema(self.data)
        except jsonschema.SchemaError as error:
            place = f"at {faults.spell(tuple(error.absolute_path))} " if error.absolute_path else ""
            raise RegistrationError(f"{self._where} is no valid JSON Schema: {place}{error.message[:200]}.") from None
        specification = specification_with(self._dialect)
        registry: Registry[Any] = Registry()
        resolver = registry.resolver_with_root(specification.create_resource(self.data))
        for reference, around in _references(self.data):
            within = resolver
            for subschema in around:
                within = within.in_subresource(specification.create_resource(subschema))
            try:
                within.lookup(reference)
            except Unresolvable:
                raise RegistrationError(f"{self._where} refers to {show(reference)}, which is not in it.") from None
        validator: _Validator = kind(self.data, registry=registry)
        try:
            list(validator.iter_errors({}))
        except RecursionError:
            raise RegistrationError(f"{self._where} refers to itself without end.") from None
        self._validator = validator
        return validator

    def _describe(self, error: _Problem) -> Iterator[tuple[Path, str]]:
        path, value, keyword = (*self._root, *error.absolute_path), error.instance, error.validator
        schema: Schema = error.schema if isinstance(error.schema, dict) else {}
        properties = {name: item for name, item in schema.get("properties", {}).items() if isinstance(item, dict)}
        if keyword == "required":
            for name in [name for name in schema["required"] if name not in value]:
                expected = _words(properties.get(name, {}))
                place = faults.spell((*path, name))
                yield (*path, name), f"{place}: missing ({expected} is required)" if expected else f"{place}: missing"
        elif keyword == "additionalProperties" and schema[keyword] is False:
            patterns = schema.get("patternProperties", {})
            for name in value:
                if name not in schema.get("properties", {}) and not any(re.search(p, name) for p in patterns):
                    yield (*path, name), faults.unknown_among((*path, name), properties)
        else:
            expected = _words(schema) if keyword in _DESCRIBED else ""
            what = f"expected {expected}" if expected else f"does not fit the schema ({keyword or 'false'})"
            yield path, f"{faults.spell(path) if path else 'arguments'}: {what}, got {show(value)}"


class _Binder:
    """Turns arguments that fit a schema into a call of a function."""

    def __init__(self, given: _Given, signature: Signature, name: str) -> None:
        self._given = given
        self._name = name
        self._context = signature.context
        self._declared = {parameter.name for parameter in signature.parameters}
        properties = given.data.get("properties", {})
        self._whole: str | None = None
        if len(signature.parameters) == 1:
            parameter = signature.parameters[0]
            if _is_dict(parameter.annotation) and parameter.name not in properties:
                self._whole = parameter.name
                return
        mend = "or take them all as one parameter annotated dict"
        for member in properties:
            if member not in self._declared:
                raise RegistrationError(
                    f"{name}: input_schema has the member {member!r}, the function no such parameter; add it, {mend}."
                )
        for parameter in signature.parameters:
            if parameter.required and parameter.name not in given.data.get("required", ()):
                raise RegistrationError(
                    f"{name}: input_schema does not require {parameter.name!r}; give it a default, {mend}."
                )

    def bind(self, arguments: JsonBytes | None, context: object = None) -> Call:
        """Checks a JSON object of arguments (None: no arguments) and places it into a call; raises ArgumentError."""
        values = self._read(arguments)
        problems = self._given.problems(values)
        if self._whole is None and not problems:
            unknown = [name for name in values if name not in self._declared]
            problems = [faults.unknown_among((name,), self._declared) for name in unknown]
        if problems:
            raise ArgumentError(f"the arguments for {self._name} are wrong", problems)
        keywords: dict[str, object] = values if self._whole is None else {self._whole: values}
        return (), keywords if self._context is None else {**keywords, self._context: context}

    def _read(self, arguments: JsonBytes | None) -> dict[str, object]:
        try:
            values = msgspec.json.decode(b"{}" if arguments is None else arguments)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise ArgumentError(f"the arguments for {self._name} are wrong", ["not readable as JSON"]) from None
        if not isinstance(values, dict):
            problem = f"expected an object, got {show(values)}"
            raise ArgumentError(f"the arguments for {self._name} are wrong", [problem])
        return values


def _bounded(validator: Any) -> Any:  # noqa: ANN401 - a class of `jsonschema`
    """The same class, its memory and time bounded by the data: the original keeps every error of every alternative, and
    compares each item of a list with all others where they cannot be sorted.
    """
    from jsonschema import ValidationError, validators

    def fitting(within: Any, options: list[Any], value: object) -> Iterator[bool]:  # noqa: ANN401
        return (within.evolve(schema=option).is_valid(value) for option in options)

    def any_of(within: Any, options: list[Any], value: object, _: object) -> Iterator[Exception]:  # noqa: ANN401
        if not any(fitting(within, options, value)):
            yield ValidationError("fits none")

    def one_of(within: Any, options: list[Any], value: object, _: object) -> Iterator[Exception]:  # noqa: ANN401
        if sum(fitting(within, options, value)) != 1:
            yield ValidationError("fits none, or more than one")

    def unique_items(within: Any, wanted: object, value: object, _: object) -> Iterator[Exception]:  # noqa: ANN401
        if wanted and isinstance(value, list):
            seen = {msgspec.json.encode(_whole_floats(item), order="deterministic") for item in value}
            if len(seen) < len(value):
                yield ValidationError("has equal items")

    return validators.extend(validator, {"anyOf": any_of, "oneOf": one_of, "uniqueItems": unique_items})


def _whole_floats(value: object) -> object:
    """Writes 1.0 as 1, its equal in JSON Schema."""
    if isinstance(value, list):
        return [_whole_floats(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole_floats(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _checker(given: _Given, name: str) -> Callable[[object], bytes]:
    def to_json(result: object) -> bytes:
        body = encode_json(result, name)
        if problems := given.problems(msgspec.json.decode(body)):
            raise OutputError(f"{name} broke its output_schema: {'; '.join(problems)}")
        return body

    return to_json


def _returning(signature: Signature) -> Callable[[], object]:
    """A function without parameters and with the return annotation of another: all that its results are judged by."""

    def returning() -> object: ...

    returning.__annotations__["return"] = signature.returns
    return returning


def _words(schema: Schema) -> str:
    """What a value must be, as `Shape` puts it; "" for what takes more than a phrase."""
    options = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if not all(isinstance(option, dict) and _words(option) for option in options):
        return ""
    return Shape({}, {}).describe(schema)[:_MAX_WORDS]


def _is_dict(annotation: object) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_dict(get_args(annotation)[0])
    return (get_origin(annotation) or annotation) in {dict, Mapping}


def _is_deeper(node: object, levels: int) -> bool:
    if not isinstance(node, dict | list):
        return False
    inner = node.values() if isinstance(node, dict) else node
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)


def _references(schema: Schema, within: tuple[Schema, ...] = ()) -> Iterator[tuple[str, tuple[Schema, ...]]]:
    """The references of a schema, each with the subschemas around it that have an `$id`, the outermost first."""
    for keyword in _REFERENCES:
        if isinstance(reference := schema.get(keyword), str):
            yield reference, within
    for inner in subschemas(schema):
        yield from _references(inner, (*within, inner) if "$id" in inner else within)
