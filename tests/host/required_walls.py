"""The walls that this machine has, for tests that need them."""

from __future__ import annotations

import pytest

from portway.host.paths import Paths
from portway.host.sandbox.walls import Walls, raise_walls


def required_walls(paths: Paths, *names: str) -> Walls:
    """Return the machine's walls; skip the test, with the reason, where one of the `names` is missing."""
    walls = raise_walls(paths)
    for name in names:
        if not walls.facts()[name].stands:
            pytest.skip(f"{name}: {walls.facts()[name].how}")
    return walls
