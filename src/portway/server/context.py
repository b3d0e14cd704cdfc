"""`Context`: what a handler reads of its call (caller, headers, client), and what it sends or asks: progress, log
messages, elicitation, sampling, `token_for`.
"""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import msgspec
from msgspec import UNSET

from portway.auth.principal import Principal
from portway.exceptions import DownstreamError
from portway.plans.output import encode_json
from portway.protocol.capabilities import NAMES, Capability
from portway.protocol.jsonrpc import PREFIX, encode_notification
from portway.protocol.log_levels import LEVELS, level_index
from portway.protocol.versions import Era
from portway.server.read_only import read_only
from portway.sessions.exchange import Exchange

if TYPE_CHECKING:
    from portway.asking.interview import Interview
    from portway.asking.questions import Answer, Question, Root, Sampled
    from portway.oauth.downstream import DownstreamTokens
    from portway.plans.prompt_messages import Message as Said

T = TypeVar("T")
if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVar  # its `default` allows `Context` without a parameter

    State = _TypeVar("State", default=Any)
else:
    State = TypeVar("State")
_NOT_SHOWN = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"portway-caller"))


class _Meta(msgspec.Struct):
    meta: dict[str, Any] = msgspec.field(name="_meta", default_factory=dict)


class _Arguments(msgspec.Struct):
    arguments: dict[str, Any] | None = None


class Client:
    """What the calling client says of itself, "" where it says nothing. Unverified: use it for display only."""

    __slots__ = ("_capabilities", "name", "version")

    def __init__(self, info: Mapping[str, Any], capabilities: Capability) -> None:
        self.name = str(info.get("name", ""))
        self.version = str(info.get("version", ""))
        self._capabilities = capabilities

    def supports(self, capability: str) -> bool:
        """Return whether it can be asked for "elicitation" (forms), "elicitation.url", "sampling" or "roots"."""
        if capability not in NAMES:
            raise ValueError(f"{capability!r} is no capability; use one of: {', '.join(NAMES)}.")
        return NAMES[capability] in self._capabilities


