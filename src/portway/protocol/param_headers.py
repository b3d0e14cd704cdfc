"""The Mcp-Param-* headers, which repeat arguments of a tool call: write them, and verify them against the arguments.

Specification: basic/transports/streamable-http, 2026-07-28. `x-mcp-header` in the tool's schema says which arguments.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import UNSET, Raw, UnsetType

from portway.protocol.errors import HEADER_MISMATCH, RpcError
from portway.protocol.headers import decode_value, encode_value
from portway.protocol.jsonrpc import UNREADABLE

_WHOLE = re.compile(r"(-?[0-9]{1,40})(?:\.0{1,40})?")


class HeaderParam(msgspec.Struct, frozen=True):
    """An argument that a header repeats: the member names that lead to it, and the header's name as written."""

    path: tuple[str, ...]
    name: str

    @property
    def key(self) -> bytes:
        """The header's name in lower case."""
        return self.name.lower().encode()

    def argument(self, arguments: object) -> object:
        """Return the argument, None if it is absent."""
        for step in self.path:
            arguments = arguments.get(step) if isinstance(arguments, Mapping) else None
        return arguments


def param_headers(params: Sequence[HeaderParam], arguments: Mapping[str, object]) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that repeat these arguments; absent and null ones have none."""
    headers: list[tuple[bytes, bytes]] = []
    for param in params:
        value = param.argument(arguments)
        if isinstance(value, (str, int)):  # a bool is an int; the header has its JSON
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            headers.append((param.name.encode(), encode_value(text).encode()))
    return tuple(headers)


def verify_params(params: Sequence[HeaderParam], arguments: Raw | UnsetType, fields: Mapping[bytes, bytes]) -> None:
    """Raise RpcError (HEADER_MISMATCH) unless a call's arguments and the headers that repeat them agree."""
    try:
        values = {} if arguments is UNSET else msgspec.json.decode(arguments)
    except UNREADABLE:
        return  # the tool refuses such arguments
    for param in params:
        value, field = param.argument(values), fields.get(param.key)
        if field is None and (value is None or isinstance(value, (list, dict))):
            continue  # no header repeats a list or an object, which the tool's schema refuses
        if value is None:
            text = f"The {param.name} header has no argument {'.'.join(param.path)} to repeat."
        elif field is None:
            text = f"The {param.name} header is missing."
        elif not _repeats(decode_value(field.decode("latin-1").strip(" \t")), value):
            text = f"The {param.name} header does not match the body."
        else:
            continue
        raise RpcError(HEADER_MISMATCH, text)


def _repeats(text: str, value: object) -> bool:
    """Return whether a header's text stands for `value`."""
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, (int, float)):
        number = _WHOLE.fullmatch(text)
        return number is not None and int(number[1]) == value
    return text == value
