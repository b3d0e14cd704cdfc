"""From an author's exception to what the client is told: a tool's error result, or a JSON-RPC error with its code and
an error id.

| exception           | a tool                 | a resource, prompt or completion |
| ------------------- | ---------------------- | -------------------------------- |
| Suspended           | the result it brings   | the result it brings             |
| RpcError, Forbidden | raised as it is        | raised as it is                  |
| ToolError           | error result, its text | INTERNAL_ERROR, its text         |
| ArgumentError       | error result, its text | INVALID_PARAMS, its text         |
| OutputError         | INTERNAL_ERROR, an id  | INTERNAL_ERROR, an id            |
| one of `tells=`     | error result, its text | INTERNAL_ERROR, its text         |
| PeerError, others   | error result, an id    | INTERNAL_ERROR, an id            |

The server's log has the id and the cause; the client sees only the id. Of an exception group, the first exception of a
kind in `relevant` counts. The runner converts ResourceNotFound of a resource.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

from portway.auth.authorize import Forbidden
from portway.exceptions import ArgumentError, OutputError, ResourceNotFound, Suspended, ToolError, unwrapped
from portway.protocol.errors import INTERNAL_ERROR, INVALID_PARAMS, PeerError, RpcError
from portway.protocol.jsonrpc import encode_tool_error
from portway.server.components import Component

log = logging.getLogger("portway.server")


def relevant(error: BaseException, component: Component) -> BaseException:
    """Return the exception in a group that the client of `component` is told of, or `error` itself."""
    return unwrapped(error, (Suspended, RpcError, Forbidden, ToolError, ResourceNotFound, *component.tells))


def result_of(error: BaseException, kind: str, component: Component, tail: bytes) -> bytes:
    """Return the result that tells the client of `error`, raised by `component`, which is a `kind` ("tool" …).

    `tail` is what the era adds to a result. Raises RpcError where the client is told by a JSON-RPC error, and `error`
    itself where it is no failure of the author's code: a refusal, or the task was cancelled.
    """
    error = relevant(error, component)
    if isinstance(error, Suspended):
        return error.result(tail)
    if isinstance(error, RpcError | Forbidden) and not isinstance(error, PeerError):
        raise error
    code, status = INTERNAL_ERROR, 200
    if isinstance(error, (ToolError, ArgumentError, *component.tells)) and not isinstance(error, OutputError):
        text = str(error).encode(errors="replace").decode()  # UTF-8 cannot carry half a surrogate pair
        if isinstance(error, ArgumentError):
            code, status = INVALID_PARAMS, 400
    else:
        text = _logged(error, kind, component)
    if kind == "tool" and not isinstance(error, OutputError):
        return encode_tool_error(text, tail)
    raise RpcError(code, text, status=status) from None


def _logged(error: BaseException, kind: str, component: Component) -> str:
    """Log `error` under a new id and return the text for the client; raise it again if the task was told to end."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise error
    elif isinstance(error, GeneratorExit):
        raise error
    error_id, name, hinted = secrets.token_hex(4), component.key, component.home.hinted
    log.error("%s %s failed, error id %s", kind, name, error_id, exc_info=error)
    if isinstance(error, ValueError) and (kind, name) not in hinted:
        hinted.add((kind, name))
        log.warning("%s %s tells clients the text of a ValueError if registered with tells=(ValueError,)", kind, name)
    if isinstance(error, PeerError):
        what = f"a server that it calls answered with error {error.code}"
        return f"The {kind} {name} failed: {what}; the server's log has the cause under error id {error_id}."
    return f"The {kind} {name} failed; the server's log has the cause under error id {error_id}."
