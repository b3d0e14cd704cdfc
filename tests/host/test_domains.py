"""Custom domains: which names an app may have, and what becomes of a name on a host that serves it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.cli.control_client import ask_control
from portway.host import routing_table
from portway.host.app_config import AppConfig, Start
from portway.host.blueprint.blueprint import read_blueprint
from portway.host.blueprint.problems import BlueprintError
from portway.host.domain_names import DomainError, read_domain
from portway.host.domains import Domains
from portway.host.management.domain_tools import _said_by_dns
from portway.host.management.management_types import Destruction
from portway.host.name_lookup import NameLookup
from portway.host.store import FinishedRelease, Store
from portway.http.http_client import HttpClient
from tests.host.running_host import Host, host
from tests.support import SCRIPTS, WEATHER, Started, clean_env

SERVICE = "services: [{{type: web, name: tools, runtime: python, domains: [{}], x-portway: {{access: public}}}}]\n"
SERVER = """
from portway import Server

server = Server("tools")

@server.tool
def ping() -> str:
    return "pong"
"""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Tools.Example.COM", "tools.example.com"),
        (" tools.example.com. ", "tools.example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("1.a-b.co", "1.a-b.co"),
        (f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 57}.com", f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 57}.com"),
    ],
)
def test_a_domain_is_kept_in_lower_case_and_ascii(text: str, name: str) -> None:
    assert read_domain(text) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("*.example.com", "'*.example.com' stands for many names, and each needs a certificate: add the names one by"),
        ("10.0.0.1", "'10.0.0.1' is an address: give a domain name that leads there, as in tools.example.com"),
        ("[::1]", "is an address"),
        ("a.0x7f", "is an address"),
        ("https://tools.example.com", "is not a domain name: give it as in tools.example.com, without scheme, port"),
        ("tools.example.com:443", "is not a domain name"),
        ("tools.example.com/mcp", "is not a domain name"),
        ("tools", "is not a domain name"),
        ("", "is not a domain name"),
        (".", "is not a domain name"),
        ("a..b.com", "is not a domain name"),
        ("-a.example.com", "is not a domain name"),
        ("a_b.example.com", "is not a domain name"),
        ("--help", "is not a domain name"),
        ("a.example.com\nb", "is not a domain name"),
        (f"{'a' * 64}.example.com", "is not a domain name"),
        ("a." * 127 + "com", "is not a domain name"),
        ("x" * 100_000, "'" + "x" * 80 + "' is not a domain name"),
        ("straße.example", "'straße.example' is not the same name everywhere: give its form in ASCII, which begins"),
        ("\uff54ools.example", "is not the same name everywhere"),
        ("a\u200db.example", "is not the same name everywhere"),
        ("tools。example", "is not the same name everywhere"),
        ("tools.localhost", "'tools.localhost' leads to the machine of whoever asks: give a name of your DNS"),
    ],
)
def test_what_is_no_name_for_an_app_is_refused(text: str, message: str) -> None:
    with pytest.raises(DomainError) as refused:
        read_domain(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("domains: [Tools.example.com., a.example.com, tools.example.com]", ["tools.example.com", "a.example.com"]),
        ("domain: a.example.com", ["a.example.com"]),
        ("domains: []", []),
        ("domains: [a.example.com, 10.0.0.1]", None),
        ("domains: {a: b}", None),
        ("domains: [[a.example.com]]", None),
        (f"domains: [{', '.join(f'{number}.example.com' for number in range(51))}]", None),
    ],
)
def test_the_domains_of_a_blueprint_are_names_or_refused(written: str, names: list[str] | None, tmp_path: Path) -> None:
    (tmp_path / "render.yaml").write_text(f"services: [{{type: web, name: a, {written}}}]\n")
    if names is None:
        with pytest.raises(BlueprintError, match="`domains` must be a list of at most 50 domain names, as in `tools"):
            read_blueprint(tmp_path)
    else:
        blueprint = read_blueprint(tmp_path)
        assert blueprint
        assert blueprint.apps["a"].domains == names


def live(store: Store, app: str, *names: str) -> None:
    """Make a release of an app live, whose blueprint has these domains."""
    number = store.begin_release(app, "/srv/app")
    store.finish_releases([FinishedRelease(app, number, AppConfig(domains=[*names]), Start(["x"], "x"), "")])


def test_a_name_leads_to_one_app_and_the_one_who_gave_it_takes_it_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "portway.db")
    domains = Domains(store, "mcp.example.com")
    live(store, "a", "a.example.org", "both.example.org")
    live(store, "b")
    domains.add("b", "b.example.org")
    domains.add("b", "b.example.org")
    domains.add("a", "both.example.org")
    assert [(each.name, each.app, each.source) for each in domains.all()] == [
        ("a.example.org", "a", "blueprint"),
        ("b.example.org", "b", "set"),
        ("both.example.org", "a", "set"),
    ]
    for app, name, message in (
        (
            "b",
            "a.example.org",
            "a.example.org leads to another app: take it out of the blueprint there, and deploy that first",
        ),
        (
            "a",
            "b.example.org",
            "b.example.org leads to another app: run `portway domain remove APP b.example.org` with that app first",
        ),
        ("a", "mcp.example.com", "mcp.example.com is a name of the host's own: an app is at APP.mcp.example.com by"),
        ("a", "b.mcp.example.com", "b.mcp.example.com is a name of the host's own"),
    ):
        with pytest.raises(DomainError) as refused:
            domains.add(app, name)
        assert message in str(refused.value)
        with pytest.raises(DomainError) as refused:
            domains.refuse({app: AppConfig(domains=[name])})
        assert message in str(refused.value)
    with pytest.raises(DomainError, match=r"new\.example\.org leads to another app: take it out of the blueprint"):
        domains.refuse({"c": AppConfig(domains=["new.example.org"]), "b": AppConfig(domains=["new.example.org"])})
    domains.refuse({"a": AppConfig(), "b": AppConfig(domains=["a.example.org", "b.example.org"])})
    with pytest.raises(DomainError, match=r"a has no domain b.example.org: see `portway domain list a`"):
        domains.remove("a", "b.example.org")
    with pytest.raises(DomainError, match=r"both.example.org is in the blueprint of a: take it out there, and deploy"):
        domains.remove("a", "both.example.org")
    assert [each.source for each in domains.of("a")] == ["blueprint", "blueprint"]
    store.destroy("b")
    domains.add("a", "b.example.org")
    store.close()


def test_an_app_has_at_most_fifty_domains(tmp_path: Path) -> None:
    store = Store(tmp_path / "portway.db")
    domains = Domains(store, "localhost")
    live(store, "a", *(f"{number}.example.org" for number in range(49)))
    domains.add("a", "last.example.org")
    for exceed in (
        lambda: domains.add("a", "more.example.org"),
        lambda: domains.refuse({"a": AppConfig(domains=[f"{number}.example.org" for number in range(50)])}),
    ):
        with pytest.raises(DomainError, match="an app has at most 50 domains, and a would have 51: remove those that"):
            exceed()
    store.close()


def test_a_name_that_became_the_hosts_own_leads_to_no_app_and_keeps_no_release_from_being_live(tmp_path: Path) -> None:
    store = Store(tmp_path / "portway.db")
    live(store, "a", "a.example.org")
    Domains(store, "localhost").add("a", "b.example.org")
    moved = Domains(store, "example.org")
    assert moved.all() == []
    moved.refuse({"a": AppConfig(domains=["a.example.org"])})
    store.close()


def test_a_resolver_that_does_not_answer_is_not_waited_for() -> None:
    answered = threading.Event()

    def resolve(name: str, _port: None) -> list[tuple[Any, ...]]:
        if name == "slow.example":
            answered.wait(120)
        if name == "none.example":
            raise OSError
        return [(0, 0, 0, "", ("192.0.2.1", 0))] * 2

    async def look() -> None:
        lookup = NameLookup(resolve)
        slow, none, fast = "slow.example", "none.example", "fast.example"
        assert await lookup.addresses([fast, none], 10) == {fast: ["192.0.2.1"], none: []}
        assert await lookup.addresses([slow], 0.1) == {slow: None}
        assert await lookup.addresses([], 0.1) == {}
        answered.set()

    asyncio.run(look())


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "the DNS does not answer"),
        ([], "not in the DNS"),
        (["192.0.2.9", "192.0.2.1"], "leads here"),
        (["127.0.0.1"], "leads here"),
        (["192.0.2.9", "::9"], "leads to 192.0.2.9, ::9"),
    ],
)
def test_a_domain_is_said_to_lead_here_if_it_has_an_address_of_the_host(found: list[str] | None, said: str) -> None:
    assert _said_by_dns(found, ["192.0.2.1"]) == said


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("domains") / "data", [WEATHER.parent], options=["--trust-all-apps"]) as started:
        yield started


def project(folder: Path, *domains: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "server.py").write_text(SERVER)
    (folder / "render.yaml").write_text(SERVICE.format(", ".join(domains)))
    return folder


def status(running: Host, name: str) -> int:
    """Return the status of a call of the app that is called by a name; 421 if the host does not answer to it."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

    async def post() -> int:
        async with HttpClient(running.ready["url"], name) as client:
            response = await client.request(
                "POST", "/mcp", [(b"content-type", b"application/json")], json.dumps(body).encode()
            )
            await response.read(100_000)
        return response.status

    return asyncio.run(post())


