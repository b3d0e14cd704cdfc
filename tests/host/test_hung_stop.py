"""A host stops in time although one of its processes hangs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.host.running_host import host


@pytest.mark.slow
def test_a_host_stops_although_control_hangs(tmp_path: Path) -> None:
    with host(tmp_path / "data") as running:
        os.kill(running.process("control"), signal.SIGSTOP)
        running.child.process.terminate()
        running.child.process.wait(120)
        assert running.processes() == {}
