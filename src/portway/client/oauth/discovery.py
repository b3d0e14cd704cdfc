"""Finds where users of a protected server log in, by its metadata and the provider's, and refuses those that do not fit
(RFC 9728, RFC 8414, OIDC).

1. The server's metadata: at the URL that its challenge names, then at the well-known path with the server's own path,
   then at the root. It names the server and its providers.
2. A provider's metadata: at the well-known paths of RFC 8414 and of OpenID Connect.

A server without metadata is one of the revision 2025-03-26: it is its own provider.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from portway.auth.challenge import BearerChallenge
from portway.client.errors import LoginError, Step, not_now
from portway.client.oauth.provider_web import ForbiddenAddress, ProviderWeb
from portway.http.web_url import read_url
from portway.oauth.claims import normalised
from portway.oauth.guarded_fetch import GuardedFetchError
from portway.oauth.provider_metadata import metadata_addresses
from portway.oauth.resource_metadata import WELL_KNOWN
from portway.protocol.jsonrpc import UNREADABLE

T = TypeVar("T")
_MOST_PROVIDERS = 5
_RULES = {Step.RESOURCE: "RFC 9728 section 3", Step.PROVIDER: "RFC 8414 section 3"}


class ProtectedResource(msgspec.Struct, frozen=True):
    """A server's metadata (RFC 9728 section 2)."""

    resource: str
    authorization_servers: tuple[str, ...] | None = None
    scopes_supported: tuple[str, ...] | None = None


class Provider(msgspec.Struct, frozen=True):
    """A provider's metadata (RFC 8414 section 2)."""

    issuer: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    scopes_supported: tuple[str, ...] | None = None
    grant_types_supported: tuple[str, ...] | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    client_id_metadata_document_supported: bool | None = None
    authorization_response_iss_parameter_supported: bool | None = None


class AssumedProvider(Provider, frozen=True):
    """The endpoints of a server that names no provider, if it is one itself (2025-03-26, basic/authorization)."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where to log in for which resource. `scopes` are those that the server's metadata names."""

    resource: str
    scopes: tuple[str, ...]
    provider: Provider


async def discover(
    web: ProviderWeb, url: str, challenge: BearerChallenge | None, preferred: Sequence[str] = ()
) -> Discovery:
    """Return where to log in for the server at `url`; of several providers, a `preferred` issuer. Raises LoginError."""
    resource = await find_resource(web, url, challenge.resource_metadata if challenge is not None else "")
    if resource is None:
        return Discovery(url, (), await _find_own_provider(web, url))
    provider = await _find_any(web, resource.authorization_servers or (), preferred)
    return Discovery(resource.resource, resource.scopes_supported or (), provider)


async def _find_any(web: ProviderWeb, issuers: Sequence[str], preferred: Sequence[str]) -> Provider:
    """Return the first provider of a list that answers; the preferred ones come first. Raises LoginError."""
    first: LoginError | None = None
    for issuer in sorted(issuers, key=lambda each: each not in preferred)[:_MOST_PROVIDERS]:
        try:
            return await _find_provider(web, issuer)
        except LoginError as error:
            first = first or error
    assert first is not None
    raise first


async def find_resource(web: ProviderWeb, url: str, named: str) -> ProtectedResource | None:
    """Return the metadata of the server at `url`; `named` is its place by the challenge, "" for none.

    Return None for a server of the revision 2025-03-26. Raises LoginError.
    """
    problems = []
    for address in resource_addresses(url, named):
        found, problem = await _read(web, Step.RESOURCE, address, ProtectedResource)
        if found is not None:
            _require_fit(found, url, address)
            return found
        problems.append(problem)
    if named:
        raise LoginError(
            Step.RESOURCE,
            f"the server names its metadata, but {problems[0]} (RFC 9728 section 5.1): ask who runs it to publish that",
        )
    return None


async def _find_provider(web: ProviderWeb, issuer: str) -> Provider:
    """Return the metadata of an issuer. Raises LoginError."""
    try:
        web.check(issuer)
    except ForbiddenAddress as error:
        raise _not_asked(Step.PROVIDER, error) from None
    foreign = problem = ""
    for address in metadata_addresses(issuer):
        found, problem = await _read(web, Step.PROVIDER, address, Provider)
        if found is not None and found.issuer == issuer:
            _require_usable(web, found)
            return found
        if found is not None:
            foreign = f"{address} is of the issuer {found.issuer[:200]!r} (RFC 8414 section 3.3)"
    raise LoginError(
        Step.PROVIDER,
        f"{issuer[:200]} has no metadata: {foreign or f'{problem} (RFC 8414 section 3)'}; ask who runs the server "
        "whether it names the right provider",
    )


