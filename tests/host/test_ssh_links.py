"""A linked repository behind a real ssh server: deploy keys, and the other host's own key."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from portway.host.git.remote_url import read_git_url
from tests.host.backup_verbs import restore
from tests.host.git_upstream import Upstream
from tests.host.running_host import Host, host
from tests.host.test_links import commit, github_push, link
from tests.support import eventually

CONFIG = """
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
"""
SHELL = 'restrict,command="git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"" '


def make_key(path: Path) -> str:
    """Make a pair of keys, in place of another one, and return the public half."""
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[int]:
    """Serve ssh as this user while the block lasts, with the keys `host` and `authorized` of a folder."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which sshd wants, and the start of a system makes
    (folder / "config").write_text(CONFIG.format(folder=folder))
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert sshd is not None, "install openssh-server"

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            subprocess.run(
                [sshd, "-i", "-f", folder / "config", "-E", folder / "log"],
                stdin=self.request,
                stdout=self.request,
                stderr=subprocess.DEVNULL,
                check=False,
            )

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def files_with(folder: Path, secret: str) -> list[Path]:
    found = []
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            with contextlib.suppress(OSError):
                if path.is_file() and secret.encode() in path.read_bytes():
                    found.append(path)
    return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Host]:
    with host(tmp_path / "the 1% data", options=["--allow-private-sources"]) as running:
        yield running


@pytest.mark.slow
def test_a_branch_is_fetched_by_ssh_with_a_deploy_key_that_is_a_file_only_while_git_runs(
    running: Host, tmp_path: Path
) -> None:
    keys, root = tmp_path / "ssh", tmp_path / "elsewhere"
    keys.mkdir()
    key, wrong = keys / "deploy", keys / "wrong"
    make_key(keys / "host")
    make_key(wrong)
    (keys / "authorized").write_text(SHELL + make_key(key))
    secret = key.read_text().splitlines()[4]  # of its private half
    with ssh_server(keys) as port:
        elsewhere = Upstream(root, f"ssh://{getpass.getuser()}@127.0.0.1:{port}{root}")
        linked = link(running, elsewhere, "keyed", "--key", key)
        assert linked.seen()["version"] == "one"

        two = linked.commit("two")
        body = github_push(read_git_url(elsewhere.address("acme/keyed")).full_name)
        assert linked.send(linked.github("k-1", body), body)[0] == 202
        eventually(lambda: linked.releases()[0]["commit"] == two)
        assert not files_with(Path(running.ready["data"]), secret)
        linked.becomes_live("two")
        assert secret not in "".join(running.child.lines)

        commit(elsewhere, "other", "one")
        for options in (["--key", wrong], []):
            refused = running.portway("link", "other", elsewhere.address("acme/other"), *options)
            assert refused.returncode == 1
            assert (
                "other/.git cannot be fetched: it does not accept the key: `portway link APP GIT-URL --key FILE`, with "
                "a deploy key without passphrase\n"
            ) in refused.stderr

        running.deploy(root / "acme" / "other", "other")
        commit(elsewhere, "other", "two", blueprint="services: 1")
        assert running.portway("link", "other", elsewhere.address("acme/other"), "--key", key).returncode == 1
        make_key(keys / "host")
        link(running, elsewhere, "other", "--key", key)  # nothing was kept of the link that failed
        linked.commit("three")
        assert linked.send(linked.github("k-2", body), body)[0] == 202
        changed = (
            "keyed/.git cannot be fetched: its host has another key than before: if that is meant, "
            "`portway unlink APP`, and link it again"
        )
        eventually(lambda: changed in running.status("keyed").link)
        assert linked.seen()["version"] == "two"
        assert running.portway("unlink", "keyed").returncode == 0
        link(running, elsewhere, "keyed", "--key", key)
        linked.becomes_live("one")  # which `link` commits


@pytest.mark.slow
def test_a_restored_host_fetches_with_the_deploy_key_of_the_first(tmp_path: Path) -> None:
    keys, root, options = tmp_path / "ssh", tmp_path / "elsewhere", ["--allow-private-sources"]
    keys.mkdir()
    make_key(keys / "host")
    (keys / "authorized").write_text(SHELL + make_key(keys / "deploy"))
    backup = tmp_path / "host.backup"
    with ssh_server(keys) as port:
        elsewhere = Upstream(root, f"ssh://{getpass.getuser()}@127.0.0.1:{port}{root}")
        with host(tmp_path / "data", options=options) as running:
            linked = link(running, elsewhere, "keyed", "--key", keys / "deploy")
            assert running.portway("backup", backup, "--key-to", tmp_path / "host.key").returncode == 0
        assert restore(backup).exit_code == 0
        linked.commit("two")
        with host(tmp_path / "restored", options=options) as running:
            linked = replace(linked, running=running)
            eventually(lambda: running.status("keyed").state == "up")
            assert running.portway("restore", "--take-over").returncode == 0
            hook = linked.made["deploy_hook"].partition("/_portway/")[2]
            assert linked.send({}, b"", f"{running.ready['url']}/_portway/{hook}")[0] == 200
            linked.becomes_live("two")
            make_key(keys / "host")
            linked.commit("three")
            assert linked.send({}, b"", f"{running.ready['url']}/_portway/{hook}")[0] == 200
            eventually(lambda: "its host has another key than before" in running.status("keyed").link)
