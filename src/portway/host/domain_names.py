"""Reads a custom domain as people write it, and refuses wildcards, addresses and other names that cannot be one; how
many an app may have (50).
"""

import re
import unicodedata

MOST = 50
"""How many custom domains an app may have."""

_LONGEST = 253
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}")
_ADDRESS = re.compile(r"\[?[0-9a-f]*:[0-9a-f:.]*\]?|(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")  # what ends in a number is IPv4


class DomainError(Exception):
    """A name cannot be a custom domain, or not of that app; the message is one sentence."""


def read_domain(text: str) -> str:
    """Return a domain name in lower case and ASCII, without a dot at its end. Raises `DomainError`."""
    shown = repr(text[:80])
    name = text[: _LONGEST + 2].strip().lower()
    if not name.isascii():
        name = _in_ascii(name, shown)
    name = name.removesuffix(".")
    if name.startswith("*."):
        raise DomainError(f"{shown} stands for many names, and each needs a certificate: add the names one by one")
    if _ADDRESS.fullmatch(name):
        raise DomainError(f"{shown} is an address: give a domain name that leads there, as in tools.example.com")
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise DomainError(
            f"{shown} is not a domain name: give it as in tools.example.com, without scheme, port or path"
        )
    if name.endswith(".localhost"):
        raise DomainError(f"{shown} leads to the machine of whoever asks: give a name of your DNS")
    return name


def _in_ascii(name: str, shown: str) -> str:
    """Return an international name in ASCII (IDNA).

    Where the versions of that standard differ, as for ß, or a character stands for another, the name is refused: it is
    not the same when it is read back.
    """
    try:
        encoded = name.encode("idna")
        if encoded.decode("idna") == unicodedata.normalize("NFC", name):
            return encoded.decode("ascii")
    except UnicodeError:
        pass
    raise DomainError(f"{shown} is not the same name everywhere: give its form in ASCII, which begins with xn--")
