"""An app's own token in the routing table, encrypted for the gate.

Control writes it there for the gate, which gives it to the app with each call. It can be decrypted for that app only.
"""

from portway.protocol.sealing import Keys

_PURPOSE = b"upstream token"


def encrypt_token(keys: Keys, app: str, token: str) -> str:
    return keys.encrypt(_PURPOSE, token.encode(), app.encode())


def decrypt_token(keys: Keys, app: str, encrypted: str) -> bytes | None:
    """Return the token; None when none of the keys encrypted it."""
    return keys.decrypt(_PURPOSE, encrypted, app.encode())
