"""The settings of an app and their defaults: one struct that a blueprint, the flags of `portway deploy` and the
management API all write; settings that contradict each other.

A release keeps the one it was made with, so that going back to a release brings back how it was built and served.
"""

from typing import Any, Literal

import msgspec

from portway.policy.rules import PolicyRule

Access = Literal["gate", "public", "app"]
"""Who may call an app: `gate`, callers with a token of this host; `public`, anybody; `app`, whom the app lets in."""

Drain = Literal["move", "pin"]
"""Where a legacy session goes on after a deploy: at the new release, or for a while at the one it was opened on."""

RuntimeName = Literal["python", "node"]

AutoDeploy = Literal["commit", "checksPass", "off"]
"""What deploys a linked app: each commit; or only a deploy hook, which CI may call when its checks have passed."""

ContractPolicy = Literal["report", "breaking", "locked"]
"""What of a new release's contract stops a deploy: nothing, what callers may fail by, or any change."""


class FromService(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value that another app has: one of its addresses (`property`) or its variable `env_var_key`."""

    name: str
    property: Literal["host", "port", "hostport"] | None = None
    env_var_key: str = ""


class EnvSource(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the value of a variable comes from; exactly one field says it.

    `value` stands in the blueprint, so it is no secret. With `generate_value`, the host makes a random value once and
    keeps it. Without `sync`, a person sets the value by `portway env set`.
    """

    value: str | None = None
    generate_value: bool = False
    sync: bool = True
    from_service: FromService | None = None


class Disk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A folder that outlives releases. `mount_path` is where a sandbox shows it; else PORTWAY_STORAGE names it.

    One in Render's form has a `name`, and one instance has it alone; the instances of an app share any other.
    """

    name: str = ""
    mount_path: str = ""
    size_gb: int = 10

    @property
    def is_for_one_instance(self) -> bool:
        return bool(self.name)


class UseLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one instance may use at most, with all it starts.

    `processes` counts threads too. `disk_mb` bounds its home and its temporary files, not its storage. `cpu` are
    cores; without it, an instance may use what the others leave.
    """

    memory_mb: int = 512
    processes: int = 512
    disk_mb: int = 1024
    cpu: float | None = None


class BuildFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which changed files make a commit of a linked branch build the app: glob patterns below the repository's root.

    `ignored_paths` wins over `paths`.
    """

    paths: list[str] = []
    ignored_paths: list[str] = []


class SmokeCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that a new release must answer without an error before it serves, with the text `expect` in its answer."""

    tool: str
    arguments: dict[str, Any] = {}
    expect: str = ""


class PathRoute(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who may ask for a `path` of the app's host name, or with `/*` at its end for what is at and below it."""

    path: str
    access: Access


class AppAuth(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the callers of an app log in; what is empty is as `portway up` says. `enabled` false: nowhere.

    `issuers` are the URLs of identity providers. `audiences` are what their tokens for the app have as `aud`, beside
    the URLs of its endpoint: one for all, or one for each. `scopes` are those that clients are told to ask for.
    """

    enabled: bool = True
    issuers: list[str] = []
    audiences: list[str] = []
    scopes: list[str] = []


class AppConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an app is built, started and served. An empty text stands for what is found in the source.

    The commands are for a shell, run in `root_dir`, a folder of the source. `server` names the file that holds the
    server, as FILE or FILE:OBJECT. `path` is where the server has its MCP endpoint. `origins` are the web pages that
    may call the app, by scheme, host and port. `domains` are names of the app beside its own. `routes` say who may ask
    for other paths than the MCP endpoint. `auth` says where its callers log in. `upstream_token` names the variable
    with the token that the server itself checks. With `assertion`, the gate says in a signed JWT who calls. A GET of
    `health_check_path` must get a status from 200 to 399. `num_instances` (1 to 100) run at once; each has
    `max_shutdown_delay_seconds` (1 to 300) to end its calls, and as long again to end. `drain` says where the sessions
    of the release before go on. `policies` say what of it needs which scopes, and limit calls of its tools. A caller
    also has the scopes of its `groups`, which the claim `groups_claim` of its token lists. `env` are its variables by
    name, which come before those of `env_groups`.
    """

    runtime: RuntimeName | None = None
    root_dir: str = ""
    build_command: str = ""
    pre_deploy_command: str = ""
    start_command: str = ""
    server: str = ""
    path: str = "/mcp"
    access: Access = "gate"
    origins: list[str] = []
    domains: list[str] = []
    auth: AppAuth | None = None
    upstream_token: str = ""
    assertion: bool = False
    health_check_path: str = ""
    max_shutdown_delay_seconds: int = 30
    drain: Drain = "move"
    num_instances: int = 1
    routes: list[PathRoute] = []
    smoke: list[SmokeCall] = []
    disk: Disk | None = None
    env: dict[str, EnvSource] = {}
    env_groups: list[str] = []
    build_filter: BuildFilter | None = None
    auto_deploy: AutoDeploy = "commit"
    limits: UseLimits = UseLimits()
    contract: ContractPolicy = "report"
    policies: list[PolicyRule] = []
    groups: dict[str, list[str]] = {}
    groups_claim: str = "groups"

    @property
    def asks_for_tokens(self) -> bool:
        """Whether the gate asks for tokens at any path of the app."""
        return "gate" in (self.access, *(route.access for route in self.routes))

    def contradiction(self, app: str) -> str:
        """Return why no host can deploy an app that is configured so, "" if nothing in it contradicts the rest."""
        if self.upstream_token and self.access != "gate":
            return (
                f"{app} gets no token of its own from the gate with access {self.access}: leave upstreamToken "
                "out, or take it back by --upstream-token ''"
            )
        if self.access == "app" and any(rule.scopes for rule in self.policies):
            return (
                f"{app} has policies that ask for scopes, and with access app it alone knows its callers: remove "
                "these, or choose another access"
            )
        if self.auth is not None and self.auth.enabled and (self.access == "app" or not self.asks_for_tokens):
            return (
                f"with access {self.access}, nobody logs in at the gate to call {app}: leave x-portway.auth out, or "
                "have access gate"
            )
        if self.disk and self.disk.is_for_one_instance and self.num_instances > 1:
            return (
                f"{app} has a disk, which one instance has alone: leave --instances out, or have x-portway.storage "
                "in place of the disk, which all instances share"
            )
        return ""


DEFAULT = AppConfig()


class Start(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an instance of a release is started.

    The first word of `command` is looked for on the release's PATH. The instance listens on a Unix socket
    (PORTWAY_SOCKET) if `on_socket`, else on PORT. `name` says in a word or two what is started. `variables` are
    those of its runtime and of its source.
    """

    command: list[str]
    name: str
    on_socket: bool = False
    variables: dict[str, str] = {}
