"""What a host elsewhere says, when it means harm: to git, and to the terminal."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.diagnosis.broken_proxy import Reply, Request, broken
from tests.support import SCRIPTS, WEATHER, clean_env

TOKEN = "pwu_" + "a" * 43
LIVE = {
    "app": "weather",
    "release": 2,
    "url": "https://x\x1b[2J",
    "token": "pw_\x1b]0;x\x07",
    "tools": 1,
    "duration_ms": 1,
}


def answers(request: Request) -> Reply:
    """Answer as a host would, with escapes; its only branch has a name that no branch of a host has."""
    if request.method == "GET":
        return Reply(200, {"content-type": "application/x-git"}, f"003d{'0' * 40} refs/heads/\udcff\0\n0000")
    message = json.loads(request.body) if request.body.startswith("{") else {}
    if message.get("method") == "server/discover":
        value = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "serverInfo": {"name": "x"}}
    elif message.get("method") == "tools/call":
        value = {"content": [], "structuredContent": LIVE}
    else:
        return Reply(404)
    modern = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    whole = {"jsonrpc": "2.0", "id": message["id"], "result": value | modern}
    return Reply(200, {"content-type": "application/json"}, json.dumps(whole))


def test_a_host_elsewhere_steers_neither_the_terminal_nor_git(tmp_path: Path) -> None:
    environment = clean_env({"PORTWAY_TOKEN": TOKEN, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)})
    with broken(answers) as place:
        restarted, deployed = (
            subprocess.run(
                [SCRIPTS / "portway", *words, "--on", f"http://{place}"],
                env=environment,
                capture_output=True,
                check=False,
                text=True,
            )
            for words in (["restart", "weather"], ["deploy", str(WEATHER.parent)])
        )
    assert restarted.stdout.splitlines()[0] == "https://x\\x1b[2J"
    assert "\x1b" not in restarted.stdout + restarted.stderr
    assert deployed.returncode == 1
    assert "Traceback" not in deployed.stderr
    assert deployed.stderr.startswith("Error: the push to http://")
