"""Compiles the plan of a function: its arguments, both listed schemas, its encoder, so that a call only decodes, runs
and encodes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from portway.exceptions import OutputError
from portway.plans import engines
from portway.plans.binding import Binder, BoundArguments
from portway.plans.output import Encoded, Output, encode_json, is_data, wrapped
from portway.plans.schema import Shape, flatten
from portway.plans.signature import EMPTY, AskedParameter, Parameter, Signature, parse

GivenSchema = Mapping[str, Any] | str | bytes


class Argument(msgspec.Struct, frozen=True):
    """One argument, as a prompt lists it."""

    name: str
    description: str | None
    required: bool


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a function is called, and how its result is encoded. The schemas are JSON, ready to be listed.

    `context` is the name of the parameter that takes the context. `asked` are the parameters that the client is asked
    for, `listed` all others.
    """

    fn: Callable[..., Any]
    name: str
    description: str | None
    is_async: bool
    context: str | None
    asked: tuple[AskedParameter, ...]
    listed: tuple[Argument, ...]
    input_schema: bytes
    output_schema: bytes | None
    bind: Callable[..., BoundArguments]
    """Bind the JSON of the arguments (None: no arguments), and the context; raises ArgumentError."""
    bind_values: Callable[..., BoundArguments]
    """Bind plain values by their names, such as the strings of a prompt or of a URI; raises ArgumentError."""
    binds_slowly: bool
    """Whether large arguments are bound on a thread: validating against an author's schema takes long."""
    encode: Callable[[object], Encoded]
    """Encode what the function returned; raises OutputError."""


def compile_plan(
    fn: Callable[..., Any],
    *,
    context_type: type,
    name: str | None = None,
    input_schema: GivenSchema | None = None,
    output_schema: GivenSchema | None = None,
    result: bool = True,
) -> Plan:
    """Compile `fn`, which clients know as `name`; a parameter annotated `context_type` gets the context.

    The author's own schemas replace those of the signature. Without `result` the return type is not read, as the result
    is not that of a tool. Raises RegistrationError.
    """
    signature = parse(fn, context_type)
    name = signature.name if name is None else name
    listed: tuple[Argument, ...] = ()
    if input_schema is None:
        shape = Shape()
        chosen = [engines.choose(parameter, name) for parameter in signature.parameters]
        listed = tuple(_list(shape, *pair, name) for pair in zip(chosen, signature.parameters, strict=True))
        input_json = msgspec.json.encode(shape.input_schema(argument.name for argument in listed if argument.required))
        binder: Any = Binder(signature, chosen, shape, name)
    else:
        from portway.plans.author_schemas import SchemaBinder

        binder = SchemaBinder(input_schema, signature, name)
        input_json = binder.json
    output_json, encode = _output(signature, output_schema, name) if result else (None, Output(name).encode)
    return Plan(
        fn=fn,
        name=name,
        description=signature.description,
        is_async=signature.is_async,
        context=signature.context,
        asked=signature.asked,
        listed=listed,
        input_schema=input_json,
        output_schema=output_json,
        bind=binder.bind,
        bind_values=binder.bind_values,
        binds_slowly=input_schema is not None,
        encode=encode,
    )


def _list(shape: Shape, engine: engines.Engine, parameter: Parameter, name: str) -> Argument:
    """Add a parameter to `shape` with its description, default and header, which only the signature has."""
    schema = shape.add(engine.name, engine.schema, engine.defs)
    if parameter.header is not None:
        schema["x-mcp-header"] = parameter.header
    if parameter.description:
        schema.setdefault("description", parameter.description)
    if parameter.default is not EMPTY:
        try:
            schema["default"] = msgspec.json.decode(encode_json(parameter.default, name))
        except OutputError:
            schema.pop("default", None)  # JSON cannot express this default
    return Argument(engine.name, schema.get("description"), parameter.required)


def _output(
    signature: Signature, given: GivenSchema | None, name: str
) -> tuple[bytes | None, Callable[[object], Encoded]]:
    """Return the JSON Schema of the results, None if the function declares none, and the function that encodes them."""
    if given is not None:
        from portway.plans.author_schemas import checked_encoder

        schema_json, to_json = checked_encoder(given, name)
        return schema_json, Output(name, to_json).encode
    if not is_data(signature.returns):
        return None, Output(name).encode
    to_json, schema, defs = engines.compile_result(signature.returns, name)
    flat = flatten(schema, defs)
    wrap = flat.get("type") != "object"
    schema_json = msgspec.json.encode(flatten(wrapped(schema), defs) if wrap else flat)
    return schema_json, Output(name, to_json, wrap=wrap).encode
