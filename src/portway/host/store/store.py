"""Every query of the host's database, each its own transaction on the loop's own thread; and the errors for a name that
is taken or a database that cannot be used.
"""

import contextlib
import os
import sqlite3
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import (
    URL,
    BindParameter,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Integer,
    String,
    Update,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal_column,
    select,
    table,
    true,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from portway.host.app_config import AppConfig, Start
from portway.host.store.migrate import upgrade
from portway.host.store.records import (
    A_DEPLOY,
    AppRecord,
    Cause,
    DisabledTool,
    FinishedRelease,
    GroupRecord,
    InstanceRecord,
    LinkRecord,
    ReleaseRecord,
    TokenRecord,
    UserRecord,
    VariableRecord,
    environment_place,
)
from portway.host.store.tables import (
    apps,
    disabled_tools,
    domains,
    instances,
    links,
    metadata,
    releases,
    tokens,
    user_groups,
    users,
    variables,
)


class StoreError(Exception):
    """The database or its disk refuses a query; the message is one sentence."""


class Store:
    """The host's database. Every method is its own transaction."""

    def __init__(self, path: Path) -> None:
        """Open the file, which is made or migrated as needed. Raises `StoreError`."""
        self.path = path
        self._engine = _open(path)
        try:
            upgrade(self._engine)
        except SQLAlchemyError as error:
            raise StoreError(f"the database {path} cannot be used: {_reason(error)}") from None

    def close(self) -> None:
        self._engine.dispose()

    def require_plain(self) -> None:
        """Raise `StoreError` for what SQLite allows and no host writes: a text as a number, a trigger, a view."""
        columns = [column for each in metadata.tables.values() for column in each.columns]
        odd = [
            select(column).where(func.typeof(column).not_in(("integer", "null")))
            for column in columns
            if isinstance(column.type, Integer)
        ]
        kind = literal_column("type", String)
        programs = select(kind).select_from(table("sqlite_master")).where(kind.not_in(("table", "index")))
        if any(self._all(query) for query in (*odd, programs)):
            raise StoreError("its database holds what no host has written")

    def apps(self) -> list[AppRecord]:
        query = select(apps.c.name, apps.c.live, apps.c.created, apps.c.last_release).order_by(apps.c.name)
        return [AppRecord(*row) for row in self._all(query)]

    def app(self, name: str) -> AppRecord | None:
        return next((app for app in self.apps() if app.name == name), None)

    def sealing_keys(self, app: str) -> str:
        """Return the keys that seal an app's session ids and cursors (PORTWAY_KEYS). Each app has its own."""
        with self._begin() as connection:
            found = connection.execute(select(apps.c.sealing_keys).where(apps.c.name == app)).scalar()
            if not found:
                found = urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
                connection.execute(update(apps).where(apps.c.name == app).values(sealing_keys=found))
        return str(found)

    def begin_release(
        self,
        app: str,
        source: str,
        *,
        after: int = 0,
        files: int | None = None,
        cause: Cause = A_DEPLOY,
    ) -> int:
        """Add a release to `app`, and the app when it is new; return its number.

        Numbers are never used twice. `after` is the newest on disk, which a restored database may not know. `files` is
        the release whose files it shares.
        """
        now = int(time.time())
        with self._begin() as connection:
            number = connection.execute(
                update(apps)
                .where(apps.c.name == app)
                .values(last_release=func.max(apps.c.last_release, after) + 1)
                .returning(apps.c.last_release)
            ).scalar()
            if number is None:
                number = after + 1
                row = {"name": app, "last_release": number, "created": now}
                connection.execute(insert(apps).values(row))
            row = {"app": app, "number": number, "status": "building", "source": source, "created": now, "files": files}
            why = {"cause": cause.kind, "detail": cause.detail, "asked_by": cause.asked_by, "commit": cause.commit}
            connection.execute(insert(releases).values(row | why))
        return int(number)

    def finish_releases(self, finished: Iterable[FinishedRelease]) -> None:
        """Make each release the live one of its app; all of them, or none."""
        with self._begin() as connection:
            for release in finished:
                kept = {"config": msgspec.to_builtins(release.config), "start": msgspec.to_builtins(release.start)}
                values = {"status": "ready", "contract": release.contract, "accepted": release.accepted} | kept
                connection.execute(update(releases).where(_release(release.app, release.number)).values(values))
                connection.execute(update(apps).where(apps.c.name == release.app).values(live=release.number))

    def fail_release(self, app: str, number: int, error: str) -> None:
        with self._begin() as connection:
            values = {"status": "failed", "error": error}
            connection.execute(update(releases).where(_release(app, number)).values(values))

    def releases(self, app: str) -> list[ReleaseRecord]:
        """Return the releases that are kept, oldest first."""
        return self._releases(releases.c.app == app)

    def _releases(self, where: ColumnElement[bool]) -> list[ReleaseRecord]:
        columns = (releases.c[name] for name in ReleaseRecord.__dataclass_fields__)
        query = select(*columns).where(where).order_by(releases.c.number)
        return [
            ReleaseRecord(
                *(app_, number, status, source, created),
                msgspec.convert(config, AppConfig),
                msgspec.convert(start, Start | None),
                *others,
            )
            for app_, number, status, source, created, config, start, *others in self._all(query)
        ]

    def release(self, app: str, number: int) -> ReleaseRecord | None:
        return next(iter(self._releases(_release(app, number))), None)

    def contract(self, app: str, number: int) -> str:
        """Return the contract of a release as JSON, "" when it has none."""
        with self._begin() as connection:
            return connection.execute(select(releases.c.contract).where(_release(app, number))).scalar() or ""

    def live_release(self, app: str) -> ReleaseRecord | None:
        """Return the serving release of an app, which may be unknown."""
        record = self.app(app)
        return None if record is None or record.live is None else self.release(app, record.live)

    def live_config(self, app: str) -> AppConfig | None:
        """Return the configuration of an app's serving release."""
        live = self.live_release(app)
        return live.config if live else None

    def count_restart(self, app: str, number: int) -> None:
        changed = {"restarts": releases.c.restarts + 1}
        self._run(update(releases).where(_release(app, number)).values(changed))

    def forget_release(self, app: str, number: int) -> None:
        self._run(delete(releases).where(_release(app, number)))

    def destroy(self, app: str) -> None:
        """Delete the app with its releases, variables, instances and tokens."""
        with self._begin() as connection:
            connection.execute(delete(apps).where(apps.c.name == app))
            connection.execute(delete(variables).where(variables.c.owner.in_([f"app:{app}", f"link:{app}"])))

    def rebuilt(self, app: str, build: int, start: Start) -> None:
        """Keep how the releases that run the files of `build` are started, now that it was built again."""
        shares = (releases.c.number == build) | (releases.c.files == build)
        where = (releases.c.app == app) & (releases.c.status == "ready") & shares
        self._run(update(releases).where(where).values(start=msgspec.to_builtins(start)))

    def forget_machine(self) -> None:
        """Forget what is of no use on another machine: the instances, and the keys of sessions, which are made anew."""
        with self._begin() as connection:
            connection.execute(delete(instances))
            connection.execute(update(apps).values(sealing_keys=""))

    def variables(self, owner: str) -> list[VariableRecord]:
        """Return the variables of an owner, which may be unknown, by name."""
        columns = (variables.c[name] for name in VariableRecord.__dataclass_fields__)
        query = select(*columns).where(variables.c.owner == owner).order_by(variables.c.name)
        return [VariableRecord(*row) for row in self._all(query)]

    def put_variables(self, records: Iterable[VariableRecord]) -> None:
        """Add these variables, or replace those of the same owner and name."""
        with self._begin() as connection:
            for record in records:
                connection.execute(delete(variables).where(_variable(record.owner, [record.name])))
                connection.execute(insert(variables).values(asdict(record)))

    def drop_variables(self, owner: str, names: Collection[str]) -> None:
        self._run(delete(variables).where(_variable(owner, names)))

    def environment(self, app: str, number: int) -> str:
        """Return the encrypted variables of a release, "" when it has none."""
        with self._begin() as connection:
            query = select(releases.c.environment).where(_release(app, number))
            return connection.execute(query).scalar() or ""

    def keep_environment(self, app: str, number: int, encrypted: str) -> None:
        self._run(update(releases).where(_release(app, number)).values(environment=encrypted))

    def encrypted(self) -> list[tuple[str, str]]:
        """Return every encrypted text, after its place."""
        with self._begin() as connection:
            return [(place, text) for place, text, _ in _encrypted(connection)]

    def reencrypt(self, change: Callable[[str, str], str]) -> None:
        """Replace every encrypted text by `change(place, text)`; all of them, or none when it raises."""
        with self._begin() as connection:
            for place, text, replace in _encrypted(connection):
                connection.execute(replace, {"changed": change(place, text)})

    def instances(self) -> list[InstanceRecord]:
        query = select(instances.c.id, instances.c.app, instances.c.release, instances.c.token)
        return [InstanceRecord(*row) for row in self._all(query)]

    def add_instance(self, instance: InstanceRecord) -> None:
        row = {"id": instance.id, "app": instance.app, "release": instance.release, "token": instance.token}
        self._run(insert(instances).values(row))

    def forget_instance(self, identity: str) -> None:
        self._run(delete(instances).where(instances.c.id == identity))

    def tokens(self, app: str | None = None) -> list[TokenRecord]:
        return self._tokens(true() if app is None else tokens.c.app == app)

    def _tokens(self, where: ColumnElement[bool]) -> list[TokenRecord]:
        columns = (tokens.c[name] for name in TokenRecord.__dataclass_fields__)
        query = select(*columns).where(where).order_by(tokens.c.app, tokens.c.name)
        return [
            TokenRecord(id_, app_, name, digest, tuple(scopes), *times)
            for id_, app_, name, digest, scopes, *times in self._all(query)
        ]

    def add_token(
        self, app: str, name: str, digest: str, scopes: Sequence[str], expires: int | None = None
    ) -> TokenRecord:
        """Add a token. Raises `StoreError` when the app has one of that name."""
        row = {"app": app, "name": name, "digest": digest, "scopes": list(scopes), **_lifetime(expires)}
        if self._all(select(tokens.c.id).where(_token(app, name))):
            raise StoreError(f"{app} already has a token named {name!r}: rotate or revoke it, or choose another name")
        self._run(insert(tokens).values(row))
        added = self.token(app, name)
        assert added is not None
        return added

    def token(self, app: str, name: str) -> TokenRecord | None:
        return next(iter(self._tokens(_token(app, name))), None)

    def rotate_token(self, before: TokenRecord, digest: str, expires: int | None, former_expires: int) -> TokenRecord:
        """Give a token another secret; the one before is valid until `former_expires`."""
        row = _rotated(before, digest, expires, former_expires)
        self._run(update(tokens).where(tokens.c.id == before.id).values(row))
        return replace(before, **row)

    def drop_token(self, app: str, name: str) -> bool:
        """Delete a token; return False when there is none of that name."""
        with self._begin() as connection:
            return bool(connection.execute(delete(tokens).where(_token(app, name))).rowcount)

    def forget_tokens(self, app: str) -> None:
        self._run(delete(tokens).where(tokens.c.app == app))

    def domains(self) -> dict[str, str]:
        """Return the app of each custom domain that was added."""
        return dict(self._all(select(domains.c.name, domains.c.app)))

    def add_domain(self, app: str, name: str) -> None:
        self._run(insert(domains).values({"name": name, "app": app}))

    def drop_domain(self, name: str) -> None:
        self._run(delete(domains).where(domains.c.name == name))

    def disabled_tools(self) -> list[DisabledTool]:
        """Return the tools of all apps that are switched off."""
        return [DisabledTool(*row) for row in self._all(select(disabled_tools))]

    def disable_tool(self, tool: DisabledTool) -> None:
        self._run(insert(disabled_tools).values(asdict(tool)))

    def enable_tool(self, app: str, tool: str) -> None:
        self._run(delete(disabled_tools).where((disabled_tools.c.app == app) & (disabled_tools.c.tool == tool)))

    def links(self) -> list[LinkRecord]:
        """Return every link, by the name of its app."""
        columns = (links.c[name] for name in LinkRecord.__dataclass_fields__)
        return [LinkRecord(*row) for row in self._all(select(*columns).order_by(links.c.app))]

    def link(self, app: str) -> LinkRecord | None:
        return next((link for link in self.links() if link.app == app), None)

    def put_link(self, link: LinkRecord) -> None:
        """Add a link, or replace that of the same app."""
        with self._begin() as connection:
            connection.execute(delete(links).where(links.c.app == link.app))
            connection.execute(insert(links).values(asdict(link)))

    def note_link(self, app: str, seen: str, note: str) -> None:
        self._run(update(links).where(links.c.app == app).values(seen=seen, note=note))

    def drop_link(self, app: str) -> None:
        self._run(delete(links).where(links.c.app == app))

    def users(self, digest: str = "") -> list[UserRecord]:
        """Return every user, by name; with the `digest` of a token, its user or none."""
        query = select(*(users.c[name] for name in UserRecord.__dataclass_fields__)).order_by(users.c.name)
        rows = self._all(query.where((users.c.digest == digest) | (users.c.former == digest)) if digest else query)
        return [UserRecord(name, digest, role, tuple(apps_), *times) for name, digest, role, apps_, *times in rows]

    def add_user(self, name: str, digest: str, role: str, bound: Sequence[str], expires: int | None = None) -> None:
        """Add a user. Raises `StoreError` when there is one of that name."""
        if self._all(select(users.c.name).where(users.c.name == name)):
            raise StoreError(f"there is a user named {name!r} already: rotate or revoke it, or choose another name")
        row = {"name": name, "digest": digest, "role": role, "apps": list(bound), **_lifetime(expires)}
        self._run(insert(users).values(row))

    def rotate_user(self, before: UserRecord, digest: str, expires: int | None, former_expires: int) -> UserRecord:
        """Give a user another token; the one before is valid until `former_expires`."""
        row = _rotated(before, digest, expires, former_expires)
        self._run(update(users).where(users.c.name == before.name).values(row))
        return replace(before, **row)

    def groups(self) -> list[GroupRecord]:
        query = select(*(user_groups.c[name] for name in GroupRecord.__dataclass_fields__))
        rows = self._all(query.order_by(user_groups.c.name, user_groups.c.claim, user_groups.c.issuer))
        return [
            GroupRecord(issuer, claim, name, role, tuple(apps_), created)
            for issuer, claim, name, role, apps_, created in rows
        ]

    def put_group(self, group: GroupRecord) -> None:
        """Give a group a role, in place of the one it may have."""
        with self._begin() as connection:
            connection.execute(delete(user_groups).where(_group(group.issuer, group.claim, group.name)))
            connection.execute(insert(user_groups).values(asdict(group) | {"apps": list(group.apps)}))

    def drop_group(self, issuer: str, claim: str, name: str) -> bool:
        """Take a group's role; return False when it has none."""
        with self._begin() as connection:
            return bool(connection.execute(delete(user_groups).where(_group(issuer, claim, name))).rowcount)

    def drop_user(self, name: str) -> None:
        self._run(delete(users).where(users.c.name == name))

    @contextlib.contextmanager
    def _begin(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"the host's database refused: {_reason(error)}") from None

    def _all(self, query: Executable) -> list[tuple[Any, ...]]:
        with self._begin() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def _run(self, statement: Executable) -> None:
        with self._begin() as connection:
            connection.execute(statement)


def _lifetime(expires: int | None) -> dict[str, Any]:
    return {"created": int(time.time()), "expires": expires}


def _rotated(before: TokenRecord | UserRecord, digest: str, expires: int | None, former_expires: int) -> dict[str, Any]:
    """Return the columns of a secret that takes the place of one before."""
    now = int(time.time())
    until = former_expires if before.expires is None else min(former_expires, before.expires)
    former: dict[str, Any] = {"former": "", "former_expires": None}
    if until > now:
        former = {"former": before.digest, "former_expires": until}
    return {"digest": digest, **_lifetime(expires), **former}


def _group(issuer: str, claim: str, name: str) -> ColumnElement[bool]:
    return (user_groups.c.issuer == issuer) & (user_groups.c.claim == claim) & (user_groups.c.name == name)


def _token(app: str, name: str) -> ColumnElement[bool]:
    return (tokens.c.app == app) & (tokens.c.name == name)


def _variable(owner: str, names: Collection[str]) -> ColumnElement[bool]:
    return (variables.c.owner == owner) & variables.c.name.in_(names)


def _encrypted(connection: Connection) -> list[tuple[str, str, Update]]:
    """Return the place of every encrypted text, the text, and what replaces it by the parameter `changed`."""
    changed: BindParameter[str] = bindparam("changed")
    found = []
    for row in connection.execute(select(variables)):
        record = VariableRecord(*row)
        where = _variable(record.owner, [record.name])
        found.append((record.place, record.value, update(variables).where(where).values(value=changed)))
    query = select(releases.c.app, releases.c.number, releases.c.environment).where(releases.c.environment != "")
    for app, number, text in connection.execute(query):
        where = _release(app, number)
        found.append((environment_place(app, number), text, update(releases).where(where).values(environment=changed)))
    return found


def _release(app: str, number: int) -> ColumnElement[bool]:
    return (releases.c.app == app) & (releases.c.number == number)


def _reason(error: SQLAlchemyError) -> object:
    """Return the database's own message: SQLAlchemy's would show the statement with its values."""
    return getattr(error, "orig", None) or error


def _open(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)))

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # WAL with FULL: a token or a release that a client was told of survives a power cut.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}")

    return engine
