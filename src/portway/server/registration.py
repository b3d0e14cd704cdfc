"""From a function and the keywords of its decorator to a component and its list entry: names, icons, annotations, cache
hints, limits, confirmation are checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import msgspec

from portway.exceptions import OutputError, RegistrationError, SettingError
from portway.oauth.settings import check_scopes
from portway.plans import faults
from portway.plans.content import Annotations, JsonObject
from portway.plans.output import encode_json
from portway.plans.plan import Plan, compile_plan
from portway.plans.sdk_content import to_wire
from portway.protocol.uris import normalised_template
from portway.server.components import CacheScope, Component, Icon, Prompt, Resource, Tool, ToolAnnotations
from portway.server.context import Context
from portway.server.home import Home
from portway.server.options import PromptOptions, ResourceOptions, ToolOptions, told_exceptions
from portway.server.uri_templates import UriPattern, check_uri

if TYPE_CHECKING:
    from portway.asking.questions import Asked
    from portway.policy.confirmation import Confirmation
    from portway.policy.tool_limits import ToolLimits

Options = ToolOptions | ResourceOptions | PromptOptions
_Kind = TypeVar("_Kind", bound=Component)
NAME = re.compile(r"[A-Za-z0-9_.\-]{1,128}\Z")


def make_tool(fn: Callable[..., Any], options: ToolOptions, home: Home) -> Tool:
    """Compile `fn` into a tool registered on `home`; raise RegistrationError."""
    plan = compile_plan(
        fn,
        context_type=Context,
        name=options.get("name"),
        input_schema=options.get("input_schema"),
        output_schema=options.get("output_schema"),
    )
    name = checked_name("tool", plan.name)
    schemas = b'"inputSchema":' + plan.input_schema
    if plan.output_schema is not None:
        schemas += b',"outputSchema":' + plan.output_schema
    headers: tuple[Any, ...] = ()
    if b"x-mcp-header" in plan.input_schema or b"\\u00" in plan.input_schema:  # an author's schema may escape it
        from portway.plans import x_mcp_header

        headers = x_mcp_header.compile_params(plan.input_schema)
    annotations = _checked_annotations(name, options.get("annotations"), ToolAnnotations)
    listing = _listing({"name": name}, plan, options, annotations=annotations)
    listing = listing[:-1] + b"," + schemas + b"}"
    own = {"headers": headers, "limits": _limits(plan, options), "confirmation": _confirmation(plan, options)}
    return _component(Tool, name, listing, plan, options, home, **own)


def _limits(plan: Plan, options: ToolOptions) -> ToolLimits | None:
    """Return the limits of a tool, None if it has none; raise RegistrationError for one that cannot be."""
    if options.keys().isdisjoint(("arguments", "rate", "concurrency")):
        return None
    from portway.policy.rules import Limit
    from portway.policy.tool_limits import ToolLimits

    arguments, rate, concurrency = options.get("arguments"), options.get("rate"), options.get("concurrency")
    name, known = plan.name, [argument.name for argument in plan.listed]
    for argument, limit in (arguments or {}).items():
        if options.get("input_schema") is None and argument.partition(".")[0] not in known:
            raise RegistrationError(f"{name}: its limit is for {argument!r}, and the tool has no such argument.")
        if not isinstance(limit, Limit):
            raise RegistrationError(f"{name}: the limit of {argument} is no Limit(…).")
    if concurrency is not None and (not isinstance(concurrency, int) or concurrency < 1):
        raise RegistrationError(f"{name}: concurrency is a whole number from 1, not {concurrency!r}.")
    try:
        return ToolLimits(arguments, rate or "", concurrency or 0)
    except (ValueError, TypeError) as error:
        raise RegistrationError(f"{name}: {error}.") from None


def _confirmation(plan: Plan, options: ToolOptions) -> Confirmation | None:
    """Return how the user is asked to confirm a call, None if not; raise RegistrationError."""
    confirm = options.get("confirm", False)
    if confirm is False:
        return None
    from portway.policy.confirmation import Confirmation

    if confirm is not True and not isinstance(confirm, str):
        raise RegistrationError(f"{plan.name}: confirm is True or a text, not {confirm!r}.")
    try:
        found = Confirmation("" if confirm is True else confirm)
    except ValueError as error:
        raise RegistrationError(f"{plan.name}: {error}.") from None
    missing = {*found.names} - {argument.name for argument in plan.listed}
    if missing and options.get("input_schema") is None:
        raise RegistrationError(f"{plan.name}: confirm names {min(missing)!r}, and the tool has no such argument.")
    return found


def make_prompt(fn: Callable[..., Any], options: PromptOptions, home: Home) -> Prompt:
    """Compile `fn` into a prompt registered on `home`; raise RegistrationError."""
    from portway.server.completion import choice_completers

    plan = compile_plan(fn, context_type=Context, name=options.get("name"), result=False)
    name = checked_name("prompt", plan.name)
    arguments = [
        {"name": a.name, "required": a.required} | ({"description": a.description} if a.description else {})
        for a in plan.listed
    ]
    listing = _listing({"name": name}, plan, options, arguments=arguments or None)
    return _component(Prompt, name, listing, plan, options, home, completers=choice_completers(plan))


def make_resource(uri: str, fn: Callable[..., Any], options: ResourceOptions, home: Home) -> Resource:
    """Compile `fn` into the resource or, if `uri` has variables, the resource template; raise RegistrationError."""
    plan = compile_plan(fn, context_type=Context, result=False)
    pattern, completers = None, {}
    if "{" in uri:
        from portway.server.completion import choice_completers

        pattern, completers = UriPattern(normalised_template(_with_open_texts(uri, plan))), choice_completers(plan)
    else:
        check_uri(uri)
    _match_parameters(uri, pattern, plan)
    identity = {"uri" if pattern is None else "uriTemplate": uri, "name": options.get("name") or plan.name}
    mime_type, cache = options.get("mime_type"), None
    if "cache_ttl" in options or "cache_scope" in options:
        cache = cache_hints(options.get("cache_ttl", 0), options.get("cache_scope", "private"))
    annotations = _checked_annotations(uri, options.get("annotations"), Annotations)
    listing = _listing(identity, plan, options, mimeType=mime_type, annotations=annotations, size=options.get("size"))
    return _component(
        Resource,
        uri,
        listing,
        plan,
        options,
        home,
        mime_type=mime_type,
        pattern=pattern,
        cache=cache,
        completers=completers,
    )


def checked_name(kind: str, name: str) -> str:
    """Return `name`; raise RegistrationError where it cannot name a tool or prompt."""
    if not isinstance(name, str) or not NAME.match(name):
        raise RegistrationError(
            f"{name!r} cannot name a {kind}: use 1 to 128 letters, digits, '_', '-' or '.', and pass it as name=."
        )
    return name


def cache_hints(ttl: float, scope: CacheScope) -> bytes:
    """Return the members that tell a modern client how long and for whom to cache (server/utilities/caching)."""
    if not (isinstance(ttl, int | float) and 0 <= ttl < math.inf) or scope not in get_args(CacheScope):
        raise ValueError('cache_ttl is a number of seconds from 0, cache_scope is "public" or "private".')
    return b',"ttlMs":%d,"cacheScope":%b' % (round(ttl * 1000), msgspec.json.encode(scope))


def private(hints: bytes) -> bytes:
    """Return cache hints, or what begins with them, for one caller alone."""
    return hints.replace(b'"cacheScope":"public"', b'"cacheScope":"private"', 1)


class _Metadata(msgspec.Struct, rename="camel"):
    """The author's metadata of a server or component, as clients must be able to read it."""

    name: str
    title: str | None = None
    description: str | None = None
    version: str | None = None
    website_url: str | None = None
    mime_type: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    icons: list[Icon] | None = None
    annotations: ToolAnnotations | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


