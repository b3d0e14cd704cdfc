"""Looks host names up by the machine's resolver, with a time limit."""

import asyncio
import socket
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_AT_ONCE = 4
_MOST_ADDRESSES = 16


class NameLookup:
    """Asks the machine's resolver. `resolve` is `socket.getaddrinfo`."""

    def __init__(self, resolve: Callable[[str, None], list[tuple[Any, ...]]] = socket.getaddrinfo) -> None:
        self._resolve = resolve
        self._threads = ThreadPoolExecutor(_AT_ONCE, "names")

    async def addresses(self, names: Collection[str], seconds: float) -> dict[str, list[str] | None]:
        """Return the addresses of each name: none if it is not known, None if there was no answer in time."""
        loop = asyncio.get_running_loop()
        looks = {name: loop.run_in_executor(self._threads, self._look, name) for name in names}
        if looks:
            await asyncio.wait(looks.values(), timeout=seconds)
        found = {name: look.result() if look.done() else None for name, look in looks.items()}
        for look in looks.values():
            look.cancel()  # those that no thread has begun
        return found

    def _look(self, name: str) -> list[str]:
        try:
            found = self._resolve(name, None)
        except (OSError, UnicodeError):
            return []
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:_MOST_ADDRESSES]