async def _find_own_provider(web: ProviderWeb, url: str) -> Provider:
    """Return where a server without metadata logs users in itself (2025-03-26, basic/authorization)."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    for address in metadata_addresses(origin):
        found, _ = await _read(web, Step.PROVIDER, address, Provider)
        # Both identifiers give this address (RFC 8414 section 3.1).
        if found is not None and found.issuer in (origin, f"{origin}/"):
            _require_usable(web, found)
            return found
    return AssumedProvider(
        origin,
        f"{origin}/authorize",
        f"{origin}/token",
        f"{origin}/register",
        code_challenge_methods_supported=("S256",),
    )


def resource_addresses(url: str, named: str) -> list[str]:
    """Return where the metadata of the server at `url` may be; the place that it names comes first."""
    parts = urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}"
    path = parts.path.rstrip("/")
    return list(dict.fromkeys(each for each in (named, root + path, root) if each))


async def _read(web: ProviderWeb, step: Step, url: str, kind: type[T]) -> tuple[T | None, str]:
    """Return what is at an address, and why that is not used.

    Raises LoginError for what cannot be asked now, or must not be: it ends the search.
    """
    try:
        answer = await web.get(url)
    except ForbiddenAddress as error:
        raise _not_asked(step, error) from None
    except GuardedFetchError as error:
        raise not_now(step, _RULES[step], error) from None
    problem = f"{url} answers with status {answer.status}"
    if answer.status >= 500 or answer.status == 429:
        raise not_now(step, _RULES[step], problem)
    if answer.status == 200:
        try:
            return msgspec.json.decode(answer.body, type=kind), ""
        except UNREADABLE:
            problem = f"{url} does not answer with such metadata"
    return None, problem


def _not_asked(step: Step, error: ForbiddenAddress) -> LoginError:
    return LoginError(step, f"{error} ({_RULES[step]}); ask who runs the server")


def _require_fit(resource: ProtectedResource, url: str, address: str) -> None:
    """Raise LoginError for a server's metadata, found at `address`, that cannot be used.

    Only the place that belongs to a path above the server's own may say that its tokens are for that path: other
    servers are there, too.
    """
    is_its_own = normalised(resource.resource) == normalised(url)
    if not is_its_own and not (
        covers(resource.resource, url) and address == resource_addresses(resource.resource, "")[0]
    ):
        raise LoginError(
            Step.RESOURCE,
            f"{address} is of the resource {resource.resource[:200]!r}, which is not {url} (RFC 9728 section 3.3): "
            "connect to that URL if it is the server you mean",
        )
    if not resource.authorization_servers:
        raise LoginError(
            Step.RESOURCE,
            f"{address} names no provider (RFC 9728 section 2): ask who runs the server, or pass a token",
        )


def covers(resource: str, url: str) -> bool:
    """Return whether a resource is the server at `url`, or a path above it at the same origin."""
    try:
        same = read_url(resource).origin == read_url(url).origin
    except ValueError:
        return False
    its, ours = urlsplit(resource), urlsplit(url)
    above = its.path.rstrip("/")
    is_above = ours.path.rstrip("/") == above or ours.path.startswith(f"{above}/")
    return same and is_above and not its.fragment and (not its.query or its.query == ours.query)


def _require_usable(web: ProviderWeb, provider: Provider) -> None:
    """Raise LoginError for a provider at which this client cannot log in."""
    if "S256" not in (provider.code_challenge_methods_supported or ()):
        raise LoginError(
            Step.PROVIDER,
            f"{provider.issuer} does not say that it supports PKCE, as MCP requires (RFC 7636): ask who runs the "
            "provider to add S256 to code_challenge_methods_supported",
        )
    try:
        web.check(provider.authorization_endpoint)
        web.check(provider.token_endpoint)
    except ForbiddenAddress as error:
        raise LoginError(
            Step.PROVIDER,
            f"{provider.issuer} names an endpoint that is not used: {error} (RFC 8414 section 2); ask who runs it",
        ) from None