@pytest.mark.slow
def test_a_domain_is_served_at_once_and_no_more_after_it_is_removed(running: Host) -> None:
    assert status(running, "tools.example.org") == 421
    before = running.instances("weather")
    added = running.portway("domain", "add", "weather", "Tools.Example.org.")
    port = running.ready["url"].rpartition(":")[2]
    assert (added.returncode, added.stdout) == (0, f"http://tools.example.org:{port}/mcp\n")
    assert "this host is for its own machine: start it with --domain for others to reach it" in added.stderr
    assert status(running, "tools.example.org") == 401, "it has no token"
    assert status(running, f"TOOLS.example.org.:{port}") == 401
    assert routing_table.load(running.paths.routes).apps["weather"].hosts == ["tools.example.org"]
    listed = running.portway("domain", "list", "weather").stdout.splitlines()
    assert listed[0].split() == ["NAME", "FROM", "DNS"]
    assert listed[1].split()[:2] == ["tools.example.org", "set"]
    assert "weather is also at tools.example.org" in running.portway("ps").stderr
    assert "- tools.example.org" in running.portway("config", "weather").stdout
    for arguments, message in (
        (("add", "nobody", "a.example.org"), "there is no app 'nobody' on this host"),
        (("add", "weather", "http://a.example.org"), "is not a domain name"),
        (("remove", "weather", "other.example.org"), "weather has no domain other.example.org: see"),
    ):
        refused = running.portway("domain", *arguments)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert message in refused.stderr
    assert running.portway("domain", "remove", "weather", "tools.example.org").returncode == 0
    assert status(running, "tools.example.org") == 421
    assert running.instances("weather") == before, "no instance was started for it"


