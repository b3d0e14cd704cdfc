"""Registration: what the decorators and methods of an author's server do."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Never, Self, TypeVar, Unpack, get_args, overload

import msgspec

from portway.exceptions import RegistrationError
from portway.plans.plan import Plan, compile_plan
from portway.server.components import CacheScope, Icon, OnDuplicate, Prompt, Resource, Table, Tool, listing
from portway.server.context import Context
from portway.server.home import Home
from portway.server.middleware import Middleware, checked
from portway.server.options import PromptOptions, ResourceOptions, ToolOptions, refuse_unknown
from portway.server.uri_templates import UriPattern, check_uri
from portway.sessions.changes import Change, Changes

if TYPE_CHECKING:
    from portway.asking.questions import Asked

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M", bound=Middleware)
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,128}\Z")


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
        **unknown: Never,
    ) -> None:
        refuse_unknown("Server()", unknown, BaseServer.__init__.__kwdefaults__ or ())
        if page_size is not None and not (isinstance(page_size, int) and page_size >= 1):
            raise ValueError(f"page_size must be at least 1, not {page_size!r}.")
        _refuse_other("on_duplicate", on_duplicate, get_args(OnDuplicate))
        _refuse_other("sessions", sessions, ("auto", True, False))
        self.name = name
        self.version = version
        self.title = title
        self.instructions = instructions
        self.description = description
        self.website_url = website_url
        self.icons = icons
        self.sessions = sessions
        self.page_size = page_size
        self.cache = cache_hints(cache_ttl, cache_scope)
        self.changes = Changes()
        self.home = Home(name, None if lifespan is None else partial(lifespan, self))
        self.tools: Table[Tool] = Table("tool", "tools", "tools", self.changes, on_duplicate)
        self.resources: Table[Resource] = Table("resource", "resources", "resources", self.changes, on_duplicate)
        self.templates: Table[Resource] = Table(
            "resource template", "resourceTemplates", "resources", self.changes, on_duplicate
        )
        self.prompts: Table[Prompt] = Table("prompt", "prompts", "prompts", self.changes, on_duplicate)
        self._mounted: list[BaseServer] = []
        listing(self.info())  # refuses what clients could not read

    @overload
    def tool(self, fn: F, /) -> F: ...
    @overload
    def tool(self, /, **options: Unpack[ToolOptions]) -> Callable[[F], F]: ...
    def tool(self, fn: F | None = None, /, **options: Unpack[ToolOptions]) -> F | Callable[[F], F]:
        """Register a function as a tool, bare or called; the function itself is returned unchanged.

        The signature gives the input schema, the return annotation the output schema, the docstring the description;
        `input_schema` and `output_schema` put others in their place, which are served as they are. A `def` runs on a
        thread, an `async def` on the event loop. A caller without all of `scopes` is refused.
        Raises RegistrationError for a signature no schema can be made from.
        """
        refuse_unknown("@server.tool", options, ToolOptions.__annotations__)
        _refuse_text("@server.tool", fn)

        def register(fn: F) -> F:
            plan = compile_plan(
                fn,
                context_type=Context,
                name=options.get("name"),
                input_schema=options.get("input_schema"),
                output_schema=options.get("output_schema"),
            )
            questions = _questions(plan, options.get("asks", False))
            key = _component_name("tool", plan.name)
            entry = listing(
                {
                    "name": key,
                    "title": options.get("title"),
                    "description": options.get("description") or plan.description,
                    "annotations": options.get("annotations"),
                    "icons": options.get("icons") or None,
                    "_meta": options.get("meta"),
                },
                inputSchema=plan.input_schema,
                outputSchema=plan.output_schema,
            )
            headers: tuple[Any, ...] = ()
            if b"x-mcp-header" in plan.input_schema or b"\\u00" in plan.input_schema:  # an explicit one may spell it so
                from portway.plans import header_params

                headers = header_params.compile_params(plan.input_schema)
            self.tools.add(
                Tool(
                    key=key,
                    scopes=_scopes(options),
                    listing=entry,
                    homes=(self.home,),
                    asks=options.get("asks", False) or bool(questions),
                    timeout=options.get("timeout"),
                    plan=plan,
                    questions=questions,
                    headers=headers,
                )
            )
            return fn

        return register if fn is None else register(fn)

    def resource(self, uri: str, **options: Unpack[ResourceOptions]) -> Callable[[F], F]:
        """Register a function as the resource at `uri`; with `{variables}` in it, as a resource template (RFC 6570).

        The function returns `str`, `bytes`, or what JSON can hold. The variables become the parameters of their names:
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
    def prompt(self, fn: F, /) -> F: ...
    @overload
    def prompt(self, /, **options: Unpack[PromptOptions]) -> Callable[[F], F]: ...
    def prompt(self, fn: F | None = None, /, **options: Unpack[PromptOptions]) -> F | Callable[[F], F]:
        """Register a function as a prompt, bare or called; it returns a string, a `Message`, or a list of either."""
        refuse_unknown("@server.prompt", options, PromptOptions.__annotations__)
        _refuse_text("@server.prompt", fn)

        def register(fn: F) -> F:
            from portway.server.completion import automatic

            plan = compile_plan(fn, context_type=Context, name=options.get("name"), result=False)
            questions = _questions(plan, options.get("asks", False))
            key = _component_name("prompt", plan.name)
            arguments = [
                {"name": a.name, "required": a.required} | ({"description": a.description} if a.description else {})
                for a in plan.listed
            ]
            entry = listing(
                {
                    "name": key,
                    "title": options.get("title"),
                    "description": options.get("description") or plan.description,
                    "arguments": arguments or None,
                    "icons": options.get("icons") or None,
                    "_meta": options.get("meta"),
                }
            )
            self.prompts.add(
                Prompt(
                    key=key,
                    scopes=_scopes(options),
                    listing=entry,
                    homes=(self.home,),
                    asks=options.get("asks", False) or bool(questions),
                    timeout=options.get("timeout"),
                    plan=plan,
                    questions=questions,
                    completers=automatic(plan),
                )
            )
            return fn

        return register if fn is None else register(fn)

    def completion(self, of: str, argument: str) -> Callable[[F], F]:
        """Register what completes an `argument` of the prompt named, or of the resource template written, `of`.

        The function takes what the user has typed so far, and, if it has a second parameter, the arguments given
        already; it returns the values to offer. Arguments of a Literal, Enum or bool type complete by themselves.
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

        `call_next()` gives what the function returned, before it is encoded; the first registered is outermost.
        """
        self.home.middleware.append(checked(fn))
        return fn

    def add_file(self, uri: str, path: str | os.PathLike[str], **options: Unpack[ResourceOptions]) -> None:
        """Offer the file at `path` as the resource at `uri`; it is read anew for every request."""
        from portway.server import file_resources

        path = os.path.abspath(path)
        described = file_resources.described(path, options)
        self._add_resource(uri, file_resources.file_reader(path, described["mime_type"]), described)

    def add_folder(self, uri: str, path: str | os.PathLike[str], **options: Unpack[ResourceOptions]) -> None:
        """Offer the files under `path` at a template such as "docs://{+path}"; nothing outside is reachable."""
        from portway.server import file_resources

        path = os.path.abspath(path)
        self._add_resource(uri, file_resources.folder_reader(uri, path), options)
        self.completion(uri, self.templates.items[uri].plan.listed[0].name)(file_resources.path_completer(path))

    def mount(self, other: "BaseServer", prefix: str | None = None, **unknown: Never) -> None:
        """Offer all that `other` has now: its tools and prompts as `prefix_name`, its resources under their URIs.

        They keep its middleware, inside this server's, and its lifespan. Raises RegistrationError.
        """
        refuse_unknown("server.mount()", unknown, ("prefix",))
        if prefix and not _NAME.match(prefix):
            raise RegistrationError(f"{prefix!r} cannot be a prefix: use letters, digits, '_', '-' or '.'.")
        if other._holds(self):
            raise RegistrationError(f"{self.name} cannot be mounted in itself.")

        def named(key: str) -> str:
            return _component_name("tool", f"{prefix}_{key}") if prefix else key

        for tool in list(other.tools.items.values()):
            self.tools.add(tool.mounted(named(tool.key), self.home))
        for prompt in list(other.prompts.items.values()):
            self.prompts.add(prompt.mounted(named(prompt.key), self.home))
        for table, theirs in ((self.resources, other.resources), (self.templates, other.templates)):
            for resource in list(theirs.items.values()):
                table.add(resource.mounted(resource.key, self.home))
        if other not in self._mounted:
            self._mounted.append(other)
            other.changes.listen(self._pass_on)

    def remove_tool(self, name: str) -> None:
        """Take a tool away; clients that listen are told. Raises KeyError."""
        self.tools.remove(name)

    def remove_resource(self, uri: str) -> None:
        """Take a resource or a template away; clients that listen are told. Raises KeyError."""
        (self.templates if uri in self.templates.items else self.resources).remove(uri)

    def remove_prompt(self, name: str) -> None:
        """Take a prompt away; clients that listen are told. Raises KeyError."""
        self.prompts.remove(name)

    def resource_updated(self, uri: str) -> None:
        """Tell the clients that have subscribed to the resource at `uri` that it has changed. From any thread."""
        self.changes.publish(Change("resource", uri))

    def find_resource(self, uri: str) -> tuple[Resource | None, Mapping[str, object]]:
        """The resource at `uri` and the values of its template's variables."""
        resource = self.resources.items.get(uri)
        if resource is not None:
            return resource, {}
        for template in tuple(self.templates.items.values()):  # another thread may add one
            assert template.pattern is not None
            values = template.pattern.match(uri)
            if values is not None:
                return template, values
        return None, {}

    def info(self) -> dict[str, Any]:
        """The `Implementation` clients see."""
        info = {
            "name": self.name,
            "version": self.version,
            "title": self.title,
            "description": self.description,
            "websiteUrl": self.website_url,
            "icons": self.icons or None,
        }
        return {key: value for key, value in info.items() if value is not None}

    def _add_resource(self, uri: str, fn: Callable[..., Any], options: ResourceOptions) -> None:
        plan = compile_plan(fn, context_type=Context, result=False)
        questions = _questions(plan, options.get("asks", False))
        pattern = UriPattern(uri) if "{" in uri else None
        if pattern is None:
            check_uri(uri)
        _match_parameters(uri, pattern, plan)
        fields = {
            "uri" if pattern is None else "uriTemplate": uri,
            "name": options.get("name") or plan.name,
            "title": options.get("title"),
            "description": options.get("description") or plan.description,
            "mimeType": options.get("mime_type"),
            "annotations": options.get("annotations"),
            "size": options.get("size"),
            "icons": options.get("icons") or None,
            "_meta": options.get("meta"),
        }
        cache = None
        if "cache_ttl" in options or "cache_scope" in options:
            cache = cache_hints(options.get("cache_ttl", 0), options.get("cache_scope", "private"))
        resource = Resource(
            key=uri,
            scopes=_scopes(options),
            listing=listing(fields),
            homes=(self.home,),
            asks=options.get("asks", False) or bool(questions),
            timeout=options.get("timeout"),
            plan=plan,
            questions=questions,
            mime_type=options.get("mime_type"),
            pattern=pattern,
            cache=cache,
        )
        if pattern is None:
            self.resources.add(resource)
            return
        from portway.server.completion import automatic

        self.templates.add(msgspec.structs.replace(resource, completers=automatic(plan)))

    def _holds(self, other: "BaseServer") -> bool:
        return self is other or any(mounted._holds(other) for mounted in self._mounted)

    def _pass_on(self, change: Change) -> None:
        if change.kind == "resource":  # their lists were copied, so only what they say of a resource concerns us
            self.changes.publish(change)


