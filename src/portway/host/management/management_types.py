"""The structs of the management tools' results: control makes them, the command line reads them."""

from dataclasses import dataclass, field
from typing import Any

from portway.host.contracts.contract_changes import ContractReport


@dataclass(frozen=True, slots=True)
class Deployment:
    """One app of a deploy that succeeded. `token` is shown here and never again; None for an app that had one.

    `contract` is what has changed for clients, and `before` the release that was live; None for a first release.
    """

    app: str
    release: int
    url: str
    token: str | None
    tools: int
    duration_ms: int
    contract: ContractReport | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Deployments:
    """A deploy that succeeded, of every app of its source; or one that was not begun: `superseded` says by what."""

    apps: list[Deployment]
    superseded: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseInfo:
    """A release. `status` is "building", "live", "ready" (it can be gone back to) or "failed", for the `error`.

    `cause`, `detail`, `asked_by` and `commit` are as in the store's `Cause`. `created` is in Unix seconds. `size` is
    what its folder uses of the disk in bytes, None when it could not be measured; a build's files count where they
    were built. `accepted` is the id of the contract changes that were accepted, "" for none.
    """

    release: int
    status: str
    cause: str
    detail: str
    source: str
    asked_by: str
    commit: str
    created: int
    size: int | None
    error: str
    accepted: str


@dataclass(frozen=True, slots=True)
class ReleaseList:
    releases: list[ReleaseInfo]


@dataclass(frozen=True, slots=True)
class GateMetrics:
    """The gate's counters, in Prometheus' text format."""

    text: str


@dataclass(frozen=True, slots=True)
class AppService:
    """What an app is: the service of a blueprint that stands for it, without secret values."""

    app: str
    service: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AppStatus:
    """One app. `instances` of the `wanted` take calls; `memory` (bytes) and `cpu` (seconds) are theirs together.

    `link` is what it is linked to, as GIT-URL#BRANCH, and why its newest commit is not deployed. `domains` are its
    names beside its own, `issuers` the identity providers at which its callers log in.
    `pinned` is the release before, while it is kept for its sessions: until `pinned_until` at most, in Unix seconds.
    `log` is the last lines of a crashed one. `storage` is what its data may use, `stored` what it uses, in bytes; None
    without any.
    """

    app: str
    state: str
    release: int | None
    url: str
    access: str
    isolation: str
    instances: int
    wanted: int
    restarts: int
    memory: int
    cpu: float
    storage: int | None
    stored: int | None
    reason: str
    log: list[str]
    link: str = ""
    domains: list[str] = field(default_factory=list)
    issuers: list[str] = field(default_factory=list)
    pinned: int | None = None
    pinned_until: int | None = None


@dataclass(frozen=True, slots=True)
class Destruction:
    """What destroying an app deletes, with the value that confirms it; or that it is `destroyed`."""

    app: str
    destroyed: bool
    deletes: list[str]
    confirm: str = ""


@dataclass(frozen=True, slots=True)
class AppList:
    apps: list[AppStatus]


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token, which is shown here and never again."""

    app: str
    name: str
    token: str
    scopes: list[str]
    url: str
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token without its secret. `created` and `expires` are in Unix seconds, None for never.

    The secret before the last rotation is valid until `former_expires`.
    """

    name: str
    scopes: list[str]
    created: int
    expires: int | None = None
    former_expires: int | None = None


@dataclass(frozen=True, slots=True)
class TokenList:
    tokens: list[TokenInfo]


@dataclass(frozen=True, slots=True)
class AppRestart:
    """An app that was restarted with changed variables. `release` is None when it could not be: `error` says why."""

    app: str
    release: int | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class VariableChange:
    """Variables that were set or removed, and the apps that were restarted with them."""

    names: list[str]
    restarts: list[AppRestart]


@dataclass(frozen=True, slots=True)
class VariableInfo:
    """A variable without its value. `source` says who gave that: "set", "generated", "blueprint", a group, an app."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class VariableList:
    variables: list[VariableInfo]


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """All variables are encrypted by a new key. The old one is still in the key file if the host cannot write there."""

    old_key_removed: bool


@dataclass(frozen=True, slots=True)
class NewUser:
    """A new user with its token, which is shown here and never again. `apps` is empty for one who may use all.

    `address` is where git finds the repository of an app, which APP stands for.
    """

    name: str
    role: str
    apps: list[str]
    token: str
    address: str
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class UserInfo:
    """A user without its token. The times are as in `TokenInfo`."""

    name: str
    role: str
    apps: list[str]
    created: int
    expires: int | None = None
    former_expires: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, and the URL of the host. `apps` is empty for one who may use all; `local`: over the local socket."""

    name: str
    role: str
    apps: list[str]
    local: bool
    host: str


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group of an identity provider whose members have a role. `apps` is empty for those who may use all."""

    issuer: str
    claim: str
    group: str
    role: str
    apps: list[str]
    created: int


@dataclass(frozen=True, slots=True)
class UserList:
    users: list[UserInfo]
    groups: list[GroupInfo] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A record that the DNS should have."""

    type: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class NewDomain:
    """A domain name of an app. The DNS needs the first of the `records`, or the others where it allows no CNAME."""

    app: str
    name: str
    url: str
    records: list[DnsRecord]


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """A domain name of an app. `source` is "set" or "blueprint"; `dns` says where the name leads."""

    name: str
    source: str
    url: str
    dns: str


@dataclass(frozen=True, slots=True)
class DomainList:
    domains: list[DomainInfo]


@dataclass(frozen=True, slots=True)
class Disabled:
    """Who switched a tool off, and since when, in Unix seconds."""

    by: str
    since: int


@dataclass(frozen=True, slots=True)
class AppTool:
    """A tool of an app. `scopes` are those that the app's policies ask of its callers.

    `listed`: the live release lists it. `disabled` is None for a tool that is switched on.
    """

    name: str
    scopes: list[str]
    listed: bool
    disabled: Disabled | None


@dataclass(frozen=True, slots=True)
class AppToolList:
    tools: list[AppTool]


@dataclass(frozen=True, slots=True)
class SwitchedTool:
    """A tool that was switched on or off. `note` says that the live release does not list it, "" if it does."""

    app: str
    tool: str
    note: str


@dataclass(frozen=True, slots=True)
class BackupFile:
    """A backup of the host: its file, the bytes of it, and what is not in it as it should be."""

    file: str
    size: int
    apps: list[str]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class NewLink:
    """A new link of an app. The `secret` of its webhook, and of its deploy hook, is shown here and never again."""

    app: str
    repository: str
    branch: str
    webhook: str
    secret: str
    deploy_hook: str
    apps: list[Deployment]


@dataclass(frozen=True, slots=True)
class EndedLink:
    app: str
    repository: str
    branch: str
