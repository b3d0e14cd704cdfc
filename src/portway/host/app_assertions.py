"""Which apps are told in a signed JWT who calls, its issuer and audience, and their variables to check it."""

from portway.host.app_config import AppConfig
from portway.host.assertion_key import AssertionKey
from portway.host.public_address import PublicAddress
from portway.host.routing_table import Assertion


class AppAssertions:
    """Says it for the apps of the host at `address`, whose gate signs by `key`."""

    def __init__(self, address: PublicAddress, key: AssertionKey) -> None:
        self._address = address
        self._key = key

    def of(self, app: str, config: AppConfig) -> Assertion | None:
        """Return what is in the JWTs for an app, None for one that gets none."""
        return Assertion(self._address.url, self._address.endpoint(app)) if config.assertion else None

    def variables(self, app: str, config: AppConfig) -> dict[str, str]:
        """Return the variables of the app's processes: all that it needs to check a JWT without fetching anything."""
        meant = self.of(app, config)
        if meant is None:
            return {}
        return {
            "PORTWAY_ASSERTION_ISSUER": meant.issuer,
            "PORTWAY_ASSERTION_AUDIENCE": meant.audience,
            "PORTWAY_ASSERTION_KEY": self._key.public.decode(),
        }
