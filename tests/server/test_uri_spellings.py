"""A resource is found, completed and watched by every spelling of its URI (RFC 3986 §6.2.2)."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types
import pytest
from mcp import Client

from portway import Server, testing
from portway.client import Change  # what on_change gets
from portway.protocol.errors import RpcError
from portway.protocol.uris import normalised
from tests.server.official_client import officially
from tests.server.test_composition import ERAS, in_client

SAME = [
    ("menu://café/x", "menu://caf%C3%A9/x"),
    ("menu://café/x", "MENU://caf%c3%a9/x"),
    ("menu://a/%7Euser", "menu://a/~user"),
    ("menu://a/b c", "menu://a/b%20c"),
    ("https://A.example/x", "https://a.EXAMPLE/x"),
]
OTHER = [("menu://a/b%2Fc", "menu://a/b/c"), ("menu://Ada", "menu://ada"), ("menu://a/b/../c", "menu://a/c")]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_one_uri_are_equal(one: str, other: str) -> None:
    assert normalised(one) == normalised(other) == normalised(normalised(one))


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_uris_that_name_different_things_stay_different(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_the_official_client_reads_resources_by_either_spelling(mode: str) -> None:
    server = Server("s")

    @server.resource("menu://café/{name}")
    def dish(name: str) -> str:
        return f"<{name}>"

    @server.resource("menu://café")
    def menu() -> str:
        return "all"

    @server.resource("menu://th%C3%A9/{+path}")
    def tea(path: str) -> str:
        return f"<{path}>"

    @server.completion("menu://café/{name}", "name")
    def names(value: str) -> list[str]:
        return ["crème"]

    async def talk(client: Client) -> list[str]:
        listed = await client.list_resource_templates()
        assert listed.resource_templates[0].uri_template == "menu://café/{name}"
        uris = ("menu://café/crème", "menu://caf%C3%A9/cr%C3%A8me", "menu://caf%c3%a9/a%20b", "menu://caf%C3%A9")
        found = [(await client.read_resource(uri)).contents[0].text for uri in uris]
        found.append((await client.read_resource("menu://thé/a/é")).contents[0].text)
        reference = mcp_types.ResourceTemplateReference(uri="menu://caf%C3%A9/{name}")
        found += (await client.complete(reference, {"name": "name", "value": ""})).completion.values
        return found

    assert officially(server, talk, mode) == ["<crème>", "<crème>", "<a b>", "all", "<a/é>", "crème"]


def test_a_climbing_path_is_refused_in_every_spelling() -> None:
    server = Server("s")

    @server.resource("menu://café/{+path}")
    def dish(path: str) -> str:
        return path

    async def talk(client: testing.Client) -> None:
        for path in ("..", "%2E%2E", "a/%2e%2e/b", "%2Fetc"):
            with pytest.raises(RpcError):
                await client.read_resource(f"menu://caf%C3%A9/{path}")

    in_client(server, talk)


@ERAS
def test_a_subscriber_hears_of_a_resource_by_the_spelling_it_subscribed_with(era: str) -> None:
    server = Server("s", sessions=True)
    server.resource("menu://café")(lambda: "all")
    heard: asyncio.Queue[Change] = asyncio.Queue()

    async def talk(client: testing.Client) -> list[Any]:
        await client.subscribe("menu://caf%C3%A9")
        uris = []
        for spelling in ("menu://café", "MENU://caf%c3%a9"):
            server.resource_updated(spelling)
            async with asyncio.timeout(120):
                uris.append((await heard.get()).uri)
        return uris

    uris = in_client(server, talk, era=era, on_change=heard.put_nowait)
    assert uris == ["menu://caf%C3%A9"] * 2
