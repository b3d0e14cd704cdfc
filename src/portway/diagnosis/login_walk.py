"""Walks the login at an endpoint as one known client does, up to the browser: metadata, provider, client id; and says
where it stops and why.

The steps are those of `portway.client.errors.Step`: the metadata of the server, that of a provider, the client's id.
What comes then is the user's: no browser is opened, and nothing is registered, as that may stay at the provider, unless
it is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec

from portway.auth.challenge import BearerChallenge
from portway.client.errors import Step
from portway.client.oauth.discovery import ProtectedResource, Provider, covers, resource_addresses
from portway.client.oauth.provider_web import ForbiddenAddress
from portway.diagnosis.known_clients import LoginClient, Way
from portway.diagnosis.known_providers import KNOWN_PROVIDERS
from portway.diagnosis.stop import Stop
from portway.diagnosis.trial_registration import TrialRegistrations
from portway.http.web_url import read_url
from portway.oauth.guarded_fetch import Answer, GuardedFetchError
from portway.oauth.provider_metadata import metadata_addresses
from portway.protocol.jsonrpc import UNREADABLE

T = TypeVar("T")
_MOST_PROVIDERS = 5
_FETCH = "the Fetch standard, CORS protocol"
_PUBLISH = "let it answer 200 with the JSON itself"


class Web(Protocol):
    """The part of the web that an endpoint may lead to."""

    async def get(self, url: str) -> Answer:
        """GET a URL; no redirect is followed. Raises `GuardedFetchError`."""
        ...

    def check(self, url: str) -> None:
        """Raise `ForbiddenAddress` for a URL to which no browser should be sent."""
        ...


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a client comes: to the browser, at `authorization_endpoint` with an id by `way`, or to a `stop`."""

    client: str
    issuer: str = ""
    authorization_endpoint: str = ""
    way: Way | None = None
    callbacks: tuple[str, ...] = ()
    stop: Stop | None = None


class _Stopped(Exception):  # it carries a result, and is no error of the program
    def __init__(self, step: Step, rule: str, text: str, mend: str) -> None:
        super().__init__(text)
        self.stop = Stop(step, rule, text, mend)


