"""The kinds of value of a blueprint's fields (texts, numbers, choices, origins, limits …), how each is read, and the
words "it must be …".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from portway.host import domain_names, variable_names
from portway.host.blueprint.unknown_field import unknown_field
from portway.host.blueprint.yaml_tree import Items, Members, Node, Scalar, shortened
from portway.http.cors import is_origin
from portway.oauth.settings import is_issuer
from portway.policy.rules import Limit

_LONGEST = 32 * 1024
_SEVERAL = 10
_MOST_LIMITS = 32
_LIMIT_FIELDS = [field.encode_name for field in msgspec.structs.fields(Limit)]
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")  # YAML 1.1's; 1.2 has only the first of each


class WrongValue(Exception):
    """The node is not of the kind. The message says why, where it can say more than the kind does."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value. `says` completes "it must be …"; `read` raises `WrongValue`."""

    says: str
    read: Callable[[Node], object]


def matching(says: str, pattern: str) -> Kind:
    """Return the kind of texts that match `pattern` as a whole. A number without quotation marks is a text, too."""
    compiled = re.compile(pattern, re.DOTALL)

    def read(node: Node) -> str:
        text = _text(node)
        if not compiled.fullmatch(text) or "\0" in text or len(text) > _LONGEST:
            raise WrongValue
        return text

    return Kind(says, read)


def choice(*values: str, also: dict[str, str] | None = None) -> Kind:
    """Return the kind of one of `values`; `also` maps other spellings to one of them."""
    spellings = {value: value for value in values} | (also or {})

    def read(node: Node) -> str:
        if (text := _text(node)) not in spellings:
            raise WrongValue
        return spellings[text]

    listed = ", ".join(f"`{value}`" for value in values)
    return Kind(f"one of {listed}" if len(values) > 1 else listed, read)


def number(low: int, high: int) -> Kind:
    def read(node: Node) -> int:
        text = _text(node)
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise WrongValue
        return int(text)

    return Kind(f"a whole number from {low} to {high}", read)


def cores(low: float, high: int) -> Kind:
    """Return the kind of numbers of processor cores, which may be fractions."""

    def read(node: Node) -> float:
        text = _text(node)
        if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not low <= float(text) <= high:
            raise WrongValue
        return float(text)

    return Kind(f"a number from {low:g} to {high}, as in 0.5", read)


def list_of(kind: Kind, says: str) -> Kind:
    def read(node: Node) -> list[object]:
        if not isinstance(node, Items):
            raise WrongValue
        return [kind.read(item) for item in node.nodes]

    return Kind(f"a list of {says}", read)


def one_or_several(kind: Kind, says: str) -> Kind:
    """Return the kind of a value, or of a list of at most ten; it is read as a list."""

    def read(node: Node) -> list[object]:
        nodes = node.nodes if isinstance(node, Items) else [node]
        if not 0 < len(nodes) <= _SEVERAL:
            raise WrongValue
        return [kind.read(each) for each in nodes]

    return Kind(says, read)


def _text(node: Node) -> str:
    """Return the text of a scalar that stands for something and can be passed to a process."""
    if not isinstance(node, Scalar) or (node.is_plain and node.text in ("", "~", "null", "Null", "NULL")):
        raise WrongValue
    try:
        node.text.encode()
    except UnicodeEncodeError:
        raise WrongValue from None
    return node.text


def _flag(node: Node) -> bool:
    text = _text(node).lower()
    if not (isinstance(node, Scalar) and node.is_plain and text in _TRUE + _FALSE):
        raise WrongValue
    return text in _TRUE


def _origin(node: Node) -> str:
    text = _text(node)
    if not is_origin(text):
        raise WrongValue
    return text


def _limits(node: Node) -> object:
    if not isinstance(node, Members) or len(node.entries) > _MOST_LIMITS:
        raise WrongValue
    for name, (_, limit) in node.entries.items():
        given = limit.entries if isinstance(limit, Members) else ()
        if unknown := next((each for each in given if each not in _LIMIT_FIELDS), ""):
            raise WrongValue(unknown_field(unknown, _LIMIT_FIELDS, f"the limits of `{shortened(name)}`"))
    try:
        limits = msgspec.convert(_json(node), dict[str, Limit])
    except msgspec.ValidationError:
        raise WrongValue from None
    return {name: msgspec.to_builtins(limit) for name, limit in limits.items()}


