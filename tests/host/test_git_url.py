"""`portway deploy GIT-URL`: a repository elsewhere is fetched and deployed; what could be an option or an inner address
is refused."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from pathlib import Path

import pytest

from portway.host.git.remote_address import resolve
from portway.host.git.remote_url import read_git_url, read_ref
from portway.host.sources.named_source import is_folder
from portway.host.sources.source import SourceError
from portway.http.public_addresses import is_public
from tests.diagnosis.broken_proxy import authority
from tests.host.git_client import git
from tests.host.git_upstream import Upstream, upstream
from tests.host.running_host import Host, host
from tests.host.test_git_push import SERVER
from tests.host.test_links import github_push, link

START = ("--start", "python server.py")


def app(version: str) -> dict[str, str]:
    return {"server.py": SERVER.replace("VERSION", version)}


def test_a_repository_is_deployed_by_its_address_and_a_clone_of_the_app_has_its_commit(
    running: Host, elsewhere: Upstream, tmp_path: Path
) -> None:
    commit = elsewhere.commit("acme/plain", app("one"))
    by_name = elsewhere.address("acme/plain").replace("127.0.0.1", "localhost")  # git is told which address that is
    done = running.portway("deploy", by_name, "--name", "plain", *START, "-o", "json")
    assert done.returncode == 0, done.stderr
    assert f"{commit[:7]} of {by_name}" in done.stderr
    made = json.loads(done.stdout)
    assert running.call("plain", "seen", made["token"]) == {"version": "one", "commit": commit}
    token = running.portway("user", "add", "ada", "--role", "viewer").stdout.strip()
    address = f"{running.ready['url']}/plain.git".replace("://", f"://ada:{token}@")
    git(tmp_path, "clone", "--quiet", address, "clone")
    assert git(tmp_path / "clone", "rev-parse", "HEAD") == commit


@pytest.mark.slow
def test_a_branch_a_tag_and_a_commit_are_named_after_the_address(running: Host, elsewhere: Upstream) -> None:
    first = elsewhere.commit("refs", app("first"))
    git(elsewhere.root / "refs", "tag", "--annotate", "--message", "It", "v1")
    second = elsewhere.commit("refs", app("second"))
    git(elsewhere.root / "refs", "branch", "feature/two")
    elsewhere.commit("refs", app("third"))
    for ref, commit in (("v1", first), ("feature/two", second), (first, first)):
        done = running.portway("deploy", f"{elsewhere.address('refs')}#{ref}", "--name", "refs", *START)
        assert done.returncode == 0, done.stderr
        listed = json.loads(running.portway("releases", "refs", "-o", "json").stdout)["releases"][0]
        assert listed["commit"] == commit
        assert listed["source"].endswith(f"#{ref}")


@pytest.mark.slow
def test_what_cannot_be_fetched_is_said_with_its_reason(running: Host, elsewhere: Upstream) -> None:
    elsewhere.commit("there", app("one"))
    elsewhere.commit("empty", {"a": "b"})
    git(elsewhere.root / "empty", "update-ref", "-d", "HEAD")
    there, tree = elsewhere.address("there"), git(elsewhere.root / "there", "rev-parse", "HEAD^{tree}")
    for source, error in (
        (f"{there}#none", "has no branch or tag none: give one of its own, or a commit by its whole id"),
        (f"{there}#{tree}", f"{tree[:7]} of {there} is no commit: give a branch, a tag or a commit"),
        (f"{there}#{'0' * 40}", "cannot be fetched: "),
        (elsewhere.address("absent"), "cannot be fetched: "),
        (elsewhere.address("empty"), "holds no commits: push some there first"),
        (elsewhere.address("moved/there"), "it has another address now: give that one, often the same with .git at"),
        (elsewhere.address("private/there"), "it asks who you are: `portway link APP GIT-URL --key FILE` fetches"),
        ("https://no-such-host.invalid/o/r", "the host no-such-host.invalid is not found: correct its name, or try"),
    ):
        done = running.portway("deploy", source, "--name", "never")
        assert done.returncode == 1
        assert error in done.stderr
        assert running.ready["data"] not in done.stderr
    assert not running.paths.app("never").exists()


NO_ADDRESS = "is no address that can be fetched: give https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH"
NO_USER = "is no user of a git server: give the user's plain name, as in git@HOST"
NO_HOST = "is no host: give its name, as in https://git.example.com/OWNER/NAME"
NO_PATH = "is no path of a repository: give it as OWNER/NAME, without ? and #"


@pytest.mark.parametrize(
    ("error", "texts"),
    [
        (NO_ADDRESS, ["ext::sh -c x", "file:///etc", "git://example.com/o/r", "ftp://example.com/o/r"]),
        (NO_USER, ["-oProxyCommand=x@example.com:o/r", "ssh://-oProxyCommand=x@example.com/o/r"]),
        (NO_HOST, ["ssh://-oProxyCommand=x/o/r", "ssh://git@-oProxyCommand=x/o/r", "git@-oProxyCommand=x:o/r"]),
        (NO_HOST, ["https://exa mple.com/o/r", "https://example.com:99999/o/r", "https:///o/r", "https://h.com./o/r"]),
        (NO_HOST, ["https://0x7f.1/o/r", "https://2130706433/o/r", "https://127.1/o/r", "https://0177.0.0.1/o/r"]),
        (NO_HOST, ["https://[fe80::1%25eth0]/o/r", "https://[127.0.0.1]/o/r", "https://::1/o/r"]),
        (NO_PATH, ["git@example.com:-o/r", "https://example.com/--upload-pack=x", "https://example.com/../r"]),
        (NO_PATH, ["https://example.com/o/r?token=x", "https://example.com/o/r\n", "https://example.com/"]),
    ],
)
def test_an_address_that_could_be_an_option_or_something_else_is_refused(error: str, texts: list[str]) -> None:
    for text in texts:
        assert not is_folder(text)
        with pytest.raises(SourceError, match=re.escape(error)):
            read_git_url(text)


def test_an_address_with_a_password_is_refused_and_the_password_not_repeated() -> None:
    for text in (
        "https://me:hunter2@example.com/o/r",
        "https://hunter2@example.com/o/r",
        "ssh://git:hunter2@h.com/o/r",
    ):
        with pytest.raises(SourceError, match="an address holds no user and no password") as refused:
            read_git_url(text)
        assert "hunter2" not in str(refused.value)


def test_the_forms_of_an_address_are_read() -> None:
    for text, name, slug in (
        ("https://github.com/acme/weather.git", "weather", "acme/weather"),
        ("https://git.example.com:8443/a/b/c/", "c", "b/c"),
        ("git@github.com:acme/weather.git", "weather", "acme/weather"),
        ("ssh://git@example.com:2222/~ada/weather", "weather", "~ada/weather"),
        ("https://[2606:4700::1]/acme/weather", "weather", "acme/weather"),
    ):
        url = read_git_url(text)
        assert (str(url), url.name, url.slug) == (text, name, slug)


@pytest.mark.parametrize(
    "ref", ["--exec=x", "-o", "a..b", "a b", "a~1", "a^{}", "@{1}", "a:b", "x.lock", "a//b", "", "*", "a\nb", "+x"]
)
def test_a_ref_that_could_be_an_option_or_an_expression_is_refused(ref: str) -> None:
    with pytest.raises(SourceError, match="is no name of a branch, a tag or a commit"):
        read_ref(ref)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
        ),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1"),
        *(
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ),
        *("fec0::1", "3fff::1", "5f00::1", "2002:808:808::1", "192.88.99.1", "64:ff9b:1::a00:1", "2001:0:a00:1::"),
    ],
)
def test_an_inner_address_is_not_public(address: str) -> None:
    assert not is_public(address)


RESERVED = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
    "192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 "
    "168.63.129.16/32 ::/128 ::1/128 100::/64 100:0:0:1::/64 2001::/32 2001:2::/48 2001:10::/28 2001:db8::/32 "
    "2002::/16 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8"
)


@pytest.mark.parametrize("network", RESERVED.split())
def test_no_network_that_iana_reserves_is_public_also_when_it_is_translated(network: str) -> None:
    reserved = ipaddress.ip_network(network)
    for address in (reserved[0], reserved[reserved.num_addresses // 2], reserved[-1]):
        assert not is_public(str(address))
        if address.version == 4:
            for prefix in ("::ffff:", "64:ff9b::"):
                assert not is_public(f"{prefix}{address}")


@pytest.mark.parametrize(
    "address", ["192.0.0.192", "192.0.0.9", "100.100.100.200", "169.254.169.254", "fd00:ec2::254", "fd20:ce::254"]
)
def test_no_address_where_a_cloud_tells_secrets_is_public(address: str) -> None:
    assert not is_public(address)


def test_an_address_of_the_internet_is_public() -> None:
    for address in (
        "8.8.8.8",
        "168.63.129.17",
        "192.0.1.1",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "64:ff9b::808:808",
        "::ffff:8.8.8.8",
    ):
        assert is_public(address)


@pytest.mark.slow
def test_a_git_server_with_an_authority_of_its_own_is_trusted_by_ssl_cert_file(
    running: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = authority(tmp_path)
    with upstream(tmp_path / "elsewhere", own.tls("127.0.0.1", -1, 100)) as elsewhere:
        elsewhere.commit("acme/own", app("one"))
        refused = running.portway("deploy", elsewhere.address("acme/own"))
        assert (
            "its certificate is not trusted here: if an authority of your own has signed it, start `portway up` with "
            "SSL_CERT_FILE, a file with the certificate of that authority beside those of the others"
        ) in refused.stderr
        monkeypatch.setenv("SSL_CERT_FILE", str(own.certificate))
        with host(tmp_path / "data", options=["--allow-private-sources"]) as trusting:
            linked = link(trusting, elsewhere, "own")
            linked.commit("two")
            elsewhere.asked.clear()
            body = github_push("acme/own")
            assert linked.send(linked.github("own-1", body), body)[0] == 202
            linked.becomes_live("two")
            assert elsewhere.asked[0] == "/acme/own/.git/git-upload-pack", "the look trusts it, too"


@pytest.mark.slow
def test_a_name_that_leads_to_this_machine_is_refused(tmp_path: Path) -> None:
    with host(tmp_path / "data") as running:
        for source in (
            "https://localhost/o/r",
            "https://127.0.0.1/o/r",
            "https://[::ffff:7f00:1]/o/r",
            "git@localhost:r",
        ):
            done = running.portway("deploy", source, "--name", "never")
            assert done.returncode == 1
            assert "is on this machine or in its network, from where nothing is fetched" in done.stderr


def test_clear_text_is_for_this_machine_and_its_network_only() -> None:
    with pytest.raises(SourceError, match="would be fetched in clear text: give it as https or ssh"):
        asyncio.run(resolve(read_git_url("http://8.8.8.8/o/r"), private=True))
