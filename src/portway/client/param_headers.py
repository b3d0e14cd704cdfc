"""Arguments that a modern client repeats as Mcp-Param-* headers (basic/transports/streamable-http, 2026-07-28)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from portway.client.results import Tool
from portway.protocol.headers import HeaderParam, encode_value

_log = logging.getLogger("portway.client")


def conforming(tools: Iterable[Tool], params: dict[str, tuple[HeaderParam, ...]]) -> list[Tool]:
    """The tools but for those whose headers break the rules; `params` takes what the others repeat."""
    kept: list[Tool] = []
    for tool in tools:
        schema = msgspec.json.encode(tool.input_schema)
        if b'"x-mcp-header"' in schema:
            from portway.exceptions import RegistrationError
            from portway.plans.header_params import compile_params

            try:
                params[tool.name] = compile_params(schema)
            except RegistrationError as error:
                _log.warning("the tool %s is left out: %s", tool.name, error)
                continue
        kept.append(tool)
    return kept


def headers(params: Sequence[HeaderParam], arguments: Mapping[str, Any]) -> tuple[tuple[bytes, bytes], ...]:
    """The header fields that repeat these arguments; absent and null ones have none."""
    fields: list[tuple[bytes, bytes]] = []
    for param in params:
        value: object = arguments
        for step in param.path:
            value = value.get(step) if isinstance(value, Mapping) else None
        if isinstance(value, (str, int)):  # a bool is an int, and JSON spells it as the header must
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            fields.append((param.name.encode(), encode_value(text).encode()))
    return tuple(fields)
