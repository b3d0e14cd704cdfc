"""Binds the arguments that a client sent to the parameters of a call: decoded by their engines and put in order, an
unknown or missing one refused, JSON in a text taken for a list or an object.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from portway.exceptions import ArgumentError
from portway.plans import faults
from portway.plans.engines import Engine
from portway.plans.schema import Shape, show
from portway.plans.signature import Parameter, Signature
from portway.protocol.errors import PARSE_ERROR, RpcError

JsonBytes = bytes | memoryview | msgspec.Raw
BoundArguments = tuple[tuple[object, ...], dict[str, object]]  # fn(*args, **kwargs)

_REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)  # pydantic's ValidationError is a ValueError
_astuple = msgspec.structs.astuple


class Binder:
    """Binds arguments to the parameters of a signature.

    All are decoded at once. Only when that fails are they decoded one by one, so that the error names every fault.
    """

    def __init__(self, signature: Signature, engines: Sequence[Engine], shape: Shape, name: str) -> None:
        self._name = name
        self._parameters = signature.parameters
        self._engines = engines
        self._shape = shape
        self._context = signature.context
        self._context_index = signature.context_index
        self._keywords = tuple(p.name for p in signature.parameters if p.keyword_only)
        self._direct = not self._keywords and signature.context is None
        fields = [
            (parameter.name, engine.field, _field(parameter, engine.name))
            for parameter, engine in zip(signature.parameters, engines, strict=True)
        ]
        struct = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        self._decode: Callable[[Any], Any] = msgspec.json.Decoder(struct, strict=False).decode
        self._finishers = [(index, engine.finish) for index, engine in enumerate(engines) if engine.finish]

    def bind(self, arguments: JsonBytes | None, context: object = None) -> BoundArguments:
        """Bind a JSON object of arguments (None: no arguments); raises ArgumentError."""
        try:
            values = _astuple(self._decode(b"{}" if arguments is None else arguments))
            if self._finishers:
                finished = list(values)
                for index, finish in self._finishers:
                    finished[index] = finish(finished[index])
                values = tuple(finished)
        except _REFUSED:
            plain = read_object(arguments, self._name)
            raw = msgspec.json.decode(arguments or b"{}", type=dict[str, msgspec.Raw] | None)
            values = self._one_by_one(plain, raw or {})
        return (values, {}) if self._direct else self._place(values, context)

    def bind_values(self, values: Mapping[str, object], context: object = None) -> BoundArguments:
        """Bind plain values, such as the strings of a prompt or of a URI; raises ArgumentError."""
        raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in values.items()}
        return self._place(self._one_by_one(values, raw), context)

    def _place(self, values: tuple[object, ...], context: object) -> BoundArguments:
        args, kwargs = values, {}
        if self._keywords:
            split = len(values) - len(self._keywords)
            args, kwargs = values[:split], dict(zip(self._keywords, values[split:], strict=True))
        if self._context_index is not None:
            args = (*args[: self._context_index], context, *args[self._context_index :])
        elif self._context is not None:
            kwargs[self._context] = context
        return args, kwargs

    def _one_by_one(self, values: Mapping[str, object], raw: Mapping[str, msgspec.Raw]) -> tuple[object, ...]:
        """Decode the arguments one by one from `raw`; `values` are the same as plain data, which errors show."""
        shape = self._shape
        problems: dict[str, list[str]] = {}
        decoded: list[object] = []
        for engine, parameter in zip(self._engines, self._parameters, strict=True):
            name = engine.name
            if name not in values:
                if parameter.required:
                    problems[name] = [faults.missing((name,), shape.describe(shape.at((name,))))]
                else:
                    decoded.append(parameter.fallback())
                continue
            try:
                decoded.append(_decode_one(engine, raw[name], values[name]))
            except faults.Refused as refused:
                problems[name] = faults.describe(shape, name, values[name], refused.faults)
        unknown = [name for name in values if name not in shape.properties]
        if problems or unknown:
            lines = [line for lines in problems.values() for line in lines]
            total = len(lines) + len(unknown)
            lines = lines[: faults.MAX_FAULTS]
            lines += [faults.unknown((name,), shape.properties) for name in unknown[: faults.MAX_FAULTS - len(lines)]]
            if total > len(lines):
                lines.append(f"and {total - len(lines)} more")
            raise ArgumentError(f"{_count(len(problems) + len(unknown))} wrong for {self._name}", lines)
        return tuple(decoded)


def read_object(arguments: JsonBytes | None, name: str) -> dict[str, object]:
    """Decode a JSON object of arguments for `name` (None and null: no arguments) into plain data.

    Raises ArgumentError, and RpcError for what is not UTF-8.
    """
    try:
        values = msgspec.json.decode(b"null" if arguments is None else arguments)
    except UnicodeDecodeError as error:
        raise RpcError(PARSE_ERROR, f"The message is not valid JSON in UTF-8: {error}.") from None
    except _REFUSED:
        lines = _out_of_range(arguments or b"")
        raise ArgumentError(f"the arguments for {name} are wrong", lines or ["not readable as JSON"]) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ArgumentError(f"the arguments for {name} are wrong", [f"expected an object, got {show(values)}"])
    return values


def _out_of_range(arguments: JsonBytes) -> list[str]:
    """Return a sentence for each argument with a number that no float or int of Python's can be."""
    lines: list[str] = []
    try:
        members = msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    except _REFUSED:
        return []
    for name, raw in members.items():
        try:
            msgspec.json.decode(raw)
        except msgspec.ValidationError:  # without a type, only a number can be wrong
            if len(lines) < faults.MAX_FAULTS:
                lines.append(f"{faults.spell((name,))}: a number is out of range (1.8e308, 4300 digits)")
        except _REFUSED:
            return []
    return lines


def _count(arguments: int) -> str:
    return "1 argument is" if arguments == 1 else f"{arguments} arguments are"


def _decode_one(engine: Engine, raw: msgspec.Raw, value: object) -> object:
    try:
        return engine.decode(raw)
    except faults.Refused:
        # Models often send a list or an object as a string of JSON. A parameter that takes a str has accepted it above.
        if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
            raise
        try:
            msgspec.json.decode(value)
        except _REFUSED:
            pass
        else:
            return engine.decode(value.encode())
        raise


def _field(parameter: Parameter, wire_name: str) -> Any:  # noqa: ANN401 - msgspec's own field description
    if parameter.required:
        return msgspec.field(name=wire_name)
    if parameter.factory is not None:
        return msgspec.field(default_factory=parameter.factory, name=wire_name)
    return msgspec.field(default=parameter.default, name=wire_name)
