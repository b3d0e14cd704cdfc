"""Where Portway and the official SDK (mcp 2.3) answer differently, and what the specification says.

Each entry edits copies of both answers until they agree on its point; one that never edits anything is stale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.wire.requests import Case
from tests.wire.served import Json

Forgive = Callable[[Case, Json, Json], None]


@dataclass(frozen=True)
class Difference:
    name: str
    cites: str
    forgive: Forgive


DIFFERENCES: list[Difference] = []


def difference(cites: str) -> Callable[[Forgive], Forgive]:
    def register(forgive: Forgive) -> Forgive:
        DIFFERENCES.append(Difference(forgive.__name__, cites, forgive))
        return forgive

    return register
