"""How the clients here are driven: a line with a tool's name is a call, and is answered by a line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable


def innermost(error: BaseException) -> BaseException:
    """Return the error that task groups have wrapped."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def answer_lines(call: Callable[[str], Awaitable[str]]) -> None:
    """Call the tool that each line of stdin names until there is none; print its text, or the error."""
    while tool := (await asyncio.to_thread(sys.stdin.readline)).strip():
        try:
            answer = {"text": await call(tool)}
        except Exception as error:  # noqa: BLE001  # whatever a client raises is its answer
            answer = {"error": repr(innermost(error))}
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
