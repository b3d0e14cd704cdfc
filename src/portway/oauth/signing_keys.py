"""The keys by which an identity provider signs its tokens (RFC 7517), found by its metadata.

missing → fresh    fetched at the first token
fresh   → fetching after ten minutes, or when a token names a key that is not there; those at hand are used meanwhile
fetching → fresh   what came replaces all keys
fetching → stale   the provider does not answer: the keys at hand are used for a day, and asked for again after 30 s
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from portway.auth.tokens import VerifierUnavailable
from portway.oauth.guarded_fetch import FetchError, fetch_json
from portway.oauth.provider_metadata import provider_metadata
from portway.oauth.settings import OAuth

_FRESH_SECONDS = 600.0
_STALE_SECONDS = 86_400.0
_PAUSE_SECONDS = 30.0  # between fetches that a missing key or a failure asks for
_MOST_KEYS = 100
_KINDS = ("RSA", "EC", "OKP")
_log = logging.getLogger("portway.oauth")


class SigningKey(msgspec.Struct, frozen=True):
    """A public key as the provider publishes it; `id` is its `kid`, "" for none."""

    id: str
    kind: str
    algorithm: str
    jwk: Mapping[str, Any]


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]] = []


class SigningKeys:
    """The keys of one issuer."""

    def __init__(self, settings: OAuth) -> None:
        self._settings = settings
        self._keys: tuple[SigningKey, ...] = ()
        self._fetched = self._asked = float("-inf")  # monotonic seconds
        self._fetching: asyncio.Task[None] | None = None
        self.edition = 0  # greater after each change of the keys

    def refresh(self) -> None:
        """Begin to fetch the keys again if they are old, so that one the provider has taken back is noticed."""
        now = time.monotonic()
        if now - self._fetched > _FRESH_SECONDS and now - self._asked > _PAUSE_SECONDS:
            self._begin()

    async def find(self, key_id: str, kind: str) -> list[SigningKey]:
        """Return the keys of a kind with this id; all of that kind for "". Raises `VerifierUnavailable`."""
        self.refresh()
        found = self._named(key_id, kind)
        if not found and (self._fetching is not None or time.monotonic() - self._asked > _PAUSE_SECONDS):
            await asyncio.shield(self._begin())
            found = self._named(key_id, kind)
        if time.monotonic() - self._fetched > _STALE_SECONDS:
            raise VerifierUnavailable
        return found

    def _named(self, key_id: str, kind: str) -> list[SigningKey]:
        return [key for key in self._keys if key.kind == kind and key_id in ("", key.id)]

    def _begin(self) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        if self._fetching is None or self._fetching.get_loop() is not loop:  # several loops may serve an application
            self._asked = time.monotonic()
            self._fetching = loop.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            keys = tuple(await self._published())
        except FetchError as error:
            _log.warning("the keys of %s could not be fetched: %s", self._settings.issuer, error)
        else:
            self._fetched = time.monotonic()
            if keys != self._keys:
                self._keys, self.edition = keys, self.edition + 1
        finally:
            self._fetching = None

    async def _published(self) -> list[SigningKey]:
        private = self._settings.private
        found = await fetch_json((await provider_metadata(self._settings)).jwks_uri, _KeySet, private=private)
        return [
            SigningKey(str(jwk.get("kid", "")), str(jwk["kty"]), str(jwk.get("alg", "")), jwk)
            for jwk in found.keys[:_MOST_KEYS]
            if jwk.get("kty") in _KINDS and jwk.get("use", "sig") == "sig"
        ]
