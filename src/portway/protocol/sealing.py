"""Values that clients carry for a server and cannot forge: signed (HMAC-SHA256, RFC 2104) or encrypted (AES-256-GCM),
with the keys of PORTWAY_KEYS.

Processes with the same keys, such as replicas or a restarted server, read each other's values.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Self

from portway.exceptions import SettingError

KEY_BYTES = 32
_MAC_BYTES = 32
_NONCE_BYTES = 12


class Keys:
    """A ring of keys: the first seals, all unseal. `shared`: they were given, so other processes may have them."""

    def __init__(self, ring: Sequence[bytes], *, shared: bool) -> None:
        self._ring = tuple(ring)
        self._by_purpose: dict[bytes, tuple[bytes, ...]] = {}
        self.shared = shared

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read PORTWAY_KEYS: base64url keys of 32 bytes, comma-separated. Raises SettingError."""
        ring = []
        for number, part in enumerate(text.split(","), 1):
            key = _from_text(part.strip().rstrip("="))
            if len(key) != KEY_BYTES:
                raise SettingError(
                    f"PORTWAY_KEYS: key {number} is not {KEY_BYTES} bytes in base64url; make one with: "
                    "python -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
                )
            ring.append(key)
        return cls(ring, shared=True)

    @classmethod
    def random(cls) -> Self:
        """Return a ring of one key that only this process has."""
        return cls((os.urandom(KEY_BYTES),), shared=False)

    def seal(self, purpose: bytes, payload: bytes) -> str:
        """Sign `payload`, which stays readable, and return both as base64url without padding."""
        return _to_text(_mac(self._derived(purpose)[0], payload) + payload)

    def unseal(self, purpose: bytes, sealed: str) -> bytes | None:
        """Return the payload of a sealed value; None when none of the keys made it for this purpose."""
        data = _from_text(sealed)
        mac, payload = data[:_MAC_BYTES], data[_MAC_BYTES:]
        genuine = any(hmac.compare_digest(mac, _mac(key, payload)) for key in self._derived(purpose))
        return payload if genuine else None

    def encrypt(self, purpose: bytes, payload: bytes, context: bytes = b"") -> str:
        """Encrypt and authenticate `payload` (AES-256-GCM); return it as base64url without padding.

        It can be decrypted only with the same `context`, which is not in it.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return _to_text(nonce + AESGCM(self._derived(purpose)[0]).encrypt(nonce, payload, context))

    def decrypt(self, purpose: bytes, encrypted: str, context: bytes = b"") -> bytes | None:
        """Return the payload of an encrypted value; None when none of the keys made it for this purpose and context."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        data = _from_text(encrypted)
        for key in self._derived(purpose):
            try:
                return AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context)
            except (InvalidTag, ValueError):  # ValueError: too short
                continue
        return None

    def _derived(self, purpose: bytes) -> tuple[bytes, ...]:
        """Return a key of 32 bytes from each key of the ring, so that a value serves one purpose only."""
        known = self._by_purpose.get(purpose)
        if known is None:
            known = self._by_purpose[purpose] = tuple(_mac(key, b"portway " + purpose) for key in self._ring)
        return known


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.sha256)


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_text(text: str) -> bytes:
    """Decode base64url without padding; b"" for text that `_to_text` does not write, such as a second spelling."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
    return data if _to_text(data) == text else b""
