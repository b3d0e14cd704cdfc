"""A laptop that manages a host: every verb over the host's public address, and a deploy that is a push."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import pytest

from portway.cli.control_client import ask_control
from portway.cli.main import cli
from portway.host.management.management_types import NewUser
from tests.cli.test_output import OPTIONS, RUNS
from tests.host.git_client import commit_all, git
from tests.host.git_upstream import upstream
from tests.host.running_host import Host, host
from tests.host.test_git_push import HELD, address, git_processes, held_build, seen, statuses, write
from tests.http.connect_proxy import connect_proxy
from tests.support import ROOT, SCRIPTS, WEATHER, clean_env, eventually
from tests.tls.certificates import write_pair
from tests.tls.test_own_certificate import https_host

ELSEWHERE = ROOT / "tests" / "cli" / "elsewhere.py"


@dataclass
class Laptop:
    """A machine without a host, whose user has a token of one."""

    home: Path
    token: str
    environment: dict[str, str]
    program: tuple[str | Path, ...] = (SCRIPTS / "portway",)

    def command(self, *arguments: str | Path) -> tuple[list[str | Path], dict[str, str]]:
        return [*self.program, *arguments], clean_env(self.environment)

    def portway(
        self, *arguments: str | Path, stdin: str = "", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one `portway` command to its end."""
        words, environment = self.command(*arguments)
        return subprocess.run(
            words, env=environment, input=stdin, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
        )


def laptop(running: Host, home: Path, name: str, role: str, *apps: str) -> Laptop:
    """Return the laptop of a new user, chosen by the environment to act on the host."""
    user = {"name": name, "role": role, "apps": list(apps)}
    token = ask_control(running.here, "add_user", user, NewUser).token
    home.mkdir()
    places = {"HOME": home, "XDG_CONFIG_HOME": home / "config", "XDG_RUNTIME_DIR": home, "TMPDIR": home}
    places["LOCALAPPDATA"] = home / "AppData"
    chosen = {"PORTWAY_HOST": running.ready["url"], "PORTWAY_TOKEN": token}
    return Laptop(home, token, {name: str(place) for name, place in places.items()} | chosen)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("afar") / "data", options=["--trust-all-apps"]) as running:
        yield running


