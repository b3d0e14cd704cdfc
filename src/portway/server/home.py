"""Where a component was registered: the server whose middleware and lifespan its function lives with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from portway.server.middleware import Middleware


class Home(msgspec.Struct, frozen=True, eq=False):
    """What a call needs of the server that a component was registered on. Two homes are never equal."""

    name: str
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None
    middleware: list[Middleware] = []
    """The first registered is outermost."""
