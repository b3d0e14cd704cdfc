"""The users of a host, their tokens and roles, the roles of groups, and the one place that says what a role (viewer,
deployer, admin) may do to an app.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from portway.auth.principal import Principal
from portway.auth.tokens import digest
from portway.host.new_token import new_token
from portway.host.sources.source import SourceError, app_name
from portway.host.store import GroupRecord, Store, UserRecord
from portway.policy.groups import groups_in

Role = Literal["viewer", "deployer", "admin"]
"""A viewer reads apps, a deployer also deploys them, an admin may do everything."""

Action = Literal["read", "deploy", "admin"]
"""What a user does: looks, changes what is served, or does what concerns the whole host or cannot be undone."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class UserError(Exception):
    """A user cannot be made or found; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class User:
    """A person or program with a token of this host, or of its identity provider.

    `apps` are those it is bound to; none: every app, new ones too.
    """

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
    """A valid token: its user, and when it expires, in Unix seconds."""

    user: User
    expires: float | None


class Users:
    """The users in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.on_change: list[Callable[[], None]] = []
        """Called when users, their tokens or the roles of groups have changed: what is open may have to end."""

    def add(self, name: str, role: str, apps: list[str], expires: int | None = None) -> str:
        """Add a user and return its token, of which only the digest is kept. Raises `UserError` or `StoreError`."""
        if not _NAME.fullmatch(name):
            raise UserError("give the user a name of 1 to 64 letters, digits and any of . _ @ -")
        bound = _bound(role, apps)
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
        self._tell()
        return after, token

    def all(self) -> list[UserRecord]:
        return self._store.users()

    def revoke(self, name: str) -> None:
        """Delete a user: its token is refused from now on. Raises `UserError` or `StoreError`."""
        self._store.drop_user(self._named(name).name)
        self._tell()

    def are(self, user: User) -> bool:
        """Return whether the user is one of them, with the same role and apps. Raises `StoreError`."""
        return user in map(_user, self.all())

    def find(self, token: str) -> UserToken | None:
        """Return the user of a token, and when that expires. Raises `StoreError`."""
        key = digest(token)
        for record in self._store.users(key):
            expires = record.expires if record.digest == key else record.former_expires
            if expires is None or time.time() < expires:
                return UserToken(_user(record), expires)
        return None

    def member(self, login: Principal) -> User | None:
        """Return the user who has logged in at the identity provider; None if no group of theirs has a role.

        The strongest role counts, with the apps of all groups that give it. Raises `StoreError`.
        """
        of_issuer = [group for group in self._store.groups() if group.issuer == login.issuer]
        given = [group for group in of_issuer if group.name in groups_in(login.claims, group.claim)]
        role = next((each for each in reversed(get_args(Role)) if any(group.role == each for group in given)), None)
        if role is None:
            return None
        bound = [group.apps for group in given if group.role == role]
        apps = sorted({app for each in bound for app in each}) if all(bound) else ()
        return User(f"{login.issuer}|{login.subject}", role, tuple(apps))

    def groups(self) -> list[GroupRecord]:
        return self._store.groups()

    def map_group(self, issuer: str, claim: str, name: str, role: str, apps: list[str]) -> GroupRecord:
        """Give the members of a group a role, in place of the one they may have. Raises `UserError` or `StoreError`."""
        if not all(text and len(text) <= 200 and text.isprintable() for text in (claim, name)):
            raise UserError("give the group and the claim as 1 to 200 printable characters")
        group = GroupRecord(issuer, claim, name, role, tuple(_bound(role, apps)), int(time.time()))
        self._store.put_group(group)
        self._tell()
        return group

    def unmap_group(self, issuer: str, claim: str, name: str) -> None:
        """Take the role of a group. Raises `UserError` or `StoreError`."""
        if not self._store.drop_group(issuer, claim, name):
            raise UserError(f"no group {name!r} of the claim {claim!r} has a role: see `portway user list`")
        self._tell()

    def _named(self, name: str) -> UserRecord:
        found = next((user for user in self.all() if user.name == name), None)
        if found is None:
            raise UserError(f"there is no user named {name!r}: see `portway user list`")
        return found

    def _tell(self) -> None:
        for changed in self.on_change:
            changed()


def _bound(role: str, apps: list[str]) -> list[str]:
    """Return the apps of someone with a role. Raises `UserError`."""
    if role not in get_args(Role):
        raise UserError(f"there is no role {role!r}: give viewer, deployer or admin")
    if role == "admin" and apps:
        raise UserError("an admin may use every app: leave the apps out, or make a deployer")
    try:
        return sorted({app_name("", app) for app in apps})
    except SourceError as error:
        raise UserError(str(error)) from None


def _user(record: UserRecord) -> User:
    return User(record.name, record.role, record.apps)  # type: ignore[arg-type]  # `add` has checked it
