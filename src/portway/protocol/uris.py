"""URIs of resources in their normal form, so that different spellings of one URI are equal (RFC 3986 §6.2.2, RFC 3987
§3.1).
"""

import re
from urllib.parse import quote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*:)(//[^/?#]*)?")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_EXPRESSION = re.compile(r"(\{[^{}]*\})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_KEPT = "".join(map(chr, range(0x21, 0x7F)))
_WITH_HOST = frozenset({"http:", "https:", "ws:", "wss:", "ftp:"})


def normalised(uri: str) -> str:
    """Return `uri` with every octet that needs it percent-encoded in upper case, and no other, and a lower-case scheme.

    The host is in lower case where the scheme is one of the web's: elsewhere what stands there may be a name of the
    author's, such as `users://{name}`. Dots in a path are left: `..` is refused, not resolved.
    """
    uri = _encoded(uri)
    found = _SCHEME.match(uri)
    if found is None:
        return uri
    scheme = found[1].lower()
    return scheme + ((found[2] or "").lower() if scheme in _WITH_HOST else found[2] or "") + uri[found.end() :]


def normalised_template(template: str) -> str:
    """Return a URI template whose text is in normal form; its expressions stay as they are."""
    parts = _EXPRESSION.split(template)  # texts and expressions take turns
    first = normalised(parts[0])
    return "".join([first, *(part if index % 2 else _encoded(part) for index, part in enumerate(parts) if index)])


def _encoded(text: str) -> str:
    if "%" not in text and text.isascii() and " " not in text:
        return text
    return _ESCAPE.sub(_escape, quote(text, safe=_KEPT, errors="replace"))


def _escape(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if character in _UNRESERVED else found[0].upper()
