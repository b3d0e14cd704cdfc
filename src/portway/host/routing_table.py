"""The routing table control writes and the gate serves from: one JSON file, replaced atomically."""

import os
from pathlib import Path
from typing import Literal

import msgspec

Access = Literal["token", "public"]
State = Literal["up", "starting", "crashed", "stopped"]


class Instance(msgspec.Struct, frozen=True):
    """One running process group that speaks HTTP at `address`: "unix:/path.sock" or "http://127.0.0.1:PORT"."""

    id: str
    address: str


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one app may ask of the gate."""

    body_bytes: int = 4 * 1024 * 1024
    in_flight: int = 256
    streams: int = 1024


class App(msgspec.Struct, frozen=True):
    """`hosts` are names served beside `<name>.<domain>`; `reason` says why `state` is "crashed", in one sentence."""

    name: str
    release: int
    access: Access = "token"
    state: State = "up"
    instances: list[Instance] = []
    hosts: list[str] = []
    limits: Limits = Limits()
    reason: str = ""


class Token(msgspec.Struct, frozen=True):
    """`digest` is the SHA-256 of the token in hex: the token itself is nowhere at rest."""

    digest: str
    app: str
    name: str
    id: int
    scopes: list[str] = []


class Table(msgspec.Struct, frozen=True):
    """All the gate knows: apps by name, tokens by digest. A greater `version` is a newer table."""

    version: int = 0
    domain: str = "localhost"
    apps: dict[str, App] = {}
    tokens: dict[str, Token] = {}


_decoder = msgspec.json.Decoder(Table)


def load(path: Path) -> Table:
    """The table at `path`; an empty one when there is no file yet. Raises `msgspec.DecodeError` on a damaged file."""
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return Table()


def save(path: Path, table: Table) -> None:
    """Replace the file at `path` by `table`, mode 0600: a reader sees the old bytes or the new, never half."""
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(table))
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
