"""The login of the known clients at recorded metadata of identity providers, as docs/check.md tells it.

`providers.json` has, of each, the members that clients read, with other names for tenants; `recorded` says when it was
taken, and `of` from what. None of these providers is asked here.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from portway.client.oauth.provider_web import ProviderWeb
from portway.diagnosis.known_clients import LOGIN_CLIENTS
from portway.diagnosis.login import walk_all
from portway.diagnosis.report import Report
from portway.oauth.guarded_fetch import Answer
from tests.support import ROOT

RECORDED = {each["provider"]: each for each in json.loads((Path(__file__).parent / "providers.json").read_text())}
URL = "https://mcp.example.com/weather/mcp"
RESOURCE = "https://mcp.example.com/.well-known/oauth-protected-resource/weather/mcp"
NAMES = [client.name for client in LOGIN_CLIENTS if not client.is_web_page]


class RecordedWeb:
    """A web of two documents: the metadata of a server, and a recorded one of its provider."""

    def __init__(self, provider: dict[str, Any]) -> None:
        resource = {"resource": URL, "authorization_servers": [provider["issuer"]]}
        self._documents = {RESOURCE: resource, provider["place"]: provider["metadata"]}

    async def get(self, url: str) -> Answer:
        return Answer(200, msgspec.json.encode(self._documents[url])) if url in self._documents else Answer(404, b"")

    def check(self, url: str) -> None:
        ProviderWeb(private=False).check(url)


def stops(name: str) -> dict[str, tuple[str, str]]:
    """Return where each client stops at a provider: the step, and what is wrong; "" for those that come through."""
    clients = [client for client in LOGIN_CLIENTS if not client.is_web_page]
    walks = asyncio.run(walk_all(RecordedWeb(RECORDED[name]), URL, None, clients, Report()))
    return {each.client: (each.stop.step, each.stop.text) if each.stop else ("", each.way or "") for each in walks}


def test_auth0_and_keycloak_register_every_client() -> None:
    for name in ("Auth0", "Keycloak"):
        assert stops(name) == dict.fromkeys(NAMES, ("", "registration"))


def test_okta_registers_no_client_by_itself() -> None:
    assert {step for step, _ in stops("Okta").values()} == {"client registration"}
    assert stops("Okta")["Cursor"][1] == "Okta registers a client only for who has an administrator's token"


@pytest.mark.parametrize(("name", "but"), [("authentik", set()), ("Google", set()), ("GitHub", {"ChatGPT"})])
def test_authentik_google_and_github_know_no_client_that_nobody_has_registered(name: str, but: set[str]) -> None:
    found = stops(name)
    assert {client for client, (step, _) in found.items() if step != "client registration"} == but
    issuer = RECORDED[name]["issuer"]
    assert found["Claude"][1] == f"the provider {issuer} lets no client register, and reads no metadata document"


def test_entra_does_not_name_s256_and_lets_no_client_register() -> None:
    found = stops("Entra")
    assert {client for client, (step, _) in found.items() if step == "provider metadata"} == {*NAMES} - {
        "the Python SDK",
        "the TypeScript SDK",
    }
    assert found["the Python SDK"][0] == "client registration"


def test_what_metadata_does_not_say_of_known_providers_is_said_once_a_client_can_register() -> None:
    for name, step, text in (
        ("Entra", "authorization", "refuses the parameter `resource`"),
        ("Google", "token", "the access tokens of Google are for its own APIs"),
        ("GitHub", "token", "the access tokens of GitHub are for its own API"),
    ):
        more = {"registration_endpoint": "https://register.example/", "code_challenge_methods_supported": ["S256"]}
        provider = RECORDED[name] | {"metadata": RECORDED[name]["metadata"] | more}
        walks = asyncio.run(walk_all(RecordedWeb(provider), URL, None, LOGIN_CLIENTS[-2:-1], Report()))
        assert walks[0].stop is not None
        assert walks[0].stop.step == step
        assert text in walks[0].stop.text


def test_each_recorded_provider_has_its_section_with_its_date_in_the_docs() -> None:
    page = (ROOT / "docs" / "check.md").read_text()
    sections = dict(re.findall(r"^### (.+)\n((?:(?!^##).*\n)+)", page, re.MULTILINE))
    for name, each in RECORDED.items():
        (section,) = [text for title, text in sections.items() if name in title]
        assert f"Recorded on {each['recorded']} from {each['of']}" in section.replace("\n", " ")
