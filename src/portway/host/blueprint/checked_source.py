"""`portway check FOLDER`: what a deploy of a source would do, found without deploying it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from portway.host.app_config import DEFAULT, AppConfig, EnvSource
from portway.host.blueprint.blueprint import Blueprint, read_blueprint
from portway.host.blueprint.document import Document, service_document
from portway.host.builds.node_recipe import NodeRecipe
from portway.host.builds.preflight import look_before
from portway.host.builds.recipe import Recipe, read_recipe
from portway.host.sources.source import SourceError, app_folder, app_name


@dataclass(frozen=True, slots=True)
class CheckedApp:
    """One app. `service` is its configuration, `must_be_set` the variables that `portway env set` has to give.

    `runtime`, `build` and `start` say what is found in its files, where the configuration leaves it open. `warnings`
    name the known traps in them.
    """

    app: str
    runtime: str
    build: str
    start: str
    must_be_set: list[str]
    service: Document
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class CheckedSource:
    """The apps of a source. `file` is its blueprint, None without one.

    `must_be_set` are the variables that `portway env set --group` has to give, by group.
    """

    file: str | None
    apps: list[CheckedApp]
    must_be_set: dict[str, list[str]]
    warnings: list[str]

    def lines(self) -> Iterator[str]:
        """Yield it as lines for people."""
        for app in self.apps:
            yield f"{app.app}   ({self.file or 'no render.yaml'})"
            yield f"  runtime  {app.runtime}"
            yield f"  build    {app.build}"
            yield f"  start    {app.start}"
            for name in app.must_be_set:
                yield f"  to set   {name}   (portway env set {app.app} {name}=…)"
            for warning in app.warnings:
                yield f"  warning  {warning}"
        for group, names in self.must_be_set.items():
            for name in names:
                yield f"to set in the group {group}   {name}   (portway env set --group {group} {name}=…)"


def check_source(folder: Path, *, skip: bool) -> CheckedSource:
    """Return what a deploy of the source in `folder` would do.

    Raises `BlueprintError`, `SourceError`, `BuildError` or `OSError`.
    """
    blueprint = read_blueprint(folder, skip=skip)
    if blueprint is None:
        blueprint = Blueprint(None, {app_name(folder.absolute().name, None): DEFAULT})
    apps = [_checked(app, config, app_folder(folder, config.root_dir)) for app, config in blueprint.apps.items()]
    must_be_set = {group: unset for group, env in blueprint.groups.items() if (unset := _must_be_set(env))}
    return CheckedSource(blueprint.file, apps, must_be_set, blueprint.warnings)


def _checked(app: str, config: AppConfig, folder: Path) -> CheckedApp:
    if contradiction := config.contradiction(app):
        raise SourceError(contradiction)
    values = {name: source.value for name, source in config.env.items() if source.value is not None}
    recipe = read_recipe(folder, config, values)
    build = config.build_command or "what the files require is installed"
    warnings = look_before(folder, config, recipe, values)
    start, service = _start(config, recipe), service_document(app, config)
    return CheckedApp(app, recipe.describe(), build, start, _must_be_set(config.env), service, warnings)


def _must_be_set(env: Mapping[str, EnvSource]) -> list[str]:
    return [name for name, source in env.items() if not source.sync]


def _start(config: AppConfig, recipe: Recipe) -> str:
    if config.start_command:
        return config.start_command
    if isinstance(recipe, NodeRecipe):
        return recipe.start
    if recipe.server is not None:
        return f"{recipe.server.file.name}:{recipe.server.name}"
    return f"the portway.Server in {' or '.join(recipe.portway)}"
