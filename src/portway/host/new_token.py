"""Makes bearer tokens."""

import secrets


def new_token(prefix: str = "pw_") -> str:
    """Return a bearer token: 256 random bits, with a prefix that secret scanners recognise."""
    return prefix + secrets.token_urlsafe(32)
