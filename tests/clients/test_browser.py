"""Web pages as clients, in headless Chromium: a page of ours, and the MCP Inspector connecting directly."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.clients.conftest import FEATURES
from tests.support import ROOT, clean_env, served

pytestmark = pytest.mark.clients

NODE = ROOT / "tests" / "node"
INSPECTOR = NODE / "node_modules" / "@modelcontextprotocol" / "inspector-client" / "dist"
TOKEN = "browser-secret"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def pages() -> Iterator[int]:
    """The port of a server of the Inspector's files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=INSPECTOR)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_named_pages_call_in_both_eras_and_others_do_not(pages: int, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None or not INSPECTOR.exists():
        pytest.skip("chromium or tests/node/node_modules is missing: run `.ci/run`, which installs both")
    named = f"http://localhost:{pages}"
    with served(FEATURES, env={"PORTWAY_TOKENS": f"page:{TOKEN}", "PORTWAY_ALLOWED_ORIGINS": named}) as url:
        given = {"chromium": chromium, "page": named, "other": f"http://127.0.0.1:{pages}", "url": url, "token": TOKEN}
        env = clean_env({"HOME": str(tmp_path)})
        command = ["node", "browser.mjs", json.dumps(given)]
        done = subprocess.run(command, cwd=NODE, env=env, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["page"] == {
        "session": True,
        "legacy": "north 1",
        "stream": 200,
        "modern": "north 1",
        "refused": [401, "Bearer"],
    }
    assert seen["other"] == "Failed to fetch"
    assert seen["inspector"] is True
