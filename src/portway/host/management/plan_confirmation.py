"""The value by which a caller confirms a plan that it was shown (destroy), good for five minutes."""

import hashlib
import time

import msgspec

from portway.exceptions import ToolError
from portway.protocol.sealing import Keys

SECONDS = 300
"""How long a value holds."""

_PURPOSE = b"confirm"
_TIME_BYTES = 8


class Confirmations:
    """Makes and checks the values; those of an earlier process are not known."""

    def __init__(self) -> None:
        self._keys = Keys.random()

    def value(self, *plan: object) -> str:
        """Return the value for a plan: what is done, to what in which state, by whom."""
        until = int(time.time()) + SECONDS
        return self._keys.seal(_PURPOSE, until.to_bytes(_TIME_BYTES, "big") + _digest(plan))

    def check(self, value: str, *plan: object) -> None:
        """Raise `ToolError` unless the value is of this plan, and still holds."""
        payload = self._keys.unseal(_PURPOSE, value) or bytes(_TIME_BYTES)
        until, digest = int.from_bytes(payload[:_TIME_BYTES], "big"), payload[_TIME_BYTES:]
        if digest != _digest(plan) or until < time.time():
            raise ToolError(
                "`confirm` is too old, of another user, or of another plan than the one of now: call again without it, "
                "and look at what is deleted"
            )


def _digest(plan: tuple[object, ...]) -> bytes:
    return hashlib.sha256(msgspec.json.encode(plan)).digest()
