"""URIs compared with the patterns of rules in all spellings that a server could take for the same, and those refused
that it could take for another.

A server may take several spellings for one URI: the official SDKs normalise what a client sends (WHATWG URL, which in
Python is behind pydantic's `AnyUrl`), others compare it as it is. A rule is for each of the spellings.
"""

import ipaddress
import re
from urllib.parse import unquote

from portway.policy.name_patterns import Pattern, folded

_EXPRESSION = re.compile(r"\{[^{}]*\}")  # of a URI template (RFC 6570)
_SLASHES = re.compile(r"/+")
_REST = re.compile(r"[?#]")  # begins a query or a fragment
_DECODINGS = 4  # of a URI that was percent-encoded several times
_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21", "file": ""}
"""The schemes that WHATWG URL calls special, with their default ports."""
_PARTS = re.compile(r"([a-z][a-z0-9+.-]*):([/\\]*)([^/\\?#]*)(.*)", re.DOTALL | re.IGNORECASE)
_DRIVE = re.compile(r"[/\\]*([a-z])[:|](?=[/\\?#]|\Z)", re.IGNORECASE)  # of a path of Windows
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.IGNORECASE)  # a host that is read as an IPv4 address
_UNSEEN = re.compile(  # controls, and the characters that Unicode calls default-ignorable
    "[\\0-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def uri_fault(uri: str) -> str:
    """Return what is wrong with a URI that servers could take for another one, or "".

    The host of a scheme like http is ASCII, as it would otherwise be mapped to another (UTS 46), and an address has its
    usual form.
    """
    if uri != uri.strip() or _UNSEEN.search(uri):
        return "it has a space at an end, or a character that is not seen: remove it"
    scheme, _, host, _, _ = _parts(uri)
    if scheme not in _PORTS:
        return ""
    if not host.isascii() or "%" in host:
        return "its host is not plain ASCII: write it so, as in xn--bcher-kva.example"
    if ("[" in host or _NUMBER.fullmatch(host.removesuffix("."))) and host != _address(host):
        return "the address in it is not in its usual form: write it so, as in 127.0.0.1 or [::1]"
    return ""


def uri_forms(uri: str) -> set[str]:
    """Return, `folded`, every text for which a server might take `uri`; for most URIs there are few.

    It may decode percent-encoding, remove `.` and `..` with or without regard to the authority, take several slashes
    or backslashes for one, normalise the authority, and leave out a query, a fragment or the last slash.
    """
    forms = {folded(uri)}
    for _ in range(_DECODINGS):
        if "%" not in uri:
            break
        uri = unquote(uri)
        forms.add(folded(uri))
    forms |= set(map(_normalised, forms))
    forms |= {form[: cut.start()] for form in forms if (cut := _REST.search(form))}
    forms |= {form for uneven in forms for form in _even(uneven)}
    return forms | {form.rstrip("/") for form in forms}


def uri_patterns(pattern: str) -> tuple[Pattern, ...]:
    """Return the patterns of a rule for URIs, one of which a form of `uri_forms` matches.

    It may be a URI template: an expression in braces stands for any text.
    """
    written = folded(unquote(_EXPRESSION.sub("*", pattern)))
    return tuple(Pattern(text.rstrip("/")) for text in dict.fromkeys((written, _normalised(written))))


def _parts(uri: str) -> tuple[str, str, str, str, str]:
    """Return scheme, slashes, host, port and the rest of a URI with an authority; the scheme is "" if it has none."""
    parts = _PARTS.fullmatch(uri)
    if parts is None:
        return "", "", "", "", ""
    scheme, slashes, authority, rest = parts[1].lower(), parts[2], parts[3], parts[4]
    if scheme == "file" and (len(slashes) != 2 or _DRIVE.fullmatch(authority)):
        return scheme, "//", "", "", "/" + slashes[3:] + authority + rest
    if scheme not in _PORTS and slashes != "//":
        return "", "", "", "", ""
    host = authority.rpartition("@")[2]
    before, colon, port = host.rpartition(":")
    if not colon or port.strip("0123456789"):
        return scheme, "//", host, "", rest
    return scheme, "//", before, port.lstrip("0"), rest


def _normalised(uri: str) -> str:
    """Return a URI, in lower case, as WHATWG URL would write scheme and authority; another text as it is.

    Of a scheme like http, missing and surplus slashes do not count. The user, a default port and the last dot of the
    host are left out, and a missing path is "/".
    """
    scheme, slashes, host, port, rest = _parts(uri)
    if not scheme:
        return uri
    host = _address(host) or host.removesuffix(".")
    if scheme in _PORTS and not rest.startswith(("/", "\\")):
        rest = "/" + rest
    if scheme == "file":
        drive = _DRIVE.match(rest)
        host = "" if host == "localhost" or drive else host
        rest = f"/{drive[1]}:{rest[drive.end() :]}" if drive else rest
    return f"{scheme}:{slashes}{host}{f':{port}' if port and port != _PORTS.get(scheme) else ''}{rest}"


def _address(host: str) -> str:
    """Return the IP address that a host is, in its usual form; "" for another host."""
    try:
        if host.startswith("[") and host.endswith("]"):
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        return ""


def _even(uri: str) -> set[str]:
    """Return a URI with plain segments only; `..` removes the one before it, also the authority or not."""
    scheme, colon, rest = uri.replace("\\", "/").partition("://")
    if not colon:
        scheme, rest = "", scheme
    if rest == uri.partition("://")[2] and "//" not in rest and "/." not in rest:
        return set()
    segments = _SLASHES.split(rest)
    return {scheme + colon + _resolved(segments, keep) for keep in (0, 1)}


def _resolved(segments: list[str], keep: int) -> str:
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[max(keep, len(kept) - 1) :]
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept)
