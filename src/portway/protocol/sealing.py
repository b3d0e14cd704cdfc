"""Values that clients carry for a server, sealed so that they cannot be forged (HMAC-SHA256, RFC 2104).

Replicas that share keys read each other's values, and so does a server that was restarted with the same keys.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Self

KEY_BYTES = 32
_MAC_BYTES = 32


class KeySyntaxError(ValueError):
    """The text is no list of keys; the message says what is wrong without showing any."""


class Keys:
    """A ring of keys: the first seals, all unseal. `shared`: given from outside, so that other processes have them."""

    def __init__(self, ring: Sequence[bytes], *, shared: bool) -> None:
        self._ring = tuple(ring)
        self._derived: dict[bytes, tuple[bytes, ...]] = {}
        self.shared = shared

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read PORTWAY_KEYS: base64url keys of 32 bytes, comma-separated. Raises KeySyntaxError."""
        ring = []
        for number, part in enumerate(text.split(","), 1):
            word = part.strip().rstrip("=")
            try:
                key = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if len(key) != KEY_BYTES:
                raise KeySyntaxError(
                    f"PORTWAY_KEYS: key {number} is not {KEY_BYTES} bytes in base64url; make one with: "
                    "python -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
                )
            ring.append(key)
        return cls(ring, shared=True)

    @classmethod
    def random(cls) -> Self:
        """A key of this process alone."""
        return cls((os.urandom(KEY_BYTES),), shared=False)

    def derive(self, purpose: bytes) -> tuple[bytes, ...]:
        """A key of 32 bytes for `purpose` from each key of the ring, so that no value serves another purpose."""
        known = self._derived.get(purpose)
        if known is None:
            known = tuple(hmac.digest(key, b"portway " + purpose, hashlib.sha256) for key in self._ring)
            self._derived[purpose] = known
        return known

    def seal(self, purpose: bytes, payload: bytes) -> str:
        """`payload`, readable but sealed, as base64url without padding."""
        mac = hmac.digest(self.derive(purpose)[0], payload, hashlib.sha256)
        return base64.urlsafe_b64encode(mac + payload).rstrip(b"=").decode()

    def unseal(self, purpose: bytes, sealed: str) -> bytes | None:
        """The payload of a sealed value; None when none of the keys made it for this purpose."""
        try:
            data = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        mac, payload = data[:_MAC_BYTES], data[_MAC_BYTES:]
        if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != sealed:  # one spelling only
            return None
        for key in self.derive(purpose):
            if hmac.compare_digest(mac, hmac.digest(key, payload, hashlib.sha256)):
                return payload
        return None
