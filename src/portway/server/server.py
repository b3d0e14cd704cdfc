"""What an author calls on a server: its decorators, and what adds, mounts and removes components."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Literal, Never, Self, TypeVar, Unpack, get_args, overload

from portway.exceptions import RegistrationError
from portway.oauth.settings import OAuth, same_resource
from portway.protocol.uris import normalised
from portway.server import registration
from portway.server.components import CacheScope, Component, Icon, OnDuplicate, Prompt, Resource, Table, Tool
from portway.server.home import Home
from portway.server.middleware import Middleware, checked
from portway.server.options import PromptOptions, ResourceOptions, ToolOptions, refuse_unknown, told_exceptions
from portway.sessions.changes import Change, Changes

F = TypeVar("F", bound=Callable[..., Any])
_MAX_URI = 64 * 1024  # characters; no longer one is taken apart
M = TypeVar("M", bound=Middleware)
Named = TypeVar("Named", ToolOptions, PromptOptions)


class BaseServer:
    """A server without its transports; `portway.Server` (app.py) adds them and describes the arguments."""

    def __init__(
        self,
        name: str = "server",
        *,
        version: str = "0.1.0",
        title: str | None = None,
        instructions: str | None = None,
        description: str | None = None,
        website_url: str | None = None,
        icons: Sequence[Icon] = (),
        sessions: bool | Literal["auto"] = "auto",
        lifespan: Callable[[Self], AbstractAsyncContextManager[Any]] | None = None,
        page_size: int | None = None,
        cache_ttl: float = 0,
        cache_scope: CacheScope = "private",
        on_duplicate: OnDuplicate = "error",
        tells: Iterable[type[Exception]] = (),
        auth: OAuth | Sequence[OAuth] | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("Server()", unknown, BaseServer.__init__.__kwdefaults__ or ())
        if page_size is not None and not (isinstance(page_size, int) and page_size >= 1):
            raise ValueError(f"page_size must be at least 1, not {page_size!r}.")
        _refuse_other("on_duplicate", on_duplicate, get_args(OnDuplicate))
        _refuse_other("sessions", sessions, ("auto", True, False))
        self.name = name
        self.version = version
        self.instructions = instructions
        self.sessions = sessions
        self.auth = _providers(auth)
        self.page_size = page_size
        self.info = registration.encode_metadata(
            {
                "name": name,
                "version": version,
                "title": title,
                "description": description,
                "websiteUrl": website_url,
                "icons": icons or None,
            }
        )
        """The JSON of the `Implementation` that clients see."""
        self.cache = registration.cache_hints(cache_ttl, cache_scope)
        self.changes = Changes()
        self.home = Home(name, None if lifespan is None else partial(lifespan, self), tells=told_exceptions(tells))
        self.tools: Table[Tool] = Table("tool", "tools", "tools", self.changes, on_duplicate)
        self.resources: Table[Resource] = Table("resource", "resources", "resources", self.changes, on_duplicate)
        self.templates: Table[Resource] = Table(
            "resource template", "resourceTemplates", "resources", self.changes, on_duplicate
        )
        self.prompts: Table[Prompt] = Table("prompt", "prompts", "prompts", self.changes, on_duplicate)
        self._mounted: list[BaseServer] = []
        self._normal: tuple[int, Mapping[str, Resource]] = (0, {})  # of an edition of the resources

    @overload
    def tool(self, fn: F, /, **options: Unpack[ToolOptions]) -> F: ...
    @overload
    def tool(self, name: str | None = None, /, **options: Unpack[ToolOptions]) -> Callable[[F], F]: ...
    def tool(self, fn: F | str | None = None, /, **options: Unpack[ToolOptions]) -> F | Callable[[F], F]:
        """Register a function as a tool and return it unchanged: `@server.tool`, `@server.tool("name", …)`.

        The signature gives the input schema, the return annotation the output schema, the docstring the description;
        `input_schema` and `output_schema` replace them and are served as given. A `def` runs on a thread, an
        `async def` on the event loop. A caller without all of `scopes` is refused.
        Raises RegistrationError for a signature that no schema can describe.
        """
        refuse_unknown("@server.tool", options, ToolOptions.__annotations__)
        if isinstance(fn, str):
            options, fn = _named("@server.tool", fn, options), None

        def register(fn: F) -> F:
            self.tools.add(registration.make_tool(fn, options, self.home))
            return fn

        return register if fn is None else register(fn)

    def resource(self, uri: str, **options: Unpack[ResourceOptions]) -> Callable[[F], F]:
        """Register a function as the resource at `uri`; with `{variables}` in it, as a resource template (RFC 6570).

        The function returns `str`, `bytes`, or what JSON can hold. Each variable goes to the parameter of its name:
        `{name}` matches one path segment, `{+name}` a path, `{?name}` a query parameter that may be absent.
        """
        if not isinstance(uri, str):
            raise RegistrationError('@server.resource needs its URI: @server.resource("config://settings").')
        refuse_unknown("@server.resource", options, ResourceOptions.__annotations__)

        def register(fn: F) -> F:
            self._add_resource(uri, fn, options)
            return fn

        return register

    @overload
    def prompt(self, fn: F, /, **options: Unpack[PromptOptions]) -> F: ...
    @overload
    def prompt(self, name: str | None = None, /, **options: Unpack[PromptOptions]) -> Callable[[F], F]: ...
    def prompt(self, fn: F | str | None = None, /, **options: Unpack[PromptOptions]) -> F | Callable[[F], F]:
        """Register a function as a prompt; it returns a string, a `Message`, or a list of either."""
        refuse_unknown("@server.prompt", options, PromptOptions.__annotations__)
        if isinstance(fn, str):
            options, fn = _named("@server.prompt", fn, options), None

        def register(fn: F) -> F:
            self.prompts.add(registration.make_prompt(fn, options, self.home))
            return fn

        return register if fn is None else register(fn)

    def completion(self, of: str, argument: str) -> Callable[[F], F]:
        """Register a function that completes an `argument` of the prompt or resource template `of`.

        It takes the text typed so far and, if it has a second parameter, the arguments given already; it returns the
        values to offer. Arguments of a Literal, Enum or bool type need no function.
        """

        def register(fn: F) -> F:
            from portway.server.completion import compile_completion

            component = self.templates.items.get(of) or self.prompts.items.get(of)
            if component is None:
                raise RegistrationError(
                    f"There is no prompt or resource template {of!r} to complete; register it first."
                )
            if argument not in [listed.name for listed in component.plan.listed]:
                raise RegistrationError(f"{of!r} has no argument {argument!r} to complete.")
            component.completers[argument] = compile_completion(fn)
            return fn

        return register

    def middleware(self, fn: M, /) -> M:
        """Wrap every call of a tool, resource or prompt: `async def timed(ctx, call_next): return await call_next()`.

        `call_next()` returns what the function returned, not yet encoded. The first registered is outermost.
        """
        self.home.middleware.append(checked(fn))
        return fn

    def add_file(self, uri: str, path: str | os.PathLike[str], **options: Unpack[ResourceOptions]) -> None:
        """Offer the file at `path` as the resource at `uri`; it is read for every request."""
        from portway.server import file_resources

        path = os.path.abspath(path)
        described = file_resources.described(path, options)
        self._add_resource(uri, file_resources.file_reader(path, described["mime_type"]), described)

    def add_folder(self, uri: str, path: str | os.PathLike[str], **options: Unpack[ResourceOptions]) -> None:
        """Offer the files under `path` at a template such as "docs://{+path}"; no path leads outside."""
        from portway.server import file_resources
        from portway.server.completion import compile_completion

        path = os.path.abspath(path)
        folder = registration.make_resource(uri, file_resources.folder_reader(uri, path), options, self.home)
        folder.completers[folder.plan.listed[0].name] = compile_completion(file_resources.path_completer(path))
        self.templates.add(folder)

    def mount(self, other: "BaseServer", prefix: str | None = None, **unknown: Never) -> None:
        """Offer all that `other` has now: its tools and prompts as `prefix_name`, its resources under their URIs.

        They keep its lifespan and its middleware, which runs inside this server's. Raises RegistrationError, and adds
        nothing then.
        """
        refuse_unknown("server.mount()", unknown, ("prefix",))
        if prefix and not registration.NAME.match(prefix):
            raise RegistrationError(f"{prefix!r} cannot be a prefix: use letters, digits, '_', '-' or '.'.")
        if other._holds(self):
            raise RegistrationError(f"{self.name} cannot be mounted in itself.")

        def named(key: str) -> str:
            return registration.checked_name("tool", f"{prefix}_{key}") if prefix else key

        pairs: list[tuple[Table[Any], Table[Any]]] = [
            *((self.tools, other.tools), (self.prompts, other.prompts)),
            *((self.resources, other.resources), (self.templates, other.templates)),
        ]
        added: list[tuple[Table[Any], Component]] = []
        for table, theirs in pairs:
            for item in list(theirs.items.values()):
                key = item.key if isinstance(item, Resource) else named(item.key)
                added.append((table, item.mounted(key, self.home)))
                table.check(added[-1][1])
        for table, component in added:
            table.add(component)
        if other not in self._mounted:
            self._mounted.append(other)
            other.changes.listen(self._pass_on)

    def remove_tool(self, name: str) -> None:
        """Remove a tool and tell the clients that listen. Raises KeyError."""
        self.tools.remove(name)

    def remove_resource(self, uri: str) -> None:
        """Remove a resource or template and tell the clients that listen. Raises KeyError."""
        (self.templates if uri in self.templates.items else self.resources).remove(uri)

    def remove_prompt(self, name: str) -> None:
        """Remove a prompt and tell the clients that listen. Raises KeyError."""
        self.prompts.remove(name)

    def resource_updated(self, uri: str) -> None:
        """Tell the clients subscribed to the resource at `uri` that it has changed. Call it from any thread."""
        self.changes.publish(Change("resource", uri))

    def find_resource(self, uri: str) -> tuple[Resource | None, Mapping[str, object]]:
        """Return the resource at `uri`, None if there is none, and the values of its template's variables."""
        resource = self.resources.items.get(uri)
        if resource is not None:
            return resource, {}
        if len(uri) > _MAX_URI:
            return None, {}
        uri = normalised(uri)
        resource = self._resources_by_normal_uri().get(uri)
        if resource is not None:
            return resource, {}
        for template in tuple(self.templates.items.values()):  # another thread may add one
            assert template.pattern is not None
            values = template.pattern.match(uri)
            if values is not None:
                return template, values
        return None, {}

    def _resources_by_normal_uri(self) -> Mapping[str, Resource]:
        edition, found = self._normal
        if edition != self.resources.edition:
            edition = self.resources.edition
            found = {normalised(key): resource for key, resource in list(self.resources.items.items())}
            self._normal = edition, found
        return found

    def _add_resource(self, uri: str, fn: Callable[..., Any], options: ResourceOptions) -> None:
        resource = registration.make_resource(uri, fn, options, self.home)
        (self.resources if resource.pattern is None else self.templates).add(resource)

    def _holds(self, other: "BaseServer") -> bool:
        return self is other or any(mounted._holds(other) for mounted in self._mounted)

    def _pass_on(self, change: Change) -> None:
        if change.kind == "resource":  # its lists were copied, so their changes do not matter here
            self.changes.publish(change)


def _named(decorator: str, name: str, options: Named) -> Named:
    if options.get("name") is not None:
        raise RegistrationError(f"{decorator} has two names, {name!r} and {options['name']!r}; give one.")
    options["name"] = name
    return options


def _refuse_other(keyword: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise ValueError(f"{keyword} is one of {', '.join(map(repr, known))}, not {value!r}.")


def _providers(auth: OAuth | Sequence[OAuth] | None) -> tuple[OAuth, ...]:
    given = auth if isinstance(auth, list | tuple) else () if auth is None else (auth,)
    for each in given:
        if not isinstance(each, OAuth):
            kind = type(each).__name__
            raise TypeError(f"auth= takes a portway.OAuth, not {kind}: OAuth(ISSUER, AUDIENCE), or set PORTWAY_TOKENS")
    return same_resource(given)
