"""Sends a folder to a host elsewhere for `portway deploy`: git runs, pushes a commit, and its output becomes the steps
of the deploy.

Git works in a folder of its own: a repository in the pushed folder, its index and its hooks are left alone. The token
is given to git in its environment only.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import click
import msgspec

from portway.cli.chosen_host import USER_TOKEN, RemoteHost
from portway.cli.control_client import HostUnreachable, unreachable
from portway.cli.terminal_text import plain_line
from portway.host.git.push_options import PushOutcome
from portway.host.git.repository import AUTHOR, BRANCHES, PLAIN_ATTRIBUTES
from portway.host.sources.folder_source import FolderSource
from portway.host.sources.source import SourceError
from portway.http.http_client import HttpClient, UpstreamError

_OLDEST = (2, 31)  # the first that takes settings from its environment
_GIT_VARIABLES = ("GIT_SSL_", "GIT_PROXY_", "GIT_EXEC_PATH")  # which are passed on
_MOST_REFS = 1_000_000
_BRANCH = re.compile(rf" refs/heads/({'|'.join(BRANCHES)})[\0\n]".encode())
_REMOTE = "remote: "
_STEP = re.compile(r"-----> | {7}\S")  # a step of the deploy, or a further line of one
# Ends git, and removes its folder, when this process ends, however it does: then the pipe closes that is read here.
_LEASH = (
    'exec 3<&0; place=$1; shift; "$@" </dev/null 3<&- & git=$!; '
    '{ read -r _ <&3; kill -KILL $git; rm -rf -- "$place"; kill -KILL 0; } >/dev/null 2>&1 & wait $git'
)
_FAST = {"core.looseCompression": "0", "core.bigFileThreshold": "8m", "pack.compression": "1"}
_SETTINGS = _FAST | {
    "http.followRedirects": "false",  # the token is for this host
    "credential.helper": "",
    "core.hooksPath": os.devnull,
    "push.gpgSign": "false",
    "push.followTags": "false",
    "push.recurseSubmodules": "no",
    "push.pushOption": "",  # forgets those of the user
    "color.ui": "false",
}


def push_folder(folder: Path, app: str, host: RemoteHost, options: Sequence[str]) -> PushOutcome:
    """Deploy a folder as the app, and print the steps. Raises `ClickException` when the host does not get it."""
    if not host.token.startswith(USER_TOKEN):
        raise click.ClickException(
            f"a folder is sent by git, which takes only the token of a user: log in by `portway login {host.url}`"
        )
    _require_git()
    address, branch = f"{host.url}/{app}.git", asyncio.run(_branch(host, app))
    with _stopped_by_signals(), tempfile.TemporaryDirectory(prefix="portway-") as scratch:
        source, repository = Path(scratch) / "source", Path(scratch) / "git"
        try:
            FolderSource(folder).copy_to(source)
        except (SourceError, OSError) as error:
            raise click.ClickException(str(error)) from None
        local = _environment(repository, _FAST) | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        _git(local, "init", "--quiet", "--bare", "--template=", str(repository))
        (repository / "info").mkdir(exist_ok=True)
        (repository / "info" / "attributes").write_text(PLAIN_ATTRIBUTES)
        header = f"Authorization: {_credential(host)}"
        remote = _environment(repository, _SETTINGS | {f"http.{host.url}/.extraHeader": header}, options)
        parents = []
        if branch:
            _git(remote, "fetch", "--quiet", "--depth=1", "--no-tags", address, f"refs/heads/{branch}")
            parents = ["-p", _git(local, "rev-parse", "FETCH_HEAD")]
        place = {"GIT_WORK_TREE": str(source), "GIT_INDEX_FILE": str(Path(scratch) / "index")}
        _git(local | place, "add", "--all", "--force", ".", cwd=source)
        tree = _git(local | place, "write-tree")
        commit = _git(local | AUTHOR, "commit-tree", tree, *parents, "-m", f"Deploy {folder.name}")
        return _push(remote, host, address, f"+{commit}:refs/heads/{branch or BRANCHES[0]}", scratch)


def _require_git() -> None:
    """Raise `ClickException` unless there is a git that is new enough."""
    try:
        done = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        raise click.ClickException(
            "git, which sends the folder, is not installed on this machine: install it from git-scm.com"
        ) from None
    found = re.search(r"\d+\.\d+", done.stdout)
    if found is None or tuple(map(int, found[0].split("."))) < _OLDEST:
        raise click.ClickException(
            f"git {found[0] if found else ''} on this machine is too old to send a folder: install 2.31 or later"
        )


def _credential(host: RemoteHost) -> str:
    """Return the value of Authorization by which git is let in (RFC 7617)."""
    return f"Basic {base64.b64encode(f'portway:{host.token}'.encode()).decode()}"


async def _branch(host: RemoteHost, app: str) -> str:
    """Return the branch of the app's repository, "" when it has no commits.

    Raises `ClickException` when the host cannot be reached, or does not let this user push.
    """
    header = (b"authorization", _credential(host).encode())
    try:
        async with HttpClient(host.url, by_proxy=True) as client:
            response = await client.request("GET", f"/{app}.git/info/refs?service=git-receive-pack", [header])
            body = await response.read(_MOST_REFS)
    except UpstreamError as error:
        raise unreachable(host, error) from None
    if response.status != 200:
        said = body.decode(errors="replace").strip().removesuffix(".")
        is_sentence = response.header(b"content-type").startswith(b"text/plain") and "\n" not in said
        raise click.ClickException(said if is_sentence else f"{host} answered git with HTTP status {response.status}")
    found = _BRANCH.search(body)
    return found[1].decode() if found else ""


def _environment(repository: Path, settings: Mapping[str, str], options: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment of a git command on the repository, with settings and the options of a push."""
    pairs = [*settings.items(), *(("push.pushOption", option) for option in options)]
    given = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(_GIT_VARIABLES)
    }
    # Every other request of the verb trusts this file, so it wins over what other repositories need.
    certificates = {"GIT_SSL_CAINFO": os.environ["SSL_CERT_FILE"]} if "SSL_CERT_FILE" in os.environ else {}
    configured = {f"GIT_CONFIG_KEY_{number}": key for number, (key, _) in enumerate(pairs)}
    values = {f"GIT_CONFIG_VALUE_{number}": value for number, (_, value) in enumerate(pairs)}
    return (
        given
        | certificates
        | configured
        | values
        | {
            "GIT_CONFIG_COUNT": str(len(pairs)),
            "GIT_DIR": str(repository),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
            "LC_ALL": "C",
        }
    )


