"""Tools, resources, resource templates and prompts as they are kept, and the table that holds each kind: names taken
twice, removal.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic, Literal, Self, TypedDict, TypeVar

import msgspec

from portway.exceptions import RegistrationError
from portway.protocol.param_headers import HeaderParam
from portway.sessions.changes import Change, Changes, Kind

if TYPE_CHECKING:
    from portway.asking.questions import Asked
    from portway.plans.plan import Plan
    from portway.policy.confirmation import Confirmation
    from portway.policy.tool_limits import ToolLimits
    from portway.server.home import Home
    from portway.server.middleware import Middleware
    from portway.server.uri_templates import UriPattern

log = logging.getLogger("portway.server")

CacheScope = Literal["public", "private"]
OnDuplicate = Literal["error", "warn", "replace", "ignore"]


class ToolAnnotations(TypedDict, total=False):
    """Hints to a client about a tool (specification: server/tools). They enforce nothing."""

    title: str
    readOnlyHint: bool
    destructiveHint: bool
    idempotentHint: bool
    openWorldHint: bool


class Icon(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """An image for a client's menus: `src` is an https: or data: URI, `sizes` such as "48x48" or "any"."""

    src: str
    mime_type: str | None = None
    sizes: list[str] | None = None
    theme: Literal["light", "dark"] | None = None

    def __post_init__(self) -> None:
        if not self.src.startswith(("https:", "data:")):
            raise RegistrationError(f"The icon {self.src[:60]!r} must have an https: or data: URI.")


class Component(msgspec.Struct, frozen=True, kw_only=True):  # at import, a dataclass takes 20 times as long to make
    """What all kinds share. `listing` is the JSON of the entry in the list, `timeout` is in seconds.

    `homes` are the servers it belongs to, outermost first: those it was mounted in, then the one it was registered on.
    `tells` are the exceptions whose text clients are told.
    """

    key: str
    scopes: frozenset[str]
    listing: bytes
    homes: tuple[Home, ...]
    asks: bool
    tells: tuple[type[Exception], ...]
    timeout: float | None
    plan: Plan
    questions: tuple[Asked, ...] = ()
    """What is asked of the client before the function runs."""
    completers: dict[str, Plan] = {}
    """What completes its arguments, by their names."""

    def __post_init__(self) -> None:
        if self.timeout is not None and not (isinstance(self.timeout, int | float) and self.timeout > 0):
            raise RegistrationError(f"timeout is a number of seconds above 0, not {self.timeout!r}.")

    @property
    def managed(self) -> bool:
        """Whether a call needs more than the function: questions, a time limit, or the middleware of other servers."""
        return self.asks or self.timeout is not None or len(self.homes) > 1

    @property
    def home(self) -> Home:
        """The server it was registered on."""
        return self.homes[-1]

    @property
    def middleware(self) -> list[Middleware]:
        """The middleware of all its homes, outermost first."""
        return [wrapper for home in self.homes for wrapper in home.middleware]

    def mounted(self, key: str, outer: Home) -> Self:
        """Return the component as the server of `outer`, which it is mounted in, offers it: under `key`."""
        entry = msgspec.json.decode(self.listing, type=dict[str, msgspec.Raw])
        member = "name" if isinstance(self, Tool | Prompt) else "uri" if "uri" in entry else "uriTemplate"
        entry[member] = msgspec.Raw(msgspec.json.encode(key))
        return msgspec.structs.replace(
            self,
            key=key,
            homes=(outer, *self.homes),
            listing=msgspec.json.encode(entry),
            completers=dict(self.completers),
        )


class Tool(Component, frozen=True, kw_only=True):
    """A function a model may call; `headers` are the arguments that a modern client repeats as header fields."""

    headers: tuple[HeaderParam, ...] = ()
    limits: ToolLimits | None = None
    confirmation: Confirmation | None = None


class Resource(Component, frozen=True, kw_only=True):
    """Data at one URI, or, with a `pattern`, at every URI of a template. `cache` overrides the server's hints."""

    mime_type: str | None
    pattern: UriPattern | None
    cache: bytes | None = None


class Prompt(Component, frozen=True, kw_only=True):
    """A message template a person may pick."""


Kinds = TypeVar("Kinds", Tool, Resource, Prompt)


class Table(msgspec.Struct, Generic[Kinds]):
    """The components of one kind by name or URI.

    `kind` names one of them in errors, `member` is the list's name on the wire, `topic` that of its changes.
    """

    kind: str
    member: str
    topic: Kind
    changes: Changes
    on_duplicate: OnDuplicate = "error"
    items: dict[str, Kinds] = {}
    edition: int = 0
    """Grows with every change; cached lists compare it."""

    def check(self, component: Kinds) -> None:
        """Raise RegistrationError where `add` would."""
        if component.key in self.items and self.on_duplicate == "error":
            raise RegistrationError(
                f"There is already a {self.kind} {component.key!r} on this server; give one of the two another name."
            )

    def add(self, component: Kinds) -> None:
        """Add a component; `on_duplicate` says what happens where its name is taken."""
        self.check(component)
        key = component.key
        if key in self.items:
            if self.on_duplicate == "ignore":
                return
            if self.on_duplicate == "warn":
                log.warning("the %s %s is registered again and replaces the one before", self.kind, key)
        self.items[key] = component
        self._changed()

    def remove(self, key: str) -> None:
        """Remove a component; raise KeyError if there is none of that name."""
        if self.items.pop(key, None) is None:
            raise KeyError(f"There is no {self.kind} {key!r} on this server.")
        self._changed()

    def _changed(self) -> None:
        self.edition += 1
        self.changes.publish(Change(self.topic))
