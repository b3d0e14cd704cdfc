"""Servers by other packages, hosted: a session of their own client outlives a crash, a deploy and the gate."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.host.running_host import host
from tests.support import ROOT, clean_env, eventually

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

SERVER = Path(__file__).with_name("foreign_server.py")
SCRIPT = Path(__file__).parent / "families" / "in_one_session.py"
URI = "test://changing"


@pytest.mark.parametrize("kind", ["fastmcp3", "fastmcp4", "mcp1", "mcp2"])
def test_a_session_outlives_a_crash_a_deploy_and_the_gate(kind: str, tmp_path: Path) -> None:
    python = Path(sys.executable) if kind == "mcp2" else ROOT / ".venv-clients" / kind / "bin" / "python"
    if not python.exists():
        pytest.skip(f".venv-clients/{kind} is missing: run `make test-all`")
    folder = tmp_path / "foreign"
    folder.mkdir()
    shutil.copyfile(SERVER, folder / "server.py")
    with host(tmp_path / "data", walls=False) as running:
        start = ("--start", f"exec {python} server.py {kind}", "--instances", "3")
        done = running.portway("deploy", folder, *start, "-o", "json")
        assert done.returncode == 0, done.stderr + running.portway("logs", "foreign").stdout
        app = json.loads(done.stdout)
        command = [python, SCRIPT, app["url"], app["token"], kind]
        with subprocess.Popen(
            command, env=clean_env(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as client:
            assert client.stdin
            assert client.stdout

            def do(line: str) -> str:
                client.stdin.write(line + "\n")
                client.stdin.flush()
                said = client.stdout.readline().strip()
                assert said, client.communicate()[1][-5000:]
                return said

            def use() -> dict[str, Any]:
                seen = json.loads(do("round"))
                assert (seen["confirm"], seen["work"], seen["updated"]) == ("Oslo: True", "done", URI)
                assert "cancelled" in seen["cancelled"].lower()
                assert (seen["level"], seen["subscribed"]) == ("error", [URI])
                return seen

            try:
                first = use()["pid"]
                os.kill(first, signal.SIGKILL)
                eventually(lambda: not Path(f"/proc/{first}").exists())
                second = use()["pid"]
                assert do("ask") == "asked"
                running.deploy(folder, "foreign")
                assert do("answer") == "Oslo: True", "by the old instance, which drains"
                third = use()["pid"]
                assert len({first, second, third}) == 3
                gate = running.kill("gate")
                eventually(lambda: running.process("gate") != gate)
                assert use()["pid"] == third
                assert client.communicate()[0] == ""
                assert client.returncode == 0
            finally:
                client.kill()
