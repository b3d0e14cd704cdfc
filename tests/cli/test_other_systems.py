"""What Portway does on macOS and Windows, as far as that can be simulated here: `elsewhere.py` says how far."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, WEATHER, clean_env, started

ELSEWHERE = Path(__file__).parent / "elsewhere.py"
SYSTEMS = ["darwin", "win32"]
TOKEN = "pwu_" + "a" * 43


def run(system: str, home: Path, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    places = {"HOME": str(home), "LOCALAPPDATA": str(home / "AppData")}
    return subprocess.run(
        [sys.executable, ELSEWHERE, system, *arguments],
        env=clean_env(places | {"PYTHONPATH": str(ROOT)} | more),
        cwd=home,
        input="",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_server_is_called_over_stdio(system: str, tmp_path: Path) -> None:
    called = run(system, tmp_path, "call", WEATHER, "get_weather", "city=Oslo")
    assert called.returncode == 0, called.stderr
    assert "Oslo" in called.stdout


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_server_is_served_over_http_and_inspected(system: str, tmp_path: Path) -> None:
    command = (sys.executable, ELSEWHERE, system, "run", WEATHER, "--transport", "http", "--port", "0")
    with started(*command, ready=r"http://127\.0\.0\.1:(\d+)", env={"PYTHONPATH": str(ROOT)}) as child:
        assert child.match
        shown = run(system, tmp_path, "inspect", f"http://127.0.0.1:{child.match[1]}/mcp", "-o", "json")
        assert shown.returncode == 0, shown.stderr
        assert json.loads(shown.stdout)["tools"]


@pytest.mark.parametrize(
    ("system", "file"),
    [
        ("darwin", "Library/Application Support/portway/hosts.json"),
        ("win32", "AppData/portway/hosts.json"),
    ],
)
def test_logins_are_where_the_system_keeps_them(system: str, file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"hosts": {"prod": {"url": "https://a.example", "token": TOKEN}}}))
    path.chmod(0o600)
    assert "https://a.example" in run(system, tmp_path, "hosts").stdout
    assert run(system, tmp_path, "logout", "prod").stderr == "logged out of prod\n"
    assert json.loads(path.read_text()) == {"hosts": {}}


def test_windows_has_no_host_and_says_what_it_has(tmp_path: Path) -> None:
    told = run("win32", tmp_path, "ps")
    assert told.stderr == "Error: no host runs on Windows: log in to one elsewhere by `portway login URL`\n"
