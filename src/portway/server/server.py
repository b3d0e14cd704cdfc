"""The server an author writes: functions in, an MCP server out."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from portway.server.components import Prompt, Resource, Table, Tool, ToolAnnotations, listing
from portway.server.context import Context
from portway.server.errors import RegistrationError
from portway.server.plan import compile_arguments, compile_plan
from portway.server.uris import UriPattern, check_uri

if TYPE_CHECKING:
    from portway.transport.http import App

F = TypeVar("F", bound=Callable[..., Any])
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,128}\Z")


class Server:
    """An MCP server: register functions with its decorators, then `run()` it.

    `name` and `version` are what clients see; `instructions` tell a model what the server is for.
    """

    def __init__(
        self, name: str = "server", *, version: str = "0.1.0", title: str | None = None, instructions: str | None = None
    ) -> None:
        self.name = name
        self.version = version
        self.title = title
        self.instructions = instructions
        self.tools: Table[Tool] = Table("tool", "tools")
        self.resources: Table[Resource] = Table("resource", "resources")
        self.templates: Table[Resource] = Table("resource template", "resourceTemplates")
        self.prompts: Table[Prompt] = Table("prompt", "prompts")

    @overload
    def tool(self, fn: F, /) -> F: ...
    @overload
    def tool(
        self,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        scopes: Iterable[str] = (),
    ) -> Callable[[F], F]: ...
    def tool(
        self,
        fn: F | None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: ToolAnnotations | None = None,
        scopes: Iterable[str] = (),
    ) -> F | Callable[[F], F]:
        """Register a function as a tool, bare or called; the function itself is returned unchanged.

        The signature gives the input schema, the return annotation the output schema, the docstring the description.
        A `def` runs on a thread, an `async def` on the event loop. A caller without all of `scopes` is refused.
        Raises RegistrationError for a signature no schema can be made from.
        """

        def register(fn: F) -> F:
            plan = compile_plan(fn, context_type=Context, name=name)
            key = _component_name("tool", plan.name)
            entry = listing(
                {
                    "name": key,
                    "title": title,
                    "description": description or plan.description,
                    "annotations": annotations,
                },
                inputSchema=plan.input_schema,
                outputSchema=plan.output_schema,
            )
            self.tools.add(key, Tool(key, plan, _scopes(scopes), entry))
            return fn

        return register if fn is None else register(fn)

    def resource(
        self,
        uri: str,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        scopes: Iterable[str] = (),
    ) -> Callable[[F], F]:
        """Register a function as the resource at `uri`; with `{variables}` in it, as a resource template.

        The function returns `str`, `bytes`, or what JSON can hold. `{name}` matches one path segment and `{+name}` a
        path, and both become the parameters of that name (RFC 6570).
        """
        if callable(uri):
            raise RegistrationError('@server.resource needs its URI: @server.resource("config://settings").')

        def register(fn: F) -> F:
            plan = compile_arguments(fn, context_type=Context)
            pattern = UriPattern(uri) if "{" in uri else None
            expected = pattern.names if pattern else []
            declared = [argument.name for argument in plan.listed]
            missing = [a.name for a in plan.listed if a.required and a.name not in expected]
            if missing or not set(expected) <= set(declared):
                raise RegistrationError(
                    f"The resource {uri!r} and its function {plan.name} disagree: "
                    f"the URI names {expected}, the function {declared}."
                )
            key = "uri" if pattern is None else "uriTemplate"
            fields = {
                key: uri,
                "name": name or plan.name,
                "title": title,
                "description": description or plan.description,
                "mimeType": mime_type,
            }
            if pattern is None:
                check_uri(uri)
            table = self.resources if pattern is None else self.templates
            table.add(uri, Resource(uri, plan, mime_type, _scopes(scopes), pattern, listing(fields)))
            return fn

        return register

    @overload
    def prompt(self, fn: F, /) -> F: ...
    @overload
    def prompt(
        self,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        scopes: Iterable[str] = (),
    ) -> Callable[[F], F]: ...
    def prompt(
        self,
        fn: F | None = None,
        /,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        scopes: Iterable[str] = (),
    ) -> F | Callable[[F], F]:
        """Register a function as a prompt, bare or called; it returns a string, a `Message`, or a list of either."""

        def register(fn: F) -> F:
            plan = compile_arguments(fn, context_type=Context, name=name)
            key = _component_name("prompt", plan.name)
            arguments = [
                {"name": a.name, "required": a.required} | ({"description": a.description} if a.description else {})
                for a in plan.listed
            ]
            entry = listing(
                {
                    "name": key,
                    "title": title,
                    "description": description or plan.description,
                    "arguments": arguments or None,
                }
            )
            self.prompts.add(key, Prompt(key, plan, _scopes(scopes), entry))
            return fn

        return register if fn is None else register(fn)

    def info(self) -> dict[str, str]:
        """The `Implementation` clients see."""
        info = {"name": self.name, "version": self.version}
        return info | {"title": self.title} if self.title else info

    def asgi(self) -> "App":
        """Give this server as an ASGI application, to mount in any other or to give to any ASGI server."""
        from portway.transport.http import app

        return app(self)

    def run(
        self, *, transport: str | None = None, host: str | None = None, port: int | None = None, workers: int = 1
    ) -> None:
        """Serve until stopped; `portway run` describes the arguments and how the transport is chosen without them."""
        from portway.transport.run import run

        run(self, transport=transport, host=host, port=port, workers=workers)


def _scopes(scopes: Iterable[str]) -> frozenset[str]:
    if isinstance(scopes, str):
        raise RegistrationError(f"scopes must be a list, as in scopes=[{scopes!r}].")
    return frozenset(scopes)


def _component_name(kind: str, name: str) -> str:
    if not _NAME.match(name):
        raise RegistrationError(
            f"{name!r} cannot name a {kind}: use 1 to 128 letters, digits, '_', '-' or '.', and pass it as name=."
        )
    return name
