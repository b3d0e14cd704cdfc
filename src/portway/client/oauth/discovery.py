"""Finds where users of a protected server log in (MCP 2026-07-28, basic/authorization; RFC 9728, RFC 8414, OIDC).

1. The server's metadata: at the URL that its challenge names, then at the well-known path with the server's own path,
   then at the root. It names the server and its providers.
2. A provider's metadata: at the well-known paths of RFC 8414 and of OpenID Connect.

A server without metadata is one of the revision 2025-03-26: it is its own provider.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec

from portway.auth.challenge import BearerChallenge
from portway.client.errors import LoginError, Step, not_now
from portway.client.oauth.provider_web import ForbiddenAddress, ProviderWeb
from portway.oauth.claims import normalised
from portway.oauth.guarded_fetch import FetchError
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


@dataclass(frozen=True, slots=True)
class Attempt:
    """One address that was asked. `problem` says why its answer is not used, "" if it is."""

    step: Step
    url: str
    problem: str = ""


@dataclass(slots=True)
class Search(Generic[T]):
    """The attempts of one step in their order, and what they found; `error` ended them before that."""

    attempts: list[Attempt] = field(default_factory=list)
    found: T | None = None
    error: LoginError | None = None


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where to log in for which resource. `scopes` are those that the server's metadata names."""

    resource: str
    scopes: tuple[str, ...]
    provider: Provider
    attempts: tuple[Attempt, ...]


async def discover(
    web: ProviderWeb, url: str, challenge: BearerChallenge | None, preferred: Sequence[str] = ()
) -> Discovery:
    """Return where to log in for the server at `url`; of several providers, a `preferred` issuer. Raises LoginError."""
    named = challenge.resource_metadata if challenge is not None else ""
    resource = await find_resource(web, url, named)
    if resource.error is not None:
        raise resource.error
    if resource.found is None:
        search = await find_own_provider(web, url)
    else:
        search = await _find_any(web, resource.found.authorization_servers or (), preferred)
    if search.error is not None:
        raise search.error
    assert search.found is not None
    found = resource.found or ProtectedResource(url)
    return Discovery(found.resource, found.scopes_supported or (), search.found, (*resource.attempts, *search.attempts))


async def _find_any(web: ProviderWeb, issuers: Sequence[str], preferred: Sequence[str]) -> Search[Provider]:
    """Find the first provider of a list that answers; the preferred ones come first."""
    attempts: list[Attempt] = []
    error: LoginError | None = None
    for issuer in sorted(issuers, key=lambda each: each not in preferred)[:_MOST_PROVIDERS]:
        search = await find_provider(web, issuer)
        attempts += search.attempts
        if search.error is None:
            return Search(attempts, search.found)
        error = error or search.error
    return Search(attempts, None, error)


async def find_resource(web: ProviderWeb, url: str, named: str) -> Search[ProtectedResource]:
    """Look for the metadata of the server at `url`; `named` is its place by the challenge, "" for none.

    Nothing is found without an error for a server of the revision 2025-03-26.
    """
    search: Search[ProtectedResource] = Search()
    for address in resource_addresses(url, named):
        await _attempt(search, web, Step.RESOURCE, address, ProtectedResource)
        if search.error is not None:
            return search
        if search.found is not None:
            search.error = _unfit(search.found, url, address)
            return search
    if named:
        search.error = LoginError(
            Step.RESOURCE,
            f"the server names its metadata, but {search.attempts[0].problem} (RFC 9728 section 5.1): ask who runs it "
            "to publish that",
        )
    return search


async def find_provider(web: ProviderWeb, issuer: str) -> Search[Provider]:
    """Look for the metadata of an issuer."""
    search: Search[Provider] = Search()
    try:
        web.check(issuer)
    except ForbiddenAddress as error:
        search.error = _not_asked(Step.PROVIDER, error)
        return search
    foreign = ""
    for address in metadata_addresses(issuer):
        await _attempt(search, web, Step.PROVIDER, address, Provider)
        if search.error is not None:
            return search
        if search.found is not None and search.found.issuer == issuer:
            search.error = _unusable(web, search.found)
            return search
        foreign = _reject_other_issuer(search) or foreign
    problem = f"{foreign} (RFC 8414 section 3.3)" if foreign else f"{search.attempts[-1].problem} (RFC 8414 section 3)"
    search.error = LoginError(
        Step.PROVIDER,
        f"{issuer[:200]} has no metadata: {problem}; ask who runs the server whether it names the right provider",
    )
    return search


