"""Where a repository elsewhere may be: not on this machine or in its network, unless the operator says so."""

import asyncio
import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

from portway.host.git.remote_url import GitUrl
from portway.host.name_lookup import is_of_this_machine
from portway.host.sources.source import SourceError

_SECONDS = 10.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


async def resolve(url: GitUrl, *, private: bool) -> list[str]:
    """Return the addresses that git may connect to. Raises `SourceError` when one of them is not allowed.

    Whoever connects must use these, and not ask again: a name may have other addresses a moment later. With `private`,
    addresses of this machine and its network are allowed, and http to these alone.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_SECONDS):
            found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise SourceError(f"the host {url.host} is not found: correct its name, or try again") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    inner = [address for address in addresses if not is_public(address)]
    if inner and not private:
        raise SourceError(
            f"{url.host} is on this machine or in its network, from where nothing is fetched: start the host with "
            "`portway up --allow-private-sources`"
        )
    if (url.scheme == "http" and len(inner) < len(addresses)) or (url.scheme == "http" and not private):
        raise SourceError(f"{url} would be fetched in clear text: give it as https or ssh")
    return addresses


def is_public(text: str) -> bool:
    """Return whether an address is on the internet, and not one of this machine."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # with the zone of a link
        return False
    return all(each.is_global and not each.is_multicast for each in _meant(address)) and not is_of_this_machine(text)


def _meant(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """Return an address with those inside of it, which a translator or a tunnel would connect to."""
    if isinstance(address, IPv4Address):
        return [address]
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or int(address) >> 32 == 0:
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    found: list[IPv4Address | IPv6Address] = [each for each in inner if each is not None]
    return found if address.ipv4_mapped or address in _NAT64 else [address, *found]
