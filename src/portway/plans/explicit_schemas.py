"""Schemas that an author gives for a tool. Clients get them unchanged; the `jsonschema` library validates against them.

The dialect is 2020-12 unless `$schema` names another that the library knows. References stay inside the schema; nothing
is ever fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

import msgspec

from portway.exceptions import ArgumentError, OutputError, RegistrationError
from portway.plans import faults
from portway.plans.binding import BoundArguments, JsonBytes, read_object
from portway.plans.output import encode_json
from portway.plans.schema import LIMITS, Path, Schema, Shape, show, subschemas
from portway.plans.signature import Signature

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
_MAX_FAULTS = 20  # named in one error; a list of a million wrong items has no more to say

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DESCRIBED = frozenset({"type", "enum", "const", "anyOf", "oneOf", "format", *LIMITS})
_describe = Shape().describe


class _GivenSchema:
    """A schema as its author wrote it: `json` is what clients get, `data` the same as plain data.

    Raises RegistrationError.
    """

    def __init__(self, keyword: str, tool: str, schema: Mapping[str, Any] | str | bytes) -> None:
        self._where = f"{tool}: {keyword}"
        self._root: Path = () if keyword == "input_schema" else ("result",)
        self.json = self._normalised(schema)
        self.data: Schema = msgspec.json.decode(self.json)
        if not isinstance(self.data, dict):
            raise RegistrationError(f"{self._where} must be an object.")
        if keyword == "input_schema" and self.data.get("type") != "object":
            raise RegistrationError(f'{self._where} must have "type": "object" at its top, as MCP asks of tools.')
        if _is_deeper(self.data, MAX_DEPTH):
            raise RegistrationError(
                f"{self._where} is nested more than {MAX_DEPTH} levels deep; move parts of it into $defs."
            )
        for reference in _references(self.data):
            if not reference.startswith("#"):
                raise RegistrationError(
                    f"{self._where} refers to {show(reference)}, and nothing is ever fetched; copy what that names "
                    "into $defs."
                )
        self._validator: Any = None  # Any: jsonschema has no types

    def problems(self, value: object) -> list[str]:
        """Return what is wrong with a value, one line a place. Raises RegistrationError for a broken schema."""
        from referencing.exceptions import Unresolvable

        lines: dict[Path, str] = {}
        try:
            validator = self._validator or self._compiled()
            for error in validator.iter_errors(value):
                for path, line in self._sentences(error):
                    lines.setdefault(path, line)
                    if len(lines) == _MAX_FAULTS:
                        return list(lines.values())
        except Unresolvable as error:
            reference = f"#{getattr(error, 'anchor', None) or error.ref}"
            raise RegistrationError(f"{self._where} refers to {show(reference)}, which is not in it.") from None
        except RecursionError:
            return ["nested too deeply"]
        except OverflowError:
            return ["a number is too large"]
        return list(lines.values())

    def _normalised(self, schema: Mapping[str, Any] | str | bytes) -> bytes:
        try:
            if isinstance(schema, str | bytes):
                msgspec.json.decode(schema)  # `format` looks at the structure only
                compact = msgspec.json.format(schema.encode() if isinstance(schema, str) else schema, indent=-1)
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

    def _compiled(self) -> Any:  # noqa: ANN401 - jsonschema has no types
        """Compile the validator, at the first call: importing its library takes longer than the rest of a server.

        Raises RegistrationError for the faults that only the library finds.
        """
        import jsonschema  # type: ignore[import-untyped]
        from referencing import Registry

        kind = _bounded(jsonschema.validators.validator_for(self.data, jsonschema.Draft202012Validator))
        try:
            kind.check_schema(self.data)
            validator = kind(self.data, registry=Registry())
            list(validator.iter_errors({}))
        except jsonschema.SchemaError as error:
            place = f"at {faults.spell(tuple(error.absolute_path))} " if error.absolute_path else ""
            raise RegistrationError(f"{self._where} is no valid JSON Schema: {place}{error.message[:200]}.") from None
        except RecursionError:
            raise RegistrationError(f"{self._where} refers to itself without end.") from None
        self._validator = validator
        return validator

    def _sentences(self, error: Any) -> Iterator[tuple[Path, str]]:  # noqa: ANN401 - a jsonschema.ValidationError
        path, value, keyword = (*self._root, *error.absolute_path), error.instance, error.validator
        schema: Schema = error.schema if isinstance(error.schema, dict) else {}
        properties = {name: item for name, item in schema.get("properties", {}).items() if isinstance(item, dict)}
        if keyword == "required":
            for name in [name for name in schema["required"] if name not in value]:
                yield (*path, name), faults.missing((*path, name), _describe(properties.get(name, {})))
        elif keyword == "additionalProperties" and schema[keyword] is False:
            patterns = schema.get("patternProperties", {})
            for name in value:
                if name not in schema.get("properties", {}) and not any(re.search(p, name) for p in patterns):
                    yield (*path, name), faults.unknown((*path, name), properties)
        else:
            expected = _describe(schema) if keyword in _DESCRIBED else ""
            what = f"expected {expected}" if expected else f"does not fit the schema ({keyword or 'false'})"
            yield path, f"{faults.spell(path) if path else 'arguments'}: {what}, got {show(value)}"


class SchemaBinder:
    """Binds arguments that fit an author's schema; `json` is that schema.

    The members become keyword arguments, or one dict if the function's only parameter is a dict.
    """

    def __init__(self, schema: Mapping[str, Any] | str | bytes, signature: Signature, name: str) -> None:
        self._given = _GivenSchema("input_schema", name, schema)
        self.json = self._given.json
        self._name = name
        self._context = signature.context
        self._declared = {parameter.name for parameter in signature.parameters}
        properties = self._given.data.get("properties", {})
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
            if parameter.required and parameter.name not in self._given.data.get("required", ()):
                raise RegistrationError(
                    f"{name}: input_schema does not require {parameter.name!r}; give it a default, {mend}."
                )

    def bind(self, arguments: JsonBytes | None, context: object = None) -> BoundArguments:
        """Bind a JSON object of arguments (None: no arguments); raises ArgumentError."""
        return self.bind_values(read_object(arguments, self._name), context)

    def bind_values(self, values: Mapping[str, object], context: object = None) -> BoundArguments:
        """Bind plain JSON data; raises ArgumentError."""
        problems = self._given.problems(values)
        if self._whole is None and not problems:
            unknown = [name for name in values if name not in self._declared]
            problems = [faults.unknown((name,), self._declared) for name in unknown]
        if problems:
            raise ArgumentError(f"the arguments for {self._name} are wrong", problems)
        keywords: dict[str, object] = dict(values) if self._whole is None else {self._whole: values}
        return (), keywords if self._context is None else {**keywords, self._context: context}


def checked_encoder(schema: Mapping[str, Any] | str | bytes, name: str) -> tuple[bytes, Callable[[object], bytes]]:
    """Return an author's output schema as JSON, and a function that checks a result against it and encodes it."""
    given = _GivenSchema("output_schema", name, schema)

    def to_json(result: object) -> bytes:
        body = encode_json(result, name)
        if problems := given.problems(msgspec.json.decode(body)):
            raise OutputError(f"{name} broke its output_schema: {'; '.join(problems)}")
        return body

    return given.json, to_json


def _bounded(validator: Any) -> Any:  # noqa: ANN401 - a class of `jsonschema`
    """Return the class with its memory and time bounded by the data.

    The original keeps every error of every alternative, and compares each item of a list with all others where they
    cannot be sorted.
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
    """Write 1.0 as 1, its equal in JSON Schema."""
    if isinstance(value, list):
        return [_whole_floats(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole_floats(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_dict(annotation: object) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_dict(get_args(annotation)[0])
    return (get_origin(annotation) or annotation) in {dict, Mapping}


def _is_deeper(node: object, levels: int) -> bool:
    if not isinstance(node, dict | list):
        return False
    inner = node.values() if isinstance(node, dict) else node
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)


def _references(schema: Schema) -> Iterator[str]:
    for keyword in _REFERENCES:
        if isinstance(reference := schema.get(keyword), str):
            yield reference
    for inner in subschemas(schema):
        yield from _references(inner)