@pytest.mark.slow
def test_a_blueprint_sets_its_domains_a_rollback_keeps_them_and_destroy_frees_all(
    running: Host, tmp_path: Path
) -> None:
    folder = project(tmp_path / "tools", "one.example.org", "Two.example.org")
    assert running.portway("deploy", folder).returncode == 0
    assert running.portway("domain", "add", "tools", "hand.example.org").returncode == 0
    assert {status(running, f"{name}.example.org") for name in ("one", "two", "hand")} == {200}

    taken = running.portway("domain", "add", "weather", "one.example.org")
    assert "one.example.org leads to another app: take it out of the blueprint there" in taken.stderr
    project(tmp_path / "other", "hand.example.org")
    refused = running.portway("deploy", tmp_path / "other", "--name", "other")
    assert (
        refused.returncode,
        "hand.example.org leads to another app: run `portway domain remove" in refused.stderr,
    ) == (
        1,
        True,
    )

    project(folder, "two.example.org", "three.example.org")
    assert running.portway("deploy", folder).returncode == 0
    assert [status(running, f"{name}.example.org") for name in ("one", "two", "three", "hand")] == [421, 200, 200, 200]
    assert running.portway("domain", "add", "weather", "one.example.org").returncode == 0
    assert running.portway("rollback", "tools", "1").returncode == 0
    assert [status(running, f"{name}.example.org") for name in ("one", "two", "three", "hand")] == [401, 200, 200, 200]

    plan = ask_control(running.here, "destroy", {"app": "tools"}, Destruction)
    assert "3 domains" in plan.deletes
    assert running.portway("destroy", "tools", "--yes").returncode == 0
    assert {status(running, f"{name}.example.org") for name in ("two", "three", "hand")} == {421}
    assert running.portway("domain", "add", "weather", "hand.example.org").returncode == 0


