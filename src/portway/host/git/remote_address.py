"""Refuses a repository elsewhere that is on this machine or in its network, unless the operator allows it."""

import asyncio
import socket

from portway.host.git.remote_url import GitUrl
from portway.host.sources.source import SourceError
from portway.http.public_addresses import is_public

_SECONDS = 10.0


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
