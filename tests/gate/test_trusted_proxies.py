"""Whose X-Forwarded headers the gate believes, and what of them reaches an instance."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from portway.host.gate.trusted_proxies import TrustedProxies
from portway.http.serve import Bind
from tests.gate.running_gate import Rig, Upstream, call, echo, rig

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

LOOPBACK = ("127.0.0.0/8", "10.0.0.0/8", "fd00::/8")
Header = tuple[bytes, bytes]
FOR, PROTO, HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"


def run(test: Coroutine[object, object, None]) -> None:
    asyncio.run(test)


async def told(gate: Rig, upstream: Upstream, *sent: Header) -> tuple[str, str, str]:
    """Send a call, and return what the instance is told of it: the client's address, the scheme, the host."""
    response = await gate.post(call(), *sent)
    assert response.status == 200, await response.read(1000)
    await response.read(1000)
    headers = upstream.requests[-1].headers
    assert headers["host"].endswith(".localhost"), "the instance's own name, whatever the client calls"
    return headers.get("x-forwarded-for", ""), headers["x-forwarded-proto"], headers["x-forwarded-host"]


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ([b"203.0.113.7"], "203.0.113.7"),
        ([b"6.6.6.6, 203.0.113.7"], "203.0.113.7"),
        ([b"6.6.6.6", b"203.0.113.7,10.1.1.1", b"10.0.0.9"], "203.0.113.7"),
        ([b"10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ([b"203.0.113.7:4711"], "203.0.113.7"),
        ([b"6.6.6.6, [2001:DB8::1]:443, fd00::5"], "2001:db8::1"),
        ([b"::ffff:203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
        ([b"6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
        ([b"6.6.6.6, 10.0.0.2\xff"], "127.0.0.1"),
        ([b"6.6.6.6," + b",".join([b"10.0.0.2"] * 40)], "10.0.0.2"),
        ([b""], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxys(
    tmp_path: Path, hops: list[bytes], client: str
) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream, proxies=LOOPBACK) as gate:
            for _ in range(2):  # the second time from memory
                assert (await told(gate, upstream, *((FOR, hop) for hop in hops)))[0] == client

    run(test())


def test_scheme_and_host_are_those_that_the_nearest_proxy_names(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        async with rig(tmp_path, upstream, proxies=LOOPBACK) as gate:
            assert (await told(gate, upstream))[1:] == ("https", gate.client.authority)
            assert (await told(gate, upstream, (PROTO, b"http")))[1] == "http"
            assert (await told(gate, upstream, (PROTO, b"gopher")))[1] == "https"
            named = await told(gate, upstream, (HOST, b"evil.example, a.example.org"), (PROTO, b"https"))
            assert named[1:] == ("https", "a.example.org")
            refused = await gate.post(call(), (HOST, b"evil.example"))
            assert (refused.status, b"does not answer to that name" in await refused.read(1000)) == (421, True)

    run(test())


def test_what_anybody_else_says_of_a_request_is_not_believed_and_does_not_pass(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        claimed = (FOR, b"10.0.0.1"), (PROTO, b"https"), (HOST, b"evil.example"), (b"forwarded", b"for=10.0.0.1")
        for proxies in ((), ("10.0.0.0/8", "unix")):
            async with rig(tmp_path, upstream, proxies=proxies) as gate:
                told_of = await told(gate, upstream, *claimed, (b"x-forwarded-port", b"1"))
                assert told_of == ("127.0.0.1", "http", gate.client.authority)
                assert not {"forwarded", "x-forwarded-port"} & {*upstream.requests[-1].headers}

    run(test())


def test_who_connects_to_a_unix_socket_is_believed_if_that_is_said(tmp_path: Path) -> None:
    async def test() -> None:
        upstream = Upstream(echo)
        sent = (FOR, b"6.6.6.6, 203.0.113.7"), (PROTO, b"https"), (HOST, b"a.example.org")
        for proxies, expected in (
            (("unix",), ("203.0.113.7", "https", "a.example.org")),
            (LOOPBACK, ("", "http", "localhost")),
        ):
            async with rig(tmp_path, upstream, proxies=proxies, bind=Bind(uds=str(tmp_path / "gate"))) as gate:
                assert await told(gate, upstream, *sent) == expected

    run(test())


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0", "example.com", ""])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r"network|address|host bits"):
        TrustedProxies([network])
