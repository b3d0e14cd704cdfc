"""Opaque access tokens: the provider is asked whose they are, and its answer is kept for a minute (RFC 7662).

unknown → asked    others that come with the same token meanwhile wait for the same answer
asked   → good     taken for a minute, so that is how long one may be used that the provider has revoked
asked   → refused  not asked about again for ten seconds
good    → asked    a minute later, however many unknown tokens come then
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import urlencode

import msgspec

from portway.auth.principal import Principal
from portway.auth.tokens import VerifierUnavailable
from portway.oauth.claims import ClaimRules
from portway.oauth.client_authentication import FORM, authentication
from portway.oauth.guarded_fetch import GuardedFetchError, fetch_json
from portway.oauth.provider_metadata import KeptMetadata
from portway.oauth.refused_tokens import ExpiredToken, TokenRefusal
from portway.oauth.settings import OAuth, reaches_private

_SECONDS, _REFUSED_SECONDS = 60.0, 10.0  # for which an answer is used
_PAUSE_SECONDS = 2.0  # after a question without an answer
_MOST_REMEMBERED = 4096  # good ones, and as many refused ones
_MOST_ASKED = 16  # about unknown tokens, at a time
_log = logging.getLogger("portway.oauth")


class _Answer(msgspec.Struct, frozen=True):
    """The caller of a token, or why it is refused, and when that was said in monotonic seconds."""

    caller: Principal | TokenRefusal
    at: float

    def is_fresh(self) -> bool:
        """Return whether it is used still."""
        return time.monotonic() - self.at < (_SECONDS if isinstance(self.caller, Principal) else _REFUSED_SECONDS)


class Introspection:
    """Asks one provider about tokens."""

    def __init__(self, settings: OAuth, rules: ClaimRules) -> None:
        self._settings = settings
        self._rules = rules
        self._good: OrderedDict[bytes, _Answer] = OrderedDict()  # by digest; the oldest answer first
        self._refused: OrderedDict[bytes, _Answer] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Answer | None]] = {}
        self._metadata = KeptMetadata(settings)
        self._failed = float("-inf")  # monotonic seconds

    async def verify(self, token: str, digest: bytes) -> Principal | TokenRefusal:
        """Return the caller of a token, or why it is not valid here. Raises `VerifierUnavailable`."""
        answer = self._good.get(digest) or self._refused.get(digest)
        if answer is None or not answer.is_fresh():
            answer = await asyncio.shield(self._ask(token, digest))
        if answer is None:
            raise self._unavailable(digest)
        if isinstance(answer.caller, Principal) and answer.caller.is_over():
            return ExpiredToken("it has expired since the provider was asked")
        return answer.caller

    def _ask(self, token: str, digest: bytes) -> asyncio.Task[_Answer | None]:
        loop = asyncio.get_running_loop()
        asking = self._asking.get(digest)
        if asking is None or asking.get_loop() is not loop:  # several loops may serve an application
            is_too_much = digest not in self._good and len(self._asking) >= _MOST_ASKED
            if is_too_much or time.monotonic() - self._failed < _PAUSE_SECONDS:
                raise self._unavailable(digest)
            asking = self._asking[digest] = loop.create_task(self._answer(token, digest))
        return asking

    def _unavailable(self, digest: bytes) -> VerifierUnavailable:
        good = self._good.get(digest)
        return VerifierUnavailable(math.inf if good is None else time.monotonic() - good.at)

    async def _answer(self, token: str, digest: bytes) -> _Answer | None:
        """Return what the provider says, None if it does not answer."""
        try:
            claims = await self._introspect(token)
        except GuardedFetchError as error:
            _log.warning("%s could not be asked about a token: %s", self._settings.issuer, error)
            if error.status == 400:  # it is no token to the provider; others may be
                return self._remember(digest, TokenRefusal("to the provider it is no token"))
            self._failed = time.monotonic()
            return None
        finally:
            self._asking.pop(digest, None)
        caller: Principal | TokenRefusal = TokenRefusal("the provider says that it is not active")
        if claims.get("active") is True:
            caller = self._rules.principal({"iss": self._settings.issuer} | claims, is_typed=True, may_last=True)
        return self._remember(digest, caller)

    def _remember(self, digest: bytes, caller: Principal | TokenRefusal) -> _Answer:
        self._good.pop(digest, None)
        answers = self._good if isinstance(caller, Principal) else self._refused
        answer = answers[digest] = _Answer(caller, time.monotonic())
        answers.move_to_end(digest)
        if len(answers) > _MOST_REMEMBERED:
            answers.popitem(last=False)
        return answer

    async def _introspect(self, token: str) -> dict[str, Any]:
        """Return the answer of the introspection endpoint (section 2.2). Raises `GuardedFetchError`."""
        settings = self._settings
        metadata = await self._metadata.get()
        if not metadata.introspection_endpoint:
            raise GuardedFetchError(
                "its metadata has no introspection_endpoint: it cannot be asked, so leave opaque out"
            )
        methods = metadata.introspection_endpoint_auth_methods_supported
        headers, form = authentication(settings, methods or metadata.token_endpoint_auth_methods_supported)
        body = urlencode(form | {"token": token, "token_type_hint": "access_token"}).encode()
        url = metadata.introspection_endpoint
        return await fetch_json(
            url, dict[str, Any], private=reaches_private(settings), body=body, headers=[FORM, *headers]
        )
