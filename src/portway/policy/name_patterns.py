"""Names compared with the patterns of rules, whatever their letter case and Unicode form, in a time that grows with
their length alone.

A server may take several spellings for one thing. A rule only ever adds a condition, so what is compared is what all
those spellings have in common: the rule then applies to each of them.
"""


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


def name_pattern(pattern: str) -> Pattern:
    """Return the pattern of a rule for names, to be compared with `folded` ones."""
    return Pattern(folded(pattern))
