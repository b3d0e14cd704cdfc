"""One public key of an identity provider: which keys and algorithms are taken, and whether it made a signature (RFC
7517, RFC 7518, RFC 8037).
"""

import base64
from collections.abc import Mapping
from typing import Any

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519"),
)
"""Those that are taken, all of them asymmetric."""
_KINDS = ("RSA", "EC", "OKP")
_SECRET = ("d", "p", "q", "dp", "dq", "qi", "oth")
_RSA_BITS = range(2048, 8193)  # fewer can be factored, more take too long


class SigningKey:
    """A key as the provider publishes it; `id` is its `kid`, "" for none. Raises ValueError for one not to be used."""

    __slots__ = ("_algorithms", "_key", "id")

    def __init__(self, jwk: Mapping[str, Any]) -> None:
        from joserfc import jws
        from joserfc.errors import JoseError
        from joserfc.jwk import import_key

        self.id, kind = jwk.get("kid", ""), jwk.get("kty")
        if kind not in _KINDS or not isinstance(self.id, str):
            raise ValueError("it is of a kind that signs no access tokens here")
        if any(name in jwk for name in _SECRET):
            raise ValueError("its secret part is published, so anyone can sign with it")
        if kind == "OKP" and jwk.get("crv") != "Ed25519":
            raise ValueError("it is of a curve that is not taken here")
        if kind == "RSA" and _bits(jwk.get("n")) not in _RSA_BITS:
            raise ValueError(f"it has not {_RSA_BITS[0]} to {_RSA_BITS[-1]} bits")
        try:
            self._key = import_key(dict(jwk))
            self._key.get_op_key("verify")  # refused by its `key_ops`
        except (JoseError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"its members make no key: {error}") from None
        self._algorithms = {}
        for name in ALGORITHMS:
            algorithm = jws.JWSRegistry.algorithms[name]
            try:
                algorithm.check_key(self._key)
            except JoseError:  # of another kind, curve, `alg` or `use`
                continue
            self._algorithms[name] = algorithm
        if not self._algorithms:
            raise ValueError("it signs by no algorithm that is taken here")

    def signs_by(self, algorithm: str) -> bool:
        """Return whether the key is for this algorithm."""
        return algorithm in self._algorithms

    def has_signed(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Return whether a signature is one that this key has made of the message."""
        return self._algorithms[algorithm].verify(message, signature, self._key)


def _bits(modulus: object) -> int:
    try:
        return int.from_bytes(base64.urlsafe_b64decode(f"{modulus}==")).bit_length()
    except ValueError:
        return 0
