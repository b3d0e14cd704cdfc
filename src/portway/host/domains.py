"""Which app has which custom domain: from blueprints and `portway domain add`; names that another app has, or the host
itself.

A name leads to one app. A deploy sets the names of its blueprint; a rollback leaves them as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from portway.host.app_config import DEFAULT, AppConfig
from portway.host.domain_names import MOST, DomainError
from portway.host.store import Store


@dataclass(frozen=True, slots=True)
class Domain:
    """A custom domain of an app. `source` says who gave it: a person ("set"), or the blueprint."""

    name: str
    app: str
    source: Literal["set", "blueprint"]


class Domains:
    """Finds, adds and removes custom domains. Names at and below the host's `own` domain are never among them."""

    def __init__(self, store: Store, own: str) -> None:
        self._store = store
        self._own = own

    def all(self, configs: Mapping[str, AppConfig] | None = None) -> list[Domain]:
        """Return every custom domain, by name. `configs` are those of the live apps, which are read if not given."""
        if configs is None:
            live = [self._store.release(app.name, app.live) for app in self._store.apps() if app.live is not None]
            configs = {release.app: release.config for release in live if release is not None}
        found = {name: Domain(name, app, "blueprint") for app, config in configs.items() for name in config.domains}
        found |= {name: Domain(name, app, "set") for name, app in self._store.domains().items()}
        return [found[name] for name in sorted(found) if not self._is_own(name)]

    def of(self, app: str) -> list[Domain]:
        config = self._store.live_config(app)
        return [domain for domain in self.all({app: config} if config else {}) if domain.app == app]

    def refuse(self, configs: Mapping[str, AppConfig]) -> None:
        """Raise `DomainError` if one of these configurations may not become live, with the domains that it has."""
        names: dict[str, set[str]] = {}
        taken = {domain.name: domain for domain in self.all() if domain.app not in configs or domain.source == "set"}
        for app, config in configs.items():
            known = (self._store.live_config(app) or DEFAULT).domains
            for name in config.domains:
                if name not in known:
                    self._refuse(app, name, taken.get(name))
                taken[name] = Domain(name, app, "blueprint")
            names[app] = {domain.name for domain in taken.values() if domain.app == app}
            _refuse_more(app, len(names[app]))

    def add(self, app: str, name: str) -> None:
        """Give an app a name; do nothing if it has that already. Raises `DomainError` or `StoreError`."""
        found = {domain.name: domain for domain in self.all()}
        self._refuse(app, name, found.get(name))
        if name not in self._store.domains():
            _refuse_more(app, 1 + sum(domain.app == app and domain.name != name for domain in found.values()))
            self._store.add_domain(app, name)

    def remove(self, app: str, name: str) -> None:
        """Take a name from an app. Raises `DomainError`, also when the blueprint gives it, or `StoreError`."""
        is_set = self._store.domains().get(name) == app
        if is_set:
            self._store.drop_domain(name)
        if name in (self._store.live_config(app) or DEFAULT).domains:
            raise DomainError(f"{name} is in the blueprint of {app}: take it out there, and deploy")
        if not is_set:
            raise DomainError(f"{app} has no domain {name}: see `portway domain list {app}`")

    def _refuse(self, app: str, name: str, found: Domain | None) -> None:
        if self._is_own(name):
            raise DomainError(f"{name} is a name of the host's own: an app is at APP.{self._own} by itself")
        if found is not None and found.app != app:
            mend = f"run `portway domain remove APP {name}` with that app first"
            if found.source == "blueprint":
                mend = "take it out of the blueprint there, and deploy that first"
            raise DomainError(f"{name} leads to another app: {mend}")

    def _is_own(self, name: str) -> bool:
        return name == self._own or name.endswith(f".{self._own}")


def _refuse_more(app: str, count: int) -> None:
    if count > MOST:
        raise DomainError(
            f"an app has at most {MOST} domains, and {app} would have {count}: remove those that are not used"
        )
