"""The routing table in use: finds the app of a request, its caller and the instance that answers."""

import asyncio
from collections.abc import Iterable, Mapping
from zlib import crc32

from portway.host.gate.callers import NOBODY, Caller, Callers
from portway.host.gate.reply_memory import ReplyMemory
from portway.host.gate.upstream_tokens import Header, UpstreamTokens
from portway.host.routing_table import App, AppLimits, InstanceAddress, Table
from portway.http.cors import Cors
from portway.http.host_and_origin import Guard
from portway.http.http_client import HttpClient
from portway.http.places import Places
from portway.protocol.errors import REFUSED, RpcError

_KNOWN_HOSTS = 1024  # Host values whose route is remembered until the next table


ENDPOINT = ("/mcp", "/mcp/")


class Backend:
    """An instance, the HTTP client for it and the number of calls it is busy with."""

    def __init__(self, instance: InstanceAddress, host: str) -> None:
        """`host` is the name that the instance's requests carry."""
        self.instance = instance
        self.origins = (b"http://" + host.encode(), b"https://" + host.encode())  # as the app writes its own URLs
        self.client = HttpClient(instance.address, host)
        self.in_flight = 0


class Route:
    """An app as the gate serves it. It is kept from one table to the next, with its counts of calls."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.release = 0
        self.public = False  # the gate asks for no token
        self.checks_callers = False  # the app does, so it gets the credentials
        self.foreign = False  # its server is not Portway's
        self.authorization: Header | None = None  # the app's own token, for its instances
        self.cors = Cors()
        self.guard = Guard()
        self.state = "stopped"
        self.endpoint = "/mcp"  # of its instances
        self.limits = AppLimits()
        self.calls, self.streams, self.detached = Places(), Places(), Places()
        self.reply_memory = ReplyMemory()
        self.backends: list[Backend] = []  # the instances for new calls
        self.instances: dict[str, Backend] = {}  # by id: those, and the draining ones
        self.changed = asyncio.Event()  # set, and replaced, when the next table comes

    def update(self, app: App, backends: dict[str, Backend], tokens: UpstreamTokens) -> None:
        self.authorization = tokens.header(app, self.authorization)
        self.release, self.state, self.limits = app.release, app.state, app.limits
        self.public, self.checks_callers = app.access != "gate", app.access == "app"
        self.cors, self.endpoint, self.foreign = Cors(app.origins), app.path, app.foreign
        self.backends = [backends[instance.id] for instance in app.instances]
        current = {backend.instance.id: backend for backend in self.backends}
        self.instances = {each: backends[each] for each in self.instances if each in backends} | current
        self.changed.set()
        self.changed = asyncio.Event()

    def has_own(self, path: str) -> bool:
        """Whether the app alone judges who may ask for a path of its host name: all but the MCP endpoint."""
        return self.checks_callers and path not in ENDPOINT

    def objection(self, caller: Caller) -> RpcError | None:
        """Return why a request of `caller` must end, None if it may go on."""
        if self.state == "removed":
            return RpcError(REFUSED, f"The app {self.name!r} has been removed from this host.", status=401)
        if not caller.app and not self.public:
            return RpcError(REFUSED, f"The app {self.name!r} takes only callers with a token now.", status=401)
        return caller.revoked

    def close(self) -> None:
        """Mark the app as removed and wake the calls that wait for it."""
        self.backends, self.state = [], "removed"
        self.changed.set()

    def instance_for(self, instance: str, token: bytes) -> Backend | None:
        """Return the instance for a session's new calls: its own; if that takes none, always the same other one."""
        backends = self.backends
        for backend in backends:
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

    def __init__(self, tokens: UpstreamTokens | None = None) -> None:
        self._tokens = tokens or UpstreamTokens()
        self.version = -1
        self.guard = self._for_any_page = Guard()
        self.apps: dict[str, Route] = {}
        self.backends: dict[str, Backend] = {}  # by id: those of the table, and those that are draining
        self._paths: dict[str, Route] = {}
        self._names: dict[bytes, Route] = {}
        self._suffix = b""
        self.hosts: dict[bytes, tuple[bool, Route | None]] = {}  # `by_host` of Host values that the guard let pass
        self.callers = Callers()

    def replace(self, table: Table) -> None:
        """Use `table` from now on; calls in flight are not disturbed."""
        backends = {each: backend for each, backend in self.backends.items() if backend.in_flight}
        for name, instance in ((app.name, instance) for app in table.apps.values() for instance in app.instances):
            known = self.backends.get(instance.id)
            if known is None or known.instance != instance:
                known = Backend(instance, f"{name}.{table.domain}")
            backends[instance.id] = known
        self.backends = backends
        apps = {name: self.apps.get(name) or Route(name) for name in table.apps}
        for name, route in apps.items():
            route.update(table.apps[name], backends, self._tokens)
        for name in self.apps.keys() - apps.keys():
            self.apps[name].close()
        domain = table.domain.lower()
        names = [domain, f"*.{domain}", *(host for app in table.apps.values() for host in app.hosts)]
        self.guard, self._for_any_page = Guard(names), Guard(names, any_page=True)
        for route in apps.values():
            route.guard = Guard(names, route.cors, local_pages=not route.public)
        self.apps, self.version = apps, table.version
        self._paths = {path: route for name, route in apps.items() for path in (f"/{name}/mcp", f"/{name}/mcp/")}
        self._suffix = b"." + domain.encode()
        self._names = {name.lower().encode() + self._suffix: route for name, route in apps.items()}
        self._names |= {host.lower().encode(): apps[name] for name, app in table.apps.items() for host in app.hosts}
        self.hosts = {}

    @property
    def complete(self) -> bool:
        """Whether a table and the tokens have been read; before, an unknown token or app may be a good one."""
        return self.version >= 0 and self.callers.known

    def guard_of(self, path: str, fields: Mapping[bytes, bytes]) -> Guard:
        """Return the guard for a request of a web page: the app's, which knows its pages, else the host's."""
        if b"origin" not in fields:
            return self.guard
        by_name, route = self._find(fields.get(b"host", b""))
        if not by_name:
            route = self.by_path(path)
        elif route is not None and route.has_own(path):
            return self._for_any_page
        return self.guard if route is None else route.guard

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

    def by_path(self, path: str) -> Route | None:
        return self._paths.get(path)

    def caller(self, route: Route | None, authorization: bytes | None) -> Caller | None:
        """Return who calls `route`; None when they may not, or when `route` is None (there is no such app)."""
        caller = None
        if authorization is not None and not (route is not None and route.checks_callers):
            caller = self.callers.by_header.get(authorization) or self.callers.find(authorization)
        if route is None or (caller is not None and caller.app == route.name):
            return caller if route is not None else None
        return NOBODY if route.public else None
