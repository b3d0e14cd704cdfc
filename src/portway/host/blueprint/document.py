"""`portway config`: the configuration of an app, written as a blueprint."""

from io import StringIO

import msgspec

from portway.host.app_config import AppConfig
from portway.host.blueprint.fields import ENV_VARS, PORTWAY, SERVICE, List, Section
from portway.host.blueprint.problems import no_yaml

Document = dict[str, object]


def service_document(name: str, config: AppConfig) -> Document:
    """Return the service of a blueprint that stands for `config`: what is not as by default."""
    values = msgspec.to_builtins(config)
    if config.disk is not None and not config.disk.name:  # Render's have one
        values["storage"] = values.pop("disk")
    written = _written(SERVICE, values | {"type": "web", "name": name})
    variables = [{"key": key} | _written(ENV_VARS.section, source) for key, source in values.get("env", {}).items()]
    if variables := variables + [{"fromGroup": group} for group in config.env_groups]:
        written["envVars"] = variables
    if ours := _written(PORTWAY, values):
        written["x-portway"] = ours
    return written


def as_yaml(document: Document) -> str:
    """Return a document as text for people, which can be pasted into a blueprint. Raises `BlueprintError`."""
    try:
        from ruamel.yaml import YAML
    except ImportError:
        raise no_yaml() from None
    writer, text = YAML(), StringIO()
    writer.width = 10_000
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.dump(document, text)
    return text.getvalue()


def _written(section: Section, values: dict[str, object]) -> Document:
    """Return those of `values` that the section has, by the names of its fields."""
    written: Document = {}
    for field in section.fields:
        if field.target in values:
            value = values[field.target]
            if isinstance(field.kind, Section) and isinstance(value, dict):
                written[field.name] = _written(field.kind, value | {"type": "web"})  # `fromService` has one
            elif isinstance(field.kind, List) and isinstance(value, list):
                written[field.name] = [_written(field.kind.section, item) for item in value]
            else:
                written[field.name] = value
    return written
