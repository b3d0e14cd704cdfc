"""An app as an OAuth 2.1 protected resource: whose tokens it takes, and what its clients are told (RFC 9728)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from portway.auth.challenge import Challenge
from portway.host.logins import providers_at
from portway.host.routing_table import Auth
from portway.oauth.access_tokens import AccessTokens
from portway.oauth.resource_metadata import metadata_url, resource_metadata
from portway.oauth.settings import OAuth, is_safe_url
from portway.oauth.signing_keys import SigningKeys


@dataclass(frozen=True, slots=True)
class Resource:
    """The app under one of its URLs: the `metadata` as JSON, and the challenges that lead there."""

    metadata: bytes
    challenge: Challenge


class ProtectedApp:
    """The protected resource of an app, at each of its URLs. A client compares the one in the metadata with its own."""

    def __init__(self, name: str, auth: Auth, urls: Mapping[str, str], keys: Callable[[OAuth], SigningKeys]) -> None:
        """`urls` are those of the endpoint by host name, the host's own first. `keys` returns those of a provider.

        Raises SettingError.
        """
        self.name = name
        self._made_of = (auth, dict(urls))
        self._resources: dict[bytes, Resource] = {}
        providers = providers_at(auth, next(iter(urls.values())))
        safe = {host: url for host, url in urls.items() if is_safe_url(url, is_own=True)}
        for host, url in safe.items():
            there = providers_at(auth, url)
            challenge = Challenge(metadata_url(there[0]), auth.scopes)
            self._resources[host.encode()] = Resource(resource_metadata(there, name), challenge)
        self._shared = next(iter(self._resources.values()))  # also for a name that has no TLS
        self.keys = {each.issuer: keys(each) for each in providers}
        self.tokens = AccessTokens(*providers, keys=keys, audiences=safe.values())

    def is_made_of(self, auth: Auth, urls: Mapping[str, str]) -> bool:
        return self._made_of == (auth, urls)

    def at(self, host: bytes) -> Resource:
        """Return the resource under the name in a Host header."""
        return self._resources.get(host.partition(b":")[0].lower().rstrip(b"."), self._shared)
