"""JSON-RPC errors: the codes of both eras, and the exception for one, with its HTTP status."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
RESOURCE_NOT_FOUND = -32002
"""Legacy only; the modern era uses INVALID_PARAMS (2026-07-28, server/resources)."""
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022
REQUEST_CANCELLED = -32800
"""A cancelled call over HTTP, whose client waits for a reply all the same (the code is that of LSP)."""
REFUSED = 1000
"""Portway's own refusals (authentication, scopes, limits, no instance). The HTTP status tells which.

JSON-RPC and MCP reserve -32768 to -32000, so the code is outside that range.
"""


class RpcError(Exception):
    """A JSON-RPC error: code, sentence, data that JSON can encode, and the HTTP status of a modern reply."""

    def __init__(self, code: int, message: str, data: object = None, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.status = status


class PeerError(RpcError):
    """The RpcError with which a server has answered a client in this process, so never this process's own answer."""
