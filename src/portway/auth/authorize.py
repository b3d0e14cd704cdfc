"""Authorization: the one place where a call is allowed or refused."""

from portway.auth.principal import Principal


class Forbidden(Exception):
    """The caller lacks the `missing` scopes (RFC 6750 §3.1: insufficient_scope)."""

    def __init__(self, missing: frozenset[str]) -> None:
        self.missing = missing
        super().__init__("The token lacks a scope this needs: " + " ".join(sorted(missing)) + ".")


def authorize(principal: Principal, required: frozenset[str]) -> None:
    """Raise Forbidden unless `principal` has all scopes in `required`. Both eras and all transports call this."""
    if not required <= principal.scopes:
        raise Forbidden(required - principal.scopes)
