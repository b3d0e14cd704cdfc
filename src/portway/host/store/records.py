"""Rows of the store, as the rest of the host sees them."""

from dataclasses import dataclass
from typing import Literal

from portway.host.routing_table import Access

ReleaseStatus = Literal["building", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class AppRecord:
    """An app. `live` is the number of the serving release, None before the first one. Times are Unix seconds."""

    name: str
    access: Access
    live: int | None
    created: int
    origins: list[str]


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Settings of an app that a deploy may change: who may call it, and from which web pages. None: no change."""

    access: Access | None = None
    origins: list[str] | None = None


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """A release. `server` is the object served, "server.py:mcp"; `contract` is JSON; `error` says why it failed."""

    app: str
    number: int
    status: ReleaseStatus
    source: str
    created: int
    server: str = ""
    contract: str = ""
    error: str = ""
    restarts: int = 0


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
