"""Decides which IP addresses are on the internet, and which are of this machine or its network."""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network

_TRANSLATED = tuple(  # an IPv4 address in the last 32 bits is meant
    map(IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0/96", "::ffff:0:0:0/96"))
)
"""RFC 6052, RFC 8215, RFC 4291, RFC 2765."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_RESERVED = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # what Azure tells its machines; other clouds do that from networks above and below
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        ),
    )
)
"""The special-purpose networks that IANA lists for both families, of IPv6 those within global unicast. They are here
since what Python's `is_global` says differs with its patch level."""


def is_public(text: str) -> bool:
    """Return whether an address is on the internet, and not one of this machine."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # with the zone of a link
        return False
    if isinstance(address, IPv6Address) and any(address in network for network in _TRANSLATED):
        address = IPv4Address(int(address) & 0xFFFFFFFF)
    is_reserved = any(address in network for network in _RESERVED)
    return (address.version == 4 or address in _GLOBAL_UNICAST) and not is_reserved and not is_of_this_machine(text)


def is_of_this_machine(address: str) -> bool:
    """Return whether this machine has the address. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:  # it cannot be reached
            return False
        return str(probe.getsockname()[0]) == address
