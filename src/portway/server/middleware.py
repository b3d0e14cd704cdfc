"""Middleware: the author's functions that wrap every call of a tool, resource or prompt."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from portway.exceptions import RegistrationError

if TYPE_CHECKING:
    from portway.server.context import Context

CallNext = Callable[[], Awaitable[Any]]
Middleware = Callable[["Context", CallNext], Awaitable[object]]


def checked(fn: Middleware) -> Middleware:
    """Return `fn`; raise RegistrationError where it cannot be called as middleware is."""
    name = getattr(fn, "__name__", repr(fn))
    try:
        inspect.signature(fn).bind(None, None)
    except TypeError:
        raise RegistrationError(
            f"Middleware takes the context and call_next: async def {name}(ctx, call_next)."
        ) from None
    if not inspect.iscoroutinefunction(fn) and not inspect.iscoroutinefunction(type(fn).__call__):
        raise RegistrationError(f"Middleware must be async: async def {name}(ctx, call_next).")
    return fn


def composed(wrappers: Sequence[Middleware], context: Context, inner: CallNext) -> CallNext:
    """Wrap `inner` in all of `wrappers`, the first outermost."""
    call = inner
    for wrapper in reversed(wrappers):
        call = functools.partial(wrapper, context, call)
    return call
