"""Names and URIs compared with the patterns of rules, in a time that grows with their length alone.

A server may take several spellings for one thing. A rule only ever adds a condition, so what is compared is what all
those spellings have in common: the rule then applies to each of them.
"""

import re
from urllib.parse import unquote

_EXPRESSION = re.compile(r"\{[^{}]*\}")  # of a URI template (RFC 6570)
_SLASHES = re.compile(r"/+")
_REST = re.compile(r"[?#]")  # begins a query or a fragment
_DECODINGS = 4  # of a URI that was percent-encoded several times


class Pattern:
    """A text in which `*` stands for any text, also an empty one. No other character is special."""

    __slots__ = ("_first", "_last", "_middle", "_whole")

    def __init__(self, pattern: str) -> None:
        first, *rest = pattern.split("*")
        self._whole = None if rest else first
        self._first, self._middle, self._last = first, [part for part in rest[:-1] if part], rest[-1] if rest else ""

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` is of this pattern. The leftmost place of each part is as good as any other."""
        if self._whole is not None:
            return text == self._whole
        end = len(text) - len(self._last)
        if not (text.startswith(self._first) and text.endswith(self._last)):
            return False
        at = len(self._first)
        for part in self._middle:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return at <= end


def folded(name: str) -> str:
    """Return what the spellings of a name have in common: letter case, Unicode form and space around do not count."""
    if not name.isascii():
        import unicodedata  # for this alone

        name = unicodedata.normalize("NFKC", name)
    return name.casefold().strip()


def uri_forms(uri: str) -> set[str]:
    """Return, `folded`, every text for which a server might take `uri`; for most URIs there is one.

    It may decode percent-encoding, remove `.` and `..` with or without regard to the authority, take several slashes
    or backslashes for one, and leave out a query, a fragment or the last slash.
    """
    forms = {folded(uri)}
    for _ in range(_DECODINGS):
        if "%" not in uri:
            break
        uri = unquote(uri)
        forms.add(folded(uri))
    forms |= {form[: cut.start()] for form in forms if (cut := _REST.search(form))}
    forms |= {form for uneven in forms for form in _even(uneven)}
    return forms | {form.rstrip("/") for form in forms}


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


def name_pattern(pattern: str) -> Pattern:
    """Return the pattern of a rule for names, to be compared with `folded` ones."""
    return Pattern(folded(pattern))


def uri_pattern(pattern: str) -> Pattern:
    """Return the pattern of a rule for URIs, to be compared with the `uri_forms` of one.

    It may be a URI template: an expression in braces stands for any text.
    """
    return Pattern(folded(unquote(_EXPRESSION.sub("*", pattern))).rstrip("/"))