class Context(Generic[State]):
    """The current call. A parameter annotated `Context` receives it; in `Context[S]`, `state` is an `S`."""

    __slots__ = ("_downstream", "_exchange", "_loop", "_progress", "_thread", "cancelled", "interview", "state")

    def __init__(
        self,
        exchange: Exchange,
        state: State,
        interview: "Interview | None" = None,
        downstream: "DownstreamTokens | None" = None,
    ) -> None:
        self._exchange = exchange
        self._downstream = downstream
        self.interview = interview
        """The questions of this call, for Portway's own parts; None where it may not ask."""
        self._progress = -math.inf
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.state = state
        """What the server's lifespan yielded, None without one."""
        self.cancelled = False
        """Whether the client has cancelled the call. For `def` handlers; an `async def` is cancelled itself."""

    @property
    def caller(self) -> Principal:
        """Who calls; `ANONYMOUS` over stdio and on a server that needs no token."""
        return self._exchange.principal

    @property
    def request_id(self) -> int | str:
        """The request's JSON-RPC id as the client sent it."""
        request_id = self._exchange.message.id
        assert request_id is not UNSET
        return request_id

    @property
    def method(self) -> str:
        """The method being answered, such as "tools/call"."""
        method = self._exchange.message.method
        assert method is not UNSET
        return method

    @property
    def name(self) -> str:
        """The name of the tool or prompt, or the URI of the resource, as the client sent it."""
        params = self._exchange.message.params
        if params is UNSET:
            return ""
        name = params.uri if self.method == "resources/read" else params.name
        return "" if name is UNSET else name

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the tool or prompt as the client sent them; a change of them raises TypeError."""
        arguments: dict[str, Any] = read_only(self._exchange.params(_Arguments).arguments or {})
        return arguments

    @property
    def protocol_version(self) -> str:
        """The revision of the protocol the client speaks."""
        return self._exchange.version

    @property
    def meta(self) -> dict[str, Any]:
        """The request's `_meta`, as the client sent it; a change of it raises TypeError."""
        meta = {} if self._exchange.message.meta is None else self._exchange.params(_Meta).meta
        kept: dict[str, Any] = read_only(meta)
        return kept

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP header fields by lower-case name, without credentials; empty over stdio."""
        fields = self._exchange.fields or {}
        shown = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in fields.items() if name not in _NOT_SHOWN
        }
        return MappingProxyType(shown)

    @property
    def client(self) -> Client:
        """The client software that calls. Modern clients say it in every request, legacy ones when a session begins."""
        session = self._exchange.session
        if session is not None:
            return Client({"name": session.client.name, "version": session.client.version}, session.client.capabilities)
        info = self.meta.get(PREFIX + "clientInfo")
        return Client(info if isinstance(info, dict) else {}, self._exchange.capabilities)

    def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> Awaitable[None]:
        """Tell the client how far the call is: `progress` must grow with each report; at `total` the call is done.

        Await it in an `async def` tool. In a `def` tool only call it; it returns once the report is sent. Nothing is
        sent to a client that did not ask for progress (specification: basic/utilities/progress).
        """
        return self._send(self._report(progress, total, message))

    def log(self, level: str, data: object, logger: str | None = None) -> Awaitable[None]:
        """Send the client a log message: a text, or anything JSON can hold. `level` is one of RFC 5424, such as "info".

        Await it like `report_progress`. A legacy client gets messages from the level it has set (`info` at first), a
        modern one from the level its request names, if any. Never log credentials (server/utilities/logging).
        """
        severity = level_index(level)
        if severity is None:
            raise ValueError(f"{level!r} is no log level; use one of: {', '.join(LEVELS)}.")
        if not self._wanted(severity):
            return _Done()
        named = b"" if logger is None else b',"logger":' + msgspec.json.encode(logger)
        body = b'{"level":"%b"%b,"data":%b}' % (level.encode(), named, encode_json(data, "Context.log", "was given"))
        return self._send(self._exchange.channel.notify(encode_notification("notifications/message", body)))

    def debug(self, message: object) -> Awaitable[None]:
        """Send a log message of level "debug"."""
        return self.log("debug", message)

    def info(self, message: object) -> Awaitable[None]:
        """Send a log message of level "info"."""
        return self.log("info", message)

    def warning(self, message: object) -> Awaitable[None]:
        """Send a log message of level "warning"."""
        return self.log("warning", message)

    def error(self, message: object) -> Awaitable[None]:
        """Send a log message of level "error"."""
        return self.log("error", message)

    def close_stream(self, retry: int | None = None) -> Awaitable[None]:
        """End the reply's event stream early; the client fetches the rest after `retry` milliseconds.

        Use it in calls that last longer than proxies wait. It does nothing for a client that cannot resume, that is any
        but one with a session of 2025-11-25.
        """
        return self._send(self._exchange.channel.close_stream(retry))

    @overload
    async def elicit(self, message: str, kind: type[T], *, key: str | None = None) -> "Answer[T]": ...
    @overload
    async def elicit(self, message: str, kind: object = None, *, key: str | None = None) -> "Answer[Any]": ...
    async def elicit(self, message: str, kind: object = None, *, key: str | None = None) -> "Answer[Any]":
        """Ask the user for data of type `kind`, in a form; see `portway.elicit`. The handler needs `asks=True`."""
        from portway.asking.questions import elicit

        answer: Answer[Any] = await self._ask_one(elicit(message, kind, key=key))
        return answer

    async def elicit_url(self, message: str, url: str, *, key: str | None = None) -> "Answer[None]":
        """Ask the user to visit `url`; see `portway.elicit_url`."""
        from portway.asking.questions import elicit_url

        answer: Answer[None] = await self._ask_one(elicit_url(message, url, key=key))
        return answer

    async def sample(
        self,
        messages: "str | Sequence[str | Said]",
        *,
        key: str | None = None,
        **options: Any,  # noqa: ANN401 - those of `portway.sample`
    ) -> "Sampled":
        """Have the client's model answer; see `portway.sample` for the options."""
        from portway.asking.questions import sample

        answer: Sampled = await self._ask_one(sample(messages, key=key, **options))
        return answer

    async def list_roots(self, *, key: str | None = None) -> "list[Root]":
        """Ask for the folders the client opens to this server; see `portway.list_roots`."""
        from portway.asking.questions import list_roots

        answer: list[Root] = await self._ask_one(list_roots(key=key))
        return answer

    async def ask(self, **questions: "Question") -> dict[str, Any]:
        """Ask several things at once: `await ctx.ask(name=elicit("Your name?", str), roots=list_roots())`."""
        return await self._asking().ask({key: question.under(key) for key, question in questions.items()})

    async def once(self, key: str, fn: Callable[[], Any]) -> Any:  # noqa: ANN401 - what `fn` gives
        """Return the result of `fn()`, which is not called again when a question makes the handler run again.

        The result must be what JSON can hold. `fn` may still run twice: a client may repeat an earlier answer.
        """
        return await self._asking().once(key, fn)

    async def token_for(self, audience: str, scopes: Sequence[str] = ()) -> str:
        """Return an access token for another service, which the server calls for this caller.

        `audience` is the service's URL, or its name at the identity provider. PORTWAY_AUTH_DOWNSTREAM says how the
        token is obtained; it is kept until shortly before it expires. Raises DownstreamError.
        """
        if self._downstream is None:
            raise DownstreamError(
                "this server obtains no tokens for other services: set PORTWAY_AUTH_DOWNSTREAM and serve HTTP; "
                "over stdio, take credentials from the environment"
            )
        return await self._downstream.token(self.caller, self._exchange.fields or {}, audience, scopes)

    async def _ask_one(self, question: "Question") -> Any:  # noqa: ANN401 - each question has its own answer
        (answer,) = (await self._asking().ask({question.key or "": question})).values()
        return answer

    def _asking(self) -> "Interview":
        """Return the interview of this call; raise RuntimeError where it may not ask."""
        if self.method == "completion/complete":
            raise RuntimeError("A completion cannot ask the client; ask in the prompt or the tool.")
        if self.interview is None:
            raise RuntimeError(f"{self.name} asks the client, or uses once(); register it with asks=True.")
        return self.interview

    def _send(self, sending: Coroutine[Any, Any, None]) -> Awaitable[None]:
        if threading.get_ident() == self._thread:
            return sending
        asyncio.run_coroutine_threadsafe(sending, self._loop).result()
        return _Done()

    def _wanted(self, severity: int) -> bool:
        exchange = self._exchange
        if exchange.era is Era.LEGACY:
            return exchange.session is not None and severity >= exchange.session.level
        meta = exchange.message.meta
        if meta is None or meta.log_level is UNSET:
            return False
        return severity >= (level_index(meta.log_level) or 0)

    async def _report(self, progress: float, total: float | None, message: str | None) -> None:
        meta = self._exchange.message.meta
        if meta is None or meta.progress_token is UNSET or not self._progress < progress < math.inf:
            return
        self._progress = progress
        if total is not None and not math.isfinite(total):
            total = None  # JSON has no infinity
        params = {"progressToken": meta.progress_token, "progress": progress, "total": total, "message": message}
        body = msgspec.json.encode({key: value for key, value in params.items() if value is not None})
        await self._exchange.channel.notify(encode_notification("notifications/progress", body))
        await asyncio.sleep(0)  # so that a handler that only reports does not block other calls


class _Done:
    """An awaitable that has finished."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()
