"""`portway check URL --auth`: how far each known client comes, against one broken login per finding."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from portway.diagnosis.endpoint import Endpoint
from portway.diagnosis.login import diagnose_login
from portway.diagnosis.login_walk import Stop, Walk
from portway.diagnosis.report import Report
from tests.conftest import RunCli
from tests.diagnosis.broken_proxy import Reply, Request, broken

ALL = {"Claude", "Claude Code", "ChatGPT", "VS Code", "Cursor", "Codex", "the Python SDK", "the TypeScript SDK"}
PAGE = "the TypeScript SDK in a web page"
READABLE = {"content-type": "application/json", "access-control-allow-origin": "*"}
RESOURCE = "/.well-known/oauth-protected-resource/mcp"
PROVIDER = "/.well-known/oauth-authorization-server/login"


@dataclass
class Login:
    """A server that asks for a login, and its provider, as a test has made them. `replies` go before what is right."""

    resource: dict[str, Any] = field(default_factory=dict)
    provider: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    replies: Mapping[str, Reply] = field(default_factory=dict)
    challenge: str = 'Bearer resource_metadata="{origin}{path}"'

    def answer(self, request: Request) -> Reply:
        origin = f"http://{request.headers['host']}"
        if (reply := self.replies.get(request.path)) is not None:
            return reply
        if request.path == RESOURCE:
            own = {"resource": f"{origin}/mcp", "authorization_servers": [f"{origin}/login"]}
            return self._json(own | {name: _at(value, origin) for name, value in self.resource.items()})
        if request.path == PROVIDER:
            own = {
                "issuer": f"{origin}/login",
                "authorization_endpoint": f"{origin}/authorize",
                "token_endpoint": f"{origin}/token",
                "registration_endpoint": f"{origin}/register",
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
                "client_id_metadata_document_supported": True,
            }
            return self._json(own | {name: _at(value, origin) for name, value in self.provider.items()})
        if request.method == "POST":
            return Reply(401, READABLE | {"www-authenticate": self.challenge.format(origin=origin, path=RESOURCE)})
        return Reply(404, READABLE)

    def _json(self, value: dict[str, Any]) -> Reply:
        return Reply(
            200, READABLE, json.dumps({name: each for name, each in value.items() if name not in self.without})
        )


def _at(value: object, origin: str) -> object:
    return value.replace("{origin}", origin) if isinstance(value, str) else value


def walk(answer: Callable[[Request], Reply]) -> tuple[list[Walk], Report, str]:
    """Return how far each client comes, what is reported of it, and where the login is."""
    with broken(answer) as place:
        report = Report()
        walks = asyncio.run(diagnose_login(Endpoint(f"http://{place}/mcp", None), report))
        return walks, report, f"http://{place}"


def stops(walks: list[Walk]) -> dict[str, Stop]:
    """Return the clients that do not come to the browser, each with its stop."""
    return {each.client: each.stop for each in walks if each.stop}


def test_at_a_login_that_is_right_every_client_comes_to_the_browser(run_cli: RunCli) -> None:
    with broken(Login().answer) as place:
        done = run_cli("check", f"http://{place}/mcp", "--auth", "-o", "json")
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr, report["findings"]) == (0, "", [])
    ways = {each["client"]: each["way"] for each in report["clients"]}
    assert ways == dict.fromkeys({*ALL, PAGE}, "document") | {"Cursor": "registration"}
    assert {each["authorization_endpoint"] for each in report["clients"]} == {f"http://{place}/authorize"}
    facts = [f"{fact['subject']}: {fact['text']}" for fact in report["facts"]]
    assert f"login: Cursor reaches the browser at http://{place}/authorize, by registration" in facts


def test_a_login_that_announces_no_scope_is_noted() -> None:
    note = "no scope is announced, so clients ask for none, and some providers refuse that (access_denied): name those"
    quiet = walk(Login().answer)[1]
    in_metadata = walk(Login(resource={"scopes_supported": ["read"]}).answer)[1]
    in_challenge = walk(Login(challenge='Bearer scope="read", resource_metadata="{origin}{path}"').answer)[1]
    noted = [any(fact.text.startswith(note) for fact in each.facts) for each in (quiet, in_metadata, in_challenge)]
    assert noted == [True, False, False]


def test_a_login_at_which_clients_stop_is_a_finding_with_its_mend_and_exit_code_1(run_cli: RunCli) -> None:
    with broken(Login(resource={"resource": "{origin}/mcp/"}).answer) as place:
        done = run_cli("check", f"http://{place}/mcp", "--auth")
    assert done.returncode == 1
    assert "wrong  login: VS Code stops at the resource metadata (RFC 9728 section 3.3): http://" in done.stdout
    assert "       mend: let `resource` be the exact address that users give to their clients\n" in done.stdout


def test_clients_are_registered_when_that_is_asked_for_and_deleted_again_where_the_provider_can(
    run_cli: RunCli,
) -> None:
    login = Login(provider={"client_id_metadata_document_supported": False})
    asked: list[dict[str, Any]] = []
    deleted: list[str] = []

    def answer(request: Request) -> Reply:
        origin = f"http://{request.headers['host']}"
        if request.method == "DELETE":
            assert request.headers["authorization"] == "Bearer a-planted-token"
            deleted.append(request.path)
            return Reply(204)
        if request.path != "/register":
            return login.answer(request)
        asked.append(json.loads(request.body))
        names, callbacks = asked[-1]["client_name"], asked[-1]["redirect_uris"]
        if any(callback.startswith("cursor:") for callback in callbacks):
            return Reply(400, READABLE, '{"error": "invalid_redirect_uri", "error_description": "what scheme?"}')
        known = {
            "client_id": f"id-{len(asked)}",
            "redirect_uris": callbacks[: 1 if names.startswith("Claude (") else 9],
        }
        if names.startswith("ChatGPT"):
            return Reply(201, READABLE, json.dumps(known | {"registration_client_uri": "https://other.example/c"}))
        manage = {"registration_client_uri": f"{origin}/c/{len(asked)}", "registration_access_token": "a-planted-token"}
        return Reply(201, READABLE, json.dumps(known | manage))

    with broken(answer) as place:
        assert run_cli("check", f"http://{place}/mcp", "--auth").returncode == 0
        assert asked == [], "nothing is registered unless that is asked for"
        done = run_cli("check", f"http://{place}/mcp", "--auth", "--register", "-o", "json")
    report = json.loads(done.stdout)
    kinds = [each["application_type"] for each in asked]
    assert (kinds, len({tuple(each["redirect_uris"]) for each in asked})) == (
        ["web", "native", "web", *["native"] * 3],
        6,
    )
    assert [each["text"].removeprefix("Claude stops at the ").partition(": ")[2] for each in report["findings"]] == [
        f"http://{place}/register registers the client without https://claude.com/api/mcp/auth_callback",
        f"http://{place}/register answers with status 400 (invalid_redirect_uri: what scheme?)",
    ]
    stopped = {each["client"]: each["stop"]["step"] for each in report["clients"] if each["stop"]}
    assert stopped == dict.fromkeys(("Claude", "Cursor"), "client registration")
    facts = [fact["text"] for fact in report["facts"] if fact["subject"] == "registration"]
    assert facts == [
        f"{len(deleted)} clients registered for this check, and deleted again",
        "the client 'id-3' was registered for this check and stays: delete it at the provider",
    ]
    assert len(deleted) == 4
    assert "a-planted-token" not in done.stdout


def test_registering_needs_the_walk_of_the_login(run_cli: RunCli) -> None:
    refused = run_cli("check", "http://127.0.0.1:9/mcp", "--register")
    assert (refused.returncode, "--register belongs to --auth, which walks the login" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("login", "clients", "step", "rule", "text"),
    [
        pytest.param(
            Login(replies={RESOURCE: Reply(404)}),
            {*ALL, PAGE},
            "resource metadata",
            "RFC 9728 section 5.1",
            "{origin}/.well-known/oauth-protected-resource/mcp answers with status 404; ",
            id="no metadata of the server",
        ),
        pytest.param(
            Login(resource={"resource": "{origin}/mcp/"}),
            {"VS Code"},
            "resource metadata",
            "RFC 9728 section 3.3",
            f"{{origin}}{RESOURCE} is of the resource '{{origin}}/mcp/', which is not {{origin}}/mcp",
            id="a slash too many",
        ),
        pytest.param(
            Login(resource={"resource": "https://other.example/mcp"}),
            {*ALL, PAGE},
            "resource metadata",
            "RFC 9728 section 3.3",
            f"{{origin}}{RESOURCE} is of the resource 'https://other.example/mcp', which is not {{origin}}/mcp",
            id="another resource",
        ),
        pytest.param(
            Login(without=("authorization_servers",)),
            {*ALL, PAGE},
            "resource metadata",
            "RFC 9728 section 2",
            f"{{origin}}{RESOURCE} names no provider",
            id="no provider",
        ),
        pytest.param(
            Login(replies={RESOURCE: Reply(503)}),
            {*ALL, PAGE},
            "resource metadata",
            "RFC 9728 section 3",
            f"{{origin}}{RESOURCE} answers with status 503, and clients give up here",
            id="a server that fails",
        ),
        pytest.param(
            Login(provider={"issuer": "{origin}/login/"}),
            {*ALL, PAGE},
            "provider metadata",
            "RFC 8414 section 3.3",
            f"{{origin}}{PROVIDER} is of the issuer '{{origin}}/login/', not of '{{origin}}/login'",
            id="another issuer",
        ),
        pytest.param(
            Login(replies={PROVIDER: Reply(302, {"location": "https://elsewhere.example/"})}),
            {*ALL, PAGE},
            "provider metadata",
            "RFC 8414 section 3",
            f"{{origin}}{PROVIDER} redirects to https://elsewhere.example/, which clients do not follow; ",
            id="a redirect",
        ),
        pytest.param(
            Login(replies={PROVIDER: Reply(500)}),
            {*ALL, PAGE},
            "provider metadata",
            "RFC 8414 section 3",
            f"{{origin}}{PROVIDER} answers with status 500, and clients give up here",
            id="a provider that fails",
        ),
        pytest.param(
            Login(without=("code_challenge_methods_supported",)),
            ALL - {"the Python SDK", "the TypeScript SDK"},
            "provider metadata",
            "RFC 7636 section 4.3, MCP basic/authorization",
            "the provider {origin}/login does not name S256 in code_challenge_methods_supported",
            id="S256 not named",
        ),
        pytest.param(
            Login(provider={"code_challenge_methods_supported": ["plain"]}),
            {*ALL, PAGE} - {"the Python SDK"},
            "provider metadata",
            "RFC 7636 section 4.3, MCP basic/authorization",
            "the provider {origin}/login does not name S256 in code_challenge_methods_supported",
            id="S256 denied",
        ),
        pytest.param(
            Login(provider={"authorization_endpoint": "http://login.example/authorize"}),
            {*ALL, PAGE},
            "provider metadata",
            "RFC 8414 section 2",
            "the authorization_endpoint of {origin}/login: 'http://login.example/authorize' is no https URL",
            id="an endpoint without TLS",
        ),
        pytest.param(
            Login(without=("token_endpoint_auth_methods_supported",)),
            {"ChatGPT"},
            "provider metadata",
            "RFC 8414 section 2",
            "the provider {origin}/login does not say how clients authenticate at its token endpoint",
            id="no methods",
        ),
        pytest.param(
            Login(without=("registration_endpoint",)),
            {"Cursor"},
            "client registration",
            "RFC 7591 section 3, MCP basic/authorization/client-registration",
            "the provider {origin}/login lets no client register",
            id="documents only",
        ),
        pytest.param(
            Login(without=("registration_endpoint", "client_id_metadata_document_supported")),
            {*ALL, PAGE} - {"Cursor"},
            "client registration",
            "RFC 7591 section 3, MCP basic/authorization/client-registration",
            "the provider {origin}/login lets no client register, and reads no metadata document",
            id="neither registration nor documents",
        ),
        pytest.param(
            Login(
                provider={"token_endpoint_auth_methods_supported": ["client_secret_basic"]},
                without=("registration_endpoint",),
            ),
            {"Claude", "Claude Code", "Codex"},
            "client registration",
            "RFC 7591 section 3, MCP basic/authorization/client-registration",
            "the provider {origin}/login lets no client register, and reads metadata documents without `none` in "
            "token_endpoint_auth_methods_supported",
            id="documents without none",
        ),
        pytest.param(
            Login(replies={PROVIDER: Reply(200, {"content-type": "text/html"}, "<p>")}),
            {*ALL, PAGE},
            "provider metadata",
            "RFC 8414 section 3",
            f"{{origin}}{PROVIDER} does not answer with such metadata; ",
            id="a web page for metadata",
        ),
    ],
)
def test_a_broken_login_is_told_by_client_step_rule_and_mend(
    login: Login, clients: set[str], step: str, rule: str, text: str
) -> None:
    walks, report, origin = walk(login.answer)
    found = stops(walks)
    said = text.format(origin=origin)
    assert {name for name, stop in found.items() if stop.text.startswith(said)} == clients
    assert {*found} - clients <= {"Cursor"}  # which knows no metadata documents
    stop = found[min(clients)]
    assert (stop.step, stop.rule) == (step, rule)
    assert stop.mend in [
        each.mend for each in report.findings if each.text.endswith(f" at the {step} ({rule}): {stop.text}")
    ]


def test_metadata_that_web_pages_may_not_read_stops_those_alone() -> None:
    login = Login()

    def answer(request: Request) -> Reply:
        reply = login.answer(request)
        is_provider = request.path == PROVIDER
        return Reply(reply.status, {"content-type": "application/json"}, reply.body) if is_provider else reply

    walks, _, origin = walk(answer)
    assert {name: stop.text for name, stop in stops(walks).items()} == {
        PAGE: f"{origin}{PROVIDER} may not be read by web pages: it has no Access-Control-Allow-Origin: *"
    }


def test_the_well_known_places_and_a_server_that_is_its_own_provider_are_found_without_a_hint() -> None:
    walks, report, _ = walk(Login(challenge="Bearer").answer)
    assert (stops(walks), len(walks)) == ({}, len(ALL) + 1)
    hint = "the 401 names no resource_metadata, so clients look at the well-known places"
    assert hint in [fact.text for fact in report.facts]

    def own(request: Request) -> Reply:
        if request.path == RESOURCE:
            return Reply(404, READABLE)
        if request.path == "/.well-known/oauth-authorization-server":
            return Login(provider={"issuer": "{origin}"}).answer(Request("GET", PROVIDER, request.headers, ""))
        return Login(challenge="Bearer").answer(request)

    walks, _, origin = walk(own)
    assert {each.issuer for each in walks} == {origin}
    assert stops(walks) == {}


def test_only_a_401_starts_a_login() -> None:
    walks, report, _ = walk(lambda _: Reply(403))
    assert walks == []
    assert report.findings[0].text.startswith("a request without a token is answered with status 403, not 401")

    def open_to_all(_: Request) -> Reply:
        return Reply(200, READABLE, json.dumps({"jsonrpc": "2.0", "id": 1, "result": {}}))

    walks, report, _ = walk(open_to_all)
    assert (walks, report.findings) == ([], [])
    assert "anybody may call it, so no client logs in" in [fact.text for fact in report.facts]
