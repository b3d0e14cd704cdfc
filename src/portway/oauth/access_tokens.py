"""Verifies the access tokens of one or more providers: which provider is asked, by keys or introspection, and which
good tokens are remembered (RFC 9068, RFC 8725).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from portway.auth.principal import Principal
from portway.auth.tokens import LONGEST_TOKEN, VerifierUnavailable
from portway.oauth.claims import ClaimRules
from portway.oauth.introspection import Introspection
from portway.oauth.jwt import Jwt, read_jwt
from portway.oauth.refused_tokens import ExpiredToken, RefusedTokens, TokenRefusal
from portway.oauth.settings import OAuth
from portway.oauth.signing_key import ALGORITHMS
from portway.oauth.signing_keys import SigningKeys

Outcome = Literal["ok", "expired", "refused", "unavailable"]
"""How the check of a token ended; `unavailable`: the provider does not answer."""
_MOST_KNOWN = 4096
_MOST_TRIED = 4  # keys, for a token that names none


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified with the keys of this edition."""

    principal: Principal
    keys: SigningKeys
    edition: int

    def is_good(self) -> bool:
        """Return whether it is valid still."""
        return self.keys.refresh() and self.edition == self.keys.edition and not self.principal.is_over()


@dataclass(frozen=True, slots=True)
class _Provider:
    rules: ClaimRules
    keys: SigningKeys


class AccessTokens:
    """A `TokenVerifier` for the access tokens of these providers.

    The issuer that a token names only chooses among them. What can be told without a signature is looked at first, so
    that most bad tokens cost little: at most four signatures are checked for one, and no key is fetched for each.

    `keys` returns the keys of a provider, which several servers of a process may share. `audiences` are further names
    of this server. `count` is told how each check ended, with the issuer if it is one of these: of a JWT that is good,
    once.
    """

    def __init__(
        self,
        *providers: OAuth,
        keys: Callable[[OAuth], SigningKeys] = SigningKeys,
        audiences: Iterable[str] = (),
        count: Callable[[str, Outcome], None] = lambda _issuer, _outcome: None,
    ) -> None:
        names = tuple(audiences)
        self._providers = {each.issuer: _Provider(ClaimRules(each, names), keys(each)) for each in providers}
        self._introspections = {
            each.issuer: Introspection(each, self._providers[each.issuer].rules) for each in providers if each.opaque
        }
        self._refused = RefusedTokens()
        self._count = count
        self._known: OrderedDict[bytes, _Known] = OrderedDict()  # by digest; the one unused for longest first

    async def verify(self, token: str) -> Principal | None:
        """Return the caller of a token; None for one that is not valid here. Raises `VerifierUnavailable`."""
        if len(token) > LONGEST_TOKEN:
            self._refuse(TokenRefusal("no token of more than %s characters is read", LONGEST_TOKEN))
            return None
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is None or not known.is_good():
            jwt = read_jwt(token)
            if jwt is None:
                return await self._introspect(token, digest)
            issuer = jwt.claims.get("iss")
            trusted = issuer if isinstance(issuer, str) and issuer in self._providers else ""
            try:
                found = await self._verify(jwt)
            except VerifierUnavailable:
                self._count(trusted, "unavailable")
                raise
            if isinstance(found, TokenRefusal):
                self._refuse(found, trusted, jwt.claims)
                self._known.pop(digest, None)
                return None
            self._count(trusted, "ok")
            known = self._known[digest] = found
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(digest)
        return known.principal

    async def _introspect(self, token: str, digest: bytes) -> Principal | None:
        """Ask the providers that are to be asked, one after the other. Raises `VerifierUnavailable`."""
        unavailable, refused = None, ("", TokenRefusal("it is no signed JWT, and PORTWAY_AUTH_OPAQUE is not 1"))
        for issuer, each in self._introspections.items():
            try:
                found = await each.verify(token, digest)
            except VerifierUnavailable as error:
                if unavailable is None or error.silent < unavailable.silent:
                    unavailable = error
                self._count(issuer, "unavailable")
            else:
                if isinstance(found, Principal):
                    self._count(issuer, "ok")
                    return found
                refused = issuer, found
        if unavailable is not None:
            raise unavailable
        issuer, refusal = refused
        self._refuse(refusal, issuer)
        return None

    def _refuse(self, refusal: TokenRefusal, issuer: str = "", claims: Mapping[str, object] | None = None) -> None:
        self._refused.tell(refusal, issuer, claims)
        self._count(issuer, "expired" if isinstance(refusal, ExpiredToken) else "refused")

    async def _verify(self, jwt: Jwt) -> _Known | TokenRefusal:
        issuer, header = jwt.claims.get("iss"), jwt.header
        provider = self._providers.get(issuer) if isinstance(issuer, str) else None
        if provider is None:
            return TokenRefusal("its issuer is %s, not %s", issuer, list(self._providers))
        if not header.is_plain:
            return TokenRefusal("its header is not that of an access token: typ is %s", header.typ)
        if header.alg not in ALGORITHMS:
            return TokenRefusal("it is signed by %s, which is not taken", header.alg)
        principal = provider.rules.principal(jwt.claims, is_typed=header.is_typed)
        if isinstance(principal, TokenRefusal):
            return principal
        keys = await provider.keys.find(header.kid, header.alg)
        edition = provider.keys.edition
        if any(key.has_signed(header.alg, jwt.signed, jwt.signature) for key in keys[:_MOST_TRIED]):
            return _Known(principal, provider.keys, edition)
        if not keys:
            return TokenRefusal("its key %s for %s is not published", header.kid, header.alg)
        return TokenRefusal("its signature is not by the key %s of the provider", header.kid)
