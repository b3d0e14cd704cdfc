"""The users of a host, and the one place that says what each of them may do to an app."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from portway.auth.tokens import digest
from portway.host.new_token import new_token
from portway.host.sources.source import SourceError, app_name
from portway.host.store import Store, UserRecord

Role = Literal["viewer", "deployer", "admin"]
"""A viewer reads apps, a deployer also deploys them, an admin may do everything."""

Action = Literal["read", "deploy", "admin"]
"""What a user does: looks, changes what is served, or does what concerns the whole host or cannot be undone."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class UserError(Exception):
    """A user cannot be made or found; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class User:
    """A person or program with a token of this host. `apps` are those it is bound to; none: every app, new ones too."""

    name: str
    role: Role
    apps: tuple[str, ...] = ()

    def objection(self, action: Action, app: str | None) -> str | None:
        """Return why the user may not do this to the app, or to what is of no one app; None when it may."""
        if action == "admin" and self.role != "admin":
            return f"{self.name} is a {self.role}, and may not do what an admin may: ask an admin of this host"
        if action == "deploy" and self.role == "viewer":
            return f"{self.name} is a viewer, and may not deploy: ask for a user with the role deployer"
        if app is not None and not self.sees(app):
            return f"{self.name} may not use the app {app[:40]}, only {', '.join(self.apps)}"
        return None

    def sees(self, app: str) -> bool:
        """Return whether the app is one of the user's."""
        return not self.apps or app in self.apps


@dataclass(frozen=True, slots=True)
class UserToken:
    """A valid token: its user, its digest, and when it expires, in Unix seconds."""

    user: User
    digest: str
    expires: int | None


class Users:
    """The users in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.on_end: list[Callable[[str, float], None]] = []
        """Called with the digest of a token that ends, and in how many seconds, to end what is open with it."""

    def add(self, name: str, role: str, apps: list[str], expires: int | None = None) -> str:
        """Add a user and return its token, of which only the digest is kept. Raises `UserError` or `StoreError`."""
        if not _NAME.fullmatch(name):
            raise UserError("give the user a name of 1 to 64 letters, digits and any of . _ @ -")
        if role not in get_args(Role):
            raise UserError(f"there is no role {role!r}: give viewer, deployer or admin")
        if role == "admin" and apps:
            raise UserError("an admin may use every app: leave the apps out, or make a deployer")
        try:
            bound = sorted({app_name("", app) for app in apps})
        except SourceError as error:
            raise UserError(str(error)) from None
        token = new_token("pwu_")
        self._store.add_user(name, digest(token), role, bound, expires)
        return token

    def rotate(self, name: str, overlap: int, lifetime: int | None) -> tuple[UserRecord, str]:
        """Give a user another token; the one before stays valid for `overlap` seconds.

        Without a `lifetime` in seconds it lives as long as the one before. Raises `UserError` or `StoreError`.
        """
        before, now, token = self._named(name), int(time.time()), new_token("pwu_")
        if lifetime is None and before.expires is not None:
            lifetime = before.expires - before.created
        expires = None if lifetime is None else now + lifetime
        after = self._store.rotate_user(before, digest(token), expires, now + overlap)
        if before.former:
            self._end(before.former)
        self._end(before.digest, 0 if after.former_expires is None else after.former_expires - now)
        return after, token

    def all(self) -> list[UserRecord]:
        return self._store.users()

    def revoke(self, name: str) -> None:
        """Delete a user: its token is refused from now on. Raises `UserError` or `StoreError`."""
        user = self._named(name)
        self._store.drop_user(name)
        for ended in filter(None, (user.digest, user.former)):
            self._end(ended)

    def are(self, user: User) -> bool:
        """Return whether the user is one of them, with the same role and apps. Raises `StoreError`."""
        return user in map(_user, self.all())

    def find(self, token: str) -> UserToken | None:
        """Return the user of a token, and when that expires. Raises `StoreError`."""
        key = digest(token)
        for record in self._store.users(key):
            expires = record.expires if record.digest == key else record.former_expires
            if expires is None or time.time() < expires:
                return UserToken(_user(record), key, expires)
        return None

    def _named(self, name: str) -> UserRecord:
        found = next((user for user in self.all() if user.name == name), None)
        if found is None:
            raise UserError(f"there is no user named {name!r}: see `portway user list`")
        return found

    def _end(self, ended: str, seconds: float = 0) -> None:
        for end in self.on_end:
            end(ended, seconds)


def _user(record: UserRecord) -> User:
    return User(record.name, record.role, record.apps)  # type: ignore[arg-type]  # `add` has checked it
