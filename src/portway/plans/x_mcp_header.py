"""`x-mcp-header` in a tool's schema: which arguments modern clients repeat as headers, checked when the tool is
registered.

Specification: basic/transports/streamable-http, 2026-07-28. A conforming client drops a tool that breaks these rules.
"""

import re
from collections.abc import Iterator

import msgspec

from portway.exceptions import RegistrationError
from portway.plans.schema import Schema, show, subschemas
from portway.protocol.param_headers import HeaderParam

_KEYWORD = "x-mcp-header"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TYPES = ("string", "integer", "boolean")


def compile_params(input_schema: bytes) -> tuple[HeaderParam, ...]:
    """Return the arguments that have a header, from the JSON of a tool's input schema; raises RegistrationError."""
    schema: Schema = msgspec.json.decode(input_schema)
    taken: dict[str, str] = {}
    params = []
    for path, member in _reachable(schema, ()):
        if _KEYWORD not in member:
            continue
        where, token = ".".join(path), member[_KEYWORD]
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise RegistrationError(
                f"The argument {where} cannot have the header {show(token)}: a header's name has letters, digits and "
                "- . _ ~ ! # $ % & ' * + ^ ` |, at least one of them."
            )
        kind = member.get("type")
        if not isinstance(kind, str) or kind not in _TYPES:
            raise RegistrationError(
                f"The argument {where} cannot have a header: only a string, an integer or a boolean can; "
                "null is not allowed. Give an optional argument a default of its type, not None."
            )
        other = taken.setdefault(token.lower(), where)
        if other != where:
            raise RegistrationError(
                f"The arguments {other} and {where} have the same header {token}; give each its own."
            )
        params.append(HeaderParam(path, f"Mcp-Param-{token}"))
    if len(params) != _count(schema):
        raise RegistrationError(
            f"{_KEYWORD} stands where a header cannot: only plain members of objects have one, not what is in lists, "
            "alternatives (such as anyOf) or references."
        )
    return tuple(params)


def _reachable(schema: Schema, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Schema]]:
    members = schema.get("properties")
    for name, member in members.items() if isinstance(members, dict) else ():
        if isinstance(member, dict):
            yield (*path, name), member
            yield from _reachable(member, (*path, name))


def _count(schema: Schema) -> int:
    return (_KEYWORD in schema) + sum(map(_count, subschemas(schema)))
