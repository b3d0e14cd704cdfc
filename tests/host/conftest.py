"""Paths of a host of which only parts run; repositories elsewhere, and a host that fetches them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.host.paths import Paths
from tests.host.git_upstream import Upstream, upstream
from tests.host.log_writer import log_writer
from tests.host.running_host import Host, host


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    with tempfile.TemporaryDirectory(dir="/tmp") as run:
        paths = Paths(tmp_path / "data", Path(run) / "run")
        paths.prepare()
        with log_writer(paths):
            yield paths


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that fetches from this machine, too."""
    with host(tmp_path_factory.mktemp("host") / "data", options=["--allow-private-sources"]) as running:
        yield running


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Upstream]:
    """A server of repositories elsewhere."""
    with upstream(tmp_path / "elsewhere") as serving:
        yield serving
