"""A server as an OAuth 2.1 protected resource: its verifier, its metadata and its challenges put together; OAuth beside
named tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from portway.auth.principal import Principal
from portway.auth.tokens import TokenVerifier
from portway.oauth.access_tokens import AccessTokens
from portway.oauth.resource_metadata import WELL_KNOWN, Resources, resources
from portway.oauth.settings import OAuth


@dataclass(frozen=True, slots=True)
class ResourceServer:
    """What clients read to find the provider is at all `paths`, of the URL with a slash at the end at those with one.

    The one without a path is of the whole host name, so it is among them only where the public URL is the endpoint's
    own path, or none: below another path, the name may have other servers.
    """

    providers: Sequence[OAuth]
    verifier: TokenVerifier
    resources: Resources
    paths: frozenset[str]


def resource_server(providers: Sequence[OAuth], name: str, path: str, others: TokenVerifier | None) -> ResourceServer:
    """Return the protected resource of a server with its endpoint at `path`; it takes the tokens of `others`, too.

    The providers are for the same resource.
    """
    tokens = AccessTokens(*providers)
    verifier = tokens if others is None else _EitherOf(others, tokens)
    found = resources(providers, name)
    own, slashed = (urlsplit(each.challenge.metadata).path for each in found)
    whole = (WELL_KNOWN, WELL_KNOWN + path)
    paths = frozenset((*(whole if own in whole else (own,)), slashed))
    return ResourceServer(providers, verifier, found, paths)


class _EitherOf:
    """Takes the tokens of two verifiers; the first is asked first."""

    def __init__(self, first: TokenVerifier, second: TokenVerifier) -> None:
        self._first = first
        self._second = second

    async def verify(self, token: str) -> Principal | None:
        return await self._first.verify(token) or await self._second.verify(token)
