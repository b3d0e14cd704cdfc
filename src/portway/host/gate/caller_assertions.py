"""Signs a JWT of a minute that tells an app who calls, and sends it in a header (RFC 7519, RFC 9493)."""

import os
import time

from portway.auth.caller_header import ASSERTION
from portway.host.assertion_key import AssertionKey
from portway.host.gate.callers import Caller
from portway.host.routing_table import Assertion

_SECONDS = 60
_REUSED_SECONDS = 30  # so that the app has half a minute to check it


class CallerAssertions:
    """Signs for one app, once for many calls of a caller."""

    def __init__(self, key: AssertionKey, meant: Assertion) -> None:
        self.meant = meant
        self._key = key

    def header(self, caller: Caller) -> tuple[bytes, bytes]:
        """Return the header that says who calls."""
        now = time.time()
        if now >= caller.asserted_until:
            value = self._sign(caller, int(now)).encode()
            caller.assertion, caller.asserted_until = (ASSERTION, value), now + _REUSED_SECONDS
        return caller.assertion

    def _sign(self, caller: Caller, now: int) -> str:
        who = caller.principal
        ends = now + _SECONDS if who.expires is None else min(now + _SECONDS, int(who.expires))
        claims = {
            "iss": self.meant.issuer,
            "aud": self.meant.audience,
            "sub": who.subject,
            "sub_id": {"format": "iss_sub", "iss": who.issuer, "sub": who.subject},
            "client_id": who.client,
            "scope": " ".join(sorted(who.scopes)),
            "iat": now,
            "exp": ends,
            "jti": os.urandom(16).hex(),
        }
        return self._key.sign({name: value for name, value in claims.items() if value is not None})
