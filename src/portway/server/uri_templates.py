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


class Variable(NamedTuple):
    """A variable outside the query; `operator` is "", "+" or "/"."""

    name: str
    operator: str
    explode: bool

    @property
    def is_open(self) -> bool:
        """Whether only the text around it says where it ends."""
        return self.explode or self.operator == "+"


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
        self._atoms, self._fixed, self._query = parts.atoms, parts.fixed, parts.query
        self._start = str(self._atoms[0])  # a template begins with its scheme, so with text
        variables = [atom for atom in self._atoms if isinstance(atom, Variable)]
        self.names = [variable.name for variable in variables] + list(self._query)
        self.lists = frozenset(v.name for v in variables if v.explode) | {n for n, many in self._query.items() if many}
        self.optional = frozenset(self._query) - self.lists
        pivot = next((v for v in variables if v.is_open), variables[-1] if variables else None)
        self._pivot = len(self._atoms) if pivot is None else self._atoms.index(pivot)

    def match(self, uri: str) -> Values | None:
        """The decoded variables of `uri`, None where it does not match; a list nothing is there of is empty.

        A value that would climb out of its place once decoded (`..`, a slash in a single segment, a path from the root,
        a backslash, a control character, text that is not UTF-8) does not match, nor does an empty one in the path.
        """
        if not uri.startswith(self._start):
            return None
        values: Values = {}
        query: str | None = None
        if self._fixed is not None:
            if "#" in uri:
                return None
            uri, mark, query = uri.partition("?")
            query = query if mark else None
        try:
            matched = self._match_path(uri, values) and (self._fixed is None or self._match_query(query, values))
        except UnicodeError:
            return None
        return values if matched else None

    def _match_path(self, uri: str, values: Values) -> bool:
        start, stop, atoms = 0, len(uri), self._atoms
        for index in range(len(atoms) - 1, self._pivot, -1):
            atom = atoms[index]
            if isinstance(atom, str):
                if not uri.endswith(atom, start, stop):
                    return False
                stop -= len(atom)
            else:
                before = atoms[index - 1]
                assert isinstance(before, str)
                found = uri.rfind(before, 0, stop - 1)
                if found < 0 or not _put(values, atom, uri[found + len(before) : stop]):
                    return False
                stop = found + len(before)
        for index in range(self._pivot):
            atom, after = atoms[index], atoms[index + 1] if index + 1 < len(atoms) else ""
            if isinstance(atom, str):
                if not uri.startswith(atom, start, stop):
                    return False
                start += len(atom)
            else:
                found = uri.find(after if isinstance(after, str) else after.operator, start + 1, stop)
                if found < 0 and isinstance(after, Variable):
                    found = stop  # an empty list follows
                if found < 0 or not _put(values, atom, uri[start:found]):
                    return False
                start = found
        if self._pivot == len(atoms):
            return start == stop
        pivot = atoms[self._pivot]
        assert isinstance(pivot, Variable)
        return start <= stop and _put(values, pivot, uri[start:stop])

    def _match_query(self, query: str | None, values: Values) -> bool:
        assert self._fixed is not None
        pairs = [] if query is None else query.split("&")
        for fixed in self._fixed:
            if fixed not in pairs:
                return False
            pairs.remove(fixed)
        lists: dict[str, list[str]] = {name: [] for name, many in self._query.items() if many}
        for pair in pairs:
            name, equals, raw = pair.partition("=")
            value = _decode(raw, "#")
            if not equals or value is None or name not in self._query or name in values:
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
        end = 0
        for found in _EXPRESSION.finditer(template):
            self._text(template[end : found.start()])
            self._expression(found[1])
            end = found.end()
        self._text(template[end:])
        opened = [atom.name for atom in self.atoms if isinstance(atom, Variable) and atom.is_open]
        if len(opened) > 1:
            raise RegistrationError(
                f"The template {self._template!r} leaves open where {opened[0]} and {opened[1]} end; use one "
                "{+name} or {name*} at most."
            )
        for first, second in pairwise(self.atoms):
            if (
                isinstance(first, Variable)
                and isinstance(second, Variable)
                and not (second.explode and second.operator)
            ):
                raise RegistrationError(
                    f"The template {self._template!r} leaves open where {first.name} ends; put text between it and "
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
            name, explode = spelt.removesuffix("*"), spelt.endswith("*")
            if name in self._names:
                raise RegistrationError(
                    f"The template {self._template!r} has the variable {name} twice; give each its own name."
                )
            self._names.add(name)
            if operator in {"?", "&"}:
                self.query[name] = explode
                continue
            variable = Variable(name, operator, explode)
            if operator == "/" and not explode:
                self._text("/")
            elif index and not operator:
                self._text(",")
            if self.fixed is not None:
                self._text(inner)  # refused: nothing follows a query
            self.atoms.append(variable)

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


def _put(values: Values, variable: Variable, raw: str) -> bool:
    """Decode what stands for a variable of the path into `values`; False where it does not fit."""
    if not variable.explode:
        value = _decode(raw, "?#" if variable.operator == "+" else "/?#")
        if not value:
            return False
        values[variable.name] = value
        return True
    lead = variable.operator  # it stands before every item of a list; without one a comma is between them
    if not raw.startswith(lead):
        values[variable.name] = []
        return not raw
    items = raw.removeprefix(lead).split(lead or ",") if raw else []
    decoded = [_decode(item, "/?#") for item in items]
    values[variable.name] = [item for item in decoded if item]
    return all(decoded)


def _decode(raw: str, reserved: str) -> str | None:
    """Percent-decode a value in which none of `reserved` may stand as it is; None for one that is not safe."""
    for character in reserved:
        if character in raw:
            return None
    value = unquote_to_bytes(raw).decode() if "%" in raw or not raw.isascii() else raw
    segments = value.split("/")
    if _UNSAFE.search(value) or ".." in segments or "." in segments:
        return None
    if len(segments) > 1 and ("/" in reserved or not segments[0]):
        return None
    return value
