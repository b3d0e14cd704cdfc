"""Authorization: the one place where a call is allowed, or refused for want of a scope."""

from portway.auth.principal import Principal


class Forbidden(Exception):
    """The caller lacks some of the scopes that are `needed` (RFC 6750 §3.1: insufficient_scope)."""

    def __init__(self, needed: frozenset[str], missing: frozenset[str]) -> None:
        self.needed = needed
        super().__init__("The token lacks a scope this needs: " + " ".join(sorted(missing)) + ".")


def authorize(principal: Principal, required: frozenset[str]) -> None:
    """Raise Forbidden unless `principal` has all scopes in `required`. Both eras and all transports call this."""
    if not required <= principal.scopes:
        raise Forbidden(required, required - principal.scopes)
