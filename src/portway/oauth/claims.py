"""Judges the claims of an access token: issuer, audience, expiry with 30 s for clocks that differ, kind of token; and
makes the caller of them (RFC 9068).
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from portway.auth.principal import Principal
from portway.oauth.refused_tokens import ExpiredToken, TokenRefusal
from portway.oauth.settings import OAuth

_CLIENT = ("client_id", "azp", "cid")
_CLIENT_ITSELF = (
    "client_id="  # begins the subject of a client that calls as itself, and no `sub` (RFC 9700 section 4.15)
)
_LAST_SECOND = 253_402_300_799  # of the year 9999
_SKEW_SECONDS = 30
_OF_OTHER_TOKENS = ("nonce", "at_hash", "c_hash", "s_hash", "cnf")
"""Claims of ID tokens (OIDC Core section 2), and of tokens that are good only with a proof, which is not checked here
(RFC 7800)."""
_KINDS = {"typ": ("bearer", "at+jwt"), "token_use": ("access",), "token_type": ("bearer", "access_token")}
"""What providers say of an access token in claims of their own: Keycloak, Cognito, an introspection response."""


class ClaimRules:
    """Tells whose claims are those of one provider's access token for this server; `names` are further audiences."""

    def __init__(self, settings: OAuth, names: Iterable[str] = ()) -> None:
        self._issuer = settings.issuer
        self._audience = settings.audience
        self._obtainable = frozenset(settings.scopes)
        self._audiences = frozenset(map(normalised, (settings.audience, settings.resource, *names)))

    def principal(
        self, claims: Mapping[str, Any], *, is_typed: bool, may_last: bool = False
    ) -> Principal | TokenRefusal:
        """Return the caller; or why not, for claims of another issuer, audience, time or kind of token.

        `is_typed`: it is known to be an access token. Otherwise, one that looks like an ID token is refused: it has no
        scopes, and its audience may be the client itself. With `may_last`, claims need no end.
        """
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if expires is None and may_last:
            expires = _LAST_SECOND
        subject = claims.get("sub") or None
        client = next((each for name in _CLIENT if isinstance(each := claims.get(name), str)), None)
        scopes = frozenset((*_words(claims.get("scope")), *_words(claims.get("scp"))))
        audience = self._audience_among(claims.get("aud"))
        if claims.get("iss") != self._issuer:
            return TokenRefusal("its issuer is %s, not %s", claims.get("iss"), self._issuer)
        if audience is None:
            return TokenRefusal("its audience is %s, not %s", claims.get("aud"), self._audience)
        if subject is None and isinstance(itself := claims.get("client_id"), str) and itself:
            subject = _CLIENT_ITSELF + itself
        elif not isinstance(subject, str) or subject.startswith(_CLIENT_ITSELF):
            return TokenRefusal("it names nobody: its sub is %s", claims.get("sub"))
        if not _is_time(expires) or not _is_time(begins):
            return TokenRefusal("its exp is %s and its nbf %s, which are no times", expires, begins)
        if (refusal := _untimely(expires, begins) or _of_another_kind(claims)) is not None:
            return refusal
        is_own_client = client == audience or (client is None and "://" not in audience)
        if is_own_client and not (is_typed or scopes):
            return TokenRefusal("it may be an ID token: its audience %s is its client, and it has no scope", audience)
        until = None if expires == _LAST_SECOND else expires + _SKEW_SECONDS
        return Principal(self._issuer, subject, client, scopes, claims, until, self._obtainable)

    def _audience_among(self, claim: object) -> str | None:
        """Return which audience of a token is this server."""
        for each in claim if isinstance(claim, list) else (claim,):
            if isinstance(each, str) and (each in self._audiences or normalised(each) in self._audiences):
                return each
        return None


def _untimely(expires: float, begins: float) -> TokenRefusal | None:
    now = time.time()
    if now >= expires + _SKEW_SECONDS:
        return ExpiredToken("it expired %s s ago", int(now - expires))
    if now < begins - _SKEW_SECONDS:
        return TokenRefusal("it is good only in %s s: compare the clocks", int(begins - now))
    return None


def _of_another_kind(claims: Mapping[str, Any]) -> TokenRefusal | None:
    for name in _OF_OTHER_TOKENS:
        if name in claims:
            return TokenRefusal("it is no access token, or needs a proof: it has the claim %s", name)
    for name, kinds in _KINDS.items():
        if name in claims and str(claims[name]).lower() not in kinds:
            return TokenRefusal("it is no access token: its %s is %s", name, claims[name])
    return None


def normalised(identifier: str) -> str:
    """Return an audience as it is compared: of a URL, scheme and host in lower case, no usual port, no last slash."""
    try:
        parts = urlsplit(identifier)
        port = parts.port
    except ValueError:
        return identifier
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or parts.fragment:
        return identifier
    usual = {"http": 80, "https": 443}[parts.scheme.lower()]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port in (None, usual) else f"{host}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme.lower()}://{place}{parts.path.rstrip('/')}{query}"


def _words(value: object) -> list[str]:
    """Return the scopes of a claim: a text of words, or a list of them."""
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LAST_SECOND
