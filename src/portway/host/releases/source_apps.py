"""Finds the apps of a copied source, their configurations (blueprint, flags, live release) and variables; the rights of
who deploys.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from portway.exceptions import SettingError
from portway.host.app_config import DEFAULT, AppConfig, EnvSource
from portway.host.blueprint.blueprint import Blueprint, read_blueprint
from portway.host.identity_providers import Logins
from portway.host.releases.deploy_error import DeployError
from portway.host.releases.steps import Steps
from portway.host.sandbox.walls import Walls, WallsError
from portway.host.secrets.environments import Environment, Environments
from portway.host.secrets.variables import Owner, VariableError
from portway.host.sources.source import Source, app_folder, app_name
from portway.host.store import A_DEPLOY, Cause, Store
from portway.host.users import User, Users


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """What a deploy is told beside its source.

    `changes` are fields of `AppConfig`; the others are as the blueprint says, or, without one, as in the live release.
    `variables` are set first, and stay when the deploy fails. Files of the source that are `allowed` may hold secrets.
    With `skip`, what of a blueprint is not hosted here is left out. `cause` is kept with each release. The changes of a
    contract that `accept` names do not stop the deploy.
    `pushed_to` is the app whose repository the source was pushed to: it is the source's only app, or one of those of
    its blueprint. `user` is who asks for it, None for the operator of the host.
    """

    name: str | None = None
    changes: Mapping[str, object] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    allowed: Sequence[str] = ()
    skip: bool = False
    cause: Cause = A_DEPLOY
    accept: Sequence[str] = ()
    pushed_to: str = ""
    user: User | None = None


@dataclass(frozen=True, slots=True)
class FoundApps:
    """The apps of a source by name, and what its blueprint says of them, None without one."""

    names: list[str]
    blueprint: Blueprint | None

    @property
    def groups(self) -> Mapping[str, Mapping[str, EnvSource]]:
        """The variables of each group that it defines."""
        return self.blueprint.groups if self.blueprint else {}


class SourceApps:
    """Reads the configuration of each app of a source, and makes its environment."""

    def __init__(self, store: Store, walls: Walls, environments: Environments, logins: Logins) -> None:
        self._store = store
        self._walls = walls
        self._environments = environments
        self._logins = logins

    async def find(self, source: Source, copy: Path, steps: Steps, options: DeployOptions) -> FoundApps:
        """Return the apps of a copied source. Raises `DeployError` when its user may not deploy one of them."""
        found = await self._find(source, copy, steps, options)
        if options.pushed_to and options.pushed_to not in found.names:
            raise DeployError(
                f"the source has the apps {', '.join(found.names)}: push it to one of them, not to {options.pushed_to}"
            )
        for app in found.names:
            if options.user is not None and (objection := options.user.objection("deploy", app)):
                raise DeployError(objection)
        return found

    async def _find(self, source: Source, copy: Path, steps: Steps, options: DeployOptions) -> FoundApps:
        blueprint = await asyncio.to_thread(read_blueprint, copy, name=options.name, skip=options.skip)
        if blueprint is None:
            return FoundApps([options.pushed_to or app_name(source.name, options.name)], None)
        if options.pushed_to and len(blueprint.apps) == 1:
            blueprint = replace(blueprint, apps={options.pushed_to: next(iter(blueprint.apps.values()))})
        for warning in blueprint.warnings:
            await steps.note(warning)
        if (options.changes or options.variables) and len(blueprint.apps) > 1:
            raise DeployError("the flags are for one service, and the blueprint has several: write them into it")
        return FoundApps(list(blueprint.apps), blueprint)

    def configs(self, found: FoundApps, copy: Path, options: DeployOptions) -> dict[str, AppConfig]:
        """Return the configuration of each app; what nothing says is as in the live release."""
        blueprint = found.blueprint
        configs = blueprint.apps if blueprint else {app: self._store.live_config(app) or DEFAULT for app in found.names}
        configs = {app: _changed(config, options.changes) for app, config in configs.items()}
        for app, config in configs.items():
            app_folder(copy, config.root_dir)
            if config.access == "app":
                try:
                    self._walls.require_for_secrets(f"access app, which hands callers' tokens to {app},")
                except WallsError as error:
                    raise DeployError(str(error)) from None
            if contradiction := config.contradiction(app):
                raise DeployError(contradiction)
            if config.auth is not None and config.auth.enabled:
                try:
                    self._logins.of(app, config)
                except SettingError as error:
                    raise DeployError(f"x-portway.auth of {app}: {error}") from None
        return configs

    async def warn_of_logins(self, configs: Mapping[str, AppConfig], steps: Steps) -> None:
        """Tell the deploy's asker of identity providers at which nobody can log in now."""
        await steps.warn(await self._logins.objections(configs))

    def refuse_revoked(self, user: User | None) -> None:
        """Raise `DeployError` when the user of a push has lost its rights by now."""
        if user is not None and not Users(self._store).are(user):
            raise DeployError(f"{user.name} has been revoked, or given other rights, since this deploy was asked for")

    def refuse_foreign(self, found: FoundApps, configs: Mapping[str, AppConfig], user: User | None) -> None:
        """Raise `DeployError` when the user has lost its rights by now, or may not use what the apps use of others.

        A group of variables is of the apps that use it. Until one does, it is free, unless a person has set a variable.
        """
        self.refuse_revoked(user)
        if user is None or not user.apps:
            return
        for config in configs.values():
            for source in config.env.values():
                other = source.from_service
                if other and other.env_var_key and (objection := user.objection("deploy", other.name)):
                    raise DeployError(objection)
        taken = {group for config in configs.values() for group in config.env_groups}
        for group in sorted(taken.union(found.groups)):
            owner = Owner("group", group)
            users = self._environments.users(owner)
            own = [app for app in users if app in user.apps]
            is_given = any(record.source == "set" for record in self._environments.variables.list(owner))
            if (not own and (users or is_given)) or (group in found.groups and own != users):
                raise DeployError(
                    f"{user.name} may not use the group {group}, which is of other apps: ask an admin to deploy this "
                    "once"
                )

    def resolve(
        self,
        configs: Mapping[str, AppConfig],
        groups: Mapping[str, Mapping[str, EnvSource]],
        given: Mapping[str, str],
    ) -> dict[str, Environment]:
        """Set what the deploy sets, and return the environment of each app. Raises `VariableError`."""
        environments, lacking = {}, []
        for group, env in groups.items():
            try:
                self._environments.define_group(group, env)
            except VariableError as error:
                lacking.append(str(error))
        for app, config in configs.items():
            self._environments.put(Owner("app", app), given, config)
            self._environments.generate(app, config.env)
        for app, config in configs.items():
            try:
                environments[app] = self._environments.resolve(app, config)
            except VariableError as error:
                lacking.append(str(error))
        if lacking:
            raise VariableError("; ".join(lacking))
        return environments


def _changed(config: AppConfig, changes: Mapping[str, object]) -> AppConfig:
    """Return a configuration with these fields changed; of a disk that is there, only the size changes."""
    changed = msgspec.structs.replace(config, **changes)
    if config.disk is None or "disk" not in changes or changed.disk is None:
        return changed
    return msgspec.structs.replace(changed, disk=msgspec.structs.replace(config.disk, size_gb=changed.disk.size_gb))
