"""The server that a component was registered on, as far as its calls need it: name, lifespan, middleware."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from portway.server.middleware import Middleware


class Home(msgspec.Struct, frozen=True, eq=False):
    """The name, lifespan and middleware of one server. Two homes are never equal."""

    name: str
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None
    middleware: list[Middleware] = []
    """The first registered is outermost."""
    tells: tuple[type[Exception], ...] = ()
    """The exceptions of its components whose text clients are told."""
    hinted: set[tuple[str, str]] = set()
    """The components, by kind and name, for which a hint about ValueError was logged."""