def _git(environment: Mapping[str, str], *arguments: str, cwd: Path | None = None) -> str:
    """Run a git command and return what it printed. Raises `ClickException`."""
    done = subprocess.run(["git", *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"git {arguments[0]} failed: {_reason(done.stderr.splitlines())}")
    return done.stdout.strip()


def _reason(lines: Sequence[str]) -> str:
    """Return what git said first that is an error, else what it said last."""
    said = [line.removeprefix(_REMOTE).strip() for line in lines if line.strip()]
    errors = [line.partition(": ")[2] for line in said if line.startswith(("fatal: ", "error: "))]
    return next(iter(errors + said[::-1]), "it said nothing")


def _push(environment: Mapping[str, str], host: RemoteHost, address: str, refspec: str, scratch: str) -> PushOutcome:
    """Push, print the steps of the deploy as they come, and return its outcome. `scratch` is the folder of git."""
    shows = sys.stderr.isatty()
    command = ["git", "push", "--progress" if shows else "--no-progress", "--no-verify", address, refspec]
    if sys.platform != "win32":
        command = ["/bin/sh", "-c", _LEASH, "sh", scratch, *command]
    lines, outcome = [], None
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        try:
            for line in _lines(process.stderr):
                lines.append(line)
                said = line.removeprefix(_REMOTE)
                if said.startswith("{"):
                    with contextlib.suppress(msgspec.DecodeError):
                        outcome = msgspec.json.decode(said, type=PushOutcome)
                elif line.startswith(_REMOTE) and _STEP.match(said):
                    click.echo(plain_line(said), err=True)
                elif shows and not line.startswith(_REMOTE) and "%" in line:
                    click.echo(f"\r{plain_line(line)}", nl=line.endswith("done."), err=True)
            process.wait()
        except BaseException:
            _end(process)
            raise
    if outcome is None:
        refused = next((line.partition("portway: ")[2] for line in lines if "portway: " in line), "")
        raise HostUnreachable(refused or f"the push to {host} failed: {_reason(lines)}")
    return outcome


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git with all that it has started."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield what git prints, by lines; a line of its progress ends with a carriage return."""
    rest = b""
    while piece := os.read(stream.fileno(), 65_536):
        *whole, rest = re.split(rb"[\r\n]", rest + piece)
        yield from (line.decode(errors="replace").rstrip() for line in whole)
    yield rest.decode(errors="replace").rstrip()


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Leave the block when the process is told to end, so that its files go and git ends with it."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
