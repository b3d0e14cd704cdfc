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
_QUERY = re.compile(r"(?:\?(?P<fixed>[^{}?#]*)(?=\{&)|(?=\{\?))(?P<variables>\{[?&][^{}]*\}(?:\{&[^{}]*\})*)\Z")
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
        query = _QUERY.search(template)
        atoms = _parse_path(template, template[: query.start()] if query else template)
        check_uri(template)
        self._variables = [atom for atom in atoms if isinstance(atom, Variable)]
        self._path = re.compile(_expression(atoms))
        self._has_query = query is not None
        self._fixed = query["fixed"].split("&") if query and query["fixed"] is not None else []
        expressions = _EXPRESSION.findall(query["variables"]) if query else []
        in_query = [variable for inner in expressions for variable in _parse(template, inner)[1]]
        self._query = dict(in_query)
        self.names = [variable.name for variable in self._variables] + [name for name, _ in in_query]
        if twice := next((name for name in self.names if self.names.count(name) > 1), None):
            raise RegistrationError(
                f"The template {template!r} has the variable {twice} twice; give each its own name."
            )
        lists = [variable.name for variable in self._variables if variable.form in _SEPARATORS]
        self.lists = frozenset(lists + [name for name, many in in_query if many])
        self.optional = frozenset(self._query) - self.lists

    def match(self, uri: str) -> Values | None:
        """Return the decoded variables of `uri`, None where it does not match; a list without items is empty.

        A value that would climb out of its place once decoded (`..`, a slash in a single segment, a path from the root,
        a backslash, a control character, text that is not UTF-8) does not match, nor does an empty one in the path.
        """
        pairs: list[str] = []
        if self._has_query:
            uri, mark, query = uri.partition("?")
            pairs = query.split("&") if mark else []
        found = self._path.fullmatch(uri)
        if found is None:
            return None
        values: Values = {}
        try:
            for variable, raw in zip(self._variables, found.groups(), strict=True):
                if not _put(values, variable, raw):
                    return None
            return values if self._match_query(pairs, values) else None
        except UnicodeError:
            return None

    def _match_query(self, pairs: list[str], values: Values) -> bool:
        for fixed in self._fixed:
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


def _parse(template: str, inner: str) -> tuple[str, list[tuple[str, bool]]]:
    """Return the operator of an expression, and its variables, each with whether it has a `*`."""
    if not _INNER.fullmatch(inner):
        raise RegistrationError(f"The template {template!r} has the expression {{{inner}}}; {_HELP}.")
    operator = inner[0] if inner[0] in "+/?&" else ""
    return operator, [(name.removesuffix("*"), name.endswith("*")) for name in inner.removeprefix(operator).split(",")]


def _parse_path(template: str, path: str) -> list[Atom]:
    """Return texts and variables, no two texts beside each other; raises RegistrationError."""
    atoms: list[Atom] = []
    for index, part in enumerate(_EXPRESSION.split(path)):  # texts and expressions take turns
        if index % 2 == 0:
            if "{" in part or "}" in part:
                raise RegistrationError(f"The template {template!r} has a brace without its partner.")
            _add_text(atoms, part)
            continue
        operator, variables = _parse(template, part)
        if operator in {"?", "&"}:
            raise _misplaced_query(template)
        for position, (name, many) in enumerate(variables):
            if operator == "/" and not many:
                _add_text(atoms, "/")
                atoms.append(Variable(name, "{x}"))
            else:
                _add_text(atoms, "," if position and not operator else "")
                atoms.append(Variable(name, f"{{{operator}x{'*' if many else ''}}}"))
    if path != template and any(isinstance(atom, str) and ("?" in atom or "#" in atom) for atom in atoms):
        raise _misplaced_query(template)
    opened = [atom.name for atom in atoms if isinstance(atom, Variable) and atom.is_open]
    if len(opened) > 1:
        raise RegistrationError(
            f"The template {template!r} leaves open where {opened[0]} and {opened[1]} end; use one "
            "{+name} or {name*} at most."
        )
    for first, second in pairwise(atoms):
        if isinstance(first, Variable) and isinstance(second, Variable) and second.form != "{/x*}":
            raise RegistrationError(
                f"The template {template!r} leaves open where {first.name} ends; put text between it and {second.name}."
            )
    return atoms


def _add_text(atoms: list[Atom], text: str) -> None:
    if atoms and isinstance(atoms[-1], str):
        atoms[-1] += text
    elif text:
        atoms.append(text)


def _misplaced_query(template: str) -> RegistrationError:
    return RegistrationError(
        f"The template {template!r} must end with its only query: {{?name,other}}, or plain text and {{&name}}, as in "
        "?lang=en{&name}."
    )


def _expression(atoms: list[Atom]) -> str:
    """Return the regular expression of a path, which takes time linear in the URI.

    Before the open variable (without one, the last), each one ends where the text after it first occurs; after it, each
    one begins where the text before it last occurs.
    """
    variables = [(index, atom) for index, atom in enumerate(atoms) if isinstance(atom, Variable)]
    pivot = next((index for index, variable in variables if variable.is_open), variables[-1][0] if variables else 0)
    parts = []
    for index, atom in enumerate(atoms):
        if isinstance(atom, str):
            parts.append(re.escape(atom))
        elif index == pivot:
            parts.append(f"({_PATTERNS[atom.form]})")
        elif index < pivot:
            after = atoms[index + 1]  # the list that may follow at once begins with a slash, or is empty
            rest = f"(?:(?!{re.escape(after)}){_CHARACTER})*+" if isinstance(after, str) else f"{_CHARACTER}*"
            parts.append(f"({_CHARACTER}{rest})")
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
