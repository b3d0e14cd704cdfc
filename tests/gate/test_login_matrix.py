"""Every revision of the protocol, kind of request, path to an app and state of a token, through a whole host.

A token of the provider opens what a named token with the same scopes opens. Whatever is wrong with a token, it opens
nothing, and each request with it is told the same, before anything of it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from portway.protocol.versions import LATEST_MODERN, LEGACY_VERSIONS
from tests.gate.login_vault import (
    DOMAIN,
    ENVELOPE,
    WELL_KNOWN,
    Place,
    Request,
    Steps,
    Vault,
    opening,
    rpc,
    running_vault,
)
from tests.oauth.bad_tokens import bad_tokens

pytestmark = pytest.mark.slow

CALLS = {
    "look": ("tools/call", {"name": "look", "arguments": {}}, "read"),
    "fill": ("tools/call", {"name": "fill", "arguments": {}}, "read write"),
    "gold": ("resources/read", {"uri": "vault://gold"}, "read write"),
    "plan": ("prompts/get", {"name": "plan"}, "read write"),
    "tools": ("tools/list", {}, ""),
}
GUARDED = ("tools/call", {"name": "guarded", "arguments": {}}, "read write")
"""By the blueprint; a batch that has such a call is refused as a whole."""


def legacy_requests(version: str, session: str) -> dict[str, Request]:
    of_session = {"mcp-session-id": session, "mcp-protocol-version": version}
    found = {
        "initialize": opening(version),
        "notification": Request("POST", rpc("notifications/roots/list_changed", None), of_session),
        "answer": Request("POST", {"jsonrpc": "2.0", "id": 7, "result": {}}, of_session),
        "stream": Request("GET", None, of_session, is_stream=True),
        "resumed stream": Request("GET", None, of_session | {"last-event-id": "1"}, is_stream=True),
        "no protocol": Request("POST", "nonsense", of_session),
        "put": Request("PUT", {}, of_session),
    }
    for name, (method, params, needs) in (CALLS | {"guarded": GUARDED}).items():
        found[name] = Request("POST", rpc(method, **params), of_session, needs=needs)
    if version == "2025-03-26":
        calls = [rpc(method, number, **params) for number, (method, params, _) in enumerate(CALLS.values())]
        found["batch"] = Request("POST", calls, of_session)
        more = [*calls, rpc("tools/call", 99, name="guarded", arguments={})]
        found["guarded batch"] = Request("POST", more, of_session, needs="read write")
    return found | {"delete": Request("DELETE", None, of_session)}  # the last: it ends the session


def modern_requests() -> dict[str, Request]:
    found = {}
    for name, (method, params, needs) in (
        CALLS | {"guarded": GUARDED, "discover": ("server/discover", {}, "")}
    ).items():
        headers = {"mcp-protocol-version": LATEST_MODERN, "mcp-method": method}
        named = str(params.get("name", params.get("uri", "")))
        headers |= {"mcp-name": named} if named else {}
        found[name] = Request("POST", rpc(method, _meta=ENVELOPE, **params), headers, needs=needs)
    headers = {"mcp-protocol-version": LATEST_MODERN}
    told = rpc("notifications/cancelled", None, requestId=1, _meta=ENVELOPE)
    listening = rpc("subscriptions/listen", _meta=ENVELOPE, notifications={"toolsListChanged": True})
    return found | {
        "notification": Request("POST", told, headers),
        "listen": Request("POST", listening, headers | {"mcp-method": "subscriptions/listen"}, is_stream=True),
        "stream": Request("GET", None, headers),
        "delete": Request("DELETE", None, headers),
    }


PLAIN = {
    "page": Request("GET", path="/page"),
    "form": Request("POST", {"a": 1}, path="/form"),
    "health of the app": Request("GET", path="/health"),
    "escaped endpoint": Request("POST", {}, path="/%6dcp"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Steps], None]]:
    with running_vault(tmp_path_factory.mktemp("matrix")) as runner:
        yield runner


def requests_at(place: Place, version: str, session: str) -> dict[str, Request]:
    found = modern_requests() if version == LATEST_MODERN else legacy_requests(version, session)
    return found | (PLAIN if place.path == "/mcp" else {})  # the other address is of all apps


@pytest.mark.parametrize("version", [*LEGACY_VERSIONS, LATEST_MODERN])
def test_a_token_of_the_provider_opens_what_a_named_token_of_its_scopes_opens(
    version: str, run: Callable[[Steps], None]
) -> None:
    async def steps(vault: Vault) -> None:
        for scopes in ("read", "read write"):
            named = vault.named("vault", scopes)
            for place in vault.places:
                token = vault.provider.token(place.url, scope=scopes)
                seen = []
                for each in (named, token):
                    session = "" if version == LATEST_MODERN else await vault.session(place, version, each)
                    asked = requests_at(place, version, session)
                    seen.append({name: await vault.ask(place, request, each) for name, request in asked.items()})
                for name, request in asked.items():
                    expected, got = seen[0][name], seen[1][name]
                    where = (scopes, place.path, name)
                    assert got.status == expected.status, where
                    is_refused = not set(request.needs.split()) <= set(scopes.split())
                    assert (got.status == 403) is is_refused, (where, got)
                    challenge = vault.challenge(place, "insufficient_scope", request.needs) if is_refused else ""
                    assert got.challenge == challenge, where
                    if name == "batch":
                        needs = enumerate(needed for _, _, needed in CALLS.values())
                        above = {number for number, needed in needs if not set(needed.split()) <= set(scopes.split())}
                        assert got.refused() == expected.refused() == above

    run(steps)


@pytest.mark.parametrize("version", [*LEGACY_VERSIONS, LATEST_MODERN])
def test_a_token_that_is_not_good_here_opens_nothing_and_is_told_the_same_everywhere(
    version: str, run: Callable[[Steps], None]
) -> None:
    async def steps(vault: Vault) -> None:
        elsewhere = f"https://{DOMAIN}/other/mcp"
        foreign = vault.named("other", "read write")
        for place in vault.places:
            session = "" if version == LATEST_MODERN else await vault.session(place, version, vault.token())
            bad = bad_tokens(vault.provider, place.url, elsewhere) | {"named, of another app": foreign}
            bad_challenge = vault.challenge(place, "invalid_token", "read")
            for name, request in requests_at(place, version, session).items():
                for kind, token in bad.items():
                    answer = await vault.ask(place, request, token)
                    assert (answer.status, answer.challenge) == (401, bad_challenge), (place.path, name, kind)
                    assert token not in str(answer), (place.path, name, kind)
                answer = await vault.ask(place, request)
                assert (answer.status, answer.challenge) == (401, vault.challenge(place, "", "read")), (place, name)
                answer = await vault.ask(place, request, "two words")
                assert (answer.status, answer.challenge) == (400, vault.challenge(place, "invalid_request", "read"))
                for target in ("access_token", "token"):
                    answer = await vault.ask(place, request.at(f"{place.path}?{target}={vault.token()}"))
                    assert answer.status == 401, (place, name)
        assert vault.provider.asked["/evil"] == 0

    run(steps)


def test_each_address_has_metadata_of_its_own_to_which_its_challenge_leads(run: Callable[[Steps], None]) -> None:
    async def steps(vault: Vault) -> None:
        for place in vault.places:
            found = await vault.ask(place, Request("GET", path=f"{WELL_KNOWN}{place.path}"))
            assert json.loads(found.body) == {
                "resource": place.url,
                "authorization_servers": [vault.provider.url],
                "scopes_supported": ["read"],
                "bearer_methods_supported": ["header"],
                "resource_name": "vault",
            }
            root = await vault.ask(place, Request("GET", path=WELL_KNOWN))
            assert root.status == (200 if place.path == "/mcp" else 404)
            for token_for in vault.places:  # the app is the same
                token = vault.provider.token(token_for.url, scope="read")
                assert (await vault.ask(place, modern_requests()["look"], token)).status == 200

    run(steps)


def test_a_session_is_its_callers_alone(run: Callable[[Steps], None]) -> None:
    unread = {
        "put": 405,
        "no protocol": 400,
        "batch": 200,
        "guarded batch": 200,
    }  # what is told before a session is looked for

    async def steps(vault: Vault) -> None:
        for place in vault.places:
            for version in LEGACY_VERSIONS:
                session = await vault.session(place, version, vault.token())
                asked = legacy_requests(version, session)
                asked.pop("initialize")
                for thief in (vault.token(subject="eve"), vault.named("vault", "read write")):
                    for name, request in asked.items():
                        answer = await vault.ask(place, request, thief)
                        assert answer.status == unread.get(name, 404), (version, name)
                        assert name != "batch" or answer.refused() == set(range(len(CALLS)))
                again = vault.provider.token(place.url, scope="read", iat=1)  # another token of the same person
                assert (await vault.ask(place, asked["look"], again)).status == 200

    run(steps)
