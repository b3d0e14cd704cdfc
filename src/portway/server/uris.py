"""URI templates (RFC 6570): `{name}` for one path segment and `{+name}` for a path, matched safely."""

import re
from urllib.parse import unquote_to_bytes

from portway.server.errors import RegistrationError

_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_VARIABLE = re.compile(r"(\+?)([A-Za-z_][A-Za-z0-9_]*)\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_UNSAFE = re.compile(r"[\\\x00-\x1f]")


def check_uri(uri: str) -> None:
    """Refuse what is no absolute URI (RFC 3986 §3)."""
    if not _SCHEME.match(uri) or any(c.isspace() for c in uri):
        raise RegistrationError(f"{uri!r} is not a resource URI; it needs a scheme, such as config://settings.")


class UriPattern:
    """A compiled template: `names` are its variables in order."""

    def __init__(self, template: str) -> None:
        check_uri(template)
        self.names: list[str] = []
        self._paths: set[str] = set()
        parts, end = [], 0
        for found in _EXPRESSION.finditer(template):
            variable = _VARIABLE.match(found[1])
            if variable is None or variable[2] in self.names:
                raise RegistrationError(
                    f"The template {template!r} has the expression {found[0]}; "
                    "use {name} for one path segment or {+name} for a path, each name once."
                )
            self.names.append(variable[2])
            if variable[1]:
                self._paths.add(variable[2])
            parts.append(re.escape(template[end : found.start()]) + ("([^?#]+)" if variable[1] else "([^/?#]+)"))
            end = found.end()
        self._regex = re.compile("".join(parts) + re.escape(template[end:]))

    def match(self, uri: str) -> dict[str, str] | None:
        """The decoded variables of `uri`, None where it does not match.

        A value that would climb out of its place once decoded (`..`, a slash in a single segment, a backslash, a
        control character, text that is not UTF-8) does not match.
        """
        found = self._regex.fullmatch(uri)
        if found is None:
            return None
        values: dict[str, str] = {}
        for name, raw in zip(self.names, found.groups(), strict=True):
            try:
                value = unquote_to_bytes(raw).decode()
            except UnicodeDecodeError:
                return None
            segments = value.split("/")
            if _UNSAFE.search(value) or ".." in segments or "." in segments:
                return None
            if len(segments) > 1 and (name not in self._paths or not segments[0]):
                return None
            values[name] = value
        return values
