"""`portway link`: what is new on a branch elsewhere is deployed, told by the webhooks of the providers or by a look."""

from __future__ import annotations

import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import pytest

from portway.host.app_config import AppConfig, BuildFilter
from portway.host.links.triggers import objection
from tests.host.git_client import git
from tests.host.git_upstream import Upstream, upstream
from tests.host.running_host import Host
from tests.host.test_git_push import SERVER
from tests.support import eventually

RENDER = """
services:
  - type: web
    name: plain
    runtime: python
    startCommand: python server.py
"""


@dataclass
class Linked:
    """An app that is linked to the repository `acme/APP` elsewhere."""

    running: Host
    elsewhere: Upstream
    app: str
    made: dict[str, Any]

    def commit(self, version: str, message: str = "A change", blueprint: str = RENDER) -> str:
        return commit(self.elsewhere, self.app, version, message, blueprint)

    def send(self, headers: dict[str, str], body: bytes, address: str = "", method: str = "POST") -> tuple[int, str]:
        """Send a request to the webhook, and return the status and the answer."""
        sent = {"Content-Type": "application/json"} | headers
        request = Request(address or self.made["webhook"], body, sent, method=method)
        try:
            with urlopen(request, timeout=120) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def github(self, delivery: str, body: bytes, event: str = "push", **changes: str) -> dict[str, str]:
        """Return the headers that GitHub sends with a body."""
        made = hmac.new(self.made["secret"].encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-GitHub-Event": event, "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": f"sha256={made}"}
        return headers | changes

    def seen(self) -> dict[str, str]:
        found: dict[str, str] = self.running.call(self.app, "seen", self.made["apps"][0]["token"])
        return found

    def releases(self) -> list[dict[str, Any]]:
        listed = json.loads(self.running.portway("releases", self.app, "-o", "json").stdout)["releases"]
        assert isinstance(listed, list)
        return listed

    def becomes_live(self, version: str) -> None:
        eventually(lambda: self.seen()["version"] == version)


def commit(elsewhere: Upstream, app: str, version: str, message: str = "A change", blueprint: str = RENDER) -> str:
    return elsewhere.commit(
        f"acme/{app}", {"server.py": SERVER.replace("VERSION", version), "render.yaml": blueprint}, message
    )


def link(running: Host, elsewhere: Upstream, app: str, *options: str | Path) -> Linked:
    commit(elsewhere, app, "one")
    done = running.portway("link", app, elsewhere.address(f"acme/{app}"), *options, "-o", "json")
    assert done.returncode == 0, done.stderr
    return Linked(running, elsewhere, app, json.loads(done.stdout))


def github_push(
    repository: str, ref: str = "refs/heads/main", after: str = "1" * 40, *, deleted: bool = False
) -> bytes:
    return json.dumps(
        {
            "ref": ref,
            "before": "0" * 40,
            "after": after,
            "created": False,
            "deleted": deleted,
            "repository": {"id": 1, "name": repository.split("/")[1], "full_name": repository, "private": False},
            "pusher": {"name": "ada", "email": "ada@example.com"},
            "commits": [{"id": after, "message": "A change", "added": [], "removed": [], "modified": ["server.py"]}],
            "head_commit": None,
        }
    ).encode()


def gitlab_push(repository: str) -> bytes:
    return json.dumps(
        {
            "object_kind": "push",
            "event_name": "push",
            "before": "0" * 40,
            "after": "1" * 40,
            "ref": "refs/heads/main",
            "checkout_sha": "1" * 40,
            "project": {"id": 15, "name": "Plain", "path_with_namespace": repository, "default_branch": "main"},
            "repository": {"name": "Plain", "url": f"git@example.com:{repository}.git"},
            "commits": [],
            "total_commits_count": 1,
        }
    ).encode()


def bitbucket_push(repository: str) -> bytes:
    change = {
        "old": {"type": "branch", "name": "main", "target": {"type": "commit", "hash": "0" * 40}},
        "new": {"type": "branch", "name": "main", "target": {"type": "commit", "hash": "1" * 40}},
        "created": False,
        "closed": False,
        "forced": False,
    }
    return json.dumps(
        {
            "actor": {"type": "user", "display_name": "Ada"},
            "repository": {"type": "repository", "full_name": repository, "name": "plain"},
            "push": {"changes": [change, {"old": None, "new": None, "closed": True}]},
        }
    ).encode()


@pytest.mark.slow
def test_a_signed_webhook_of_each_provider_deploys_the_newest_commit(running: Host, elsewhere: Upstream) -> None:
    linked = link(running, elsewhere, "hooked")
    assert linked.seen()["version"] == "one"
    secret = linked.made["secret"].encode()

    body = github_push("acme/hooked")
    ping = linked.send(linked.github("d-0", b"{}", "ping"), b"{}")
    assert ping == (200, f"hooked is linked to {elsewhere.address('acme/hooked')}; a push to main is deployed.\n")
    linked.commit("skipped over")
    two = linked.commit("two")
    status, answer = linked.send(linked.github("d-1", body), body)
    assert (status, answer) == (202, "The newest commit of main is deployed, unless it is live already.\n")
    linked.becomes_live("two")
    release = linked.releases()[0]
    assert (release["cause"], release["commit"]) == ("link", two)
    assert release["detail"].startswith("skips ")

    linked.commit("three")
    gitlab = {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": secret.decode(), "X-Gitlab-Event-UUID": "g-1"}
    assert linked.send(gitlab, gitlab_push("acme/hooked"))[0] == 202
    linked.becomes_live("three")

    linked.commit("four")
    body = bitbucket_push("acme/hooked")
    made = hmac.new(secret, body, hashlib.sha256).hexdigest()
    bitbucket = {"X-Event-Key": "repo:push", "X-Request-UUID": "b-1", "X-Hub-Signature": f"sha256={made}"}
    assert linked.send(bitbucket, body)[0] == 202
    linked.becomes_live("four")

    linked.commit("five")
    body = urlencode({"payload": github_push("acme/hooked").decode()}).encode()
    form = linked.github("d-2", body) | {"Content-Type": "application/x-www-form-urlencoded"}
    assert linked.send(form, body)[0] == 202
    linked.becomes_live("five")
    assert secret.decode() not in "".join(path.read_text() for path in running.paths.calls.glob("*.jsonl"))


def test_a_webhook_that_is_forged_malformed_foreign_or_replayed_changes_nothing(
    running: Host, elsewhere: Upstream
) -> None:
    linked = link(running, elsewhere, "guarded")
    body = github_push("acme/guarded")
    signed = linked.github("r-1", body)
    other = signed | {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    assert linked.send(signed, body)[0] == 202
    first = linked.releases()[0]["release"]
    linked.commit("two")
    for headers, sent, status, answer in (
        (other, body, 401, "The signature is not made with the secret that `portway link` has shown."),
        ({}, body, 401, "The signature is not made with"),
        ({"X-Gitlab-Token": "", "X-Gitlab-Event": "Push Hook"}, body, 401, "The signature is not made with"),
        (signed, body + b" ", 401, "The signature is not made with"),
        (signed, body, 200, "Ignored: this delivery was taken before."),
    ):
        assert linked.send(headers, sent) == (status, answer + linked.send(headers, sent)[1].removeprefix(answer))
    for delivery, sent, status, answer in (
        (
            "r-2",
            github_push("acme/other"),
            403,
            "The link is with acme/guarded, and the hook is of another repository.",
        ),
        ("r-3", github_push("acme/guarded", "refs/heads/other"), 200, "Ignored: it is no commit for the branch main"),
        ("r-4", github_push("acme/guarded", "refs/tags/main"), 200, "Ignored: it is no commit for the branch main"),
        ("r-5", github_push("acme/guarded", after="0" * 40, deleted=True), 200, "Ignored: it is no commit for"),
        ("r-6", b"\xff\xfe{", 400, "the body is no push as GitHub, GitLab or Bitbucket sends it: choose JSON there."),
        ("r-7", b"[" * 100_000, 400, "the body is no push as GitHub"),
        ("r-8", b'{"ref": 1}', 400, "the body is no push as GitHub"),
    ):
        found = linked.send(linked.github(delivery, sent), sent)
        assert found[0] == status
        assert found[1].startswith(answer)
    assert linked.send(other, b"x" * (5 * 2**20 + 1)) == (413, "A hook has at most 5 MB.\n")
    assert linked.send(signed, body, method="PUT") == (405, "A webhook is a POST.\n")
    assert linked.send(signed, body, linked.made["webhook"] + "-not")[0] == 401
    assert linked.releases()[0]["release"] == first


@pytest.mark.slow
def test_slow_hooks_of_one_address_keep_no_other_from_being_heard(running: Host, elsewhere: Upstream) -> None:
    linked = link(running, elsewhere, "heard")
    webhook = urlsplit(linked.made["webhook"])
    body = github_push("acme/heard", "refs/heads/other")
    signed = {"Content-Type": "application/json"} | linked.github("h-1", body)
    with ExitStack() as stack:

        def send(address: str, sent: bytes | None, headers: dict[str, str]) -> HTTPConnection:
            assert webhook.hostname
            connection = HTTPConnection(webhook.hostname, webhook.port, timeout=120, source_address=(address, 0))
            stack.callback(connection.close)
            connection.request("POST", webhook.path, sent, headers)
            return connection

        slow = [send("127.0.0.1", b"{", signed | {"Content-Length": "2"}) for _ in range(16)]
        answers = [send("127.0.0.1", None, {"Content-Length": "9"}).getresponse().status for _ in range(20)]
        assert set(answers) == {401}, "nothing is read of what has no signature"
        busy = b"The host reads as many hooks as it can: try again in a moment.\n"
        eventually(lambda: send("127.0.0.1", body, signed).getresponse().read() == busy)
        assert send("127.0.0.2", body, signed).getresponse().status == 200
        assert slow[0].getresponse().read() == b"The hook did not arrive in time.\n"


@pytest.mark.slow
def test_a_deploy_hook_deploys_and_a_wrong_key_is_refused(running: Host, elsewhere: Upstream) -> None:
    linked = link(running, elsewhere, "byhook")
    linked.commit("two", "Not this [skip deploy]")
    hook = linked.made["deploy_hook"]
    status, answer = linked.send({}, b"", hook)
    assert status in {200, 202}
    assert json.loads(answer) == {"deploy": {"id": "byhook-2"}}
    linked.becomes_live("two")
    assert linked.send({}, b"", hook + "x") == (401, "The key is not that of a link of this host.\n")
    assert linked.send({}, b"", hook, "PUT") == (405, "A deploy hook takes GET or POST.\n")
    assert linked.send({}, b"", f"{hook}&ref=--exec")[0] == 400
    assert running.portway("unlink", "byhook").returncode == 0
    assert linked.send({}, b"", hook)[0] == 401
    assert running.portway("unlink", "byhook").returncode == 1


@pytest.mark.slow
def test_an_app_that_is_destroyed_while_its_repository_is_looked_at_does_not_come_back(
    running: Host, elsewhere: Upstream
) -> None:
    linked = link(running, elsewhere, "gone")
    linked.commit("two")
    elsewhere.asked.clear()
    elsewhere.answers.clear()
    assert linked.send({}, b"", linked.made["deploy_hook"])[0] == 200
    eventually(lambda: elsewhere.asked)
    assert running.portway("destroy", "gone", "--yes").returncode == 0
    assert linked.send({}, b"", linked.made["deploy_hook"])[0] == 401
    elsewhere.answers.set()
    link(running, elsewhere, "after")
    assert "gone" not in running.portway("ps").stdout


@pytest.mark.slow
def test_a_host_that_does_not_answer_keeps_no_other_repository_from_being_fetched(
    running: Host, elsewhere: Upstream, tmp_path: Path
) -> None:
    elsewhere.answers.clear()
    with upstream(tmp_path / "other") as other, ThreadPoolExecutor(4) as pool:
        held = [
            pool.submit(running.portway, "link", f"held-{number}", elsewhere.address("none")) for number in range(4)
        ]
        eventually(lambda: len(elsewhere.asked) == 4)
        commit(other, "prompt", "one")
        done = running.portway("link", "prompt", other.address("acme/prompt").replace("127.0.0.1", "localhost"))
        assert done.returncode == 0, done.stderr
        assert not any(each.done() for each in held)
        elsewhere.answers.set()


@pytest.mark.slow
def test_a_look_at_a_branch_with_nothing_new_is_one_request(running: Host, elsewhere: Upstream) -> None:
    linked = link(running, elsewhere, "quiet")
    elsewhere.asked.clear()
    body = github_push("acme/quiet")
    assert linked.send(linked.github("q-1", body), body)[0] == 202
    eventually(lambda: elsewhere.asked)
    linked.commit("two")
    assert linked.send(linked.github("q-2", body), body)[0] == 202
    linked.becomes_live("two")
    looks = ["/acme/quiet/.git/git-upload-pack"] * 2
    assert elsewhere.asked[:3] == [*looks, "/acme/quiet/.git/info/refs"]


@pytest.mark.slow
def test_what_is_not_deployed_is_shown_and_not_tried_again(running: Host, elsewhere: Upstream) -> None:
    linked = link(running, elsewhere, "shown")
    skipped = linked.commit("two", "Only words [render skip]")
    body = github_push("acme/shown")
    assert linked.send(linked.github("s-1", body), body)[0] == 202
    eventually(
        lambda: running.status("shown").link.endswith(
            f"({skipped[:7]} was not deployed: its message has [render skip])"
        )
    )
    broken = linked.commit("three", blueprint=RENDER.replace("server.py", "none.py"))
    assert linked.send(linked.github("s-2", body), body)[0] == 202
    eventually(lambda: f"{broken[:7]} failed: " in running.status("shown").link)
    failed = linked.releases()[0]
    assert (failed["status"], failed["commit"]) == ("failed", broken)
    assert linked.send(linked.github("s-3", body), body)[0] == 202
    config = json.loads(running.portway("config", "shown", "-o", "json").stdout)
    assert (config["repo"], config["branch"]) == (elsewhere.address("acme/shown"), "main")
    assert "is linked to" in running.portway("ps").stderr
    assert linked.releases()[0] == failed
    (elsewhere.root / "acme").rename(elsewhere.root / "gone")
    assert linked.send(linked.github("s-4", body), body)[0] == 202
    eventually(lambda: f"{linked.made['repository']} could not be looked at: " in running.status("shown").link)


@pytest.mark.slow
def test_a_new_commit_is_found_without_a_webhook_also_after_control_was_killed(
    running: Host, elsewhere: Upstream
) -> None:
    linked = link(running, elsewhere, "looked")
    linked.commit("two")
    running.kill("control")
    eventually(lambda: linked.seen()["version"] == "two")
    assert eventually(linked.releases)[0]["cause"] == "link"


def test_what_cannot_be_linked_is_refused_and_nothing_is_kept(
    running: Host, elsewhere: Upstream, tmp_path: Path
) -> None:
    commit(elsewhere, "refused", "one")
    address = elsewhere.address("acme/refused")
    key = tmp_path / "key"
    key.write_text("none")
    head = git(elsewhere.root / "acme/refused", "rev-parse", "HEAD")
    for arguments, error in (
        ([address, "--branch", head], "is a commit, and stays as it is: give"),
        ([address, "--key", str(key)], "a deploy key is for ssh: give the address as git@HOST:OWNER/NAME"),
        (["git@h:a/b", "--key", str(key)], "the file that --key names holds no private key: give the one whose name"),
        ([address, "--branch", "--exec=x"], "is no name of a branch, a tag or a commit"),
    ):
        done = running.portway("link", "refused", *arguments)
        assert done.returncode == 1
        assert error in done.stderr
    done = running.portway("unlink", "refused")
    assert "refused is not linked: see `portway ps`" in done.stderr


@pytest.mark.parametrize(
    ("config", "message", "changed", "reason"),
    [
        (AppConfig(), "A change", ["a"], None),
        (AppConfig(auto_deploy="off"), "", ["a"], "autoDeployTrigger is off"),
        (AppConfig(auto_deploy="checksPass"), "", ["a"], "autoDeployTrigger is checksPass"),
        (AppConfig(), "Words\n\n[Skip CD]", ["a"], "its message has [Skip CD]"),
        (AppConfig(), "[deploy skip] words", ["a"], "its message has [deploy skip]"),
        (AppConfig(root_dir="app"), "", ["docs/a.md", "application/x"], "nothing in app has changed"),
        (AppConfig(root_dir="app"), "", ["docs/a.md", "app/x"], None),
        (AppConfig(build_filter=BuildFilter(["src/**/*.py"])), "", ["src/x.py"], None),
        (AppConfig(build_filter=BuildFilter(["src/**/*.py"])), "", ["src/a/b/x.py"], None),
        (
            AppConfig(build_filter=BuildFilter(["*.py"])),
            "",
            ["src/x.py"],
            "buildFilter leaves out all that has changed",
        ),
        (AppConfig(build_filter=BuildFilter([], ["docs/**"])), "", ["docs/a/b"], "buildFilter leaves out all that"),
        (AppConfig(build_filter=BuildFilter(["**"], ["**/*.md"])), "", ["a.md", "b/c.md", "x.py"], None),
        (AppConfig(build_filter=BuildFilter(["**/a/" * 40 + "z"])), "", ["a/" * 400 + "b"], "buildFilter leaves out"),
    ],
)
def test_message_blueprint_and_changed_files_say_whether_a_commit_is_deployed(
    config: AppConfig, message: str, changed: list[str], reason: str | None
) -> None:
    found = objection(config, message, changed)
    assert found == reason or (reason and found and found.startswith(reason))


@pytest.mark.slow
def test_a_link_allows_a_file_with_a_secret_in_later_commits_too(running: Host, elsewhere: Upstream) -> None:
    elsewhere.commit("acme/allowed", {".env.production": "GREETING=hello"})
    commit(elsewhere, "allowed", "zero")
    refused = running.portway("link", "allowed", elsewhere.address("acme/allowed"))
    assert refused.returncode == 1
    assert "or link it again with --allow-file .env.production" in refused.stderr
    linked = link(running, elsewhere, "allowed", "--allow-file", ".env.*")
    linked.commit("two")
    assert linked.send({}, b"", linked.made["deploy_hook"])[0] == 200
    linked.becomes_live("two")