def encode_metadata(metadata: Mapping[str, object]) -> bytes:
    """Return the JSON of `metadata` without its Nones; raise RegistrationError for what clients could not read."""
    name = metadata["name"]
    plain = {key: _plain(value) for key, value in metadata.items() if value is not None}
    try:
        encoded = encode_json(plain, f"what describes {name!r}", "holds")
        msgspec.json.decode(encoded, type=_Metadata)
    except OutputError as error:
        raise RegistrationError(str(error)) from None
    except msgspec.ValidationError as error:
        raise RegistrationError(f"The metadata of {name!r} is wrong: {str(error).replace('`', '')}.") from None
    return encoded


def _plain(value: object) -> object:
    """Return annotations and icons of `mcp.types`, which are pydantic models, as JSON has them."""
    return list(map(to_wire, value)) if isinstance(value, list | tuple) else to_wire(value)


def _checked_annotations(name: str, given: object, kind: type) -> object:
    """Return annotations as JSON has them; raise RegistrationError for a member that `kind` has not."""
    plain = None if given is None else to_wire(given)
    if isinstance(plain, dict):
        known = getattr(kind, "__struct_encode_fields__", None) or tuple(kind.__annotations__)
        for member in plain:
            if member not in known:
                said = faults.unknown(("annotations", member), known)
                raise RegistrationError(f"The metadata of {name!r} is wrong: {said}.")
    return plain


