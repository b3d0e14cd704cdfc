"""`OAuthLogin`: the settings of a client's login, and how the browser is opened."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from portway.client.errors import LoginError, Step
from portway.client.oauth.storage import FileStorage, LoginStorage

Visit = Callable[[str], Awaitable[str | None]]
"""Takes the URL of the provider's page to a browser. Returns the URL to which the provider sent it back, if known.

With None, the login waits for the browser to come back to the loopback address.
"""


async def open_browser(url: str) -> str | None:
    """Open the user's browser. Raises LoginError if there is none."""
    import asyncio
    import webbrowser

    if not await asyncio.to_thread(webbrowser.open, url):
        raise LoginError(
            Step.AUTHORIZATION,
            "there is no browser on this machine (RFC 8252 section 4.1): give OAuthLogin a function as visit",
        )
    return None


@dataclass(frozen=True, slots=True)
class OAuthLogin:
    """A login by OAuth 2.1: what is asked for, as whom, and where what came of it is kept.

    `scopes` are asked for besides those that the server names. A client that is registered with the provider has a
    `client_id`, may have a `client_secret`, and is for one `issuer`. `client_metadata_url` is the client id for
    providers that read client metadata documents; others register a client of the name `client_name`. The browser
    comes back to `callback_port` of this machine, 0 for any free one, within `timeout` seconds. With `visit=None`
    nobody is asked: only a stored login is used, and refreshed. Raises ValueError.
    """

    scopes: tuple[str, ...] = ()
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    issuer: str = ""
    client_metadata_url: str = ""
    client_name: str = "Portway"
    callback_port: int = 0
    visit: Visit | None = open_browser
    storage: LoginStorage = field(default_factory=FileStorage)
    timeout: float = 300.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.client_metadata_url)
        if self.client_metadata_url and (parts.scheme != "https" or parts.path in ("", "/")):
            raise ValueError("client_metadata_url must be an https URL with a path")
        if isinstance(self.scopes, str):
            raise ValueError("scopes is a list of texts, as in ['read', 'write']")  # noqa: TRY004 - as for a wrong value
        if self.client_secret and not self.client_id:
            raise ValueError("client_secret needs client_id")