def _confirm(node: Node) -> object:
    try:
        return _flag(node)
    except WrongValue:
        return TEXT.read(node)


def _groups(node: Node) -> object:
    if not isinstance(node, Members):
        raise WrongValue
    return {name: SCOPES.read(value) for name, (_, value) in node.entries.items()}


def _issuer(node: Node) -> str:
    text = _text(node)
    if not is_issuer(text):
        raise WrongValue
    return text


def _arguments(node: Node) -> object:
    if not isinstance(node, Members):
        raise WrongValue
    return _json(node)


def _json(node: Node) -> object:
    """Return the JSON value that a node stands for. A plain scalar is what it would be in JSON, or else a text."""
    if isinstance(node, Items):
        return [_json(item) for item in node.nodes]
    if isinstance(node, Members):
        return {name: _json(value) for name, (_, value) in node.entries.items()}
    if node.is_plain:
        try:
            return msgspec.json.decode(node.text)
        except msgspec.DecodeError:
            pass
    return node.text


def _domains(node: Node) -> object:
    nodes = node.nodes if isinstance(node, Items) else [node]
    if len(nodes) > domain_names.MOST:
        raise WrongValue
    try:
        return list(dict.fromkeys(domain_names.read_domain(_text(each)) for each in nodes))
    except domain_names.DomainError:
        raise WrongValue from None


FLAG = Kind("`true` or `false`", _flag)
TEXT = matching("a text", r".*")
NAME = matching("a name", r"[^\n]{1,256}")
FOLDER = matching("a folder of the repository, as in `backend`", r"(?!/)(?!(?:.*/)?\.\.(?:/|$))[^\n]*")
URL_PATH = matching("a path that begins with `/`", r"/[!-~]*")
ROUTE_PATH = matching(
    "a path as in `/health`, or as in `/admin/*` for all below it",
    r"(?=/)(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~!$&'()+,;=:@-]+)*(?:/\*?)?",
)
# A sandbox makes the folders of the path: a link of the app's own on the way to it would have them made on the host.
MOUNT_PATH = matching(
    "a path as in `/var/data`, not in /tmp, /run, /proc or /dev",
    r"(?!/(?:tmp|run|proc|dev)(?:/|$))(?:/(?!\.{1,2}(?:/|$))[^/\n]+)+/?",
)
VARIABLE = matching("a name of letters, digits and `_`, no digit first", variable_names.VARIABLE)
GROUP_NAME = matching("a name of letters, digits, spaces and `.`, `_`, `-`, up to 64", variable_names.GROUP)
DOMAINS = Kind(f"a list of at most {domain_names.MOST} domain names, as in `tools.example.com`", _domains)
TEXTS = list_of(TEXT, "texts")
ORIGINS = list_of(Kind("an origin", _origin), "origins, as in `[https://app.example.com]`")
NAMES = one_or_several(NAME, "a name, or a list of names")
ISSUERS = one_or_several(
    Kind("an issuer", _issuer),
    "an https URL without query and comma, as in `https://login.example.com`, or a list of them",
)
SCOPES = list_of(
    matching("a scope", r"[\x21\x23-\x5b\x5d-\x7e]{1,256}"), "scopes, as in `[orders:write]`; a scope has no spaces"
)  # RFC 6749
LIMITS = Kind(
    f"a mapping of at most {_MOST_LIMITS} arguments to limits, as in `path: {{under: /data}}`",
    _limits,
)
CONFIRM = Kind("`true`, or a text as in `Delete {name}?`", _confirm)
GROUPS = Kind("a mapping of groups to lists of scopes, as in `ops: [orders:write]`", _groups)
ARGUMENTS = Kind("a mapping of arguments, as in `city: Oslo`", _arguments)
ANYTHING = Kind("anything", lambda _node: True)
