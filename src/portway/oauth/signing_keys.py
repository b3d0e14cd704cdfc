"""The keys by which an identity provider signs (JWKS, RFC 7517): fetched, kept for ten minutes, replaced, used on while
it does not answer.

missing → fresh    fetched at the first token
fresh   → fetching after ten minutes, or when a token names a key that is not there; those at hand are used meanwhile,
                   but not after twenty minutes, when nobody has come for so long
fetching → fresh   what came replaces all keys
fetching → stale   the provider does not answer: the keys at hand are used for a day, and asked for again after 10 s

However many tokens name keys that do not exist, a fetch is made every 10 s at most, and for the same one every minute.
"""

import asyncio
import logging
import time
from typing import Any

import msgspec

from portway.auth.tokens import VerifierUnavailable
from portway.oauth.guarded_fetch import GuardedFetchError, fetch_json
from portway.oauth.provider_metadata import provider_metadata
from portway.oauth.settings import OAuth, reaches_private
from portway.oauth.signing_key import SigningKey

_FRESH_SECONDS, _OLD_SECONDS = 600.0, 1200.0
_STALE_SECONDS = 86_400.0
_PAUSE_SECONDS = 10.0  # between fetches that a missing key or a failure asks for
_MISSING_SECONDS = 60.0  # a key that was not there is not looked for again
_MOST_MISSING = 1000
_MOST_KEYS = 100
_log = logging.getLogger("portway.oauth")


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]] = []


class SigningKeys:
    """The keys of one issuer."""

    def __init__(self, settings: OAuth) -> None:
        self._settings = settings
        self._keys: list[SigningKey] = []
        self._published: list[dict[str, Any]] = []
        self._fetched = self._asked = float("-inf")  # monotonic seconds
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None
        self._missing: dict[str, float] = {}  # when a key was not there, by its id; the oldest first
        self.edition = 0  # greater after each change of the keys

    def refresh(self) -> bool:
        """Return whether the keys may be used now; begin to fetch them again when one may have been taken back."""
        age = time.monotonic() - self._fetched
        if age > _FRESH_SECONDS and time.monotonic() - self._asked > _PAUSE_SECONDS:
            self._begin()
        return age <= (_STALE_SECONDS if self._failed else _OLD_SECONDS)

    async def find(self, key_id: str, algorithm: str) -> list[SigningKey]:
        """Return the keys for an algorithm with this id; all of them for "". Raises `VerifierUnavailable`.

        It is raised, too, while the provider does not answer, for a key that is not there: it may be a new one.
        """
        found = self._named(key_id, algorithm)
        if not (self.refresh() and found) and (self._fetching is not None or self._may_be_new(key_id)):
            await asyncio.shield(self._begin())
            found = self._named(key_id, algorithm)
            if not found and not self._failed:
                self._note_missing(key_id)
        if self._failed and not (found and self.refresh()):
            raise VerifierUnavailable
        return found

    def _note_missing(self, key_id: str) -> None:
        self._missing.pop(key_id, None)
        self._missing[key_id] = time.monotonic()
        if len(self._missing) > _MOST_MISSING:
            del self._missing[next(iter(self._missing))]

    def _named(self, key_id: str, algorithm: str) -> list[SigningKey]:
        return [key for key in self._keys if key_id in ("", key.id) and key.signs_by(algorithm)]

    def _may_be_new(self, key_id: str) -> bool:
        now = time.monotonic()
        looked = self._missing.get(key_id, float("-inf"))
        return now - self._asked > _PAUSE_SECONDS and now - looked > _MISSING_SECONDS

    def _begin(self) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        if self._fetching is None or self._fetching.get_loop() is not loop:  # several loops may serve an application
            self._asked = time.monotonic()
            self._fetching = loop.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            metadata = await provider_metadata(self._settings)
            found = await fetch_json(metadata.jwks_uri, _KeySet, private=reaches_private(self._settings))
        except GuardedFetchError as error:
            self._failed = True
            _log.warning("the keys of %s could not be fetched: %s", self._settings.issuer, error)
        else:
            if found.keys != self._published:
                keys = await asyncio.to_thread(self._read, found.keys)  # the first time, it imports what verifies
                self._published, self._keys, self.edition = found.keys, keys, self.edition + 1
                self._missing.clear()
            self._failed, self._fetched = False, time.monotonic()
        finally:
            self._fetching = None

    def _read(self, published: list[dict[str, Any]]) -> list[SigningKey]:
        keys = []
        for jwk in published[:_MOST_KEYS]:
            try:
                keys.append(SigningKey(jwk))
            except ValueError as error:
                name = repr(jwk.get("kid"))[:100]
                _log.warning("the signing key %s of %s is not used: %s", name, self._settings.issuer, error)
        return keys
