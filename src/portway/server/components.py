"""What a server offers: tools, resources, resource templates and prompts, and the table that holds each kind."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar

import msgspec

from portway.server.errors import RegistrationError
from portway.server.plan import Arguments, Plan
from portway.server.uris import UriPattern


class ToolAnnotations(TypedDict, total=False):
    """Hints to a client about a tool (specification: server/tools); they bind nobody."""

    title: str
    readOnlyHint: bool
    destructiveHint: bool
    idempotentHint: bool
    openWorldHint: bool


@dataclass(frozen=True, slots=True)
class Tool:
    """A function a model may call."""

    name: str
    plan: Plan
    scopes: frozenset[str]
    listing: bytes


@dataclass(frozen=True, slots=True)
class Resource:
    """Data at one URI, or, with a `pattern`, at every URI of a template."""

    uri: str
    plan: Arguments
    mime_type: str | None
    scopes: frozenset[str]
    pattern: UriPattern | None
    listing: bytes


@dataclass(frozen=True, slots=True)
class Prompt:
    """A message template a person may pick."""

    name: str
    plan: Arguments
    scopes: frozenset[str]
    listing: bytes


Component = TypeVar("Component", Tool, Resource, Prompt)


@dataclass(slots=True)
class Table(Generic[Component]):
    """The components of one kind by name or URI, with the list result as bytes, rebuilt only after a change.

    `kind` names one of them in errors, `member` is the list's name on the wire.
    """

    kind: str
    member: str
    items: dict[str, Component] = field(default_factory=dict)
    _lists: dict[bytes, bytes] = field(default_factory=dict)

    def add(self, key: str, component: Component) -> None:
        """Add a component; a name that is taken is an error, not a silent replacement."""
        if key in self.items:
            raise RegistrationError(
                f"There is already a {self.kind} {key!r} on this server; give one of the two another name."
            )
        self.items[key] = component
        self._lists.clear()

    def list_result(self, tail: bytes) -> bytes:
        """The JSON of the list result; `tail` is what the era adds after the list."""
        cached = self._lists.get(tail)
        if cached is None:
            joined = b",".join(item.listing for item in self.items.values())
            cached = self._lists[tail] = b'{"%b":[%b]%b}' % (self.member.encode(), joined, tail)
        return cached


def listing(fields: dict[str, Any], **schemas: bytes | None) -> bytes:
    """The JSON of a list entry: `fields` without its Nones, then `schemas`, which are JSON already."""
    entry: dict[str, object] = {key: value for key, value in fields.items() if value is not None}
    entry.update({key: msgspec.Raw(value) for key, value in schemas.items() if value is not None})
    return msgspec.json.encode(entry)
