"""URLs that only one host can be read from, and lists of the hosts that they may have."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.http.web_url import HostList, read_url

ANY_HOST = HostList(["*"])
INNER = ["127.0.0.1", "10.1.2.3", "172.16.9.9", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"]
ODD = [
    # Forms in which some readers take an inner address: none may pass as a host on the internet.
    *("127.1", "127.0.1", "2130706433", "0x7f000001", "0x7F.0.0.1", "0177.0.0.1", "127.0.0.1.", "017700000001", "0"),
    *("127.0.0.0x1", "0x", "1.2.3.4.5", "256.256.256.256", "127.0.0.01", "example.123"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1]"),
    *("[64:ff9b::10.0.0.1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[fc00::1]", "[fd12:3456::1]", "[ff02::1]"),
    *("[2001:0:7f00:1::]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[127.0.0.1]", "[::ffff:0:127.0.0.1]"),
    *("localhost", "LOCALHOST", "localhost.", "a.localhost", "printer.local", "metadata.google.internal", "intranet"),
    *("router.lan", "nas.home.arpa", "wiki.intranet", "localhost.localdomain", "x.home", "x.corp", "x.private"),
    # Texts that are no URL of one certain host.
    *("good.example@evil.example", "good.example:80@127.0.0.1", "good.example\\@127.0.0.1", "127.0.0.1\\.good.example"),
    *(
        "good.example%2f@evil.example",
        "%6c%6f%63alhost",
        "loc\talhost",
        "good.example\n.evil.example",
        "ⓛocalhost",
        "\uff11\uff12\uff17.0.0.1",
    ),
    *("a..b", ".example.com", "", "good.example:0", "good.example:65536", "good.example:8o", "a" * 64 + ".example"),
]


def admits(hosts: HostList, url: str) -> bool:
    try:
        return hosts.admits(read_url(url))
    except ValueError:
        return False


@pytest.mark.parametrize("host", [*INNER, *ODD])
def test_no_form_of_an_inner_address_passes_as_a_host_on_the_internet(host: str) -> None:
    for url in (f"http://{host}/", f"https://{host}?a#b", f"HTTP://{host}"):
        assert not admits(ANY_HOST, url)


@pytest.mark.parametrize(
    "url", ["https:/x.example", "https:x.example", "//x.example", "file:///etc/passwd", "x.example"]
)
def test_what_is_no_whole_url_of_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no URL as in"):
        read_url(url)


def test_hosts_are_matched_as_they_are_listed() -> None:
    hosts = HostList(["API.example.com", "*.example.org", "example.net:8443", "10.0.0.5", "[fd00::5]:80", "localhost"])
    for url in (
        *("https://api.example.com/a?b=https://evil.example#c", "http://api.example.com.:8080"),
        *(
            "https://a.b.example.org",
            "https://example.net:8443/x",
            "http://10.0.0.5:1/",
            "http://[FD00:0::5]",
            "http://localhost/",
        ),
    ):
        assert admits(hosts, url), url
    for url in (
        *("https://example.org", "https://notexample.org", "https://x.api.example.com", "https://example.net"),
        *("https://api.example.com.evil.example", "http://10.0.0.6", "http://[fd00::5]:81", "http://127.0.0.1"),
    ):
        assert not admits(hosts, url), url
    assert admits(HostList(["*:443"]), "https://example.com")
    assert not admits(HostList(["*:443"]), "http://example.com")


@pytest.mark.parametrize(
    "entry", ["", "*.", "a b", "https://x.example", "x.example/", "*.10", "a.*.example", "x:y", "**"]
)
def test_an_entry_that_is_no_host_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"is no host as in example\.com"):
        HostList([entry])


def spelled(number: int, base: str) -> str:
    return {"d": f"{number}", "x": f"0x{number:x}", "o": f"0{number:o}"}[base]


@given(
    st.ip_addresses(v=4).filter(lambda each: not each.is_global),
    st.integers(1, 4),
    st.lists(st.sampled_from("dxo"), min_size=4, max_size=4),
)
def test_no_inner_ipv4_address_passes_in_any_form_that_c_libraries_read(
    address: ipaddress.IPv4Address, parts: int, bases: list[str]
) -> None:
    left = list(address.packed)
    numbers = [*left[: parts - 1], int.from_bytes(left[parts - 1 :])]
    host = ".".join(spelled(number, base) for number, base in zip(numbers, bases, strict=False))
    assert not admits(ANY_HOST, f"http://{host}/")
    for inside in (
        f"[::ffff:{address}]",
        f"[64:ff9b::{address}]",
        f"[2002:{left[0]:02x}{left[1]:02x}:{left[2]:02x}{left[3]:02x}::1]",
    ):
        assert not admits(ANY_HOST, f"http://{inside}/")


@given(
    st.text(st.sampled_from("ab.:/@\\?#[]%0x1 \t\n*-_é"), max_size=24),
    st.sampled_from(["http://", "https://", "http:", ""]),
)
def test_what_is_read_has_the_host_that_python_reads(rest: str, start: str) -> None:
    try:
        url = read_url(start + rest)
    except ValueError:
        return
    parts = urlsplit(start + rest)
    host = (parts.hostname or "").removesuffix(".")
    assert host == url.host or ipaddress.ip_address(host) == ipaddress.ip_address(url.host)
    assert parts.port in (url.port, None)
    assert url.target.startswith("/")
    assert url.target.isascii()
