"""The rows of the store as structs: apps, releases, variables, instances, tokens, users, links."""

from dataclasses import dataclass
from typing import Literal

from portway.host.app_config import DEFAULT, AppConfig, Start

VariableSource = Literal["set", "generated", "blueprint"]
"""Who gave a variable its value: a person, the host, or the blueprint that defines its group."""

ReleaseStatus = Literal["building", "ready", "failed"]


CauseKind = Literal["deploy", "push", "link", "env", "rollback", "restart"]
"""What makes a release: a deploy, a git push or a linked repository builds it; the others share an earlier build."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What made a release, and who asked for it, as far as that is known.

    `detail` is the number of the release that a rollback goes back to or a restart repeats, or names of variables.
    `commit` is the git commit of the source.
    """

    kind: CauseKind
    detail: str = ""
    asked_by: str = ""
    commit: str = ""


A_DEPLOY = Cause("deploy")


@dataclass(frozen=True, slots=True)
class AppRecord:
    """An app. `live` is the number of the serving release, None before the first one. Times are Unix seconds.

    `last_release` is the greatest number that a release of it has had.
    """

    name: str
    live: int | None
    created: int
    last_release: int


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """A release. `start` is known once it is built; `error` says why it failed.

    `files` is the number of the earlier release whose files it runs, None when it has its own. The
    next four fields are those of its `Cause`. `accepted` is the id of the contract changes that someone accepted,
    "" when its policy stopped none.
    """

    app: str
    number: int
    status: ReleaseStatus
    source: str
    created: int
    config: AppConfig = DEFAULT
    start: Start | None = None
    error: str = ""
    restarts: int = 0
    files: int | None = None
    cause: CauseKind = "deploy"
    detail: str = ""
    asked_by: str = ""
    commit: str = ""
    accepted: str = ""

    @property
    def build(self) -> int:
        """The number of the release that was built, whose files it runs."""
        return self.files or self.number


@dataclass(frozen=True, slots=True)
class VariableRecord:
    """A variable. `owner` is "app:NAME" or "group:NAME"; `value` is encrypted for its `place`."""

    owner: str
    name: str
    value: str
    source: VariableSource

    @property
    def place(self) -> str:
        return f"{self.owner}/{self.name}"


def environment_place(app: str, number: int) -> str:
    """Return the place of a release's variables: the context of their encryption."""
    return f"release:{app}/{number}"


@dataclass(frozen=True, slots=True)
class FinishedRelease:
    """A release that is built and answers; `contract` is JSON, `accepted` as in `ReleaseRecord`."""

    app: str
    number: int
    config: AppConfig
    start: Start
    contract: str
    accepted: str = ""


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """A running instance. `token` is what its runtime needs to find it again."""

    id: str
    app: str
    release: int
    token: str


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A named credential of one app; `digest` is the SHA-256 of its secret in hex.

    `expires` is in Unix seconds, None for never. `former` is the digest of the secret before the last rotation, which
    is valid until `former_expires`; "" for none.
    """

    id: int
    app: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None = None
    former: str = ""
    former_expires: int | None = None


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user; `digest` is the SHA-256 of its token in hex, `apps` are those it is bound to.

    The rest is as in `TokenRecord`.
    """

    name: str
    digest: str
    role: str
    apps: tuple[str, ...]
    created: int
    expires: int | None = None
    former: str = ""
    former_expires: int | None = None


@dataclass(frozen=True, slots=True)
class DisabledTool:
    """A tool of an app that is switched off: who did that, and since when, in Unix seconds."""

    app: str
    tool: str
    asked_by: str
    since: int


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A group of an identity provider, whose members have a role: those with its name in the claim of their tokens."""

    issuer: str
    claim: str
    name: str
    role: str
    apps: tuple[str, ...]
    created: int


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """An app's link to the branch of a repository elsewhere, whose folder `root` holds the app.

    `seen` is the newest commit that was deployed, or was not for the reason in `note`.
    """

    app: str
    url: str
    branch: str
    root: str
    seen: str = ""
    note: str = ""
