"""Where a server publishes its changes, from any thread: a list changed, or a resource."""

from collections.abc import Callable
from typing import Literal

import msgspec

Kind = Literal["tools", "prompts", "resources", "resource"]


class Change(msgspec.Struct, frozen=True):
    """A list changed (`tools`, `prompts`, `resources`), or the one `resource` at `uri`."""

    kind: Kind
    uri: str | None = None


class Changes:
    """Tells listeners of changes, on the thread that publishes them."""

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[Change], None], ...] = ()

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` for every change from now on; the function returned ends that."""
        self._listeners = (*self._listeners, listener)

        def unlisten() -> None:
            self._listeners = tuple(known for known in self._listeners if known is not listener)

        return unlisten

    def publish(self, change: Change) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            listener(change)
