"""Makes bearer tokens."""

import secrets


def new_token() -> str:
    """Return a bearer token: 256 random bits, with a prefix that secret scanners recognise."""
    return f"pw_{secrets.token_urlsafe(32)}"
