"""The client id of a login: the user's own, a metadata document, or by dynamic registration (RFC 7591; MCP 2026-07-28,
basic/authorization/client-registration).
"""

from dataclasses import dataclass

import msgspec

from portway.client.errors import LoginError, Step, not_now
from portway.client.oauth.discovery import AssumedProvider, Provider
from portway.client.oauth.problem import read_problem
from portway.client.oauth.provider_web import ProviderWeb
from portway.client.oauth.settings import OAuthLogin
from portway.client.oauth.stored_login import Login, RegisteredClient
from portway.oauth.guarded_fetch import GuardedFetchError
from portway.protocol.jsonrpc import UNREADABLE

_STEP = Step.REGISTRATION
_METHODS = ("none", "client_secret_post", "client_secret_basic")
"""The ways to authenticate at the token endpoint that this client has (RFC 7591 section 2), best first."""
_GRANTS = ("authorization_code", "refresh_token")


class _Registered(msgspec.Struct):
    client_id: str
    client_secret: str | None = None
    client_secret_expires_at: float | None = None
    token_endpoint_auth_method: str | None = None


@dataclass(frozen=True, slots=True)
class Registrar:
    """Says by which client id to log in at one provider."""

    settings: OAuthLogin
    provider: Provider
    web: ProviderWeb

    def known_client(self, last: Login | None) -> RegisteredClient | None:
        """Return the client that needs no registration: the user's own, or a metadata document; None if there is none.

        `last` is the login before. Raises LoginError for the user's own client if it is of another provider.
        """
        settings, provider = self.settings, self.provider
        if settings.client_id:
            used = last.issuer if last is not None and last.client.client_id == settings.client_id else provider.issuer
            if (settings.issuer or used) != provider.issuer:
                raise LoginError(
                    _STEP,
                    f"the client id is for {settings.issuer or used}, and the server names {provider.issuer} (RFC 6749 "
                    "section 2.2): register a client there, and give its issuer with its client id",
                )
            return RegisteredClient(settings.client_id, settings.client_secret, self._method(settings.client_secret))
        takes_public = "none" in (provider.token_endpoint_auth_methods_supported or ("none",))
        if settings.client_metadata_url and provider.client_id_metadata_document_supported and takes_public:
            return RegisteredClient(settings.client_metadata_url)
        return None

    async def register(self, redirect_uri: str) -> RegisteredClient:
        """Register a client at the provider (RFC 7591). Raises LoginError."""
        endpoint = self.provider.registration_endpoint
        if not endpoint:
            raise LoginError(
                _STEP,
                f"{self.provider.issuer} does not let clients register themselves (RFC 7591): register one there, and "
                "give its client id",
            )
        wanted = registration(self.settings.client_name, [redirect_uri], self.provider)
        try:
            answer = await self.web.post_json(endpoint, wanted)
        except GuardedFetchError as error:
            raise not_now(_STEP, "RFC 7591 section 3", error) from None
        if answer.status in (401, 404, 405) and isinstance(self.provider, AssumedProvider):
            raise LoginError(
                Step.RESOURCE,
                f"the server at {self.provider.issuer} names no identity provider (RFC 9728 section 5.1): pass a "
                "token, by --token or PORTWAY_TOKEN",
            )
        if answer.status not in (200, 201):
            raise _refusal(endpoint, answer.status, answer.body)
        return self._registered(answer.body, _best_method(self.provider), redirect_uri)

    def _registered(self, body: bytes, asked: str, redirect_uri: str) -> RegisteredClient:
        """Return what a provider has registered, if this client can act as it (RFC 7591 section 3.2.1)."""
        try:
            found = msgspec.json.decode(body, type=_Registered)
        except UNREADABLE:
            raise self._unusable() from None
        method = found.token_endpoint_auth_method or asked
        if method not in _METHODS or (method != "none" and not found.client_secret):
            raise self._unusable()
        return RegisteredClient(
            found.client_id,
            found.client_secret or "",
            method,
            redirect_uri,
            registered=True,
            expires=found.client_secret_expires_at or None,  # 0: it does not expire
        )

    def _unusable(self) -> LoginError:
        return LoginError(
            _STEP,
            f"{self.provider.issuer} registers a client without an id, or of a kind that this one cannot be (RFC 7591 "
            "section 3.2.1): register one there, and give its client id",
        )

    def _method(self, secret: str) -> str:
        """Return how to authenticate with a secret that the user gave, or without one."""
        if not secret:
            return "none"
        return "client_secret_basic" if "client_secret_basic" in _supported(self.provider) else "client_secret_post"


def registration(name: str, callbacks: list[str], provider: Provider) -> dict[str, object]:
    """Return what a program on its user's machine sends to be registered (RFC 7591 section 2)."""
    grants = provider.grant_types_supported
    return {
        "client_name": name,
        "redirect_uris": callbacks,
        "grant_types": [each for each in _GRANTS if grants is None or each in grants] or [_GRANTS[0]],
        "response_types": ["code"],
        "token_endpoint_auth_method": _best_method(provider),
        "application_type": "native",
    }


def _best_method(provider: Provider) -> str:
    return next((each for each in _METHODS if each in _supported(provider)), "none")


def _supported(provider: Provider) -> tuple[str, ...]:
    return provider.token_endpoint_auth_methods_supported or ("none", "client_secret_basic")


def _refusal(endpoint: str, status: int, body: bytes) -> LoginError:
    problem = read_problem(body)
    return LoginError(
        _STEP,
        f"{endpoint} answers with status {status}{problem} (RFC 7591 section 3.2.2): register a client there, and give "
        "its client id",
    )
