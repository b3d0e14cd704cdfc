"""The headers MCP-Protocol-Version, Mcp-Method and Mcp-Name and the `_meta` envelope of a modern request: write them,
verify them against the body, refuse one that is sent twice or an unsupported version.
"""

import base64
from collections.abc import Iterable, Mapping

from msgspec import UNSET

from portway.protocol.errors import HEADER_MISMATCH, INVALID_PARAMS, UNSUPPORTED_VERSION, RpcError
from portway.protocol.jsonrpc import Message
from portway.protocol.versions import MODERN_VERSIONS

SESSION = b"mcp-session-id"
"""The header that names a legacy session (basic/transports, "Session Management", 2025-11-25)."""
VERSION = b"mcp-protocol-version"
METHOD = b"mcp-method"
NAME = b"mcp-name"
_SPELLING = {VERSION: "MCP-Protocol-Version", METHOD: "Mcp-Method", NAME: "Mcp-Name"}

NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_NOT_REPEATED = frozenset((b"host", b"authorization", b"content-type", b"content-length", b"content-encoding"))
_SENTINEL_START, _SENTINEL_END = "=?base64?", "?="


def encode_value(text: str) -> str:
    """Return a header value for `text`: plain visible ASCII as it is, else in the form =?base64?…?=."""
    plain = text.isascii() and text.isprintable() and text == text.strip() and bool(text)
    if plain and not (text.startswith(_SENTINEL_START) and text.endswith(_SENTINEL_END)):
        return text
    return f"{_SENTINEL_START}{base64.b64encode(text.encode()).decode()}{_SENTINEL_END}"


def decode_value(value: str) -> str:
    """Return the text of a header value. Raise RpcError (HEADER_MISMATCH) unless =?base64?…?= is base64 of UTF-8."""
    start, end = len(_SENTINEL_START), len(value) - len(_SENTINEL_END)
    if end < start or not (value.startswith(_SENTINEL_START) and value.endswith(_SENTINEL_END)):
        return value
    coded = value[start:end]
    try:
        data = base64.b64decode(coded, validate=True)
        if base64.b64encode(data).decode() == coded:  # b64decode accepts surplus padding
            return data.decode()
    except ValueError:
        pass
    raise RpcError(HEADER_MISMATCH, "A header's =?base64?…?= value is not base64 of UTF-8 text.")


def routed_name(message: Message) -> str | None:
    """Return the value that Mcp-Name must have: the tool, prompt or resource of the message, None if there is none."""
    method, params = message.method, message.params
    if method is UNSET or params is UNSET or method not in NAMED_BY:
        return None
    value = params.name if NAMED_BY[method] == "name" else params.uri
    return None if value is UNSET else value


def request_headers(method: str, name: str | None, version: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that a modern client must send with the body."""
    headers = [(VERSION, version.encode()), (METHOD, method.encode())]
    if name is not None:
        headers.append((NAME, encode_value(name).encode()))
    return headers


def refuse_repeated(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise RpcError (HEADER_MISMATCH) for a repeated header of which two readers could take different values."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name.startswith(b"mcp-") or name in _NOT_REPEATED:
            if name in seen:
                raise RpcError(HEADER_MISMATCH, f"The {name.decode()} header is sent twice.")
            seen.add(name)


def verify_envelope(message: Message) -> str:
    """Check the envelope (`_meta`) of a modern request and return its version; for HTTP and stdio.

    Raise RpcError (INVALID_PARAMS) if a required member is missing.
    """
    meta = message.meta
    if meta is None or meta.version is UNSET or meta.capabilities is UNSET:
        missing = "protocolVersion" if meta is None or meta.version is UNSET else "clientCapabilities"
        raise RpcError(
            INVALID_PARAMS, f'params._meta lacks "io.modelcontextprotocol/{missing}", which every request carries.'
        )
    if bytes(meta.capabilities)[:1] != b"{":
        raise RpcError(INVALID_PARAMS, 'params._meta "io.modelcontextprotocol/clientCapabilities" must be an object.')
    return meta.version


def verify_supported(version: str) -> None:
    """Raise RpcError (UNSUPPORTED_VERSION) for a version that is not supported."""
    if version not in MODERN_VERSIONS:
        data = {"supported": list(MODERN_VERSIONS), "requested": version}
        raise RpcError(
            UNSUPPORTED_VERSION, "This protocol version is not supported; data.supported names those that are.", data
        )


def verify(message: Message, fields: Mapping[bytes, bytes]) -> str | None:
    """Check a modern request's envelope and headers; return its `routed_name`. `fields` has lower-case names.

    Raise RpcError for the first fault: INVALID_PARAMS (envelope), HEADER_MISMATCH or UNSUPPORTED_VERSION, all with 400.
    """
    version, method, name = verify_envelope(message), message.method, routed_name(message)
    assert method is not UNSET
    is_right = fields.get(VERSION) == version.encode() and fields.get(METHOD) == method.encode()
    if is_right and name is not None and fields.get(NAME) == name.encode():  # as in most calls
        verify_supported(version)
        return name
    for header, expected in ((VERSION, version), (METHOD, method), (NAME, name)):
        if expected is None or (value := fields.get(header)) == expected.encode():
            continue
        text = None if value is None else value.decode("latin-1").strip(" \t")
        if text is None or (decode_value(text) if header is NAME else text) != expected:
            problem = "is missing" if value is None else "does not match the body"
            raise RpcError(HEADER_MISMATCH, f"The {_SPELLING[header]} header {problem}.")
    verify_supported(version)
    return name
