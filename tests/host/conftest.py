"""Paths of a host of which only parts run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.host.paths import Paths
from tests.host.log_writer import log_writer


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    with tempfile.TemporaryDirectory(dir="/tmp") as run:
        paths = Paths(tmp_path / "data", Path(run) / "run")
        paths.prepare()
        with log_writer(paths):
            yield paths
