"""Which addresses are on the internet, and which are of this machine or its network."""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

_TRANSLATED = tuple(  # an IPv4 address in the last 32 bits is meant
    map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96"))  # RFC 6052, RFC 8215, RFC 2765
)

_RESERVED = tuple(  # which Python calls global: site-local, documentation, segment routing, and the relays of 6to4
    map(ipaddress.ip_network, ("fec0::/10", "3fff::/20", "5f00::/16", "2002::/16", "192.88.99.0/24"))
)


def is_public(text: str) -> bool:
    """Return whether an address is on the internet, and not one of this machine."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # with the zone of a link
        return False
    return all(map(_is_global, _meant(address))) and not is_of_this_machine(text)


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    is_reserved = address.is_multicast or any(address in network for network in _RESERVED)
    return address.is_global and not is_reserved


def _meant(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """Return an address with those inside of it, which a translator or a tunnel would connect to."""
    if isinstance(address, IPv4Address):
        return [address]
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    is_translated = any(address in network for network in _TRANSLATED)
    if is_translated or int(address) >> 32 == 0:
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    found: list[IPv4Address | IPv6Address] = [each for each in inner if each is not None]
    return found if address.ipv4_mapped or is_translated else [address, *found]


def is_of_this_machine(address: str) -> bool:
    """Return whether this machine has the address. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:  # it cannot be reached
            return False
        return str(probe.getsockname()[0]) == address
