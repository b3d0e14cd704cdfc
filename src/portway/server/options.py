"""The keywords of the decorators, and the error for a keyword that other frameworks have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from portway.exceptions import RegistrationError
from portway.plans.content import Annotations, JsonObject
from portway.plans.plan import GivenSchema
from portway.plans.sdk_content import SdkModel
from portway.server.components import CacheScope, Icon, ToolAnnotations

if TYPE_CHECKING:
    from portway.policy.rules import Limit


class _Shared(TypedDict, total=False):
    """The keywords of every decorator.

    `scopes` are what a caller's token needs, `timeout` is in seconds. `asks`: the function asks the client during the
    call (`ctx.elicit` and the like). `tells` are exceptions whose text the client is told, as it is of a ToolError.
    """

    name: str | None
    title: str | None
    description: str | None
    scopes: Iterable[str]
    icons: Sequence[Icon | SdkModel]
    meta: JsonObject | None
    asks: bool
    tells: Iterable[type[Exception]]
    timeout: float | None


class ToolOptions(_Shared, total=False):
    """The keywords of `@server.tool`; the schemas are served as given, in place of those from the signature.

    `arguments` limits what a schema cannot: `{"path": Limit(under="/data")}`. `rate` is how often each caller may call,
    as in "10/minute", `concurrency` how many calls each may have at a time. `confirm`: the user is shown the call
    and agrees before it runs; a text says how to ask, as in "Delete {name}?".
    """

    annotations: ToolAnnotations | SdkModel | None
    input_schema: GivenSchema | None
    output_schema: GivenSchema | None
    arguments: Mapping[str, Limit]
    rate: str
    concurrency: int
    confirm: bool | str


class PromptOptions(_Shared, total=False):
    """The keywords of `@server.prompt`."""


class ResourceOptions(_Shared, total=False):
    """The keywords of `@server.resource`; `size` is in bytes, `cache_ttl` in seconds."""

    mime_type: str | None
    annotations: Annotations | SdkModel | None
    size: int | None
    cache_ttl: float
    cache_scope: CacheScope


INSTEAD = {
    "annotations": "annotations= belongs to tools and resources",
    "app": "MCP Apps are not offered",
    "allowed_hosts": "set PORTWAY_ALLOWED_HOSTS",
    "auth_server_provider": "set PORTWAY_TOKENS",
    "cache_hints": "use cache_ttl= and cache_scope=",
    "debug": "set PORTWAY_LOG_LEVEL=debug",
    "dependencies": "list them in pyproject.toml",
    "event_store": "resuming needs none",
    "enabled": "use server.remove_tool() and similar methods",
    "exclude_args": "give the function a parameter of type Context, or bind the argument with functools.partial",
    "extensions": "protocol extensions are not offered",
    "host": "give it to run()",
    "json_response": "replies are JSON unless they stream",
    "list_page_size": "use page_size=",
    "log_level": "set PORTWAY_LOG_LEVEL",
    "mask_error_details": "raise ToolError for what the client is to read, or name exceptions in tells=",
    "middleware": "use @server.middleware",
    "namespace": "use prefix=",
    "on_duplicate_tools": "use on_duplicate=",
    "on_duplicate_resources": "use on_duplicate=",
    "on_duplicate_prompts": "use on_duplicate=",
    "path": "the endpoint is always /mcp",
    "port": "give it to run()",
    "request_state_security": "set PORTWAY_KEYS",
    "resource_security": "it is always on",
    "resources": "register each with @server.resource(uri)",
    "run_in_thread": "a def runs on a thread; make it async def to run it on the event loop",
    "security": "it is always on",
    "serializer": "return a ToolResult",
    "session_state_store": "keep a store of your own, by ctx.caller",
    "show_banner": "there is none",
    "stateless_http": "use sessions=False",
    "streamable_http_path": "the endpoint is always /mcp",
    "strict_input_validation": "annotate with the strict type",
    "structured_output": "leave out the return annotation to send none",
    "tags": "use meta=",
    "task": "tasks are not offered yet",
    "token_verifier": "set PORTWAY_TOKENS",
    "tool_serializer": "return a ToolResult",
    "tools": "register each with server.tool(fn)",
    "transport_security": "set PORTWAY_ALLOWED_HOSTS",
    "uri_template": "write the template as the URI",
    "uvicorn_config": "serve server.asgi() by a uvicorn of your own",
    "version": "give it to Server(), which all components share",
    "warn_on_duplicate_tools": 'use on_duplicate="warn"',
    "warn_on_duplicate_resources": 'use on_duplicate="warn"',
    "warn_on_duplicate_prompts": 'use on_duplicate="warn"',
}


def told_exceptions(tells: Iterable[type[Exception]]) -> tuple[type[Exception], ...]:
    """Return the exceptions that `tells=` names; raise RegistrationError for anything else."""
    named = tuple(tells) if isinstance(tells, Iterable) else (tells,)
    if isinstance(tells, type) or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in named):
        raise RegistrationError("tells is a tuple of exception types, as in tells=(ValueError,).")
    return named


def refuse_unknown(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError for a keyword that is not `known`; name the replacement if another framework has it."""
    known = tuple(known)
    for name in given:
        if name in known:
            continue
        if name in INSTEAD:
            raise TypeError(f"{where} has no {name}=: {INSTEAD[name]}.")
        raise TypeError(f"{where} has no {name}=; it takes: {', '.join(sorted(known))}.")
