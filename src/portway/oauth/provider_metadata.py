"""What an identity provider says of itself: where its keys and endpoints are; why nobody could log in there, noticed at
a start and at a deploy (RFC 8414, OIDC Discovery).
"""

import asyncio
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from portway.oauth.guarded_fetch import GuardedFetchError, fetch_json
from portway.oauth.settings import OAuth, reaches_private

_FRESH_SECONDS = 600.0


class ProviderMetadata(msgspec.Struct, frozen=True):
    """The members that a resource server reads (RFC 8414 section 2)."""

    issuer: str = ""
    jwks_uri: str = ""
    token_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    introspection_endpoint: str = ""
    introspection_endpoint_auth_methods_supported: tuple[str, ...] = ()


async def provider_metadata(settings: OAuth) -> ProviderMetadata:
    """Fetch the metadata of an issuer. Raises `GuardedFetchError`."""
    failures = []
    for url in metadata_addresses(settings.issuer):
        try:
            metadata = await fetch_json(url, ProviderMetadata, private=reaches_private(settings))
        except GuardedFetchError as error:
            if error.status >= 500 or error.status == 0:
                raise
            failures.append(error)
            continue
        if metadata.issuer == settings.issuer:
            return metadata
        failures.append(
            GuardedFetchError(
                f"{url} is of the issuer {metadata.issuer[:200]!r}, not of {settings.issuer!r}: give it exactly so"
            )
        )
    told = next((each for each in failures if not each.status), failures[-1])
    raise told


async def objections(providers: Iterable[OAuth]) -> list[str]:
    """Return why nobody could log in at some of these providers now, a sentence for each."""
    found = await asyncio.gather(*map(_objection, providers))
    return [each for each in found if each]


async def _objection(settings: OAuth) -> str:
    try:
        await provider_metadata(settings)
    except GuardedFetchError as error:
        return f"nobody can log in now at {settings.issuer}: {error}"
    return ""


class KeptMetadata:
    """The metadata of an issuer, which is fetched again after ten minutes."""

    def __init__(self, settings: OAuth) -> None:
        self._settings = settings
        self._metadata = ProviderMetadata()
        self._fetched = float("-inf")  # monotonic seconds

    async def get(self) -> ProviderMetadata:
        """Return it. Raises `GuardedFetchError`."""
        if time.monotonic() - self._fetched > _FRESH_SECONDS:
            self._metadata = await provider_metadata(self._settings)
            self._fetched = time.monotonic()
        return self._metadata


def metadata_addresses(issuer: str) -> list[str]:
    """Return where the metadata of an issuer may be (RFC 8414 section 3.1, OIDC Discovery section 4)."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    inserted = [f"{origin}/.well-known/{name}{path}" for name in ("oauth-authorization-server", "openid-configuration")]
    return inserted + ([f"{origin}{path}/.well-known/openid-configuration"] if path else [])
