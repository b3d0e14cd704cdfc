"""Every field of a blueprint: its name, kind of value, default, what it does here, or why it has no effect;
docs/blueprint-fields.md lists them.

This table alone decides how a file is read, what the messages say, and what docs/blueprint-fields.md lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from portway.host.app_config import Access, AutoDeploy, ContractPolicy, Drain
from portway.host.blueprint.kinds import (
    ANYTHING,
    ARGUMENTS,
    CONFIRM,
    DOMAINS,
    FLAG,
    FOLDER,
    GROUP_NAME,
    GROUPS,
    ISSUERS,
    LIMITS,
    MOUNT_PATH,
    NAME,
    NAMES,
    ORIGINS,
    ROUTE_PATH,
    SCOPES,
    TEXT,
    TEXTS,
    URL_PATH,
    VARIABLE,
    Kind,
    choice,
    cores,
    number,
)

PLANS = ("free", "starter", "standard", "pro", "pro plus", "pro max", "pro ultra")
HOSTED_RUNTIMES = ("python", "node")


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `kind` is how its value is read: a kind, the fields of a mapping, or a list of such mappings.

    `target` is the member of the struct that gets the value. A field without one is read for its name and kind only:
    `instead` names the field that replaced it, `no_effect` says why it has no effect here, `not_hosted` what Portway
    does not run.
    """

    name: str
    kind: Kind | Section | List
    does: str = ""
    target: str = ""
    instead: str = ""
    no_effect: str = ""
    not_hosted: str = ""
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with these fields. `says` names it in messages."""

    says: str
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)


@dataclass(frozen=True, slots=True)
class List:
    """A list of mappings with these fields."""

    section: Section


_ONE_MACHINE = "the host runs on this machine"
_NO_PREVIEWS = "there are no previews"

_FROM_SERVICE = Section(
    "`fromService`",
    (
        Field("name", NAME, "the other service", "name", is_required=True),
        Field("type", choice("web"), "its type", "type"),
        Field("property", choice("host", "port", "hostport"), "a part of its public URL", "property"),
        Field("envVarKey", VARIABLE, "a variable of it", "env_var_key"),
    ),
)
_GROUP_VARIABLE = (
    Field("key", VARIABLE, "the variable's name", "key"),
    Field("value", TEXT, "its value", "value"),
    Field("generateValue", FLAG, "`true`: a random value, made once and kept", "generate_value"),
    Field("sync", FLAG, "`false`: `portway env set` gives the value", "sync"),
    Field("previewValue", TEXT, no_effect=_NO_PREVIEWS),
)
ENV_VARS = List(
    Section(
        "a variable",
        (
            *_GROUP_VARIABLE,
            Field("fromGroup", GROUP_NAME, "all variables of a group", "from_group"),
            Field("fromService", _FROM_SERVICE, "what another service has", "from_service"),
            Field("fromDatabase", ANYTHING, target="from_database", not_hosted="a database"),
        ),
    )
)
_DISK = Section(
    "a disk",
    (
        Field("name", NAME, "its name", "name", is_required=True),
        Field("mountPath", MOUNT_PATH, "where the app sees it", "mount_path", is_required=True),
        Field("sizeGB", number(1, 100_000), "its size", "size_gb"),
    ),
)
_STORAGE = Section(
    "`storage`",
    (
        Field("sizeGB", number(1, 100_000), "its size", "size_gb"),
        Field("mountPath", MOUNT_PATH, "where the app sees it in a sandbox", "mount_path"),
    ),
)
_LIMITS = Section(
    "`limits`",
    (
        Field("memoryMB", number(32, 1_000_000), "what an instance may use of memory", "memory_mb"),
        Field("processes", number(1, 100_000), "how many processes and threads it may run", "processes"),
        Field("cpu", cores(0.05, 1024), "how many processor cores it may use; by default all that are free", "cpu"),
        Field("diskMB", number(1, 1_000_000), "what its home and /tmp may hold", "disk_mb"),
    ),
)
_SMOKE = List(
    Section(
        "a smoke call",
        (
            Field("tool", NAME, "the tool that is called", "tool", is_required=True),
            Field("arguments", ARGUMENTS, "its arguments", "arguments"),
            Field("expect", TEXT, "a text that its answer contains", "expect"),
        ),
    )
)
_ROUTES = List(
    Section(
        "a route",
        (
            Field(
                "path",
                ROUTE_PATH,
                "a path of the app's host name, with `/*` also all below it",
                "path",
                is_required=True,
            ),
            Field(
                "access",
                choice(*get_args(Access)),
                "who may ask for it: callers with a token, anybody, or whom the app lets in",
                "access",
                is_required=True,
            ),
        ),
    )
)
_POLICIES = List(
    Section(
        "a policy",
        (
            Field("tool", NAME, "the tools of this name; `*` in it stands for any text", "tool"),
            Field("prompt", NAME, "the prompts of this name", "prompt"),
            Field("resource", NAME, "the resources of this URI, or of this URI template", "resource"),
            Field("readOnlyHint", FLAG, "only tools that say so; without the annotation it is `false`", "read_only"),
            Field("destructiveHint", FLAG, "only tools that say so; without annotations it is `true`", "destructive"),
            Field("scopes", SCOPES, "what a caller needs, all of them", "scopes"),
            Field("arguments", LIMITS, "what a tool may be called with, beyond its schema", "arguments"),
            Field("confirm", CONFIRM, "the user agrees to each call of a tool; a text says how to ask", "confirm"),
            Field("rate", NAME, "how often each caller may call a tool, as in 10/minute", "rate"),
            Field(
                "concurrency", number(1, 1000), "how many calls of a tool each caller may have at once", "concurrency"
            ),
        ),
    )
)
_AUTH = Section(
    "`auth`",
    (
        Field("issuer", ISSUERS, "the URL of the identity provider, or several; by default the host's", "issuers"),
        Field("audience", NAMES, "what its tokens are made for; by default the app's URL", "audiences"),
        Field("scopes", SCOPES, "the scopes that clients should ask for", "scopes"),
        Field("enabled", FLAG, "`false`: nobody logs in, also where the host has a provider", "enabled"),
    ),
)
_SWITCHES = {"true": "commit", "yes": "commit", "false": "off", "no": "off"}  # what `autoDeploy` has
_BUILD_FILTER = Section(
    "a build filter",
    (
        Field("paths", TEXTS, "only changes of these build", "paths"),
        Field("ignoredPaths", TEXTS, "changes of these do not", "ignored_paths"),
    ),
)
_SCALING = Section(
    "`scaling`",
    (
        Field("minInstances", number(1, 100), "how many instances run", "num_instances", is_required=True),
        Field("maxInstances", number(1, 100), no_effect="the number of instances does not follow the load yet"),
        Field("targetCPUPercent", number(1, 90), no_effect="the number of instances does not follow the load yet"),
        Field("targetMemoryPercent", number(1, 90), no_effect="the number of instances does not follow the load yet"),
    ),
)
PORTWAY = Section(
    "`x-portway`",
    (
        Field(
            "access",
            choice(*get_args(Access)),
            "who may call: callers with a token, anybody, or whom the app lets in",
            "access",
        ),
        Field("path", URL_PATH, "where the server has its MCP endpoint", "path"),
        Field("server", NAME, "the server to start, as FILE or FILE:OBJECT", "server"),
        Field("origins", ORIGINS, "the web pages that may call", "origins"),
        Field("upstreamToken", VARIABLE, "the variable with the token that the app itself asks for", "upstream_token"),
        Field("auth", _AUTH, "the identity provider at which callers log in", "auth"),
        Field("assertion", FLAG, "each call comes with a JWT that says who calls", "assertion"),
        Field("routes", _ROUTES, "who may ask for other paths than the MCP endpoint", "routes"),
        Field(
            "drain",
            choice(*get_args(Drain)),
            "`pin`: legacy sessions stay with the release they were opened on, for 30 minutes at most",
            "drain",
        ),
        Field("smoke", _SMOKE, "calls that a new release must answer before it serves", "smoke"),
        Field(
            "contract",
            choice(*get_args(ContractPolicy)),
            "what stops a deploy: nothing, a change that callers may fail by, or any change of what the server shows",
            "contract",
        ),
        Field(
            "policies", _POLICIES, "which scopes a tool, prompt or resource needs, and the limits of a tool", "policies"
        ),
        Field("groups", GROUPS, "the scopes that callers have by their groups", "groups"),
        Field("groupsClaim", NAME, "the claim of an access token that lists the caller's groups", "groups_claim"),
        Field("limits", _LIMITS, "what an instance may use at most", "limits"),
        Field("storage", _STORAGE, "a folder that outlives releases, for all instances", "storage"),
    ),
)
SERVICE = Section(
    "a service",
    (
        Field(
            "type",
            choice("web", "pserv", "worker", "cron", "keyvalue", "redis"),
            "`web` runs",
            "type",
            is_required=True,
        ),
        Field("name", NAME, "the app's name, a part of its URL", "name", is_required=True),
        Field(
            "runtime",
            choice(*HOSTED_RUNTIMES, "elixir", "go", "ruby", "rust", "docker", "image", "static"),
            "`python` or `node`; by default it is found in the source",
            "runtime",
        ),
        Field("env", ANYTHING, instead="runtime"),
        Field("rootDir", FOLDER, "the folder of the source that holds the app", "root_dir"),
        Field("buildCommand", TEXT, "for a shell; by default what the source requires is installed", "build_command"),
        Field("preDeployCommand", TEXT, "runs after the build, before the start", "pre_deploy_command"),
        Field("startCommand", TEXT, "for a shell; serves MCP over HTTP on `PORT`", "start_command"),
        Field("healthCheckPath", URL_PATH, "must answer with 2xx or 3xx before calls come", "health_check_path"),
        Field(
            "maxShutdownDelaySeconds",
            number(1, 300),
            "for calls to end after a deploy, and again to end by SIGTERM",
            "max_shutdown_delay_seconds",
        ),
        Field("numInstances", number(1, 100), "how many instances run", "num_instances"),
        Field("scaling", _SCALING, "its `minInstances` takes the place of `numInstances`", "scaling"),
        Field("disk", _DISK, "a folder that outlives releases", "disk"),
        Field("envVars", ENV_VARS, "the variables of the app", "env_vars"),
        Field("buildFilter", _BUILD_FILTER, "which changes of a linked branch are deployed", "build_filter"),
        Field("domains", DOMAINS, "names at which the app is, beside its own below the host's domain", "domains"),
        Field("x-portway", PORTWAY, "what Render does not have", "portway"),
        Field(
            "autoDeployTrigger",
            choice(*get_args(AutoDeploy), also=_SWITCHES),
            "whether new commits of a linked branch are deployed; `off` and `checksPass`: only by its deploy hook",
            "auto_deploy",
        ),
        Field("autoDeploy", FLAG, instead="autoDeployTrigger"),
        Field("repo", TEXT, no_effect="the source is what is deployed"),
        Field("branch", TEXT, no_effect="the source is what is deployed"),
        Field("plan", choice(*PLANS), no_effect=_ONE_MACHINE),
        Field("region", choice("oregon", "ohio", "virginia", "frankfurt", "singapore"), no_effect=_ONE_MACHINE),
        Field("domain", TEXT, instead="domains"),
        Field("renderSubdomainPolicy", choice("enabled", "disabled"), no_effect="an app always has its URL"),
        Field("initialDeployHook", TEXT, no_effect="there is no command for the first deploy"),
        Field("maintenanceMode", ANYTHING, no_effect="there is no maintenance page"),
        Field("previews", ANYTHING, no_effect=_NO_PREVIEWS),
        Field("previewPlan", TEXT, no_effect=_NO_PREVIEWS),
        Field("pullRequestPreviewsEnabled", FLAG, instead="previews"),
        Field("ipAllowList", ANYTHING, not_hosted="a list of allowed addresses"),
        Field("dockerCommand", TEXT, not_hosted="a container"),
        Field("dockerfilePath", TEXT, not_hosted="a container"),
        Field("dockerContext", TEXT, not_hosted="a container"),
        Field("image", ANYTHING, not_hosted="a container"),
        Field("registryCredential", ANYTHING, not_hosted="a container"),
        Field("staticPublishPath", TEXT, not_hosted="a static site"),
        Field("headers", ANYTHING, not_hosted="a static site"),
        Field("routes", ANYTHING, not_hosted="a static site"),
        Field("schedule", TEXT, not_hosted="a cron job"),
        Field("maxmemoryPolicy", TEXT, not_hosted="a key-value store"),
    ),
)
GROUP = Section(
    "a group of variables",
    (
        Field("name", GROUP_NAME, "its name, for `fromGroup`", "name", is_required=True),
        Field("envVars", List(Section("a variable", _GROUP_VARIABLE)), "its variables", "env_vars", is_required=True),
    ),
)
_RESOURCES = (
    Field("services", List(SERVICE), "the apps", "services"),
    Field("envVarGroups", List(GROUP), "variables that several apps share", "groups"),
    Field("databases", ANYTHING, not_hosted="a database"),
)
_ENVIRONMENT = Section(
    "an environment",
    (
        Field("name", NAME, "its name", "name", is_required=True),
        *_RESOURCES,
        Field("networking", ANYTHING, no_effect="apps do not reach each other but by their URLs"),
        Field("permissions", ANYTHING, no_effect="who reaches the host's socket manages it"),
    ),
)
_PROJECT = Section(
    "a project",
    (
        Field("name", NAME, "its name", "name", is_required=True),
        Field("environments", List(_ENVIRONMENT), "what it holds", "environments", is_required=True),
    ),
)
ROOT = Section(
    "a blueprint",
    (
        *_RESOURCES,
        Field("projects", List(_PROJECT), "services by project and environment", "projects"),
        Field("ungrouped", Section("`ungrouped`", _RESOURCES), "services of no project", "ungrouped"),
        Field("version", choice("1"), no_effect="there is one version"),
        Field("previews", ANYTHING, no_effect=_NO_PREVIEWS),
        Field("previewsEnabled", FLAG, instead="previews"),
        Field("previewsExpireAfterDays", number(1, 100_000), instead="previews"),
    ),
)