def cache_hints(ttl: float, scope: CacheScope) -> bytes:
    """The members that tell a modern client how long and for whom it may keep a result (server/utilities/caching)."""
    if not (isinstance(ttl, int | float) and 0 <= ttl < math.inf) or scope not in get_args(CacheScope):
        raise ValueError('cache_ttl is a number of seconds from 0, cache_scope is "public" or "private".')
    return b',"ttlMs":%d,"cacheScope":%b' % (round(ttl * 1000), msgspec.json.encode(scope))


def _questions(plan: Plan, asks: bool) -> "tuple[Asked, ...]":
    """Return the questions that parameters are; raise RegistrationError for those, or `asks`, that cannot be."""
    if asks and not plan.is_async:
        raise RegistrationError(
            f"{plan.name}: asks=True needs an async def; a def can only ask by parameters: Annotated[str, Ask(…)]."
        )
    if not plan.asked:
        return ()
    from portway.asking.questions import questions_of

    return questions_of(plan.asked)


def _match_parameters(uri: str, pattern: UriPattern | None, plan: Plan) -> None:
    expected = pattern.names if pattern else []
    declared = [argument.name for argument in plan.listed]
    missing = [argument.name for argument in plan.listed if argument.required and argument.name not in expected]
    if missing or not set(expected) <= set(declared):
        raise RegistrationError(
            f"The resource {uri!r} and its function {plan.name} disagree: "
            f"the URI names {expected}, the function {declared}."
        )
    required = [a.name for a in plan.listed if a.required and pattern is not None and a.name in pattern.optional]
    if required:
        raise RegistrationError(
            f"The resource {uri!r} may come without {required[0]!r}: give that parameter of {plan.name} a default."
        )


def _scopes(options: ToolOptions | ResourceOptions | PromptOptions) -> frozenset[str]:
    scopes = options.get("scopes") or ()
    if isinstance(scopes, str):
        raise RegistrationError(f"scopes must be a list, as in scopes=[{scopes!r}].")
    return frozenset(scopes)


def _refuse_text(decorator: str, fn: object) -> None:
    if isinstance(fn, str):
        raise RegistrationError(f"{decorator} takes a name by its keyword: {decorator}(name={fn!r}).")


def _refuse_other(keyword: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise ValueError(f"{keyword} is one of {', '.join(map(repr, known))}, not {value!r}.")


def _component_name(kind: str, name: str) -> str:
    if not isinstance(name, str) or not _NAME.match(name):
        raise RegistrationError(
            f"{name!r} cannot name a {kind}: use 1 to 128 letters, digits, '_', '-' or '.', and pass it as name=."
        )
    return name
