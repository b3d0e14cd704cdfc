"""The routing table, a JSON file that control writes and the gate reads: apps, their instances, policies, names,
logins, and their limits at the gate (256 calls, 1024 streams, size of a body).
"""

from pathlib import Path
from typing import Literal

import msgspec

from portway.host.app_config import Access, PathRoute
from portway.host.files import write_durably
from portway.http.limits import BODY_BYTES
from portway.policy.rules import PolicyRule, ToolHints

State = Literal["up", "starting", "unhealthy", "crashed", "stopped"]


class InstanceAddress(msgspec.Struct, frozen=True):
    """A running instance.

    `address` is where it serves HTTP: "unix:/path.sock", "http://127.0.0.1:PORT" or "dial://SOCKET:PORT".
    """

    id: str
    address: str


class AppLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits of one app at the gate: bytes of a body, calls and long-lived streams at once."""

    body_bytes: int = BODY_BYTES
    in_flight: int = 256
    streams: int = 1024


class AppPolicies(msgspec.Struct, frozen=True, omit_defaults=True):
    """The policies of an app: its `rules`, and the annotations of the `tools` in its contract, which they look at.

    `off` are the tools that are switched off. `groups` are the scopes of callers by a value in `groups_claim`.
    """

    rules: list[PolicyRule] = []
    tools: dict[str, ToolHints] = {}
    off: list[str] = []
    groups: dict[str, list[str]] = {}
    groups_claim: str = "groups"


class Auth(msgspec.Struct, frozen=True, omit_defaults=True):
    """The identity providers at which callers log in, by the URLs in `issuers`.

    Their tokens for an app have as `aud` a URL of the app's endpoint, or what `audiences` has: one for all, or one for
    each. Clients are told to ask for `scopes`. With `private`, a provider may be on this machine or in its network.
    With `opaque`, the provider is asked about tokens that are no JWTs, as the environment of the gate says.
    """

    issuers: list[str]
    audiences: list[str] = []
    scopes: list[str] = []
    private: bool = False
    opaque: bool = False


class Assertion(msgspec.Struct, frozen=True):
    """Of an app to which the gate says who calls in a signed JWT: the `iss` and `aud` in it."""

    issuer: str
    audience: str


class App(msgspec.Struct, frozen=True):
    """An app. `hosts` are its names beside `<name>.<domain>`, `origins` the web pages that may call it.

    Until `pinned_until`, in seconds since the epoch, the instances in `pinned`, of the release before, get the calls of
    the sessions that are open there. `path` is where its instances have their MCP endpoint. `reason` says in a sentence
    why `state` is "crashed". `upstream_token` is what its server asks its callers for, encrypted
    (`secrets/upstream_token.py`). `auth` says where its callers log in, None for nowhere. `foreign`: its server is not
    Portway's, so a session is known to one instance only.
    """

    name: str
    release: int
    access: Access = "gate"
    state: State = "up"
    instances: list[InstanceAddress] = []
    hosts: list[str] = []
    limits: AppLimits = AppLimits()
    reason: str = ""
    origins: list[str] = []
    path: str = "/mcp"
    foreign: bool = False
    upstream_token: str = ""
    routes: list[PathRoute] = []
    pinned: list[InstanceAddress] = []
    pinned_until: float = 0.0
    policies: AppPolicies = AppPolicies()
    auth: Auth | None = None
    assertion: Assertion | None = None


class Table(msgspec.Struct, frozen=True):
    """The whole table: apps by name. A greater `version` is newer. `url` is the host's own, without a path."""

    version: int = 0
    domain: str = "localhost"
    apps: dict[str, App] = {}
    url: str = ""


_decoder = msgspec.json.Decoder(Table)


def read(path: Path) -> Table | None:
    """Return the table at `path`; None when it is missing or damaged, which control mends."""
    try:
        return _decoder.decode(path.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def load(path: Path) -> Table:
    """Return the table at `path`; an empty one when it is missing or damaged."""
    return read(path) or Table()


def save(path: Path, table: Table) -> None:
    """Replace the file at `path` by `table`, with mode 0600; a reader sees the old table or the new, never a part."""
    write_durably(path, msgspec.json.encode(table))
