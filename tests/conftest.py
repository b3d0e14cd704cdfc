"""Fixtures of the whole suite; what is merely imported is in `tests/support.py`."""

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
from tests.wire.reply_judge import judged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The same examples in every run, so that a change is judged by what it changes; PORTWAY_FUZZ=anew looks for others.
settings.register_profile("same", derandomize=os.environ.get("PORTWAY_FUZZ") != "anew")
settings.load_profile("same")


@pytest.fixture(autouse=True)
def every_message_is_one_of_its_revision(request: pytest.FixtureRequest) -> Iterator[None]:
    """Judges all that servers of this process say over HTTP, but where a test counts what a call costs."""
    if request.path.stem == "test_cost":
        yield
        return
    faults: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HttpApp, "__call__", judged(HttpApp.__call__, faults))
        yield
    assert not faults, "\n".join(faults)


class RunCli(Protocol):
    def __call__(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
        timeout: float = 30,
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run_cli(tmp_path: Path) -> RunCli:
    """Runs `portway ARGUMENTS` to its end as its own process, in `tmp_path` and with empty stdin unless told."""

    def run(
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
        timeout: float = 30,
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
