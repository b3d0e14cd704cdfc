"""The wheel contains the package and nothing else, and runs in its own environment."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT, WEATHER, started

UV = Path(sys.executable).parent / "uv"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from this tree with the locked build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        UV,
        "build",
        "--quiet",
        "--wheel",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "-o",
        folder,
        ROOT,
    ]
    subprocess.run(command, check=True, timeout=120)
    return next(folder.glob("portway-*.whl"))


def test_the_wheel_contains_the_typed_package_and_nothing_else(wheel: Path) -> None:
    package = ROOT / "src" / "portway"
    expected = {
        str(path.relative_to(ROOT / "src"))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert carried == expected
    assert "portway/py.typed" in carried


def test_the_management_api_needs_no_pydantic_which_the_host_does_not_bring() -> None:
    code = (
        "import inspect, sys; sys.modules['pydantic'] = None\n"
        "from portway.host.management.management_server import ManagementServer\n"
        "from unittest.mock import Mock\n"
        "ManagementServer(*(Mock() for _ in inspect.signature(ManagementServer).parameters)).server()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.install
def test_the_wheel_alone_runs_the_host_in_its_own_environment(wheel: Path, tmp_path: Path) -> None:
    uvx = (UV, "tool", "run", "--isolated", "--python", sys.executable, "--from", f"{wheel}[host]")
    up = ("portway", "up", WEATHER.parent, "--port", "0", "--data", tmp_path / "data")
    with started(*uvx, *up, ready=r"^ready (\{.*\})$", within=240, cwd=tmp_path) as child:
        assert child.match
        assert "weather" in json.loads(child.match[1])["apps"]
