"""Finds the app of a request by host name or path, its caller, and the least busy instance; sessions that stay with
theirs.
"""

import asyncio
from collections.abc import Iterable, Mapping
from zlib import crc32

from portway.host.app_config import Access
from portway.host.assertion_key import AssertionKey
from portway.host.gate.access_token_callers import AccessTokenCallers
from portway.host.gate.caller_assertions import CallerAssertions
from portway.host.gate.callers import NOBODY, Caller, Callers
from portway.host.gate.path_access import ENDPOINT, PathAccess
from portway.host.gate.protected_app import ProtectedApp, announced_scopes
from portway.host.gate.reply_memory import ReplyMemory
from portway.host.gate.upstream_tokens import Header, UpstreamTokens
from portway.host.public_address import PublicAddress
from portway.host.routing_table import App, AppLimits, AppPolicies, InstanceAddress, Table
from portway.http.asgi import Scope
from portway.http.cors import Cors, is_origin
from portway.http.host_and_origin import Guard
from portway.http.http_client import HttpClient
from portway.http.places import Places
from portway.oauth.resource_metadata import WELL_KNOWN
from portway.policy.groups import Groups
from portway.policy.policies import Policies
from portway.protocol.errors import REFUSED, RpcError

_KNOWN_HOSTS = 1024  # Host values whose route is remembered until the next table


class Backend:
    """An instance, the HTTP client for it and the number of calls it is busy with."""

    def __init__(self, instance: InstanceAddress, host: str) -> None:
        """`host` is the name that the instance's requests carry."""
        self.instance = instance
        self.origins = (b"http://" + host.encode(), b"https://" + host.encode())  # as the app writes its own URLs
        self.client = HttpClient(instance.address, host)
        self.in_flight = 0
        self.sessions: int | None = None  # that were opened there and not ended; None if an earlier gate knows it


class Route:
    """An app as the gate serves it. It is kept from one table to the next, with its counts of calls."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.release = 0
        self.hostname = b""  # below the host's domain; its instances know no other
        self.hosts: frozenset[bytes] = frozenset()  # custom domains
        self.access: Access = "gate"
        self.path_access: PathAccess | None = None  # of an app with routes
        self.foreign = False  # its server is not Portway's
        self.authorization: Header | None = None  # the app's own token, for its instances
        self.assertions: CallerAssertions | None = None  # what it is told of its callers
        self.policies: Policies | None = None  # of an app that has some
        self.groups: Groups | None = None  # of its callers
        self._policies = AppPolicies()  # of which these two were made
        self.login: ProtectedApp | None = None  # where callers log in
        self.cors = Cors()
        self.guards: dict[Access, Guard] = {}
        self.state = "stopped"
        self.endpoint = "/mcp"  # of its instances
        self.own_paths: tuple[str, ...] = ()  # of that endpoint, where it is no other's: MCP is there, too
        self.limits = AppLimits()
        self.calls, self.streams, self.detached = Places(), Places(), Places()
        self.reply_memory = ReplyMemory()
        self.backends: list[Backend] = []  # the instances for new calls
        self.pinned: list[Backend] = []  # instances of the release before, for the sessions that are open there
        self.instances: dict[str, Backend] = {}  # by id, the draining ones too
        self.changed = asyncio.Event()  # set, and replaced, when the next table comes

    def update(
        self,
        app: App,
        hostname: str,
        backends: dict[str, Backend],
        tokens: UpstreamTokens,
        login: ProtectedApp | None,
    ) -> None:
        self.login = login
        self.hostname, self.hosts = hostname.encode(), frozenset(host.lower().encode() for host in app.hosts)
        self.authorization = tokens.header(app, self.authorization)
        self.release, self.state, self.limits = app.release, app.state, app.limits
        self.access = app.access
        self.path_access = PathAccess(app) if app.routes else None
        self.cors = Cors(filter(is_origin, app.origins))  # an older host has taken any text
        if app.policies != self._policies:
            self._policies = given = app.policies
            self.policies = Policies(given.rules, given.tools, given.off, self.policies) or None
            self.groups = Groups(given.groups_claim, given.groups) if given.groups else None
        self.endpoint, self.foreign = app.path, app.foreign
        own = app.path.rstrip("/")
        self.own_paths = (own, f"{own}/") if own and own not in ENDPOINT else ()
        self.backends = [backends[instance.id] for instance in app.instances]
        self.pinned = [backends[instance.id] for instance in app.pinned]
        current = {backend.instance.id: backend for backend in (*self.backends, *self.pinned)}
        self.instances = {each: backends[each] for each in self.instances if each in backends} | current
        self.changed.set()
        self.changed = asyncio.Event()

    def access_of(self, raw_path: bytes) -> Access:
        """Return who may ask for a path of the app's host name."""
        return self.access if self.path_access is None else self.path_access.of(raw_path)

    def objection(self, caller: Caller, raw_path: bytes = b"/mcp") -> RpcError | None:
        """Return why a request of `caller` for a path must end, None if it may go on."""
        if self.state == "removed":
            return RpcError(REFUSED, f"The app {self.name!r} has been removed from this host.", status=401)
        if not caller.app and self.access_of(raw_path) == "gate":
            return RpcError(REFUSED, f"The app {self.name!r} takes only callers with a token now.", status=401)
        return caller.revoked

    def close(self) -> None:
        """Mark the app as removed and wake the calls that wait for it."""
        self.backends, self.pinned, self.state = [], [], "removed"
        self.changed.set()

    def takes_sessions(self, backend: Backend | None) -> bool:
        """Whether an instance gets the new calls of the sessions that are open there."""
        return backend in self.backends or backend in self.pinned

    def instance_for(self, instance: str, token: bytes) -> Backend | None:
        """Return the instance for a session's new calls: its own; if that takes none, always the same other one."""
        backends = self.backends
        for backend in (*backends, *self.pinned):
            if backend.instance.id == instance:
                return backend
        return backends[crc32(token) % len(backends)] if backends else None

    def pick(self, tried: Iterable[Backend]) -> Backend | None:
        """Return the least busy instance that was not tried yet, None when there is none."""
        backends = self.backends
        if len(backends) == 1 and not tried:
            return backends[0]
        return min((b for b in backends if b not in tried), key=lambda backend: backend.in_flight, default=None)


