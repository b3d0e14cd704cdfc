"""Registers the tools of the management API with the right that each needs, and allows or refuses their callers."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from portway.app import Server
from portway.exceptions import ToolError
from portway.host.management.callers import Caller, caller_of
from portway.host.paths import Paths
from portway.host.users import Action
from portway.server.components import ToolAnnotations
from portway.server.context import Context

Function = Callable[..., Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a caller must be allowed to do to call a tool.

    `app` is the argument that names the app, None for a tool that is about no app, or shows of each only what its
    caller may see. A call without that argument needs `without_app`. `every_app`: it shows all apps, or may change
    others later, so a user who is bound to some may not call it.
    """

    action: Action
    app: str | None = "app"
    without_app: Action = "admin"
    every_app: bool = False

    def objection(self, caller: Caller, arguments: dict[str, Any]) -> str | None:
        """Return why the caller may not call with these arguments, None when it may."""
        if self.every_app and caller.user.apps:
            return (
                f"{caller.user.name} is bound to {', '.join(caller.user.apps)}, and this may be about other apps, too"
            )
        if self.app is None:
            return caller.user.objection(self.action, None)
        app = arguments.get(self.app)
        return caller.user.objection(self.action, app) if app else caller.user.objection(self.without_app, None)


class Tools:
    """Adds tools to a server, each with its rule. `rules` are those of all tools, by name."""

    def __init__(self, server: Server, paths: Paths) -> None:
        """Callers from afar are not told the `paths` of the host."""
        self._server = server
        self._paths = paths
        self.rules: dict[str, Rule] = {}

    def add(
        self,
        fn: Function,
        rule: Rule,
        *,
        destroys: bool = False,
        repeatable: bool = False,
        reaches_out: bool = False,
    ) -> None:
        """Add a tool. `destroys`, `repeatable` and `reaches_out` are what clients are told in its annotations."""
        signature = inspect.signature(fn)
        assert rule.app is None or rule.app in signature.parameters
        reads = rule.action == "read"
        annotations: ToolAnnotations = {"readOnlyHint": reads, "openWorldHint": reaches_out}
        if not reads:
            annotations |= {"destructiveHint": destroys, "idempotentHint": repeatable}
        self.rules[fn.__name__] = rule
        self._server.tool(self._ruled(fn, signature, rule), annotations=annotations)

    def _ruled(self, fn: Function, signature: inspect.Signature, rule: Rule) -> Function:
        """Return the function with the rule before it. It is given exactly the arguments that the rule has seen."""
        kept = [parameter for name, parameter in signature.parameters.items() if name != "ctx"]
        given = signature.replace(parameters=kept)
        takes_context = len(kept) < len(signature.parameters)

        @functools.wraps(fn)
        async def ruled(*args: object, ctx: Context, **kwargs: object) -> object:
            caller = caller_of(ctx.caller)
            arguments = given.bind(*args, **kwargs).arguments
            if objection := rule.objection(caller, arguments):
                raise ToolError(objection)
            try:
                result = await fn(**arguments, **({"ctx": ctx} if takes_context else {}))
                return result if caller.is_local else self._from_afar(result)
            except ToolError as error:
                if caller.is_local:
                    raise
                raise ToolError(self._paths.hidden(str(error))) from None

        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=Context)
        ruled.__signature__ = given.replace(parameters=[*kept, context])  # type: ignore[attr-defined]
        ruled.__annotations__ = fn.__annotations__ | {"ctx": Context}
        return ruled

    def _from_afar(self, result: object) -> object:
        """Return a result without the places of the host, which messages and logs may quote."""
        data = msgspec.json.encode(result)
        if str(self._paths.data).encode() not in data:
            return result
        return msgspec.json.decode(self._paths.hidden(data.decode()), type=type(result))
