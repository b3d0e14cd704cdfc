"""Who may call an app: also one that checks its callers by a token of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_host_errors import matches
from tests.host.running_host import Host, host
from tests.host.test_start_commands import SERVER
from tests.support import eventually

CHECK = """def do_POST(self):
        if self.headers["authorization"] == "Bearer " + os.environ["API_TOKEN"]:
            self.answer()
            return
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(401)
        self.send_header("www-authenticate", 'Bearer realm="own"')
        self.send_header("content-length", "0")
        self.end_headers()

    def answer"""
START = ("--start", "API_TOKEN=theirs exec python main.py")
NEEDED = (
    "the server asks for a token of its own (401): name the variable that holds it by --upstream-token, or let the "
    "server check its callers by --access app"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("access") / "data") as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "strict"
    folder.mkdir()
    (folder / "main.py").write_text(SERVER.replace("def do_POST", CHECK))
    return folder


BLUEPRINT = """
services:
  - type: web
    name: strict
    runtime: python
    startCommand: python main.py
    envVars:
      - {key: API_TOKEN, generateValue: true}
"""


@pytest.mark.slow
def test_the_gate_gives_an_app_the_token_that_its_own_server_checks(running: Host, folder: Path) -> None:
    (folder / "render.yaml").write_text(BLUEPRINT)
    done = running.portway("deploy", folder, "--name", "owned")
    assert done.returncode == 0, done.stderr
    assert "1 tool; the app's own token is API_TOKEN" in done.stderr
    token = running.portway("token", "create", "owned", "t").stdout.split()[0]
    own = running.call("owned", "whoami", token)["headers"]["authorization"].removeprefix("Bearer ")
    assert len(own) == 44, "the generated one, and never the caller's"
    assert running.portway("env", "rekey").returncode == 0
    gate = running.kill("gate")
    eventually(lambda: running.process("gate") != gate)
    assert running.call("owned", "whoami", token)["headers"]["authorization"] == f"Bearer {own}"
    kept = [running.paths.routes.read_text(), *running.processes().values(), "".join(running.child.lines)]
    assert not [text for text in kept if own in text]

    again = running.portway("deploy", folder, "--name", "owned", "--upstream-token", "OTHER", "--env", "OTHER=wrong")
    assert matches("the token in … is not the one that the server checks (401): name another variable by", again.stderr)
    unset = running.portway("deploy", folder, "--name", "owned", "--upstream-token", "MISSING")
    assert "owned lacks variables: run `portway env set owned MISSING=…`" in unset.stderr
    public = running.portway("deploy", folder, "--name", "owned", "--upstream-token", "API_TOKEN", "--public")
    assert matches(
        "owned gets no token of its own from the gate with access public: leave upstreamToken", public.stderr
    )


@pytest.mark.slow
def test_an_app_may_check_its_callers_itself(running: Host, folder: Path) -> None:
    both = running.portway("deploy", folder, *START, "--access", "app", "--private")
    assert (both.returncode, "--public and --private are short for --access: give one of them" in both.stderr) == (
        2,
        True,
    )
    refused = running.portway("deploy", folder, *START)
    assert refused.returncode == 1
    assert matches(NEEDED, refused.stderr), refused.stderr

    done = running.portway("deploy", folder, *START, "--access", "app")
    assert done.returncode == 0, done.stderr
    own = f"http://strict.localhost:{running.ready['url'].rpartition(':')[2]}/mcp"
    assert f"nothing to callers without credentials; its login is at its own host name: {own}\n" in done.stderr
    assert "token" not in done.stdout, "the host has none to give"
    url = done.stdout.strip()
    assert running.call("strict", "whoami", "theirs")["headers"]["authorization"] == "Bearer theirs"
    assert "asks for a token" in running.portway("call", url, "whoami").stderr

    (folder / "main.py").write_text(SERVER)
    done = running.portway("deploy", folder)
    assert "1 tool; anybody may call it: it checks nobody" in done.stderr, done.stderr