async def find_own_provider(web: ProviderWeb, url: str) -> Search[Provider]:
    """Find where a server without metadata logs users in itself (2025-03-26, basic/authorization)."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    search: Search[Provider] = Search()
    for address in metadata_addresses(origin):
        await _attempt(search, web, Step.PROVIDER, address, Provider)
        if search.error is not None:
            return search
        # Both identifiers give this address (RFC 8414 section 3.1).
        if search.found is not None and search.found.issuer in (origin, f"{origin}/"):
            search.error = _unusable(web, search.found)
            return search
        _reject_other_issuer(search)
    search.found = Provider(
        origin,
        f"{origin}/authorize",
        f"{origin}/token",
        f"{origin}/register",
        code_challenge_methods_supported=("S256",),
    )
    return search


def resource_addresses(url: str, named: str) -> list[str]:
    """Return where the metadata of the server at `url` may be; the place that it names comes first."""
    parts = urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}"
    path = parts.path.rstrip("/")
    return list(dict.fromkeys(each for each in (named, root + path, root) if each))


async def _attempt(search: Search[T], web: ProviderWeb, step: Step, url: str, kind: type[T]) -> None:
    """Ask one address. What cannot be asked now, or must not be, is the end of the search."""
    try:
        answer = await web.get(url)
    except FetchError as error:
        search.attempts.append(Attempt(step, url, str(error)))
        if isinstance(error, ForbiddenAddress):
            search.error = _not_asked(step, error)
        else:
            search.error = not_now(step, _RULES[step], error)
        return
    problem = ""
    if answer.status >= 500 or answer.status == 429:
        problem = f"{url} answers with status {answer.status}"
        search.error = not_now(step, _RULES[step], problem)
    elif answer.status != 200:
        problem = f"{url} answers with status {answer.status}"
    else:
        try:
            search.found = msgspec.json.decode(answer.body, type=kind)
        except UNREADABLE:
            problem = f"{url} does not answer with such metadata"
    search.attempts.append(Attempt(step, url, problem))


def _not_asked(step: Step, error: ForbiddenAddress) -> LoginError:
    return LoginError(step, f"{error} ({_RULES[step]}); ask who runs the server")


def _reject_other_issuer(search: Search[Provider]) -> str:
    """Drop what was found, which is of another issuer (RFC 8414 section 3.3). Return the problem, "" if nothing was."""
    if search.found is None:
        return ""
    url = search.attempts[-1].url
    problem = f"{url} is of the issuer {search.found.issuer[:200]!r}"
    search.attempts[-1] = Attempt(Step.PROVIDER, url, problem)
    search.found = None
    return problem


def _unfit(resource: ProtectedResource, url: str, address: str) -> LoginError | None:
    """Return what is wrong with a server's metadata, found at `address`; None if it can be used.

    Only the place that belongs to a path above the server's own may say that its tokens are for that path: other
    servers are there, too.
    """
    is_its_own = normalised(resource.resource) == normalised(url)
    if not is_its_own and not (
        covers(resource.resource, url) and address == resource_addresses(resource.resource, "")[0]
    ):
        return LoginError(
            Step.RESOURCE,
            f"{address} is of the resource {resource.resource[:200]!r}, which is not {url} (RFC 9728 section 3.3): "
            "connect to that URL if it is the server you mean",
        )
    if not resource.authorization_servers:
        return LoginError(
            Step.RESOURCE,
            f"{address} names no provider (RFC 9728 section 2): ask who runs the server, or pass a token",
        )
    return None


def covers(resource: str, url: str) -> bool:
    """Return whether a resource is the server at `url`, or a path above it at the same origin."""
    try:
        its, ours = urlsplit(resource), urlsplit(url)
        same = _origin(its) == _origin(ours)
    except ValueError:
        return False
    above = its.path.rstrip("/")
    is_above = ours.path.rstrip("/") == above or ours.path.startswith(f"{above}/")
    return same and is_above and not its.fragment and (not its.query or its.query == ours.query)


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _unusable(web: ProviderWeb, provider: Provider) -> LoginError | None:
    """Return why this client cannot log in at a provider; None if it can."""
    if "S256" not in (provider.code_challenge_methods_supported or ()):
        return LoginError(
            Step.PROVIDER,
            f"{provider.issuer} does not say that it supports PKCE, as MCP requires (RFC 7636): ask who runs the "
            "provider to add S256 to code_challenge_methods_supported",
        )
    try:
        web.check(provider.authorization_endpoint)
        web.check(provider.token_endpoint)
    except ForbiddenAddress as error:
        return LoginError(
            Step.PROVIDER,
            f"{provider.issuer} names an endpoint that is not used: {error} (RFC 8414 section 2); ask who runs it",
        )
    return None
