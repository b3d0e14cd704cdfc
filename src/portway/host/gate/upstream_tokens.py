"""The Authorization header with an app's own token, which the gate sends in place of the caller's."""

import contextlib
import logging

from portway.host.routing_table import App
from portway.host.secrets.key_file import KeyFile, KeyFileError
from portway.host.secrets.upstream_token import decrypt_token

_log = logging.getLogger("portway.gate")
Header = tuple[bytes, bytes]


class UpstreamTokens:
    """Reads the tokens in routing tables. The key file is opened when a table has one."""

    def __init__(self, key_file: KeyFile | None = None) -> None:
        self._key_file = key_file

    def header(self, app: App, former: Header | None) -> Header | None:
        """Return the Authorization header for the app's instances, None if it has no token of its own.

        If it cannot be decrypted, say so and return the `former` one.
        """
        if not app.upstream_token:
            return None
        token = None
        with contextlib.suppress(KeyFileError, OSError):
            if self._key_file is not None:
                token = decrypt_token(self._key_file.read(), app.name, app.upstream_token)
        if token is None:
            _log.error("the key file does not decrypt the own token of %s: calls go on as before", app.name)
            return former
        return (b"authorization", b"Bearer " + token)
