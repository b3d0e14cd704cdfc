"""Verifies access tokens that are JWTs (RFC 9068, RFC 8725), and remembers those that were good."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import msgspec

from portway.auth.principal import Principal
from portway.oauth.settings import OAuth
from portway.oauth.signing_keys import SigningKey, SigningKeys
from portway.protocol.jsonrpc import UNREADABLE

_LONGEST = 16_384  # characters of a token
_SKEW_SECONDS = 30
_MOST_KNOWN = 4096
_MOST_TRIED = 4  # keys, for a token that names none
_TYPES = ("", "jwt", "at+jwt", "application/at+jwt")
_ID_TOKEN = ("nonce", "at_hash", "c_hash")  # claims of ID tokens (OIDC Core section 2)
_ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
"""Those that are taken, all of them asymmetric, with the kind of key each needs."""


class _Header(msgspec.Struct):
    alg: str
    kid: str = ""
    typ: str = ""
    crit: list[str] = []


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified with keys of this edition."""

    principal: Principal
    edition: int


class AccessTokens:
    """A `TokenVerifier` for the access tokens of one provider."""

    def __init__(self, settings: OAuth) -> None:
        self._settings = settings
        self._keys = SigningKeys(settings)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()  # by digest; the one unused for longest first

    async def verify(self, token: str) -> Principal | None:
        """Return the caller of a token; None for one that is not valid here. Raises `VerifierUnavailable`."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None and known.edition == self._keys.edition and not _is_over(known.principal):
            self._known.move_to_end(digest)
            self._keys.refresh()
            return known.principal
        principal = await self._verify(token)
        if principal is not None:
            self._known[digest] = _Known(principal, self._keys.edition)
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return principal

    async def _verify(self, token: str) -> Principal | None:
        header = _header(token)
        if header is None or header.crit or header.typ.lower() not in _TYPES:
            return None
        if (kind := _ALGORITHMS.get(header.alg)) is None:
            return None
        keys = await self._keys.find(header.kid, kind)
        claims = _claims(token, header.alg, keys[:_MOST_TRIED])
        return None if claims is None else self._principal(claims)

    def _principal(self, claims: dict[str, Any]) -> Principal | None:
        """Return the caller that claims describe; None for those that are not meant for this server, now."""
        settings, now = self._settings, time.time()
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        audiences = claims["aud"] if isinstance(claims.get("aud"), list) else [claims.get("aud")]
        wanted = (normalised(settings.audience), normalised(settings.resource))
        subject = claims.get("sub") or claims.get("client_id")
        if (
            claims.get("iss") != settings.issuer
            or not any(isinstance(each, str) and normalised(each) in wanted for each in audiences)
            or any(name in claims for name in _ID_TOKEN)
            or not isinstance(subject, str)
            or not _is_time(expires)
            or not _is_time(begins)
            or now >= expires + _SKEW_SECONDS
            or now < begins - _SKEW_SECONDS
        ):
            return None
        clients = (claims.get(name) for name in ("client_id", "azp", "cid"))
        client = next((each for each in clients if isinstance(each, str)), None)
        scopes = frozenset((*_words(claims.get("scope")), *_words(claims.get("scp"))))
        return Principal(settings.issuer, subject, client, scopes, claims, expires + _SKEW_SECONDS)


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


def _header(token: str) -> _Header | None:
    """Return the header of a JWT in its compact form; None for anything else. Nothing of it is trusted."""
    import base64

    parts = token.split(".")
    if len(token) > _LONGEST or len(parts) != 3:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(parts[0] + "=="), type=_Header)
    except UNREADABLE:
        return None


def _claims(token: str, algorithm: str, keys: Iterable[SigningKey]) -> dict[str, Any] | None:
    """Return the claims of a token that one of the keys has signed."""
    from joserfc import jwk, jwt
    from joserfc.errors import JoseError

    for key in keys:
        if key.algorithm in ("", algorithm):
            try:
                return jwt.decode(token, jwk.import_key(dict(key.jwk)), algorithms=[algorithm]).claims
            except (JoseError, ValueError, TypeError):
                continue
    return None


def _words(value: object) -> list[str]:
    """Return the scopes of a claim: a text of words, or a list of them."""
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_over(principal: Principal) -> bool:
    return principal.expires is not None and time.time() >= principal.expires