@pytest.fixture(scope="module")
def dora(running: Host, tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    """The laptop of a deployer who may use every app."""
    return laptop(running, tmp_path_factory.mktemp("laptops") / "dora", "dora", "deployer")


@pytest.mark.slow
def test_a_folder_is_deployed_as_a_commit_on_top_of_what_is_live_and_its_own_repository_is_left_alone(
    running: Host, dora: Laptop, tmp_path: Path
) -> None:
    folder = write(tmp_path / "app", "one", "afar")
    commit_all(folder)
    git(folder, "config", "core.hooksPath", "/nonexistent")
    (folder / "main.py").write_text((folder / "main.py").read_text().replace("one", "two"))
    for path in (".env", "node_modules/x.js"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("SECRET=not for the host")
    before = {path: path.read_bytes() for path in (folder / ".git").rglob("*") if path.is_file()}
    done = dora.portway("deploy", ".", cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line.split()[1] for line in lines] == [
        "copy",
        "build",
        "walls",
        "ready",
        "switch",
        f"{running.ready['url']}/afar/mcp",
    ]
    url, token = done.stdout.splitlines()
    assert url == f"{running.ready['url']}/afar/mcp"
    assert seen(running, "afar", token.split()[1])["version"] == "two"
    assert {path: path.read_bytes() for path in (folder / ".git").rglob("*") if path.is_file()} == before

    again = dora.portway("deploy", folder, "-o", "json")
    assert again.returncode == 0, again.stderr
    made = json.loads(again.stdout)
    assert (made["release"], made["tools"], "token" in made) == (2, 1, False)
    git(tmp_path, "clone", "--quiet", address(running, "afar", dora.token), "clone")
    assert git(tmp_path / "clone", "log", "--format=%an %s").splitlines() == ["Portway Deploy app"] * 2
    assert sorted(path.name for path in (tmp_path / "clone").iterdir()) == [".git", "main.py", "render.yaml"]
    assert [path.name for path in dora.home.iterdir()] == [], "nothing is left on the laptop"


@pytest.mark.slow
def test_the_flags_of_a_deploy_go_with_the_push(running: Host, dora: Laptop, tmp_path: Path) -> None:
    folder = write(tmp_path / "flags", "one")
    (folder / "render.yaml").unlink()
    (folder / ".env.production").write_text("A=b")
    start = ["--build", "true", "--start", "python main.py", "--storage", "2", "--instances", "2"]
    more = [
        "--public",
        "--allow-origin",
        "https://a.example",
        "--allow-origin",
        "https://b.example",
        "--contract",
        "locked",
    ]
    secret = dora.portway("deploy", folder, *start)
    assert (secret.returncode, secret.stdout) == (1, "")
    assert secret.stderr.splitlines()[-1].startswith("Error: the source holds secrets (.env.production is a file of")
    done = dora.portway("deploy", folder, "--name", "flagged", *start, *more, "--allow-file", ".env.*")
    assert done.returncode == 0, done.stderr
    service = json.loads(running.portway("config", "flagged", "-o", "json").stdout)
    portway = service["x-portway"]
    assert (service["startCommand"], service["numInstances"]) == ("python main.py", 2)
    assert (portway["access"], portway["contract"], portway["storage"]) == ("public", "locked", {"sizeGB": 2})
    assert portway["origins"] == ["https://a.example", "https://b.example"]
    (folder / "main.py").write_text((folder / "main.py").read_text().replace('{"name": "seen"', '{"name": "look"'))
    (folder / ".env.production").unlink()
    stopped = dora.portway("deploy", folder, "--name", "flagged")
    assert stopped.returncode == 1
    accept = re.search(r"portway deploy (--accept \S+)", stopped.stderr)
    assert accept, stopped.stderr
    assert dora.portway("deploy", folder, "--name", "flagged", *accept[1].split()).returncode == 0


@pytest.mark.slow
def test_deploys_from_afar_wait_for_their_turn_and_only_the_newest_of_them_is_done(
    running: Host, dora: Laptop, tmp_path: Path
) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        deploys = []
        for build in (HELD, "true", "true"):
            folder = write(tmp_path / f"app-{len(deploys)}", f"{len(deploys)}", "turns", build=build)
            words, environment = dora.command("deploy", folder, "-o", "json")
            deploys.append(stack.enter_context(subprocess.Popen(words, env=environment, **pipes)))
            if build == HELD:
                go = held_build(running, "turns", 1)
            else:
                assert deploys[-1].stderr.readline() == "-----> waiting  for another deploy or change of turns\n"
        assert deploys[1].wait(120) == 3
        go.touch()
        made = [json.loads(deploy.communicate(timeout=120)[0])["release"] for deploy in deploys[::2]]
    assert made == [1, 2]
    assert statuses(running, "turns") == ["live", "ready"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_deploy_from_afar_that_is_cut_in_its_middle_leaves_nothing(
    running: Host, dora: Laptop, tmp_path: Path, number: signal.Signals
) -> None:
    app = f"cut-{number.name.lower()}"
    words, environment = dora.command("deploy", write(tmp_path / "app", "one", app, build=HELD))
    words = ["env", "--default-signal=INT", *words]  # what starts the tests may have it ignored
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        held_build(running, app, 1)
        os.kill(process.pid, number)
        assert process.wait(120) != 0
    eventually(lambda: statuses(running, app) == ["failed"])
    eventually(lambda: git_processes(running) == {})
    assert git(running.paths.repository(app), "for-each-ref") == ""
    eventually(lambda: [*dora.home.glob("portway-*")] == [])


@pytest.mark.slow
def test_the_token_is_in_no_argument_and_no_file_whatever_git_is_told(running: Host, tmp_path: Path) -> None:
    dora = laptop(running, tmp_path / "dora", "dorothy", "deployer")
    (dora.home / ".gitconfig").write_text(GIT_CONFIG.format(home=dora.home))
    (dora.home / "hooks").mkdir()
    (dora.home / "hooks" / "pre-push").write_text("#!/bin/sh\nexit 1\n")
    (dora.home / "hooks" / "pre-push").chmod(0o755)
    folder = write(tmp_path / "app", "one", "quiet", build=HELD)
    (folder / "lines.txt").write_bytes(b"one\r\ntwo\r\n")
    (folder / ".gitattributes").write_text("*.txt text eol=lf\n")
    words, environment = dora.command("deploy", folder)
    environment |= {"GIT_DIR": "/nonexistent", "GIT_INDEX_FILE": "/nonexistent", "GIT_TRACE": "1"}
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        go = held_build(running, "quiet", 1)
        arguments = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                arguments.append(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:
                continue
        files = [path.read_bytes() for path in dora.home.rglob("*") if path.is_file()]
        go.touch()
        assert process.wait(120) == 0
    assert any(b"push" in line and b"quiet.git" in line for line in arguments)
    assert not any(dora.token.encode() in content for content in [*arguments, *files])
    assert files, "git's repository was there"
    assert (running.paths.release("quiet", 1) / "src" / "lines.txt").read_bytes() == b"one\r\ntwo\r\n"
    assert not (dora.home / "credentials").exists()


def test_a_role_that_may_not_deploy_is_told_by_the_host(running: Host, tmp_path: Path) -> None:
    folder = write(tmp_path / "app", "one", "denied")
    vera = laptop(running, tmp_path / "vera", "vera", "viewer")
    bert = laptop(running, tmp_path / "bert", "bert", "deployer", "other")
    told = vera.portway("deploy", folder)
    assert (told.returncode, told.stderr.splitlines()[-1]) == (
        1,
        "Error: vera is a viewer, and may not deploy: ask for a user with the role deployer",
    )
    told = bert.portway("deploy", folder)
    assert (told.returncode, told.stderr) == (1, "Error: bert may not use the app denied, only other\n")


def test_what_cannot_be_sent_is_refused_before_anything_is_sent(dora: Laptop, tmp_path: Path) -> None:
    outward = write(tmp_path / "outward", "one", "outward")
    (outward / "link").symlink_to("/etc/passwd")
    assert "is a link out of the folder" in dora.portway("deploy", outward).stderr
    several = write(tmp_path / "several", "one", "a", "b")
    told = dora.portway("deploy", several, "--env", "A=b").stderr
    assert told == "Error: --env is for one app, and the blueprint has several: use `portway env set`\n"
    (tmp_path / "9").mkdir()
    assert "'9' cannot name an app: give --name" in dora.portway("deploy", tmp_path / "9").stderr


GITS = {
    "missing": (None, "git, which sends the folder, is not installed on this machine: install it from git-scm.com"),
    "old": ("echo git version 2.20.1", "git 2.20 on this machine is too old to send a folder: install 2.31 or later"),
    "cut": (
        '[ "$1" = push ] || exec "$GIT" "$@"; while read -r line; do echo "$line" >&2; done <"$SAYS"',
        "the push to {url} failed: pack exceeds maximum allowed size (256.00 MiB)",
    ),
}


@pytest.mark.parametrize("kind", GITS)
def test_a_git_of_the_laptop_that_cannot_push_is_told(running: Host, dora: Laptop, tmp_path: Path, kind: str) -> None:
    script, told = GITS[kind]
    (tmp_path / "bin").mkdir()
    if script is not None:
        (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / "git").chmod(0o755)
    words, environment = dora.command("deploy", write(tmp_path / "app", "one", "never"))
    says = tmp_path / "says.txt"
    says.write_text("remote: fatal: pack exceeds maximum allowed size (256.00 MiB)\nerror: remote unpack failed: \n")
    environment |= {"PATH": str(tmp_path / "bin"), "GIT": shutil.which("git") or "", "SAYS": str(says)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, f"Error: {told.format(url=running.ready['url'])}\n")


GIT_CONFIG = """
[core]
    hooksPath = {home}/hooks
    autocrlf = true
    safecrlf = true
[commit]
    gpgSign = true
[push]
    gpgSign = true
    followTags = true
    pushOption = unknown
[credential]
    helper = store --file {home}/credentials
[color]
    ui = always
"""


def acts_on_a_host(words: str) -> bool:
    """Return whether a verb has the option --on."""
    command: click.Command | None = cli
    for word in words.split():
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    return any("--on" in parameter.opts for parameter in command.params)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_every_verb_acts_on_a_host_elsewhere_after_a_login(tmp_path: Path, system: str) -> None:
    with upstream(tmp_path / "elsewhere") as elsewhere, host(tmp_path / "data", options=OPTIONS) as running:
        elsewhere.commit("linked", {"server.py": WEATHER.read_text()})
        anna = laptop(running, tmp_path / "anna", "anna", "admin")
        if system != "linux":
            anna.program = (sys.executable, ELSEWHERE, system)
            anna.environment["PYTHONPATH"] = str(ROOT)
        del anna.environment["PORTWAY_HOST"], anna.environment["PORTWAY_TOKEN"]
        login = anna.portway("login", running.ready["url"], "--name", "prod", stdin=anna.token)
        assert login.stderr == f"logged in to prod ({running.ready['url']}) as anna, an admin\n"
        (kept,) = anna.home.rglob("hosts.json")
        assert kept.stat().st_mode & 0o777 == 0o600
        deployed = anna.portway("deploy", WEATHER.parent, "--name", "weather", "--env", "A=b")
        assert deployed.returncode == 0, deployed.stderr
        for verb, arguments in RUNS.items():
            if not acts_on_a_host(verb):
                continue
            given = [argument.replace("UPSTREAM", elsewhere.address("linked")) for argument in arguments]
            done = anna.portway(*verb.split(), *given, "-o", "json", stdin="A=b")
            assert done.returncode == 0, (verb, done.stderr)
            assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines()), verb
        if system != "linux":
            lacking = anna.portway("deploy", WEATHER.parent)
            assert lacking.stderr == (
                "Error: ruamel.yaml, which reads blueprints, is missing: pip install 'portway[host]'\n"
            )
            return
        template = anna.portway("deploy", "template:portway", "--name", "made", "--env", "API_TOKEN=x", "--on", "prod")
        assert template.returncode == 0, template.stderr
        gone = anna.portway("destroy", "made", stdin="made\n")
        assert f"This deletes made on prod ({running.ready['url']}): " in gone.stderr
        assert gone.stderr.endswith(f"destroyed made on prod ({running.ready['url']})\n")


@pytest.mark.slow
def test_logs_are_followed_from_afar_and_a_revoked_user_is_let_in_no_more(
    running: Host, dora: Laptop, tmp_path: Path
) -> None:
    vera = laptop(running, tmp_path / "vera", "viola", "viewer")
    made = dora.portway("deploy", write(tmp_path / "app", "one", "logged"), "--public")
    assert made.returncode == 0, made.stderr
    words, environment = vera.command("logs", "logged", "--follow", "--tool", "seen")
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        seen(running, "logged", "")
        line = following.stdout.readline()
        denied = vera.portway("env", "set", "logged", "A=b")
        revoked = running.portway("user", "revoke", "viola")
        following.communicate(timeout=120)
    assert "tools/call seen ok" in line
    assert denied.stderr == ("Error: viola is a viewer, and may not deploy: ask for a user with the role deployer\n")
    assert (revoked.returncode, following.returncode) == (0, 1)
    assert "does not know the token" in vera.portway("ps").stderr


@pytest.mark.slow
def test_a_host_is_managed_over_https_when_its_authority_is_trusted(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", "localhost", "x.localhost")
    with https_host(tmp_path / "data", certificate, key) as (running, _):
        ada = laptop(running, tmp_path / "ada", "ada", "deployer")
        folder = write(tmp_path / "app", "one", "secure")
        assert "is not trusted (self-signed certificate)" in ada.portway("deploy", folder).stderr
        for_other_repositories, _ = write_pair(tmp_path / "others", "git.example.com")
        ada.environment |= {"SSL_CERT_FILE": str(certificate), "GIT_SSL_CAINFO": str(for_other_repositories)}
        login = ada.portway("login", running.ready["url"])
        assert login.stderr == f"logged in to {running.ready['url']} as ada, a deployer\n"
        for release in (1, 2):
            done = ada.portway("deploy", folder, "-o", "json")
            assert done.returncode == 0, done.stderr
            made = json.loads(done.stdout)
            assert (made["release"], made["url"]) == (release, f"{running.ready['url']}/secure/mcp")
        assert "secure" in ada.portway("ps").stdout


@pytest.mark.slow
def test_a_host_is_reached_through_the_proxy_of_ones_network(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path / "pair", "mcp.example.com")
    options = ["--domain", "mcp.example.com", "--cert", str(certificate), "--key", str(key)]
    with (
        host(tmp_path / "data", options=[*options, "--https-port", "0", "--http-port", "0"]) as running,
        connect_proxy() as proxy,
    ):
        dora = laptop(running, tmp_path / "dora", "dora", "deployer")
        dora.environment |= {"SSL_CERT_FILE": str(certificate), "HTTPS_PROXY": proxy.url}
        done = dora.portway("deploy", write(tmp_path / "app", "one"), "--name", "proxied", "--public")
        assert done.returncode == 0, done.stderr
        place = running.ready["url"].removeprefix("https://")
        assert {*proxy.asked} == {place}
        called = dora.portway("call", f"{running.ready['url']}/proxied/mcp", "seen")
        assert called.returncode == 0, called.stderr
        before = len(proxy.asked)
        for changed, reason in (
            ({"HTTPS_PROXY": proxy.url.replace("pass@", "word@")}, "the proxy of HTTPS_PROXY answers with status 407"),
            (
                {"HTTPS_PROXY": "socks5://127.0.0.1"},
                "HTTPS_PROXY is no http:// URL, and other proxies are not supported",
            ),
            ({"HTTPS_PROXY": "http://127.0.0.1:1"}, "the proxy of HTTPS_PROXY cannot be reached: "),
            ({"HTTPS_PROXY": "http://[x"}, "HTTPS_PROXY is no URL as in http://proxy"),
            ({"NO_PROXY": ".example.com"}, "cannot connect to"),
        ):
            refused = replace(dora, environment=dora.environment | changed).portway("ps")
            assert refused.returncode == 1
            assert reason in refused.stderr
        assert len(proxy.asked) == before
