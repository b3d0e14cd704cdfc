"""Sets, unsets and encrypts the variables of apps and groups: which names, sizes (64 KB) and numbers (500) are refused;
a key that does not decrypt them; rekeying.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from portway.host.secrets.key_file import KeyFile, KeyFileError
from portway.host.secrets.upstream_token import encrypt_token
from portway.host.store import Store, StoreError, VariableRecord, VariableSource, environment_place
from portway.host.variable_names import GROUP, VARIABLE, is_hosts_own
from portway.protocol.sealing import Keys

_PURPOSE = b"variables"
_MOST = 500
_LARGEST_VALUE = 64 * 1024
_LARGEST = 512 * 1024  # the kernel takes about 2 MB of arguments and environment


class VariableError(Exception):
    """A variable cannot be set or used; the message is for the person who asked, and holds no value."""


@dataclass(frozen=True, slots=True)
class Owner:
    """What a variable belongs to: one app, a group whose apps share it, or the link of an app, which no app sees."""

    kind: Literal["app", "group", "link"]
    name: str

    @property
    def key(self) -> str:
        """The text by which the store knows it."""
        return f"{self.kind}:{self.name}"

    def command(self, verb: str, words: str = "") -> str:
        """Return the command line that does something with its variables."""
        target = self.name if self.kind == "app" else f"--group {self.name}"
        return f"portway env {verb} {target} {words}".rstrip()


class Variables:
    """Reads and writes variables. Each value is bound to its place: moved to another, it cannot be decrypted."""

    def __init__(self, store: Store, key_file: KeyFile) -> None:
        """Open the key, which is made at the first start. Raises `KeyFileError` if it decrypts not all there is."""
        self._store = store
        self._key_file = key_file
        encrypted = store.encrypted()
        self._keys = key_file.open(is_needed=bool(encrypted))
        if any(self._keys.decrypt(_PURPOSE, text, place.encode()) is None for place, text in encrypted):
            raise KeyFileError(
                f"the key in {key_file.path} does not decrypt the variables in {store.path}: "
                "give the --key-file they were encrypted with"
            )

    def set(self, owner: Owner, values: Mapping[str, str], source: VariableSource = "set") -> None:
        """Raise `VariableError` when a name or a value cannot be one, or there are too many; nothing is set then."""
        if not re.fullmatch(GROUP, owner.name):
            raise VariableError(f"{owner.name!r} cannot name a group: give up to 64 letters, digits, spaces, . _ and -")
        for name, value in values.items():
            _check(name, value)
        check_size(owner.name, self.values(owner) | dict(values))
        self._store.put_variables(
            VariableRecord(owner.key, name, self._encrypt(value, f"{owner.key}/{name}"), source)
            for name, value in values.items()
        )

    def unset(self, owner: Owner, names: Iterable[str]) -> None:
        """Raise `VariableError` when one of the names is not set; nothing is unset then."""
        wanted = set(names)
        if missing := sorted(wanted - {record.name for record in self.list(owner)}):
            raise VariableError(f"{owner.name} has no variable {', '.join(missing)}: see `{owner.command('list')}`")
        self._store.drop_variables(owner.key, wanted)

    def unset_all(self, owner: Owner) -> None:
        self._store.drop_variables(owner.key, {record.name for record in self.list(owner)})

    def list(self, owner: Owner) -> list[VariableRecord]:
        """Return what is stored for `owner`, with encrypted values, by name."""
        return self._store.variables(owner.key)

    def values(self, owner: Owner) -> dict[str, str]:
        return {record.name: self._decrypt(record.value, record.place) for record in self.list(owner)}

    def keep(self, app: str, number: int, environment: Mapping[str, str]) -> None:
        """Store the variables that a release is started with, every time."""
        if environment:
            payload = msgspec.json.encode(environment).decode()
            self._store.keep_environment(app, number, self._encrypt(payload, environment_place(app, number)))

    def of_release(self, app: str, number: int) -> dict[str, str]:
        """Return the variables that a release is started with."""
        encrypted = self._store.environment(app, number)
        if not encrypted:
            return {}
        return msgspec.json.decode(self._decrypt(encrypted, environment_place(app, number)), type=dict[str, str])

    def rekey(self) -> bool:
        """Encrypt everything by a new key. Return whether the key file holds only that one now.

        The new key is the first in the file if there are several, else it is made. Raises `VariableError` when it
        cannot be written there. If interrupted, the file holds both keys, and another call goes on.
        """
        path = self._key_file.path
        try:
            self._key_file.add_key()
        except OSError as error:
            raise VariableError(
                f"no new key can be written to {path} ({error.strerror}): put one before the old one there yourself, "
                "then rekey again; a systemd credential is read when its service starts"
            ) from None
        try:
            keys = self._key_file.read()
        except (KeyFileError, OSError) as error:
            raise VariableError(str(error)) from None
        self._store.reencrypt(lambda place, text: _encrypt(keys, _decrypt(keys, text, place), place))
        self._keys = keys
        try:
            self._key_file.drop_old_keys()
        except OSError:
            return False
        return True

    def token_for_gate(self, app: str, token: str) -> str:
        """Return the token that an app's server asks for as the routing table holds it."""
        return encrypt_token(self._keys, app, token)

    def _encrypt(self, value: str, place: str) -> str:
        return _encrypt(self._keys, value, place)

    def _decrypt(self, encrypted: str, place: str) -> str:
        return _decrypt(self._keys, encrypted, place)


def check_size(name: str, values: Mapping[str, str]) -> None:
    """Raise `VariableError` when these are too many variables for an app, or they are too large."""
    size = sum(len(name) + len(value.encode()) for name, value in values.items())
    if len(values) > _MOST or size > _LARGEST:
        raise VariableError(
            f"{name} would have {len(values)} variables of {size // 1024} KiB; "
            f"{_MOST} and {_LARGEST // 1024} KiB are the most"
        )


def _check(name: str, value: str) -> None:
    if not re.fullmatch(VARIABLE, name):
        raise VariableError(f"{name[:128]!r} cannot name a variable: give letters, digits and _, no digit first")
    if is_hosts_own(name):
        raise VariableError(f"{name} is set by the host for every app: choose another name")
    if "\0" in value or len(value.encode()) > _LARGEST_VALUE:
        raise VariableError(f"the value of {name} holds a NUL or is longer than {_LARGEST_VALUE // 1024} KiB")


def _encrypt(keys: Keys, value: str, place: str) -> str:
    return keys.encrypt(_PURPOSE, value.encode(), place.encode())


def _decrypt(keys: Keys, encrypted: str, place: str) -> str:
    value = keys.decrypt(_PURPOSE, encrypted, place.encode())
    if value is None:
        raise StoreError(f"{place} cannot be decrypted: something else has changed the database")
    return value.decode()
