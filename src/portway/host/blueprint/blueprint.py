"""Reads `render.yaml` into the configuration of each app: services, groups, variables; what contradicts or is there
twice is refused.
"""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from portway.host.app_config import AppConfig, EnvSource
from portway.host.blueprint.fields import ROOT
from portway.host.blueprint.problems import BlueprintError, Problems
from portway.host.blueprint.section_reader import Found, SectionReader, Values
from portway.host.blueprint.yaml_tree import LARGEST_BYTES, read_tree
from portway.host.sources.source import SourceError, app_name
from portway.host.variable_names import is_hosts_own
from portway.policy.rules import PolicyRule
from portway.policy.tool_limits import ToolLimits
from portway.policy.uri_patterns import uri_fault

FILES = ("render.yaml", "portway.yaml")
_NO_SOURCE = {"generate_value": False, "sync": True}  # these values of a field say nothing of where a value comes from
_MOST_POLICIES = 100
_LIMITS = ("arguments", "rate", "concurrency", "confirm")
_SOURCES = ("value", "generate_value", "sync", "from_group", "from_service", "from_database")


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a blueprint says: its apps by name, and its groups of variables by name.

    `file` is None for a source without one. `warnings` are lines about what has no effect here, what is left out, and
    old names of fields.
    """

    file: str | None
    apps: dict[str, AppConfig] = field(default_factory=dict)
    groups: dict[str, dict[str, EnvSource]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_blueprint(folder: Path, *, name: str | None = None, skip: bool = False) -> Blueprint | None:
    """Return the blueprint of the source in `folder`, None when it has none. Raises `BlueprintError` or OSError.

    `name` takes the place of the name of the only app. With `skip`, what is not hosted here is left out.
    """
    present = [file for file in FILES if (folder / file).is_file()]
    for file in FILES:
        if not present and (folder / f"{file[:-5]}.yml").is_file():
            raise BlueprintError(f"{file[:-5]}.yml is not read: rename it to {file}")
    if not present:
        return None
    if len(present) > 1:
        raise BlueprintError(f"{' and '.join(FILES)} are both here, and say the same things: remove one of them")
    problems = Problems(present[0])
    with (folder / present[0]).open("rb") as opened:
        content = opened.read(LARGEST_BYTES + 1)
    root = SectionReader(problems, skip=skip).read(read_tree(content, problems), ROOT)
    problems.raise_errors()  # what follows takes every value to be of its kind
    reading = _Reading(problems, name)
    reading.resources(root)
    problems.raise_errors()
    if not reading.apps:
        problems.refuse(root.place, "no service of type `web` is here: list one under `services`")
    return Blueprint(present[0], reading.apps, reading.groups, problems.warnings)


class _Reading:
    """Turns what the file says into configurations."""

    def __init__(self, problems: Problems, name: str | None) -> None:
        self.apps: dict[str, AppConfig] = {}
        self.groups: dict[str, dict[str, EnvSource]] = {}
        self._problems = problems
        self._name = name

    def resources(self, root: Values) -> None:
        """Read the services and groups of the root and of what is below it."""
        places = [root, root.section("ungrouped")]
        places += [place for project in root.sections("projects") for place in project.sections("environments")]
        services = [service for place in places for service in place.sections("services")]
        if self._name is not None and len(services) > 1:
            self._problems.refuse(services[1].place, "--name is for one service, and here are several: leave it out")
        for service in services:
            self._service(service)
        for group in (group for place in places for group in place.sections("groups")):
            name, place = group.text("name"), group.place
            if name in self.groups:
                self._problems.error(place, f"the group `{name}` is there twice: keep one, or rename it")
            self.groups[name] = self._variables(group.sections("env_vars"))[0]

    def _service(self, service: Values) -> None:
        named = service.found.get("name")
        if named is None:
            return  # said already
        try:
            app = app_name(service.text("name"), self._name)
        except SourceError as error:
            self._problems.error(named.place, str(error))
            return
        if app in self.apps:
            self._problems.error(named.place, f"the service `{app}` is there twice: keep one, or rename it")
        self.apps[app] = self._config(service)

    def _config(self, service: Values) -> AppConfig:
        env, groups = self._variables(service.sections("env_vars"))
        found = service.found | service.section("portway").found
        if scaling := service.section("scaling").found:
            if numbers := found.get("num_instances"):
                self._problems.warning(numbers.place, "`numInstances` has no effect here: `scaling` takes its place")
            found |= scaling
        if (storage := found.get("storage")) is not None:
            if "disk" in found:
                self._problems.error(storage.place, "`storage` and `disk` are the same folder: keep one of them")
            found.setdefault("disk", storage)
        elif "disk" in found and _number(found.get("num_instances")) > 1:
            self._problems.error(found["num_instances"].place, "a service with a disk runs one instance: remove this")
        self._check_routes(service.section("portway"))
        self._check_policies(service.section("portway"))
        values = Values(service.place, {name: found[name] for name in AppConfig.__struct_fields__ if name in found})
        return msgspec.convert(values.plain() | {"env": env, "env_groups": groups}, AppConfig)

    def _check_routes(self, portway: Values) -> None:
        endpoints = {(portway.text("path") or "/mcp").lower().rstrip("/") or "/", "/mcp"}
        paths: set[str] = set()
        for route in portway.sections("routes"):
            path, place = route.text("path"), route.found["path"].place
            plain = path.lower().rstrip("/") or "/"
            if plain in endpoints:
                text = f"`{path}` is the MCP endpoint, for which `access` stands: remove this route"
                self._problems.error(place, text)
            if plain in paths:
                self._problems.error(place, f"the route `{path}` is there twice: keep one")
            paths.add(plain)

    def _check_policies(self, portway: Values) -> None:
        policies = portway.sections("policies")
        if len(policies) > _MOST_POLICIES:
            self._problems.error(policies[_MOST_POLICIES].place, f"an app has at most {_MOST_POLICIES} policies")
        for policy in policies:
            kinds = {*policy.found} & {"tool", "prompt", "resource"}
            hints = {*policy.found} & {"read_only", "destructive"}
            if len(kinds) > 1 or not (kinds or hints):
                listed = "`tool`, `prompt` or `resource`, or an annotation of tools"
                self._problems.error(policy.place, f"a policy is for one thing, {listed}: write one")
            elif hints and kinds and kinds != {"tool"}:
                self._problems.error(policy.place, f"a {kinds.pop()} has no annotations: remove them")
            if fault := uri_fault(policy.text("resource")):
                self._problems.error(policy.found["resource"].place, f"no URI is of this `resource`: {fault}")
            self._check_limits(policy, kinds)
            if not any(map(policy.get, ("scopes", *_LIMITS))):
                text = "a policy that asks for nothing has no effect: add `scopes` or a limit"
                self._problems.error(policy.place, text)
            elif policy.get("scopes") and portway.get("access") == "app":
                place = policy.found["scopes"].place
                self._problems.error(
                    place, "with `access: app` the app alone knows its callers: remove `scopes`, or choose `gate`"
                )

    def _check_limits(self, policy: Values, kinds: set[str]) -> None:
        limits = {name: policy.found[name] for name in _LIMITS if name in policy.found}
        if limits and kinds & {"prompt", "resource"}:
            self._problems.error(
                policy.place, "only a tool has `arguments`, `rate`, `concurrency` and `confirm`: remove them"
            )
        for name, found in limits.items():
            rule = msgspec.convert({name: found.value}, PolicyRule)
            try:
                ToolLimits(rule.arguments, rule.rate, rule.concurrency, rule.confirm)
            except ValueError as error:
                self._problems.error(found.place, str(error))

    def _variables(self, entries: list[Values]) -> tuple[dict[str, EnvSource], list[str]]:
        """Return the variables by name, and the groups that stand among them."""
        variables: dict[str, EnvSource] = {}
        groups: list[str] = []
        for entry in entries:
            key, place = entry.text("key"), entry.place
            given = [name for name in _SOURCES if entry.get(name) not in (None, _NO_SOURCE.get(name))]
            if len(given) != 1:
                listed = "`value`, `generateValue: true`, `sync: false`, `fromGroup` or `fromService`"
                self._problems.error(place, f"a variable has one source, {listed}: write one")
            elif given == ["from_group"]:
                if key:
                    self._problems.error(place, "`fromGroup` brings the names of its variables: remove `key`")
                groups.append(entry.text("from_group"))
            elif not key:
                self._problems.error(place, "this variable has no name: add `key`")
            elif key in variables:
                self._problems.error(place, f"the variable `{key}` is there twice: keep one")
            elif is_hosts_own(key):
                self._problems.warning(place, f"`{key}` has no effect here: the host sets it")
            elif given != ["from_database"]:  # left out, as was said
                variables[key] = self._source(entry)
        return variables, groups

    def _source(self, entry: Values) -> EnvSource:
        other = entry.section("from_service")
        if "from_service" in entry.found and len({"property", "env_var_key"} & {*other.found}) != 1:
            self._problems.error(other.place, "`fromService` names one thing: `property` or `envVarKey`")
        names = [name for name in EnvSource.__struct_fields__ if name in entry.found]
        source = Values(entry.place, {name: entry.found[name] for name in names}).plain()
        return msgspec.convert(source, EnvSource)


def _number(found: Found | None) -> int:
    return found.value if found is not None and isinstance(found.value, int) else 1
