"""A JSON Schema that an author wrote: which are refused, and how data is validated against one by the `jsonschema`
library, within bounds of steps and time.

The dialect is 2020-12 unless `$schema` names another that the library knows. References stay inside the schema; nothing
is ever fetched.
"""

from __future__ import annotations

import contextvars
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from portway.exceptions import OutputError, RegistrationError
from portway.plans import faults
from portway.plans.output import encode_json
from portway.plans.schema import LIMITS, Path, Schema, Shape, show, subschemas

MAX_STEPS = 1_000_000
"""Keywords applied to one value: seconds of work."""
MAX_PATTERN_CHARACTERS = 64 * 1024
"""The longest text that a pattern is tried on: a regular expression may take time that grows with its square."""
_MAX_SECONDS = 5.0

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DESCRIBED = frozenset({"type", "enum", "const", "anyOf", "oneOf", "format", *LIMITS})
_describe = Shape().describe


class GivenSchema:
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
            _budget.set(_Budget())
            for error in validator.iter_errors(value):
                for path, line in self._sentences(error):
                    lines.setdefault(path, line)
                    if len(lines) == faults.MAX_FAULTS:
                        return list(lines.values())
        except Unresolvable as error:
            reference = f"#{getattr(error, 'anchor', None) or error.ref}"
            raise RegistrationError(f"{self._where} refers to {show(reference)}, which is not in it.") from None
        except _TooMuchWork:
            return ["too large or too complex to be validated against the schema"]
        except RecursionError:
            return ["nested too deeply"]
        except OverflowError:
            return ["a number is too large"]
        return list(lines.values())

    def _normalised(self, schema: Mapping[str, Any] | str | bytes) -> bytes:
        try:
            if isinstance(schema, str | bytes):
                msgspec.json.decode(schema)  # `format` looks at the structure only
                return msgspec.json.format(schema.encode() if isinstance(schema, str) else schema, indent=-1)
            return encode_json(dict(schema) if isinstance(schema, Mapping) else schema, self._where, "holds")
        except OutputError as error:
            raise RegistrationError(str(error)) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise RegistrationError(f"{self._where} is not JSON ({error}).") from None

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
            _budget.set(_Budget())
            list(validator.iter_errors({}))
        except jsonschema.SchemaError as error:
            place = f"at {faults.spell(tuple(error.absolute_path))} " if error.absolute_path else ""
            raise RegistrationError(f"{self._where} is no valid JSON Schema: {place}{error.message[:200]}.") from None
        except RecursionError:
            raise RegistrationError(f"{self._where} is nested too deeply, or refers to itself without end.") from None
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

    keywords = validator.VALIDATORS | {"anyOf": any_of, "oneOf": one_of, "uniqueItems": unique_items}
    return validators.extend(validator, {name: _paid(name, keyword) for name, keyword in keywords.items()})


class _TooMuchWork(Exception):
    """A value takes more work than MAX_STEPS or _MAX_SECONDS allow."""


class _Budget:
    """What may still be spent on one value."""

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self._until = time.monotonic() + _MAX_SECONDS

    def spend(self, steps: int) -> None:
        """Take `steps`; raises _TooMuchWork where none are left."""
        self._steps -= steps
        if self._steps < 0 or time.monotonic() > self._until:
            raise _TooMuchWork


_budget: contextvars.ContextVar[_Budget] = contextvars.ContextVar("budget")
_LINEAR = frozenset({"uniqueItems", "enum", "const", "propertyNames", "patternProperties", "additionalProperties"})
"""Keywords that look at a whole array or object themselves."""
_BY_PATTERN = frozenset({"patternProperties", "additionalProperties"})


def _paid(name: str, keyword: Any) -> Any:  # noqa: ANN401 - a function of `jsonschema`
    """Return the function of a keyword, which takes its steps from the budget first."""

    def apply(within: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Exception]:  # noqa: ANN401
        large = isinstance(value, list | dict | str) and len(value)
        _budget.get().spend(1 + large if name in _LINEAR else 1)
        if name == "pattern" and large > MAX_PATTERN_CHARACTERS:
            raise _TooMuchWork
        by_pattern = name in _BY_PATTERN and isinstance(value, dict) and "patternProperties" in schema
        if by_pattern and any(len(key) > MAX_PATTERN_CHARACTERS for key in value):
            raise _TooMuchWork
        yield from keyword(within, wanted, value, schema) or ()

    return apply


def _whole_floats(value: object) -> object:
    """Write 1.0 as 1, its equal in JSON Schema."""
    if isinstance(value, list):
        return [_whole_floats(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole_floats(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _references(schema: Schema) -> Iterator[str]:
    for keyword in _REFERENCES:
        if isinstance(reference := schema.get(keyword), str):
            yield reference
    for inner in subschemas(schema):
        yield from _references(inner)
