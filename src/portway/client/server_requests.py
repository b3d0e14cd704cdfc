"""What the server asks and tells the client's user: elicitation, sampling and roots are answered; logs and changes go
to the user's functions.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Raw

from portway.client.channel import decode_params
from portway.client.results import Wire
from portway.protocol.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from portway.protocol.jsonrpc import UNREADABLE
from portway.sessions.changes import Change

T = TypeVar("T")
_encode = msgspec.json.encode
_log = logging.getLogger("portway.client")


class Elicitation(Wire):
    """A question to the user: a form described by `requested_schema`, or, in mode "url", a page to open."""

    message: str = ""
    mode: str = "form"
    requested_schema: dict[str, Any] = msgspec.field(default_factory=dict)
    url: str | None = None


class Sampling(Wire):
    """A completion that the server asks of the client's model. Nested members are as on the wire."""

    messages: list[dict[str, Any]]
    max_tokens: int = 0
    system_prompt: str | None = None
    temperature: float | None = None
    model_preferences: dict[str, Any] | None = None
    stop_sequences: list[str] | None = None
    include_context: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text of the last message."""
        content = self.messages[-1].get("content") if self.messages else None
        blocks = content if isinstance(content, list) else [content]
        return "\n".join(block["text"] for block in blocks if isinstance(block, dict) and "text" in block)


class Root(Wire):
    """A place the server may work in; `uri` is a file:// URI."""

    uri: str
    name: str | None = None


class Log(Wire):
    """A log message of the server; `level` is one of RFC 5424's, in lower case."""

    level: str
    data: Any = None
    logger: str | None = None


Elicited = Mapping[str, Any] | Literal["accept", "decline", "cancel"]
"""The fields of a form, or the user's action; a page (mode "url") is answered with an action."""
OnElicit = Callable[[Elicitation], Elicited | Awaitable[Elicited]]
Sampled = str | Mapping[str, Any]
"""The text of the model's answer, or a CreateMessageResult as it is on the wire."""
OnSample = Callable[[Sampling], Sampled | Awaitable[Sampled]]
Places = Sequence[str | Root]
Roots = Places | Callable[[], Places | Awaitable[Places]]
OnLog = Callable[[Log], None]
OnChange = Callable[[Change], None]

_CHANGES: dict[str, Change] = {
    "notifications/tools/list_changed": Change("tools"),
    "notifications/prompts/list_changed": Change("prompts"),
    "notifications/resources/list_changed": Change("resources"),
}


class _Updated(msgspec.Struct):
    uri: str


@dataclass(slots=True, frozen=True)
class Handlers:
    """The functions of the client's user. What is left out is not declared to the server."""

    on_elicit: OnElicit | None = None
    on_sample: OnSample | None = None
    roots: Roots | None = None
    on_log: OnLog | None = None
    on_change: OnChange | None = None

    def capabilities(self) -> dict[str, Any]:
        """Return the ClientCapabilities that these functions serve, the same in both eras."""
        declared: dict[str, Any] = {}
        if self.on_elicit is not None:
            declared["elicitation"] = {"form": {}, "url": {}}
        if self.on_sample is not None:
            declared["sampling"] = {"tools": {}}
        if self.roots is not None:
            declared["roots"] = {}
        return declared

    @property
    def wants_unsolicited(self) -> bool:
        """Whether any function serves what a legacy server sends outside a call."""
        return any((self.on_elicit, self.on_sample, self.roots is not None, self.on_log, self.on_change))

    async def answer(self, method: str, params: Raw) -> bytes:
        """Answer a request of the server. Return the result as JSON.

        Raise RpcError for a request that is malformed or not served, and what the user's function raises.
        """
        if method == "elicitation/create" and self.on_elicit is not None:
            return _elicited(await _awaited(self.on_elicit(_read(params, Elicitation))))
        if method == "sampling/createMessage" and self.on_sample is not None:
            return _sampled(await _awaited(self.on_sample(_read(params, Sampling))))
        if method == "roots/list" and self.roots is not None:
            places = await _awaited(self.roots()) if callable(self.roots) else self.roots
            return _encode({"roots": [Root(place) if isinstance(place, str) else place for place in places]})
        raise RpcError(METHOD_NOT_FOUND, f"This client does not serve {method}.")

    def log(self, params: Raw) -> None:
        """Give a log message to `on_log`; ignore a malformed one."""
        if self.on_log is not None and (log := decode_params(params, Log)) is not None:
            tell("on_log", self.on_log, log)

    def changed(self, change: Change) -> None:
        """Give a change to `on_change`."""
        if self.on_change is not None:
            tell("on_change", self.on_change, change)


def tell(name: str, function: Callable[[T], None], news: T) -> None:
    """Call the user's `function`, given as `name`. Log what it raises, so that the connection is still read."""
    try:
        function(news)
    except Exception:  # noqa: BLE001 - whatever the user's function raises
        _log.exception("the function given as %s failed", name)


def change_in(method: str, params: Raw) -> Change | None:
    """Return the change that a notification tells of, None if it tells of none."""
    if method == "notifications/resources/updated":
        updated = decode_params(params, _Updated)
        return Change("resource", updated.uri) if updated is not None else None
    return _CHANGES.get(method)


def _read(params: Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(params, type=kind)
    except UNREADABLE as error:
        raise RpcError(INVALID_PARAMS, f"Invalid params: {error}.") from None


async def _awaited(value: T | Awaitable[T]) -> T:
    return await value if isinstance(value, Awaitable) else value


def _elicited(answer: Elicited) -> bytes:
    if isinstance(answer, str):
        return _encode({"action": answer})
    return _encode({"action": "accept", "content": dict(answer)})


def _sampled(answer: Sampled) -> bytes:
    if not isinstance(answer, str):
        return _encode(dict(answer))
    content = {"type": "text", "text": answer}
    return _encode({"role": "assistant", "content": content, "model": "unknown", "stopReason": "endTurn"})