def _listing(identity: Mapping[str, object], plan: Plan, options: Options, **own: object) -> bytes:
    """Return the list entry: what `identity` and `own` say of the component, and the options that all kinds share."""
    description = options.get("description") or plan.description
    shown = {**identity, "title": options.get("title"), "description": description, **own}
    return encode_metadata({**shown, "icons": options.get("icons") or None, "_meta": options.get("meta")})


def _component(
    kind: type[_Kind],
    key: str,
    listing: bytes,
    plan: Plan,
    options: Options,
    home: Home,
    **own: Any,  # noqa: ANN401 - the fields that only this kind has
) -> _Kind:
    asks, scopes = options.get("asks", False), options.get("scopes") or ()
    questions: tuple[Asked, ...] = ()
    if asks and not plan.is_async:
        raise RegistrationError(
            f"{plan.name}: asks=True needs an async def; a def can only ask by parameters: Annotated[str, Ask(…)]."
        )
    if plan.asked:
        from portway.asking.questions import questions_of

        questions = questions_of(plan.asked)
    if isinstance(scopes, str):
        raise RegistrationError(f"scopes must be a list, as in scopes=[{scopes!r}].")
    scopes = frozenset(scopes)
    try:
        check_scopes(scopes)
    except SettingError as error:
        raise RegistrationError(f"{plan.name}: {error}") from None
    return kind(
        key=key,
        scopes=scopes,
        listing=listing,
        homes=(home,),
        asks=asks or bool(questions) or own.get("confirmation") is not None,
        tells=(*told_exceptions(options.get("tells", ())), *home.tells),
        timeout=options.get("timeout"),
        plan=plan,
        questions=questions,
        **own,
    )


def _with_open_texts(template: str, plan: Plan) -> str:
    """Return the template with {+name} for each {name*} whose parameter is text: FastMCP writes paths that way."""
    if "*}" not in template:
        return template
    properties = msgspec.json.decode(plan.input_schema)["properties"]

    def expression(found: re.Match[str]) -> str:
        schema = properties.get(found[1], {})
        kinds = {option.get("type") for option in schema.get("anyOf", [schema])}
        return f"{{+{found[1]}}}" if "string" in kinds and "array" not in kinds else found[0]

    return re.sub(r"\{(\w+)\*\}", expression, template)


def _match_parameters(uri: str, pattern: UriPattern | None, plan: Plan) -> None:
    """Raise RegistrationError where the variables of a URI are not the parameters of its function."""
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
