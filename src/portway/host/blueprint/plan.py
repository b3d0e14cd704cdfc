"""What a deploy of a source would do, found without deploying it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from portway.host.app_config import DEFAULT, AppConfig
from portway.host.blueprint.blueprint import Blueprint, read_blueprint
from portway.host.blueprint.document import Document, service_document
from portway.host.builds.source import app_folder, app_name


@dataclass(frozen=True, slots=True)
class AppPlan:
    """One app. `service` is its configuration, `must_be_set` the variables that `portway env set` has to give."""

    app: str
    service: Document
    must_be_set: list[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """The apps of a source. `file` is its blueprint, None without one."""

    file: str | None
    apps: list[AppPlan]
    warnings: list[str]

    def lines(self) -> Iterator[str]:
        """Yield the plan as lines for people."""
        for app in self.apps:
            service, found = app.service, "looked for in the source"
            yield f"{app.app}   ({self.file or 'no render.yaml'})"
            yield f"  runtime  {service.get('runtime', found)}"
            yield f"  build    {service.get('buildCommand', 'what the source requires is installed')}"
            yield f"  start    {service.get('startCommand', 'the server is ' + found)}"
            for name in app.must_be_set:
                yield f"  to set   {name}   (portway env set {app.app} {name}=…)"


def read_plan(folder: Path, *, skip: bool) -> Plan:
    """Return the plan for the source in `folder`. Raises `BlueprintError`, `SourceError` or `OSError`."""
    blueprint = read_blueprint(folder, skip=skip)
    if blueprint is None:
        blueprint = Blueprint(None, {app_name(folder.absolute().name, None): DEFAULT})
    for config in blueprint.apps.values():
        app_folder(folder, config.root_dir)
    apps = [AppPlan(app, service_document(app, config), _must_be_set(config)) for app, config in blueprint.apps.items()]
    return Plan(blueprint.file, apps, blueprint.warnings)


def _must_be_set(config: AppConfig) -> list[str]:
    return [name for name, source in config.env.items() if not source.sync]
