"""What a client is told of an exception that an author's code raised: the one place where it is converted.

| exception           | a tool                 | a resource, prompt or completion |
| ------------------- | ---------------------- | -------------------------------- |
| Suspended           | the result it brings   | the result it brings             |
| RpcError, Forbidden | raised as it is        | raised as it is                  |
| ToolError           | error result, its text | INTERNAL_ERROR, its text         |
| ArgumentError       | error result, its text | INVALID_PARAMS, its text         |
| OutputError         | INTERNAL_ERROR, an id  | INTERNAL_ERROR, an id            |
| any other           | error result, an id    | INTERNAL_ERROR, an id            |

An id is in the server's log, beside the cause, which the client does not see.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

import msgspec

from portway.auth.authorize import Forbidden
from portway.exceptions import ArgumentError, OutputError, Suspended, ToolError
from portway.protocol.errors import INTERNAL_ERROR, INVALID_PARAMS, RpcError

log = logging.getLogger("portway.server")


def result_of(error: BaseException, kind: str, name: str, tail: bytes) -> bytes:
    """Return the result that tells the client of `error`, raised by the `kind` ("tool", "resource" …) called `name`.

    `tail` is what the era adds to a result. Raises RpcError where the client is told by a JSON-RPC error, and `error`
    itself where it is no failure of the author's code: a refusal, or the task was cancelled.
    """
    if isinstance(error, Suspended):
        return error.result(tail)
    if isinstance(error, RpcError | Forbidden):
        raise error
    code, status = INTERNAL_ERROR, 200
    if isinstance(error, ToolError | ArgumentError):
        text = str(error).encode(errors="replace").decode()  # UTF-8 cannot carry half a surrogate pair
        if isinstance(error, ArgumentError):
            code, status = INVALID_PARAMS, 400
    else:
        text = _logged(error, kind, name)
    if kind == "tool" and not isinstance(error, OutputError):
        return b'{"content":[{"type":"text","text":%b}],"isError":true%b}' % (msgspec.json.encode(text), tail)
    raise RpcError(code, text, status=status) from None


def _logged(error: BaseException, kind: str, name: str) -> str:
    """Log `error` under a new id and return the text for the client; raise it again if the task was told to end."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise error
    elif isinstance(error, GeneratorExit):
        raise error
    error_id = secrets.token_hex(4)
    log.error("%s %s failed, error id %s", kind, name, error_id, exc_info=error)
    return f"The {kind} {name} failed; the server's log has the cause under error id {error_id}."