@dataclass(slots=True)
class LoginWalk:
    """The login at the endpoint `url`, whose `challenge` is known. Each address is asked once, for all clients.

    `names_no_scope`: neither the challenge nor the server's metadata says which scopes to ask for.
    """

    web: Web
    url: str
    challenge: BearerChallenge | None
    registrations: TrialRegistrations | None = None
    names_no_scope: bool = False
    _answers: dict[str, Answer | GuardedFetchError] = field(default_factory=dict)

    async def walk(self, client: LoginClient) -> Walk:
        """Go as far as a client does."""
        provider: Provider | None = None
        try:
            provider = await self._provider(client, await self._issuers(client))
            way = _way(client, provider)
            trial = self.registrations if way == "registration" else None
            if trial is not None and (stop := await trial.stop_of(client, provider)) is not None:
                return Walk(client.name, provider.issuer, stop=stop)
            for known in KNOWN_PROVIDERS:
                if known.endpoint.match(provider.authorization_endpoint) and known.way in (None, way):
                    raise _Stopped(known.step, known.rule, known.text, known.mend)
        except _Stopped as stopped:
            return Walk(client.name, provider.issuer if provider else "", stop=stopped.stop)
        return Walk(client.name, provider.issuer, provider.authorization_endpoint, way, client.callbacks)

    async def _issuers(self, client: LoginClient) -> Sequence[str]:
        """Return the providers that the server's metadata names."""
        named = self.challenge.resource_metadata if self.challenge is not None else ""
        problems = []
        for address in resource_addresses(self.url, named):
            found, problem = await self._read(client, Step.RESOURCE, address, ProtectedResource)
            if found is None:
                problems.append(problem)
                continue
            if not _fits(client, found.resource, self.url):
                raise _Stopped(
                    Step.RESOURCE,
                    "RFC 9728 section 3.3",
                    f"{address} is of the resource {found.resource[:200]!r}, which is not {self.url}",
                    "let `resource` be the exact address that users give to their clients",
                )
            if not found.authorization_servers:
                raise _Stopped(
                    Step.RESOURCE,
                    "RFC 9728 section 2",
                    f"{address} names no provider",
                    "name it in `authorization_servers`",
                )
            self.names_no_scope = not (found.scopes_supported or (self.challenge is not None and self.challenge.scope))
            return found.authorization_servers[: _MOST_PROVIDERS if client.every_provider else 1]
        if not named and (own := await self._own_issuer(client)):
            return (own,)
        raise _Stopped(
            Step.RESOURCE,
            "RFC 9728 section 5.1" if named else "RFC 9728 section 3",
            "; ".join(problems),
            "serve the metadata of a protected resource, and name its address in the 401 as resource_metadata",
        )

    async def _own_issuer(self, client: LoginClient) -> str:
        """Return the issuer of a server that is its own provider, as in the revision 2025-03-26; "" for another."""
        origin = read_url(self.url).origin
        for address in metadata_addresses(origin):
            found, _ = await self._read(client, Step.PROVIDER, address, Provider)
            if found is not None and found.issuer in (origin, f"{origin}/"):
                return found.issuer
        return ""

    async def _provider(self, client: LoginClient, issuers: Sequence[str]) -> Provider:
        """Return the first provider at which the client can log in."""
        first: _Stopped | None = None
        for issuer in issuers:
            try:
                return await self._usable(client, issuer)
            except _Stopped as stopped:
                first = first or stopped
        assert first is not None
        raise first

    async def _usable(self, client: LoginClient, issuer: str) -> Provider:
        problems, foreign = [], ""
        for address in metadata_addresses(issuer):
            found, problem = await self._read(client, Step.PROVIDER, address, Provider)
            if found is not None and found.issuer == issuer:
                self._require_usable(client, found)
                return found
            if found is not None:
                problem = foreign = f"{address} is of the issuer {found.issuer[:200]!r}, not of {issuer[:200]!r}"
            problems.append(problem)
        if foreign:
            raise _Stopped(
                Step.PROVIDER,
                "RFC 8414 section 3.3",
                foreign,
                "name the issuer in `authorization_servers` letter by letter as the provider writes it",
            )
        raise _Stopped(
            Step.PROVIDER,
            "RFC 8414 section 3",
            "; ".join(problems),
            "let the provider publish its metadata at one of them",
        )

    def _require_usable(self, client: LoginClient, provider: Provider) -> None:
        methods = provider.code_challenge_methods_supported
        is_missing = methods is None and client.s256 == "named"
        if is_missing or (methods is not None and "S256" not in methods and client.s256 != "any"):
            raise _Stopped(
                Step.PROVIDER,
                "RFC 7636 section 4.3, MCP basic/authorization",
                f"the provider {provider.issuer} does not name S256 in code_challenge_methods_supported",
                "let it name S256, if it supports it; else it is no provider for MCP",
            )
        for name, endpoint in (
            ("authorization_endpoint", provider.authorization_endpoint),
            ("token_endpoint", provider.token_endpoint),
        ):
            try:
                self.web.check(endpoint)
            except ForbiddenAddress as error:
                raise _Stopped(
                    Step.PROVIDER,
                    "RFC 8414 section 2",
                    f"the {name} of {provider.issuer}: {error}",
                    "let it be an https URL",
                ) from None
        if client.needs_methods and not provider.token_endpoint_auth_methods_supported:
            raise _Stopped(
                Step.PROVIDER,
                "RFC 8414 section 2",
                f"the provider {provider.issuer} does not say how clients authenticate at its token endpoint",
                "let it name token_endpoint_auth_methods_supported",
            )

    async def _read(self, client: LoginClient, step: Step, url: str, kind: type[T]) -> tuple[T | None, str]:
        """Return what is at an address, and why that cannot be used. What ends the search is raised."""
        rule = "RFC 9728 section 3" if step == Step.RESOURCE else "RFC 8414 section 3"
        answer = await self._answer(url)
        if isinstance(answer, ForbiddenAddress):
            raise _Stopped(step, rule, str(answer), "publish an https address that clients on the internet reach")
        if isinstance(answer, GuardedFetchError):
            raise _Stopped(step, rule, str(answer), "let it answer: clients give up here")
        headers = dict(answer.headers)
        if answer.status >= 500 or answer.status == 429:
            text = f"{url} answers with status {answer.status}, and clients give up here"
            raise _Stopped(step, rule, text, _PUBLISH)
        if location := headers.get(b"location", b"") if 300 <= answer.status < 400 else b"":
            return None, f"{url} redirects to {location.decode('latin-1')[:200]}, which clients do not follow"
        if answer.status != 200:
            return None, f"{url} answers with status {answer.status}"
        try:
            found = msgspec.json.decode(answer.body, type=kind)
        except UNREADABLE:
            return None, f"{url} does not answer with such metadata"
        if client.is_web_page and headers.get(b"access-control-allow-origin", b"") != b"*":
            text = f"{url} may not be read by web pages: it has no Access-Control-Allow-Origin: *"
            raise _Stopped(step, _FETCH, text, "add that header: the metadata is public")
        return found, ""

    async def _answer(self, url: str) -> Answer | GuardedFetchError:
        if url not in self._answers:
            try:
                self._answers[url] = await self.web.get(url)
            except GuardedFetchError as error:
                self._answers[url] = error
        return self._answers[url]


def _fits(client: LoginClient, resource: str, url: str) -> bool:
    """Return whether a client takes the resource for that of the URL."""
    if client.resource == "above":
        return covers(resource, url)
    try:
        return read_url(resource) == read_url(url)
    except ValueError:
        return False


def _way(client: LoginClient, provider: Provider) -> Way:
    """Return how a client gets an id at a provider."""
    lists_none = "none" in (provider.token_endpoint_auth_methods_supported or ())
    offered = {
        "document": provider.client_id_metadata_document_supported and (lists_none or not client.needs_none),
        "registration": bool(provider.registration_endpoint),
    }
    if way := next((way for way in client.ways if offered[way]), None):
        return way
    unlisted = provider.client_id_metadata_document_supported and client.needs_none
    text = f"the provider {provider.issuer} lets no client register"
    if unlisted:
        text += ", and reads metadata documents without `none` in token_endpoint_auth_methods_supported"
    elif "document" in client.ways:
        text += ", and reads no metadata document"
    callbacks = " and ".join(client.callbacks)
    mend = f"let it do one of these; else register the client there, with the callback {callbacks}"
    mend += ", and give the id to its users" if client.takes_id else ", if it can be told its id"
    raise _Stopped(Step.REGISTRATION, "RFC 7591 section 3, MCP basic/authorization/client-registration", text, mend)
