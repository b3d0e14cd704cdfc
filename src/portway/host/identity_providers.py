"""The identity providers of the host and of each app: `x-portway.auth` of a blueprint over `--auth-issuer` of `portway
up`.
"""

import logging
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec.structs import replace

from portway.exceptions import SettingError
from portway.host.app_config import AppConfig
from portway.host.public_address import PublicAddress
from portway.host.routing_table import Auth
from portway.oauth.provider_metadata import objections
from portway.oauth.resource_server import ResourceServer, resource_server
from portway.oauth.settings import OAuth, is_loopback, same_resource, with_audiences

_log = logging.getLogger("portway.host")


class Logins:
    """Finds the login of each app of the host at `address`; `host` is that of all apps which do not say otherwise."""

    def __init__(self, address: PublicAddress, host: Auth | None = None, *, private: bool = False) -> None:
        """With `private`, apps may name a provider on this machine, or in its network.

        Raises SettingError.
        """
        self._address = address
        self._host = host
        self._private = private
        self._objections: dict[str, str] = {}  # those of the log, by app
        if host is not None:
            self._check("app", host)

    @property
    def issuers(self) -> list[str]:
        """The providers of the host."""
        return [] if self._host is None else self._host.issuers

    def of_host(self) -> ResourceServer | None:
        """Return how those log in who operate the host; None if it has no provider.

        Their tokens must be made for the URL of the management API, whatever is the audience of the apps: a token for
        an app must not operate the host.
        """
        if self._host is None:
            return None
        url = self._address.management
        providers = providers_at(replace(self._host, audiences=[]), url)
        return resource_server(providers, "Portway", urlsplit(url).path, None)

    def of(self, app: str, config: AppConfig) -> Auth | None:
        """Return the login of an app, None if it has none. Raises SettingError."""
        own, host = config.auth, self._host
        if config.access == "app" or not config.asks_for_tokens or (own is not None and not own.enabled):
            return None
        if own is None:
            return host
        if not own.issuers and host is None:
            raise SettingError(
                "it has no issuer, and the host has none: add issuer, or start the host with --auth-issuer"
            )
        known = [] if host is None else host.issuers
        if host is not None and own.issuers in ([], known):
            audiences, scopes = own.audiences or host.audiences, own.scopes or host.scopes
            found = Auth(known, audiences, scopes, self._private, host.opaque)
        else:
            found = Auth(own.issuers, own.audiences, own.scopes, self._private)
        for issuer in found.issuers:
            if is_loopback(issuer) and issuer not in known and not self._private:
                raise SettingError(
                    f"the issuer {issuer!r} is on this machine: start the host with --auth-private to allow it"
                )
        self._check(app, found)
        return found

    def in_use(self, app: str, config: AppConfig) -> Auth | None:
        """Return the login of an app that serves; None, as the log says, where the host does not allow it any more."""
        try:
            found = self.of(app, config)
        except SettingError as error:
            if self._objections.get(app) != str(error):
                self._objections[app] = str(error)
                _log.warning("nobody can log in at %s: %s", app, error)
            return None
        self._objections.pop(app, None)
        return found

    async def objections(self, configs: Mapping[str, AppConfig]) -> list[str]:
        """Return why nobody could log in now at the providers that apps name themselves, a sentence for each."""
        found: dict[str, OAuth] = {}
        for app, config in configs.items():
            if config.auth is not None and config.auth.issuers and (auth := self.of(app, config)) is not None:
                found |= {each.issuer: each for each in providers_at(auth, self._address.endpoint(app))}
        return await objections(found.values())

    def _check(self, app: str, auth: Auth) -> None:
        providers_at(auth, self._address.endpoint(app))


def providers_at(auth: Auth, url: str) -> tuple[OAuth, ...]:
    """Return the providers of an app whose endpoint is at a URL. Raises SettingError.

    The host is known to the provider of opaque tokens by PORTWAY_AUTH_CLIENT_ID and PORTWAY_AUTH_CLIENT_SECRET.
    """
    if auth.opaque and len(auth.issuers) != 1:
        raise SettingError("PORTWAY_AUTH_OPAQUE is for a host with one issuer: give one, or leave it out")
    client, secret = "", ""
    if auth.opaque:
        client = os.environ.get("PORTWAY_AUTH_CLIENT_ID", "")
        secret = os.environ.get("PORTWAY_AUTH_CLIENT_SECRET", "")
    return same_resource(
        OAuth(issuer, audience, url, tuple(auth.scopes), auth.private, client, secret, opaque=auth.opaque)
        for issuer, audience in with_audiences(auth.issuers, auth.audiences, url)
    )
