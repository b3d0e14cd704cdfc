"""Reads the challenges of a server that refuses a request (header WWW-Authenticate, RFC 9110 section 11.6.1)."""

import re
from dataclasses import dataclass

_MOST = 8192  # characters of the header that are read
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'[\s,]*({_NAME})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_SCHEME = re.compile(rf"[\s,]*({_NAME})(?=[\s,]|$)(?!\s*=)")


@dataclass(frozen=True, slots=True)
class BearerChallenge:
    """What a server says in its challenge Bearer (RFC 6750 section 3, RFC 9728 section 5.1); "" for what is absent."""

    resource_metadata: str = ""
    scope: str = ""
    error: str = ""

    @property
    def asks_for_scopes(self) -> bool:
        """Whether the token that was sent lacks scopes, which the server names."""
        return self.error == "insufficient_scope" and bool(self.scope)


def read_challenge(header: str) -> BearerChallenge | None:
    """Return the first challenge of the scheme Bearer; None if there is none."""
    text, at, scheme = header[:_MOST], 0, ""
    parameters: dict[str, str] = {}
    while at < len(text):
        if (found := _SCHEME.match(text, at)) is not None:
            if scheme == "bearer":
                break
            scheme, at = found[1].lower(), found.end()
        elif (found := _PARAMETER.match(text, at)) is not None:
            if scheme == "bearer":
                value = re.sub(r"\\(.)", r"\1", found[2]) if found[2] is not None else found[3]
                parameters.setdefault(found[1].lower(), value)
            at = found.end()
        else:  # credentials of another scheme, or nothing that is known
            at += 1
    if scheme != "bearer":
        return None
    known = {name: parameters.get(name, "") for name in ("resource_metadata", "scope", "error")}
    return BearerChallenge(**known)
