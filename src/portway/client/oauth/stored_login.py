"""A login as it is kept: the registered client, its tokens, and how long before its end one is refreshed."""

import time

import msgspec

_MARGIN_SECONDS = 10.0  # before it expires, a token is refreshed: the server must still take it


class RegisteredClient(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client as one provider knows it. `method` is how it authenticates at the token endpoint.

    With `registered`, this client has registered itself there (RFC 7591), for `redirect_uri` and until `expires`.
    """

    client_id: str
    secret: str = ""
    method: str = "none"
    redirect_uri: str = ""
    registered: bool = False
    expires: float | None = None

    def __repr__(self) -> str:
        """Return it without the secret."""
        return f"RegisteredClient({self.client_id!r})"


class Login(msgspec.Struct, frozen=True, omit_defaults=True):
    """A login at a server. It is bound to the `issuer` that gave it: no other provider gets anything of it.

    `resource` is what the tokens are for, `scopes` what was asked for, `expires` in seconds since the epoch.
    """

    issuer: str
    token_endpoint: str
    resource: str
    client: RegisteredClient
    access_token: str
    refresh_token: str = ""
    expires: float | None = None
    scopes: tuple[str, ...] = ()
    revocation_endpoint: str = ""

    def __repr__(self) -> str:
        """Return it without the tokens."""
        return f"Login({self.issuer!r}, {self.resource!r}, scopes={self.scopes!r})"

    @property
    def is_over(self) -> bool:
        """Whether the access token has expired, or is about to."""
        return self.expires is not None and time.time() >= self.expires - _MARGIN_SECONDS
