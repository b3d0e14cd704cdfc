"""Rows of the store, as the rest of the host sees them."""

from dataclasses import dataclass
from typing import Literal

from portway.host.app_config import DEFAULT, AppConfig, Start

ReleaseStatus = Literal["building", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class AppRecord:
    """An app. `live` is the number of the serving release, None before the first one. Times are Unix seconds."""

    name: str
    live: int | None
    created: int


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """A release. `start` is known once it is built; `contract` is JSON; `error` says why it failed."""

    app: str
    number: int
    status: ReleaseStatus
    source: str
    created: int
    config: AppConfig = DEFAULT
    start: Start | None = None
    contract: str = ""
    error: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class FinishedRelease:
    """A release that is built and answers; `contract` is JSON."""

    app: str
    number: int
    config: AppConfig
    start: Start
    contract: str


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """A running instance. `token` is what its runtime needs to find it again."""

    id: str
    app: str
    release: int
    token: str


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A named credential of one app; `digest` is the SHA-256 of its secret in hex."""

    id: int
    app: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    created: int
