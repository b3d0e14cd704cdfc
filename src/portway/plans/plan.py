"""The call plan: what a function's signature says, compiled once, so that a call only decodes, runs and encodes.

One engine serves a whole function: msgspec where it understands every type of the signature, else pydantic.
"""

import typing
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from portway.exceptions import ArgumentError, OutputError, RegistrationError
from portway.plans import faults, msgspec_engine
from portway.plans.output import Encoded, Output, encode_json, is_data, wrapped
from portway.plans.schema import Schema, Shape, flatten, show
from portway.plans.signature import EMPTY, Parameter, Signature, parse, unresolved

JsonBytes = bytes | memoryview | msgspec.Raw
Call = tuple[tuple[object, ...], dict[str, object]]  # fn(*args, **kwargs)
Returns = tuple[Callable[[object], bytes], Schema, dict[str, Schema]]

_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)  # pydantic's ValidationError is a ValueError


class ArgumentEngine(Protocol):
    """What a plan needs of an engine; `names` are the wire's, in the order of the parameters."""

    names: list[str]
    shape: Shape

    def decode(self, raw: JsonBytes) -> tuple[object, ...]:
        """Decodes all arguments, defaults filled in; raises one of `_REFUSED`."""

    def convert(self, index: int, value: object) -> object:
        """Converts one argument from plain data; raises faults.Refused."""


class Argument(msgspec.Struct, frozen=True):
    """One argument, as a prompt lists it."""

    name: str
    description: str | None
    required: bool


class Arguments:
    """The argument side of a function: all that prompts and resource templates need."""

    def __init__(self, fn: Callable[..., Any], signature: Signature, engine: ArgumentEngine, name: str | None) -> None:
        self.fn = fn
        self.name = signature.name if name is None else name
        self.description = signature.description
        self.is_async = signature.is_async
        self.context = signature.context
        self.questions = signature.questions
        self._context_index = signature.context_index
        self._parameters = signature.parameters
        self._engine = engine
        self._decode = engine.decode
        self._keywords = tuple(p.name for p in signature.parameters if p.keyword_only)
        self._direct = not self._keywords and signature.context is None
        self.listed = tuple(map(self._describe, engine.names, signature.parameters))

    def _describe(self, name: str, parameter: Parameter) -> Argument:
        """Adds to the schema what only the signature knows: description, default and header."""
        schema = self._engine.shape.properties[name]
        if parameter.header is not None:
            schema["x-mcp-header"] = parameter.header
        if parameter.description:
            schema.setdefault("description", parameter.description)
        if parameter.default is not EMPTY and "default" not in schema:
            try:
                schema["default"] = msgspec.json.decode(encode_json(parameter.default, self.name))
            except OutputError:
                schema.pop("default", None)  # a default that is not JSON stays the function's own affair
        return Argument(name, schema.get("description"), parameter.required)

    def input_schema(self) -> bytes:
        """Returns the JSON Schema of the arguments, an object that allows no others."""
        required = [argument.name for argument in self.listed if argument.required]
        return msgspec.json.encode(self._engine.shape.input_schema(required))

    def bind(self, arguments: JsonBytes | None, context: object = None) -> Call:
        """Decodes a JSON object of arguments (None: no arguments) into a call; raises ArgumentError."""
        try:
            values = self._decode(b"{}" if arguments is None else arguments)
        except _REFUSED:
            values = self._convert(self._read(arguments))
        return (values, {}) if self._direct else self._place(values, context)

    def bind_values(self, values: Mapping[str, object], context: object = None) -> Call:
        """Converts plain values, such as the strings of a prompt or of a URI, into a call; raises ArgumentError."""
        return self._place(self._convert(values), context)

    def _place(self, values: tuple[object, ...], context: object) -> Call:
        args, kwargs = values, {}
        if self._keywords:
            split = len(values) - len(self._keywords)
            args, kwargs = values[:split], dict(zip(self._keywords, values[split:], strict=True))
        if self._context_index is not None:
            args = (*args[: self._context_index], context, *args[self._context_index :])
        elif self.context is not None:
            kwargs[self.context] = context
        return args, kwargs

    def _read(self, arguments: JsonBytes | None) -> dict[str, object]:
        try:
            values = msgspec.json.decode(b"{}" if arguments is None else arguments)
        except _REFUSED:
            raise ArgumentError(f"the arguments for {self.name} are wrong", ["not readable as JSON"]) from None
        if values is None:
            return {}
        if not isinstance(values, dict):
            problem = f"expected an object, got {show(values)}"
            raise ArgumentError(f"the arguments for {self.name} are wrong", [problem])
        return values

    def _convert(self, values: Mapping[str, object]) -> tuple[object, ...]:
        """Converts argument by argument, so that every fault is named."""
        shape = self._engine.shape
        problems: dict[str, list[str]] = {}
        converted: list[object] = []
        for index, (name, parameter) in enumerate(zip(self._engine.names, self._parameters, strict=True)):
            if name not in values:
                if parameter.required:
                    problems[name] = [faults.missing(shape, (name,))]
                else:
                    converted.append(parameter.fallback())
                continue
            try:
                converted.append(self._convert_one(index, values[name]))
            except faults.Refused as refused:
                problems[name] = faults.describe(shape, name, values[name], refused.faults)
        problems |= {name: [faults.unknown(shape, (name,))] for name in values if name not in shape.properties}
        if problems:
            count = "1 argument is" if len(problems) == 1 else f"{len(problems)} arguments are"
            raise ArgumentError(
                f"{count} wrong for {self.name}", [line for lines in problems.values() for line in lines]
            )
        return tuple(converted)

    def _convert_one(self, index: int, value: object) -> object:
        try:
            return self._engine.convert(index, value)
        except faults.Refused:
            # Models often send a list or an object as a string of JSON; one that a str takes never comes here.
            if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
                raise
            try:
                parsed = msgspec.json.decode(value)
            except _REFUSED:
                parsed = value
            return self._engine.convert(index, parsed)


