"""Makes bearer tokens: 256 random bits with a prefix (`pw_`, `pwh_`, `pwu_`)."""

import secrets

_PREFIXES = ("pw_", "pwh_", "pwu_")  # of apps, hooks and users


def is_of_a_host(token: str) -> bool:
    """Return whether a token looks like one that a host has made, so that nobody else is to see it."""
    return token.startswith(_PREFIXES)


def new_token(prefix: str = "pw_") -> str:
    """Return a bearer token: 256 random bits, with a prefix that secret scanners recognise."""
    return prefix + secrets.token_urlsafe(32)
