"""The key by which the gate signs JWTs for apps (ES256), made of the host's secret, and its public form (RFC 7518
section 3.4).

Gate and control make it of the host's secret, so it is kept nowhere else and outlives restarts.
"""

import hashlib
import hmac
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

_PURPOSE = b"portway caller assertion"
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (FIPS 186-5)


class AssertionKey:
    """The key of a host; it is made when it is first used. `prepare` makes it before, where that may take its time."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.is_ready = False

    def prepare(self) -> None:
        """Import what signs, and make the key; call it on a thread, for it takes about 100 ms."""
        self.sign({})
        self.is_ready = True

    def sign(self, claims: dict[str, object]) -> str:
        """Return a JWT with the claims."""
        from joserfc import jwt

        return jwt.encode({"alg": "ES256", "typ": "JWT", "kid": self._key.thumbprint()}, claims, self._key)

    @cached_property
    def public(self) -> bytes:
        """The public key as JSON (RFC 7517)."""
        public: dict[str, Any] = {**self._key.as_dict(private=False)}
        return msgspec.json.encode(public | {"kid": self._key.thumbprint(), "alg": "ES256", "use": "sig"})

    @cached_property
    def _key(self) -> "ECKey":
        from cryptography.hazmat.primitives.asymmetric import ec
        from joserfc import jwk

        wide = int.from_bytes(hmac.digest(self._secret, _PURPOSE, hashlib.sha512))
        return jwk.ECKey.import_key(ec.derive_private_key(wide % (_ORDER - 1) + 1, ec.SECP256R1()))
