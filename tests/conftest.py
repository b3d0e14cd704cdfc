"""Fixtures for the whole suite; helpers that tests import are in `tests/support.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import settings

from portway.transport.http_app import HttpApp
from tests.support import clean_env
from tests.wire.reply_validator import validated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The same examples in every run, so that only changed code changes the outcome; PORTWAY_FUZZ=anew tries others.
settings.register_profile("same", derandomize=os.environ.get("PORTWAY_FUZZ") != "anew")
settings.load_profile("same")


@pytest.fixture(autouse=True)
def every_message_fits_its_revision(request: pytest.FixtureRequest) -> Iterator[None]:
    """Validate all that servers of this process send over HTTP, except where a test counts the cost of a call."""
    if request.path.stem == "test_cost":
        yield
        return
    faults: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HttpApp, "__call__", validated(HttpApp.__call__, faults))
        yield
    assert not faults, "\n".join(faults)


class RunCli(Protocol):
    def __call__(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run_cli(tmp_path: Path) -> RunCli:
    """Run `portway ARGUMENTS` to its end as a process, by default in `tmp_path` and with empty stdin."""

    def run(
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).parent / "portway", *arguments],
            env=clean_env(env),
            cwd=cwd or tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
