"""The authorization request that a browser takes to the provider (PKCE, state), and the judgement of the response:
state, issuer, error.

RFC 6749 section 4.1, RFC 7636 (PKCE), RFC 8707 (resource), RFC 9207 (issuer).
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from portway.client.errors import LoginError, Step
from portway.client.oauth.discovery import Discovery
from portway.client.oauth.problem import is_of_client, problem_words
from portway.client.oauth.stored_login import RegisteredClient

_STEP = Step.AUTHORIZATION
_MOST_CHARACTERS = 16_384  # of a response


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """One request. Its issuer, state and verifier belong together: a response is judged by them."""

    discovery: Discovery
    client: RegisteredClient
    scopes: tuple[str, ...]
    redirect_uri: str
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    @property
    def url(self) -> str:
        """The provider's page."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=")
        fields = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": self.redirect_uri,
            "state": self.state,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
            "resource": self.discovery.resource,
        }
        if self.scopes:
            fields["scope"] = " ".join(self.scopes)
        if "offline_access" in self.scopes:
            fields["prompt"] = "consent"  # OpenID Connect Core section 11
        endpoint = self.discovery.provider.authorization_endpoint
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(fields)}"

    def code(self, response: str) -> str:
        """Return the code of a response, which is the URL that the browser came back to. Raises LoginError.

        The state is judged first, then the issuer: nothing of a response from elsewhere is acted on or shown.
        """
        fields = self._fields(response)
        if not self.has_state(fields.get("state", "")):
            raise LoginError(
                _STEP, "the response belongs to another login (RFC 6749 section 10.12): log in again from the start"
            )
        self._check_issuer(fields.get("iss"))
        if "error" in fields:
            words = problem_words(fields["error"], fields.get("error_description", ""))
            mend = _MENDS.get(fields["error"], "ask who runs the provider")
            refused = LoginError(_STEP, f"the provider refuses: {words} (RFC 6749 section 4.1.2.1): {mend}")
            refused.client_is_unknown = is_of_client(words)
            raise refused
        if not fields.get("code"):
            raise _incomplete()
        return fields["code"]

    def has_state(self, state: str) -> bool:
        """Return whether a response with this state belongs to this request."""
        return hmac.compare_digest(state.encode(), self.state.encode())

    def _fields(self, response: str) -> dict[str, str]:
        """Return the fields of a response. Each may be there once."""
        try:
            pairs = parse_qsl(urlsplit(response[:_MOST_CHARACTERS]).query, keep_blank_values=True, max_num_fields=50)
        except ValueError:
            pairs = []
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise _incomplete()
        return fields

    def _check_issuer(self, issuer: str | None) -> None:
        """Judge `iss` by RFC 9207 section 2.4 and the table of MCP 2026-07-28, basic/authorization."""
        provider = self.discovery.provider
        if issuer is None and provider.authorization_response_iss_parameter_supported:
            raise LoginError(
                _STEP,
                f"the response does not say that it is from {provider.issuer} (RFC 9207 section 2.4): do not try again "
                "before the provider has explained it",
            )
        if issuer is not None and issuer != provider.issuer:
            raise LoginError(
                _STEP,
                f"the response is not from {provider.issuer} (RFC 9207 section 2.4): do not try again before the "
                "provider has explained it",
            )


def _incomplete() -> LoginError:
    return LoginError(
        _STEP,
        "the response has no code, or a field twice (RFC 6749 section 4.1.2): log in again, or ask who runs the "
        "provider",
    )


_MENDS = {
    "access_denied": (
        "log in again and agree, or ask for the right to do so; where the server names no scope, give one by --scope"
    ),
    "invalid_scope": "ask for other scopes",
    "invalid_target": "ask who runs the provider to register the server's URL as a resource (RFC 8707)",
    "unauthorized_client": "register the client for the grant authorization_code",
    "server_error": "try again later",
    "temporarily_unavailable": "try again later",
}
