"""A server as an OAuth 2.1 protected resource: its verifier, its metadata and its challenges put together; OAuth beside
named tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from portway.auth.challenge import Challenge
from portway.auth.principal import Principal
from portway.auth.tokens import TokenVerifier
from portway.oauth.access_tokens import AccessTokens
from portway.oauth.resource_metadata import WELL_KNOWN, metadata_url, resource_metadata, scopes_of
from portway.oauth.settings import OAuth


@dataclass(frozen=True, slots=True)
class ResourceServer:
    """`metadata` is the JSON that clients read to find the provider: at `challenge.metadata`, and at all `paths`.

    The one without a path is of the whole host name, so it is among them only where the public URL is the endpoint's
    own path, or none: below another path, the name may have other servers.
    """

    providers: Sequence[OAuth]
    verifier: TokenVerifier
    challenge: Challenge
    metadata: bytes
    paths: frozenset[str]


def resource_server(providers: Sequence[OAuth], name: str, path: str, others: TokenVerifier | None) -> ResourceServer:
    """Return the protected resource of a server with its endpoint at `path`; it takes the tokens of `others`, too.

    The providers are for the same resource.
    """
    tokens = AccessTokens(*providers)
    verifier = tokens if others is None else _EitherOf(others, tokens)
    public = metadata_url(providers[0])
    own, whole = urlsplit(public).path, frozenset((WELL_KNOWN, WELL_KNOWN + path))
    challenge = Challenge(public, scopes_of(providers))
    paths = whole if own in whole else frozenset((own,))
    return ResourceServer(providers, verifier, challenge, resource_metadata(providers, name), paths)


class _EitherOf:
    """Takes the tokens of two verifiers; the first is asked first."""

    def __init__(self, first: TokenVerifier, second: TokenVerifier) -> None:
        self._first = first
        self._second = second

    async def verify(self, token: str) -> Principal | None:
        return await self._first.verify(token) or await self._second.verify(token)
