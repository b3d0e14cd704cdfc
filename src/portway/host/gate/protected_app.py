"""An app as an OAuth 2.1 protected resource: whose tokens it takes, and which metadata and scopes its clients are told
(RFC 9728).
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from portway.host.identity_providers import providers_at
from portway.host.routing_table import App, Auth
from portway.oauth.access_tokens import AccessTokens, Outcome
from portway.oauth.resource_metadata import Resource, Resources, resources
from portway.oauth.settings import OAuth, is_safe_url
from portway.oauth.signing_keys import SigningKeys


class ProtectedApp:
    """The protected resource of an app, at each of its URLs. A client compares the one in the metadata with its own."""

    def __init__(
        self,
        name: str,
        auth: Auth,
        announced: Sequence[str],
        urls: Mapping[str, str],
        keys: Callable[[OAuth], SigningKeys],
        count: Callable[[str, Outcome], None],
    ) -> None:
        """Clients are told to ask for the scopes `announced`. `keys` returns those of a provider.

        `urls` are those of the endpoint by host name, the host's own first. `count` is as in `AccessTokens`. Raises
        SettingError.
        """
        self.name = name
        self._made_of = (auth, announced, dict(urls))
        self._resources: dict[bytes, Resources] = {}
        providers = providers_at(auth, next(iter(urls.values())))
        safe = {host: url for host, url in urls.items() if is_safe_url(url, is_own=True)}
        for host, url in safe.items():
            self._resources[host.encode()] = resources(providers_at(replace(auth, scopes=announced), url), name)
        self._shared = next(iter(self._resources.values()))  # also for a name that has no TLS
        self.keys = {each.issuer: keys(each) for each in providers}
        self.tokens = AccessTokens(*providers, keys=keys, audiences=safe.values(), count=count)

    def is_made_of(self, auth: Auth, announced: Sequence[str], urls: Mapping[str, str]) -> bool:
        return self._made_of == (auth, announced, urls)

    def at(self, host: bytes, path: str) -> Resource:
        """Return the resource under the name in a Host header, of a request for its endpoint or its metadata."""
        found = self._resources.get(host.partition(b":")[0].lower().rstrip(b"."), self._shared)
        return found[path.endswith("/mcp/")]


def announced_scopes(app: App) -> list[str]:
    """Return the scopes that clients of an app are told to ask for: those of its login, else those of its policies.

    What callers have by their groups is left out: the provider may not know it, and would refuse the login.
    """
    if app.auth is not None and app.auth.scopes:
        return app.auth.scopes
    by_groups = {scope for scopes in app.policies.groups.values() for scope in scopes}
    return sorted({scope for rule in app.policies.rules for scope in rule.scopes} - by_groups)
