"""URI templates (RFC 6570, the operators + / ? &), matched safely and in time linear in the URI.

Matching is expansion read backwards: a variable ends where the text that follows it first occurs. One variable may be
open, such as `{+path}` or `{/path*}`; what follows it is read from the right. Query variables stand in any order.
"""

import re
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from portway.exceptions import RegistrationError

Values = dict[str, str | list[str]]

_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_INNER = re.compile(r"(?:[/?&]?\w+\*?(?:,\w+\*?)*|\+\w+)", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_UNSAFE = re.compile(r"[\\\x00-\x1f\x7f]")
_HELP = (
    "use {name} for one path segment, {+name} for a path, {/name*} for a list of segments, {?name,other} for a query "
    "(RFC 6570, without {.name}, {;name}, {#name} and the :length modifier)"
)
_CHARACTER = "[^/?#]"
_SEGMENT = f"{_CHARACTER}+"
_PATTERNS = {"{x}": _SEGMENT, "{+x}": "[^?#]+", "{x*}": f"{_CHARACTER}*", "{/x*}": f"(?:/{_CHARACTER}*)*"}
_SEPARATORS = {"{x*}": ",", "{/x*}": "/"}


class Variable(NamedTuple):
    """A variable outside the query; `form` is a key of _PATTERNS."""

    name: str
    form: str

    @property
    def is_open(self) -> bool:
        """Whether only the text around it says where it ends."""
        return self.form != "{x}"


Atom = str | Variable


def check_uri(uri: str) -> None:
    """Refuse what is no absolute URI (RFC 3986 §3)."""
    if not _SCHEME.match(uri) or any(c.isspace() for c in uri):
        raise RegistrationError(f"{uri!r} is not a resource URI; it needs a scheme, such as config://settings.")


class UriPattern:
    """A compiled template: `names` are its variables, `lists` those with `*`, `optional` those a URI may leave out."""

    def __init__(self, template: str) -> None:
        parts = _Parser(template)
        check_uri(template)
        self._fixed, self._query = parts.fixed, parts.query
        self._variables = [atom for atom in parts.atoms if isinstance(atom, Variable)]
        self._path = re.compile(_expression(parts.atoms))
        self.names = [variable.name for variable in self._variables] + list(self._query)
        lists = [variable.name for variable in self._variables if variable.form in _SEPARATORS]
        self.lists = frozenset(lists + [name for name, many in self._query.items() if many])
        self.optional = frozenset(self._query) - self.lists

    def match(self, uri: str) -> Values | None:
        """Return the decoded variables of `uri`, None where it does not match; a list without items is empty.

        A value that would climb out of its place once decoded (`..`, a slash in a single segment, a path from the root,
        a backslash, a control character, text that is not UTF-8) does not match, nor does an empty one in the path.
        """
        query = None
        if self._fixed is not None:
            uri, mark, rest = uri.partition("?")
            query = rest if mark else None
        found = self._path.fullmatch(uri)
        if found is None:
            return None
        values: Values = {}
        try:
            for variable, raw in zip(self._variables, found.groups(), strict=True):
                if not _put(values, variable, raw):
                    return None
            return values if self._match_query(query, values) else None
        except UnicodeError:
            return None

    def _match_query(self, query: str | None, values: Values) -> bool:
        pairs = [] if query is None else query.split("&")
        for fixed in self._fixed or ():
            if fixed not in pairs:
                return False
            pairs.remove(fixed)
        lists: dict[str, list[str]] = {name: [] for name, many in self._query.items() if many}
        for pair in pairs:
            name, equals, raw = pair.partition("=")
            value = _decode(raw, slashes=True)
            if not equals or value is None or "#" in raw or name not in self._query or name in values:
                return False
            if name in lists:
                lists[name].append(value)
            else:
                values[name] = value
        values.update(lists)
        return True


class _Parser:
    """Reads a template into the atoms of its path and the variables of its query; raises RegistrationError.

    `fixed` are the literal pairs of a query that has variables, None without such a query.
    """

    def __init__(self, template: str) -> None:
        self._template = template
        self._names: set[str] = set()
        self.atoms: list[Atom] = []
        self.fixed: list[str] | None = None
        self.query: dict[str, bool] = {}
        for index, part in enumerate(_EXPRESSION.split(template)):  # text and expressions take turns
            if index % 2:
                self._expression(part)
            else:
                self._text(part)
        opened = [atom.name for atom in self.atoms if isinstance(atom, Variable) and atom.is_open]
        if len(opened) > 1:
            raise RegistrationError(
                f"The template {template!r} leaves open where {opened[0]} and {opened[1]} end; use one "
                "{+name} or {name*} at most."
            )
        for first, second in pairwise(self.atoms):
            if isinstance(first, Variable) and isinstance(second, Variable) and second.form != "{/x*}":
                raise RegistrationError(
                    f"The template {template!r} leaves open where {first.name} ends; put text between it and "
                    f"{second.name}."
                )

    def _text(self, text: str) -> None:
        if not text:
            return
        if "{" in text or "}" in text:
            raise RegistrationError(f"The template {self._template!r} has a brace without its partner.")
        if self.fixed is not None:
            raise RegistrationError(f"The template {self._template!r} goes on after its query; put that last.")
        if self.atoms and isinstance(self.atoms[-1], str):
            text = self.atoms.pop() + text  # type: ignore[operator]
        self.atoms.append(text)

    def _expression(self, inner: str) -> None:
        if not _INNER.fullmatch(inner):
            raise RegistrationError(f"The template {self._template!r} has the expression {{{inner}}}; {_HELP}.")
        operator = inner[0] if inner[0] in "+/?&" else ""
        if operator in {"?", "&"}:
            self._open_query(operator)
        for index, spelt in enumerate(inner.removeprefix(operator).split(",")):
            name, star = spelt.removesuffix("*"), "*" if spelt.endswith("*") else ""
            if name in self._names:
                raise RegistrationError(
                    f"The template {self._template!r} has the variable {name} twice; give each its own name."
                )
            self._names.add(name)
            if operator in {"?", "&"}:
                self.query[name] = bool(star)
                continue
            if operator == "/" and not star:
                self._text("/")
                form = "{x}"
            else:
                self._text("," if index and not operator else "")
                form = f"{{{operator}x{star}}}"
            if self.fixed is not None:
                self._text(inner)  # refused: nothing follows a query
            self.atoms.append(Variable(name, form))

    def _open_query(self, operator: str) -> None:
        if operator == "&" and self.fixed is not None:
            return
        texts = [atom for atom in self.atoms if isinstance(atom, str) and ("?" in atom or "#" in atom)]
        if operator == "?":
            if texts or self.fixed is not None:
                raise RegistrationError(
                    f"The template {self._template!r} begins its query twice; use {{?name,other}} once, and nothing "
                    "after it but {&name}."
                )
            self.fixed = []
        elif texts and texts[-1] is self.atoms[-1] and len(texts) == 1:
            path, _, pairs = texts[0].partition("?")
            self.atoms[-1:] = [path] if path else []
            self.fixed = pairs.split("&")
        else:
            raise RegistrationError(
                f"The template {self._template!r} has {{&…}} without a query of plain text before it; use "
                "{?name,other}."
            )


def _expression(atoms: list[Atom]) -> str:
    """Return the regular expression of a path, which takes time linear in the URI.

    Before the open variable (without one, the last), each one ends where the text after it first occurs; after it, each
    one begins where the text before it last occurs.
    """
    places = [index for index, atom in enumerate(atoms) if isinstance(atom, Variable)]
    opened = [index for index in places if atoms[index][1] != "{x}"]
    pivot = (opened or places or [len(atoms)])[0 if opened else -1]
    parts = []
    for index, atom in enumerate(atoms):
        if isinstance(atom, str):
            parts.append(re.escape(atom))
        elif index == pivot:
            parts.append(f"({_PATTERNS[atom.form]})")
        elif index < pivot:
            after = atoms[index + 1]
            stop = f"(?!{re.escape(after)})" if isinstance(after, str) else ""
            parts.append(f"({_CHARACTER}(?:{stop}{_CHARACTER})*+)")
        else:
            before = atoms[index - 1]
            assert isinstance(before, str)
            parts.append(f"((?:(?!{re.escape(before)}){_CHARACTER})*{_CHARACTER})")
    return "".join(parts)


def _put(values: Values, variable: Variable, raw: str) -> bool:
    """Decode what stands for a variable of the path into `values`; False where it does not fit."""
    separator = _SEPARATORS.get(variable.form)
    if separator is None:
        value = _decode(raw, slashes=variable.form == "{+x}")
        if value is None:
            return False
        values[variable.name] = value
        return True
    items = [_decode(item, slashes=False) for item in raw.removeprefix("/").split(separator)] if raw else []
    values[variable.name] = [item for item in items if item]
    return all(items)


def _decode(raw: str, *, slashes: bool) -> str | None:
    """Percent-decode a value, in which slashes may stand or not; None for one that is not safe."""
    value = unquote_to_bytes(raw).decode() if "%" in raw or not raw.isascii() else raw
    segments = value.split("/")
    if _UNSAFE.search(value) or ".." in segments or "." in segments:
        return None
    return None if len(segments) > 1 and not (slashes and segments[0]) else value