class Routes:
    """A routing table compiled for look-up by host, path and token."""

    def __init__(self, tokens: UpstreamTokens | None = None, assertion_key: AssertionKey | None = None) -> None:
        self._tokens = tokens or UpstreamTokens()
        self.assertion_key = assertion_key or AssertionKey(b"")
        self.version = -1
        self.guard = self._for_any_page = Guard()
        self.apps: dict[str, Route] = {}
        self.backends: dict[str, Backend] = {}  # by id: those of the table, and those that are draining
        self.paths: dict[str, Route] = {}  # of the host's own name
        self._names: dict[bytes, Route] = {}
        self._suffix = b""
        self.hosts: dict[bytes, tuple[bool, Route | None]] = {}  # `by_host` of Host values that the guard let pass
        self.callers = Callers()
        self.logins = AccessTokenCallers()

    def replace(self, table: Table) -> None:
        """Use `table` from now on; calls in flight are not disturbed."""
        backends = {each: backend for each, backend in self.backends.items() if backend.in_flight}
        for name, instance in (
            (app.name, instance) for app in table.apps.values() for instance in (*app.instances, *app.pinned)
        ):
            known = self.backends.get(instance.id)
            if known is None or known.instance != instance:
                known = Backend(instance, f"{name}.{table.domain}")
                known.sessions = None if self.version < 0 else 0
            backends[instance.id] = known
        self.backends = backends
        apps = {name: self.apps.get(name) or Route(name) for name in table.apps}
        address = PublicAddress(table.url, table.domain)
        for name, route in apps.items():
            app = table.apps[name]
            urls = address.endpoints(name, app.hosts) if app.auth else {}
            login = self.logins.protect(name, app.auth, urls, announced_scopes(app))
            route.update(app, f"{name}.{table.domain}", backends, self._tokens, login)
            meant = app.assertion
            route.assertions = None if meant is None else CallerAssertions(self.assertion_key, meant)
        for name in self.apps.keys() - apps.keys():
            self.apps[name].close()
            self.logins.protect(name, None, {})
        domain = table.domain.lower()
        names = [domain, f"*.{domain}", *(host for app in table.apps.values() for host in app.hosts)]
        self.guard = Guard(names)
        self._for_any_page = self.guard.for_pages(any_page=True)
        for route in apps.values():
            strict = self.guard.for_pages(route.cors, local_pages=False)
            route.guards = {"gate": self.guard.for_pages(route.cors), "public": strict, "app": strict}
        self.apps, self.version = apps, table.version
        self.paths = {path: route for name, route in apps.items() for path in (f"/{name}/mcp", f"/{name}/mcp/")}
        self._suffix = b"." + domain.encode()
        self._names = {host.lower().encode(): apps[name] for name, app in table.apps.items() for host in app.hosts}
        self._names |= {name.lower().encode() + self._suffix: route for name, route in apps.items()}
        self.hosts = {}

    @property
    def complete(self) -> bool:
        """Whether a table and the tokens have been read; before, an unknown token or app may be a good one."""
        return self.version >= 0 and self.callers.known

    def guard_of(self, scope: Scope, fields: Mapping[bytes, bytes]) -> Guard:
        """Return the guard for a request of a web page: the app's, which knows its pages, else the host's."""
        if b"origin" not in fields:
            return self.guard
        by_name, route = self._find(fields.get(b"host", b""))
        if not by_name:
            route = self.paths.get(scope["path"])
        if scope["path"].startswith(WELL_KNOWN) and (not by_name or (route is not None and route.login is not None)):
            return self._for_any_page  # metadata is for everybody
        if route is None:
            return self.guard
        if not by_name or scope["path"] in ENDPOINT or scope["path"] in route.own_paths:
            return route.guards[route.access]
        access = route.access_of(scope["raw_path"])
        return self._for_any_page if access == "app" else route.guards[access]

    def by_host(self, host: bytes) -> tuple[bool, Route | None]:
        """Return whether a Host value is the name of an app, and its route (None when there is no such app)."""
        found = self.hosts.get(host)
        if found is None:
            found = self._find(host)
            if len(self.hosts) < _KNOWN_HOSTS:
                self.hosts[host] = found
        return found

    def _find(self, host: bytes) -> tuple[bool, Route | None]:
        name = host.partition(b":")[0].lower().rstrip(b".")
        route = self._names.get(name)
        return (route is not None or name.endswith(self._suffix), route)

    def has_name(self, name: bytes) -> bool:
        """Return whether a host name, in lower case, is the host's or that of an app."""
        return name in self._names or name == self._suffix[1:]

    def caller(self, route: Route | None, authorization: bytes | None, access: Access) -> Caller | None:
        """Return who asks `route` for a path of that `access`; None when they may not, or there is no such app."""
        caller = None
        if authorization is not None and not (route is not None and route.access == access == "app"):
            caller = self.callers.by_header.get(authorization)
            if caller is None and access == "gate":
                caller = self.logins.known.get(("" if route is None else route.name, authorization))
            caller = caller or self.callers.find(authorization)
        if route is None or (caller is not None and caller.app == route.name):
            return caller if route is not None else None
        if caller is not None and access == "app":  # another app's token, which this one must not see
            return None
        return NOBODY if access != "gate" else None
