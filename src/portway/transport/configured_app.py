"""The HTTP application of a server as variables configure it: tokens, login, allowed hosts and origins, keys, sessions
(PORTWAY_TOKENS, PORTWAY_AUTH_…, PORTWAY_ALLOWED_HOSTS …).
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from portway.auth.tokens import NamedTokens, TokenVerifier
from portway.exceptions import SettingError
from portway.http.cors import Cors
from portway.http.host_and_origin import Guard
from portway.oauth.settings import from_environment
from portway.protocol.sealing import Keys
from portway.server.server import BaseServer
from portway.transport.http_app import PATH, HttpApp

if TYPE_CHECKING:
    from portway.oauth.downstream import DownstreamTokens
    from portway.oauth.resource_server import ResourceServer
    from portway.oauth.settings import OAuth


def configured_app(server: BaseServer) -> HttpApp:
    """Return the application of `server`, configured by the environment.

    PORTWAY_TOKENS asks for a bearer token, PORTWAY_AUTH_ISSUER and _AUDIENCE for one of an identity provider.
    PORTWAY_ALLOWED_HOSTS and RENDER_EXTERNAL_HOSTNAME name the server for the Host check, PORTWAY_ALLOWED_ORIGINS the
    pages that may call. PORTWAY_KEYS seals session ids and cursors, so that other processes read them too.
    PORTWAY_SOCKET (set by a host) leaves authentication to the gate, unless PORTWAY_ACCESS is "app". PORTWAY_SESSIONS
    (set by a host whose gate asks clients of the app) gives legacy clients sessions also if no function needs one.
    Raises SettingError.
    """
    tokens = os.environ.get("PORTWAY_TOKENS", "")
    behind_gate = bool(os.environ.get("PORTWAY_SOCKET")) and os.environ.get("PORTWAY_ACCESS") != "app"
    names = (os.environ.get("PORTWAY_ALLOWED_HOSTS", ""), os.environ.get("RENDER_EXTERNAL_HOSTNAME", ""))
    hosts = _listed(",".join(names))
    verifier = NamedTokens(tokens) if tokens and not behind_gate else None
    providers = server.auth or from_environment(os.environ)
    oauth = None if behind_gate or not providers else _oauth(providers, server, verifier)
    keys = os.environ.get("PORTWAY_KEYS", "")
    try:
        cors = Cors(_listed(os.environ.get("PORTWAY_ALLOWED_ORIGINS", "")))
    except SettingError as error:
        raise SettingError(f"PORTWAY_ALLOWED_ORIGINS: {error}") from None
    return HttpApp(
        server,
        verifier=verifier,
        guard=Guard(hosts, cors, local_pages=behind_gate or verifier is not None or oauth is not None),
        cors=cors,
        behind_gate=behind_gate,
        keys=Keys.parse(keys) if keys else None,
        oauth=oauth,
        downstream=_downstream(providers, behind_gate=behind_gate),
        sessions=os.environ.get("PORTWAY_SESSIONS") == "1",
    )


def _oauth(providers: Sequence["OAuth"], server: BaseServer, tokens: TokenVerifier | None) -> "ResourceServer":
    """Return how the access tokens of identity providers are taken."""
    from portway.oauth.resource_server import resource_server

    return resource_server(providers, server.name, PATH, tokens)


def _downstream(providers: Sequence["OAuth"], *, behind_gate: bool) -> "DownstreamTokens | None":
    """Return what obtains tokens for other services, if that is configured. Raises SettingError."""
    settings = next((each for each in providers if each.downstream), None)
    if settings is None:
        return None
    is_asserted = "PORTWAY_ASSERTION_ISSUER" in os.environ
    if behind_gate and settings.downstream == "exchange" and not is_asserted:
        raise SettingError(
            "PORTWAY_AUTH_DOWNSTREAM=exchange needs the caller's token, which ends at the host's gate: set "
            "x-portway.assertion: true to exchange the gate's assertion, or use client_credentials, or --access app"
        )
    from portway.oauth.downstream import DownstreamTokens

    return DownstreamTokens(settings, behind_gate=behind_gate)


def _listed(text: str) -> list[str]:
    """Split a comma-separated list, without its empty entries."""
    return [name for part in text.split(",") if (name := part.strip())]