@pytest.mark.slow
def test_a_deploy_whose_domain_another_app_gets_meanwhile_fails_and_changes_nothing(tmp_path: Path) -> None:
    project(folder := tmp_path / "tools", "one.example.org")
    go, wait = tmp_path / "go", f"buildCommand: 'until [ -e {tmp_path}/go ]; do sleep 0.05; done', "
    with host(tmp_path / "data", [folder], options=["--trust-all-apps"], walls=False) as running:
        project(folder, "one.example.org", "two.example.org")
        (folder / "render.yaml").write_text((folder / "render.yaml").read_text().replace("domains", wait + "domains"))
        command = [SCRIPTS / "portway", "deploy", folder]
        environment = clean_env(running.environment | {"PORTWAY_DATA": running.ready["data"]})
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as deploy:
            Started(deploy).wait_for("-----> copy")
            running.deploy(WEATHER.parent, "weather")
            assert running.portway("domain", "add", "weather", "two.example.org").returncode == 0
            go.touch()
            assert deploy.wait(120) == 1
        assert [status(running, f"{name}.example.org") for name in ("one", "two")] == [200, 401]
        failed = running.portway("releases", "tools", "-o", "json").stdout
        assert (
            "two.example.org leads to another app: run `portway domain remove APP two.example.org` with that app first"
            in failed
        )


@pytest.mark.slow
def test_a_client_and_a_web_page_at_a_custom_domain_use_the_app_as_at_its_own(tmp_path: Path) -> None:
    options = ["--trust-all-apps", "--domain", "mcp.example.com", "--behind-proxy", "127.0.0.1"]
    with host(tmp_path / "data", [project(tmp_path / "tools", "tools.example.org")], options=options) as running:
        url = running.child.wait_for(r"the gate listens on (http://\S+)")[1]
        added = running.portway("domain", "add", "tools", "more.example.org", "-o", "json")
        made = json.loads(added.stdout)
        assert made["url"] == "https://more.example.org/mcp"
        assert made["records"][0] == {"type": "CNAME", "name": "more.example.org", "value": "mcp.example.com"}

        async def use() -> None:
            async with HttpClient(url, "tools.example.org") as client:
                for origin, status in ((b"https://tools.example.org", 404), (b"https://elsewhere.example", 403)):
                    response = await client.request("GET", "/page", [(b"origin", origin)])
                    assert (response.status, origin) == (status, origin), (
                        "the app lets its own page in; it has no such path"
                    )
                    await response.read(1000)

        asyncio.run(use())
