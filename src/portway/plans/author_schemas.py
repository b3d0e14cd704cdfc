"""Tools whose schemas an author gives (`input_schema=`, `output_schema=`): clients get them unchanged, arguments and
results are validated against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin

import msgspec

from portway.exceptions import ArgumentError, OutputError, RegistrationError
from portway.plans import faults
from portway.plans.binding import BoundArguments, JsonBytes, read_object
from portway.plans.jsonschema_validation import GivenSchema
from portway.plans.output import encode_json
from portway.plans.signature import Signature


class SchemaBinder:
    """Binds arguments that fit an author's schema; `json` is that schema.

    The members become keyword arguments, or one dict if the function's only parameter is a dict.
    """

    def __init__(self, schema: Mapping[str, Any] | str | bytes, signature: Signature, name: str) -> None:
        self._given = GivenSchema("input_schema", name, schema)
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
                    f"{name}: input_schema has the member {member!r}, but the function has no such parameter; "
                    f"add it, {mend}."
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
            problems = [faults.unknown((name,), self._declared) for name in unknown[: faults.MAX_FAULTS]]
        if problems:
            raise ArgumentError(f"the arguments for {self._name} are wrong", problems)
        keywords: dict[str, object] = dict(values) if self._whole is None else {self._whole: values}
        return (), keywords if self._context is None else {**keywords, self._context: context}


def checked_encoder(schema: Mapping[str, Any] | str | bytes, name: str) -> tuple[bytes, Callable[[object], bytes]]:
    """Return an author's output schema as JSON, and a function that checks a result against it and encodes it."""
    given = GivenSchema("output_schema", name, schema)

    def to_json(result: object) -> bytes:
        body = encode_json(result, name)
        if problems := given.problems(msgspec.json.decode(body)):
            raise OutputError(f"{name} broke its output_schema: {'; '.join(problems)}")
        return body

    return given.json, to_json


def _is_dict(annotation: object) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_dict(get_args(annotation)[0])
    return (get_origin(annotation) or annotation) in {dict, Mapping}
