"""Makes the variables of a release from blueprint, `portway env set`, groups, other apps and generated values; which
wins, and which are missing.
"""

import base64
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from portway.host.app_config import AppConfig, EnvSource, FromService
from portway.host.public_address import PublicAddress
from portway.host.sandbox.walls import Walls, WallsError
from portway.host.secrets.variables import Owner, VariableError, Variables, check_size
from portway.host.store import ReleaseRecord, Store

_GENERATED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables of a release. Those named in `public` stand in its blueprint, so they are no secret.

    `notes` are lines about values that are not used.
    """

    values: Mapping[str, str]
    public: Collection[str]
    notes: list[str]

    @property
    def secrets(self) -> dict[str, str]:
        return {name: value for name, value in self.values.items() if name not in self.public}


class Environments:
    """Makes the environment of each app: a blueprint wins over `portway env set`, and the app over its groups."""

    def __init__(self, store: Store, variables: Variables, walls: Walls, address: PublicAddress) -> None:
        """`address` is where clients, and other apps, reach the apps."""
        self._walls = walls
        self.variables = variables
        self._store = store
        self._address = address

    def resolve(self, app: str, config: AppConfig) -> Environment:
        """Return the app's environment; generate what is to be generated once.

        Raises `VariableError` with the commands that set all that is missing.
        """
        values: dict[str, str] = {}
        public: set[str] = set()
        missing: list[str] = []
        for group in config.env_groups:
            owner = Owner("group", group)
            found = self.variables.values(owner)
            if not found:
                missing.append(owner.command("set", "KEY=…"))
            values |= found
            public = (public - {*found}) | self._from_blueprint(owner)
        self.generate(app, config.env)
        own = self.variables.values(Owner("app", app))
        values |= own
        public -= {*own}
        notes, unset = [], []
        for name, source in config.env.items():
            if source.value is not None:
                values[name] = source.value
                public.add(name)
                if own.get(name, source.value) != source.value:
                    notes.append(f"{name} has its value from the blueprint, so that of `portway env set` is not used")
            elif (other := source.from_service) is not None:
                value, is_public = self._from_service(other)
                values[name] = value
                if is_public:
                    public.add(name)
                if not value:
                    missing.append(Owner("app", other.name).command("set", f"{other.env_var_key}=…"))
            elif name not in values:
                unset.append(f"{name}=…")
        if config.upstream_token and config.upstream_token not in {*values, *config.env}:
            unset.append(f"{config.upstream_token}=…")
        if unset:
            missing.insert(0, Owner("app", app).command("set", " ".join(unset)))
        if missing:
            raise VariableError(f"{app} lacks variables: run {', then '.join(f'`{command}`' for command in missing)}")
        check_size(app, values)
        return Environment(values, public, notes)

    def of_release(self, release: ReleaseRecord) -> Environment:
        """Return the environment that a release was made with. Raises `StoreError`."""
        public = {name for name, source in release.config.env.items() if source.value is not None}
        return Environment(self.variables.of_release(release.app, release.number), public, [])

    def generate(self, app: str, env: Mapping[str, EnvSource]) -> None:
        """Give random values to the variables that ask for one, unless they have a value. Raises `VariableError`."""
        self._generate(Owner("app", app), env)

    def define_group(self, name: str, env: Mapping[str, EnvSource]) -> None:
        """Give a group the values in a blueprint. Raises `VariableError`, also while a variable lacks a value."""
        owner = Owner("group", name)
        self._generate(owner, env)
        literal = {key: source.value for key, source in env.items() if source.value is not None}
        self.variables.set(owner, literal, "blueprint")
        known = {record.name for record in self.variables.list(owner)}
        if unset := " ".join(f"{key}=…" for key, source in env.items() if not source.sync and key not in known):
            group, mend = f"the group {name}", f"`{owner.command('set', unset)}`"
            raise VariableError(f"{group} lacks variables: run {mend}")

    def put(self, owner: Owner, values: Mapping[str, str], config: AppConfig | None = None) -> None:
        """Set what a person gives. `config` is the app's configuration if not the live one. Raises `VariableError`."""
        if values:
            try:
                self._walls.require_for_secrets("setting a variable")
            except WallsError as error:
                raise VariableError(str(error)) from None
        self._check_free(owner, values, config)
        self.variables.set(owner, values)

    def _check_free(self, owner: Owner, names: Collection[str], config: AppConfig | None = None) -> None:
        """Raise `VariableError` if a blueprint has values for some of the names, which a person cannot change."""
        taken = self._from_blueprint(owner)
        if owner.kind == "app" and (config := config or self._store.live_config(owner.name)):
            taken |= {name for name, source in config.env.items() if source.value is not None}
        if both := sorted(taken.intersection(names)):
            raise VariableError(f"{', '.join(both)} of {owner.name} has its value from the blueprint: change it there")

    def sources(self, owner: Owner) -> dict[str, str]:
        """Return the names of the owner's variables, each with where its value comes from."""
        config = self._store.live_config(owner.name) if owner.kind == "app" else None
        found: dict[str, str] = {}
        for group in config.env_groups if config else ():
            found |= {record.name: f"group {group}" for record in self.variables.list(Owner("group", group))}
        found |= {record.name: record.source for record in self.variables.list(owner)}
        for name, source in config.env.items() if config else ():
            if source.value is not None:
                found[name] = "blueprint"
            elif source.from_service is not None:
                found[name] = f"app {source.from_service.name}"
        return dict(sorted(found.items()))

    def users(self, owner: Owner) -> list[str]:
        """Return the live apps that use variables of `owner`."""
        return [
            app.name
            for app in self._store.apps()
            if (config := self._store.live_config(app.name)) and _uses(app.name, config, owner)
        ]

    def _generate(self, owner: Owner, env: Mapping[str, EnvSource]) -> None:
        known = {record.name for record in self.variables.list(owner)}
        wanted = [name for name, source in env.items() if source.generate_value and name not in known]
        made = {name: base64.b64encode(os.urandom(_GENERATED_BYTES)).decode() for name in wanted}
        self.variables.set(owner, made, "generated")

    def _from_service(self, source: FromService) -> tuple[str, bool]:
        """Return the value that another app has, "" when it is not set, and whether the value is public."""
        host, port = self._address.hostname(source.name), str(self._address.port)
        if source.property is not None:
            return {"host": host, "port": port, "hostport": f"{host}:{port}"}[source.property], True
        config = self._store.live_config(source.name)
        if config and (there := config.env.get(source.env_var_key)) and there.value is not None:
            return there.value, True
        return self.variables.values(Owner("app", source.name)).get(source.env_var_key, ""), False

    def _from_blueprint(self, owner: Owner) -> set[str]:
        return {record.name for record in self.variables.list(owner) if record.source == "blueprint"}


def _uses(app: str, config: AppConfig, owner: Owner) -> bool:
    if owner.kind == "group":
        return owner.name in config.env_groups
    others = {source.from_service.name for source in config.env.values() if source.from_service is not None}
    return owner.name in {app, *others}