class Plan:
    """How to call a tool: JSON to arguments, result to JSON. Schemas are JSON, ready to be listed."""

    def __init__(self, arguments: Arguments, returns: Returns | None) -> None:
        self.arguments = arguments
        self.fn = arguments.fn
        self.name = arguments.name
        self.description = arguments.description
        self.is_async = arguments.is_async
        self.context = arguments.context
        self.questions = arguments.questions
        self.input_schema = arguments.input_schema()
        self.output_schema: bytes | None = None
        output = Output(self.name)
        if returns is not None:
            to_json, schema, defs = returns
            flat = flatten(schema, defs)
            wrap = flat.get("type") != "object"
            self.output_schema = msgspec.json.encode(flatten(wrapped(schema), defs) if wrap else flat)
            output = Output(self.name, to_json, wrap=wrap)
        self.bind: Callable[[JsonBytes | None, object], Call] = arguments.bind
        self.encode: Callable[[object], Encoded] = output.encode


def compile_arguments(fn: Callable[..., Any], *, context_type: type, name: str | None = None) -> Arguments:
    """Compiles the argument side of `fn`, which clients know as `name`; raises RegistrationError."""
    signature = parse(fn, context_type)
    engine, _ = _engines(signature, returns=False)
    return Arguments(fn, signature, engine, name)


def compile_plan(fn: Callable[..., Any], *, context_type: type, name: str | None = None) -> Plan:
    """Compiles `fn`, which clients know as `name`, into a plan; a parameter annotated `context_type` gets the context.

    Raises RegistrationError.
    """
    signature = parse(fn, context_type)
    engine, returns = _engines(signature, returns=is_data(signature.returns))
    return Plan(Arguments(fn, signature, engine, name), returns)


def argument_engine(name: str, parameters: tuple[Parameter, ...]) -> ArgumentEngine:
    """Chooses the engine for `parameters`, which errors call those of `name`; raises RegistrationError."""
    return _engines(Signature(name, None, parameters, None, is_async=False), returns=False)[0]


def _engines(signature: Signature, *, returns: bool) -> tuple[ArgumentEngine, Returns | None]:
    """Chooses the engine for a whole signature."""
    annotations = [parameter.annotation for parameter in signature.parameters]
    if returns:
        annotations.append(signature.returns)
    if all(map(msgspec_engine.understands, annotations)):
        try:
            engine = msgspec_engine.NativeArguments(signature.parameters)
            return engine, msgspec_engine.native_returns(signature.returns, signature.name) if returns else None
        except NameError as error:
            raise unresolved(signature.name, error) from None
        except (TypeError, RecursionError):
            pass  # one of msgspec's documented limits; pydantic knows more types
    try:
        from portway.plans import pydantic_engine
    except ImportError:
        raise RegistrationError(
            f"{signature.name}: {_culprit(signature, _native_refuses)} needs pydantic: pip install 'portway[pydantic]'"
        ) from None
    try:
        arguments = pydantic_engine.PydanticArguments(signature.parameters)
        return arguments, pydantic_engine.pydantic_returns(signature.returns, signature.name) if returns else None
    except pydantic_engine.REFUSALS as error:
        culprit = _culprit(signature, pydantic_engine.refuses)
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise RegistrationError(
            f"{signature.name}: {culprit} cannot be described to a client ({reason}); use plain types, a dataclass, a "
            "TypedDict or a pydantic model"
        ) from None


def _native_refuses(annotation: object) -> bool:
    try:
        msgspec.json.schema_components([annotation])
    except (TypeError, RecursionError):
        return True
    return not msgspec_engine.understands(annotation)


def _culprit(signature: Signature, refuses: Callable[[object], bool]) -> str:
    """Names the part of a signature an engine stumbled over."""
    for parameter in signature.parameters:
        if refuses(parameter.annotation):
            return f"parameter {parameter.name} ({type_name(parameter.annotation)})"
    return f"the return type ({type_name(signature.returns)})"


def type_name(annotation: object) -> str:
    """Spells a type as its author would."""
    plain = isinstance(annotation, type) and typing.get_origin(annotation) is None
    return getattr(annotation, "__name__", "") if plain else str(annotation).replace("typing.", "")
