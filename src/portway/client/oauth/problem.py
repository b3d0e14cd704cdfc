"""A provider's own words for an error, on one line, without secrets (RFC 6749 sections 4.1.2.1 and 5.2, RFC 7591
section 3.2.2).
"""

from collections.abc import Iterable

import msgspec

from portway.protocol.jsonrpc import UNREADABLE

_LONGEST = 200


class _Problem(msgspec.Struct):
    error: str = ""
    error_description: str | None = None


def read_problem(body: bytes, secrets: Iterable[str] = ()) -> str:
    """Return the words in the body of an answer as ` (words)`, "" if it has none; without the `secrets` sent."""
    try:
        found = msgspec.json.decode(body, type=_Problem)
    except UNREADABLE:
        return ""
    words = problem_words(found.error, found.error_description or "", secrets)
    return f" ({words})" if words else ""


def is_of_client(words: str) -> bool:
    """Return whether an error says that the provider does not know the client, or does not let it log in."""
    return words.lstrip(" (").startswith(("invalid_client", "unauthorized_client"))


def problem_words(error: str, description: str, secrets: Iterable[str] = ()) -> str:
    """Return an error with its description, without the `secrets` that the provider was sent and may repeat."""
    words = f"{error}: {description}" if description else error
    for secret in filter(None, secrets):
        words = words.replace(secret, "…")
    return "".join(each if each.isprintable() else " " for each in words)[:_LONGEST]
