"""`OAuth` and the variables PORTWAY_AUTH_…: the settings of a provider, read and refused."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast
from urllib.parse import urlsplit

from portway.exceptions import SettingError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DOWNSTREAM = ("", "exchange", "client_credentials")
_VARIABLES = (
    *("ISSUER", "AUDIENCE", "RESOURCE", "SCOPES", "PRIVATE"),
    *("CLIENT_ID", "CLIENT_SECRET", "DOWNSTREAM", "OPAQUE"),
)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 appendix A.4


@dataclass(frozen=True, slots=True)
class OAuth:
    """The provider whose access tokens a server takes (RFC 9728, RFC 8707).

    `issuer` is its URL, exactly as its metadata and tokens have it. `audience` is what its tokens for this server have
    as `aud`: the public URL of the endpoint, or another name that the provider knows it by. `resource` is that public
    URL, if the audience is another name. `scopes` are those that clients are told to ask for. With `private`, the
    provider may be in this machine's network. As `client_id`, with `client_secret`, the server itself is known to the
    provider. `downstream` says how `Context.token_for` gets tokens for other services: in exchange for the caller's
    (RFC 8693), or as the server itself (RFC 6749 section 4.4). With `opaque`, the provider is asked whose a token is
    that is no JWT (RFC 7662). Raises SettingError.
    """

    issuer: str
    audience: str
    resource: str = ""
    scopes: tuple[str, ...] = ()
    private: bool = False
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    downstream: Literal["", "exchange", "client_credentials"] = ""
    opaque: bool = False

    def __post_init__(self) -> None:
        if not is_issuer(self.issuer):
            raise SettingError(
                f"the issuer {self.issuer!r} is no https URL without query and comma: give the provider's own"
            )
        if not self.audience:
            raise SettingError(
                "give the audience, too (--auth-audience or PORTWAY_AUTH_AUDIENCE), the public URL of the endpoint as "
                "in https://example.com/mcp: without it, tokens made for any other server would be taken"
            )
        if not self.resource:
            object.__setattr__(self, "resource", self.audience)
        if not is_safe_url(self.resource, is_own=True):
            raise SettingError(
                f"the audience {self.audience!r} is no URL: give the public URL of the endpoint as resource "
                "(PORTWAY_AUTH_RESOURCE), as in https://example.com/mcp"
            )
        check_scopes(self.scopes)
        if bool(self.client_id) != bool(self.client_secret):
            raise SettingError("PORTWAY_AUTH_CLIENT_ID and PORTWAY_AUTH_CLIENT_SECRET need each other: set both")
        if self.downstream not in _DOWNSTREAM:
            raise SettingError(
                f"there is no PORTWAY_AUTH_DOWNSTREAM {self.downstream}; use exchange or client_credentials"
            )
        if self.opaque and not self.client_id:
            raise SettingError(
                "PORTWAY_AUTH_OPAQUE needs PORTWAY_AUTH_CLIENT_ID and PORTWAY_AUTH_CLIENT_SECRET: "
                "the provider tells only its clients whose a token is"
            )
        if self.downstream and not self.client_id:
            raise SettingError(
                "PORTWAY_AUTH_DOWNSTREAM needs PORTWAY_AUTH_CLIENT_ID and PORTWAY_AUTH_CLIENT_SECRET: "
                "register this server as a client at the provider"
            )


def same_resource(providers: Iterable[OAuth]) -> tuple[OAuth, ...]:
    """Return the providers of one server. Raises SettingError for an issuer given twice or another resource."""
    given = tuple(providers)
    issuers = [each.issuer for each in given]
    if repeated := {each for each in issuers if issuers.count(each) > 1}:
        raise SettingError(f"the issuer {min(repeated)!r} is given twice: give each provider once")
    if len({each.resource for each in given}) > 1:
        raise SettingError(
            "the providers of a server need one resource: give the public URL of the endpoint to each, as resource"
        )
    if sum(bool(each.downstream) for each in given) > 1:
        raise SettingError("tokens for other services come from one provider: give downstream to one OAuth only")
    return given


def from_environment(environ: Mapping[str, str]) -> tuple[OAuth, ...]:
    """Return what PORTWAY_AUTH_ISSUER and its like say; nothing without an issuer.

    There may be several issuers with spaces or commas between, and one audience for all or one for each. Raises
    SettingError.
    """
    given = {name: environ.get(f"PORTWAY_AUTH_{name}", "").strip() for name in _VARIABLES}
    issuers, audiences = (listed(given[name]) for name in ("ISSUER", "AUDIENCE"))
    if not issuers:
        if given["ISSUER"]:
            raise SettingError("PORTWAY_AUTH_ISSUER names no issuer: give the provider's URL, or leave it out")
        if audiences:
            raise SettingError("PORTWAY_AUTH_AUDIENCE needs PORTWAY_AUTH_ISSUER, the URL of the identity provider")
        return ()
    if len(issuers) > 1 and given["CLIENT_ID"]:
        raise SettingError(
            "PORTWAY_AUTH_CLIENT_ID is for one issuer: give several in code, as Server(auth=[OAuth(…), OAuth(…)])"
        )
    return same_resource(
        OAuth(
            issuer,
            audience,
            given["RESOURCE"],
            tuple(listed(given["SCOPES"])),
            given["PRIVATE"] == "1",
            given["CLIENT_ID"],
            given["CLIENT_SECRET"],
            cast("Literal['exchange']", given["DOWNSTREAM"]),  # it is checked there
            given["OPAQUE"] == "1",
        )
        for issuer, audience in with_audiences(issuers, audiences)
    )


def listed(text: str) -> list[str]:
    """Return the names in a text with spaces or commas between them."""
    return text.replace(",", " ").split()


def with_audiences(issuers: Sequence[str], audiences: Sequence[str], usual: str = "") -> list[tuple[str, str]]:
    """Return each issuer with its audience: one for all, or one for each, or the `usual` one. Raises SettingError."""
    if len(audiences) not in (0, 1, len(issuers)):
        raise SettingError(
            f"there are {len(audiences)} audiences for {len(issuers)} issuers: give one for all, or one for each in "
            "the same order"
        )
    each = audiences if len(audiences) == len(issuers) else [*(audiences or [usual])] * len(issuers)
    return list(zip(issuers, each, strict=True))


def check_scopes(scopes: Iterable[str]) -> None:
    """Raise SettingError for a scope that cannot be asked for."""
    if wrong := [scope for scope in scopes if not is_scope(scope)]:
        raise SettingError(f"{wrong[0]!r} is no scope: it has no spaces, quotes and backslashes")


def reaches_private(settings: OAuth) -> bool:
    """Return whether this machine's network may be asked. A provider on this machine may name other addresses there."""
    return settings.private or is_loopback(settings.issuer)


def is_scope(text: str) -> bool:
    return _SCOPE.fullmatch(text) is not None


def is_issuer(text: str) -> bool:
    """Return whether a text can be the URL of a provider. Commas stand between several."""
    return is_safe_url(text) and "," not in text


def is_loopback(url: str) -> bool:
    """Return whether a URL is of this machine alone, by its name."""
    return urlsplit(url).hostname in _LOOPBACK


def is_safe_url(text: str, *, is_own: bool = False) -> bool:
    """Return whether tokens may be sent to a URL. Names below localhost are safe only as this server's own."""
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_plain = not (parts.query or parts.fragment or parts.username) and text.isascii() and text.isprintable()
    is_here = is_loopback(text) or (is_own and f".{parts.hostname}".endswith(".localhost"))
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_here)
    return bool(parts.hostname) and port_is_valid and is_plain and is_safe and " " not in text and '"' not in text
