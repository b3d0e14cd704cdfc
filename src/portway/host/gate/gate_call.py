"""The state of one request on its way through the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import InitVar, dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from portway.auth.challenge import NO_METADATA, Challenge
from portway.host.app_config import Access
from portway.host.gate.call_record import Line
from portway.host.gate.callers import Caller
from portway.host.gate.list_view import ListView
from portway.host.gate.reply_stream import RelayedStream
from portway.host.gate.routing import Backend, Route
from portway.host.gate.session_ids import Session
from portway.http.asgi import Headers, Receive
from portway.protocol.errors import RpcError

if TYPE_CHECKING:
    from portway.policy.confirmation import Confirmation
    from portway.policy.policies import Policy
    from portway.policy.tool_limits import ToolLimits


@dataclass(slots=True, eq=False, repr=False)
class GateCall:
    """The state of one request. `line` is its line in the call record, filled in on the way."""

    route: Route
    caller: Caller
    access: Access  # who may ask for its path
    holder: str  # whose places it takes
    request: InitVar[str]  # its id in the call record
    receive: Receive
    headers: Headers = field(init=False)  # as they are sent to the instance
    identity: tuple[bytes, bytes] = field(init=False)  # a header of the request to the instance and of the reply
    line: Line = field(init=False)
    started: float = field(init=False)
    quiet_since: float = field(init=False)
    request_id: int | str | None = None  # the id the client chose, of a request
    fresh: int | str | None = None  # the id the instance sees, of a request
    host: bytes = b""  # the Host header
    path: str = "/mcp"  # of the URL
    raw_path: bytes = b"/mcp"  # of the app's host name, as it was sent
    session: Session | None = None
    shows_forms: bool = False  # of an `initialize`: whether the client says so
    opening: bytes = b""  # of an `initialize` to a server that is not Portway's: its params
    pinned: Backend | None = None  # the instance that gets it, unless it cannot be reached
    backend: Backend | None = None
    after: bytes = b""  # of a GET that resumes a stream: the instance's id of the last event
    resumes_call: bool = False  # a GET that resumes a call's stream
    resumes: int | str | None = None  # the client's id of that call; None if it was too long to keep
    is_stream: bool = False  # a long-lived stream (GET or subscriptions/listen), counted apart from calls
    resumable: bool = False  # the instance keeps the events, and the client can fetch them on another stream
    cancels: bool = False  # closing the request cancels the call (modern era, or a legacy user is being asked)
    cancelled: bool = False  # the client has cancelled the call by a notification
    cancelled_at: float = 0.0  # when that came, while the instance may answer
    client_left: bool = False  # the call was ended because its client left
    expired: bool = False  # the call was ended because the instance was silent for too long, or the gate stops
    ended: RpcError | None = None  # why the gate ended it, if it did
    detached_at: float = 0.0  # when it became a detached call, if it has (see `in_flight`)
    view: ListView | None = None  # of an app with policies: what of the reply the caller may see
    held: int = 0  # bytes of the app's reply memory taken for a long reply
    policy: Policy | None = None  # of a tool whose calls are limited
    limits: tuple[tuple[ToolLimits, Hashable], ...] = ()  # that count it, and for whom
    confirmation: Confirmation | None = None  # what a legacy user is asked before the call is passed on
    stream: RelayedStream | None = None  # the reply, when it is an event stream
    task: asyncio.Task[None] | None = None
    watcher: asyncio.Task[None] | None = None

    def __post_init__(self, request: str) -> None:
        self.headers = []
        self.started = self.quiet_since = perf_counter()
        self.identity = (b"x-request-id", request.encode())
        self.line = Line(app=self.route.name, release=self.route.release, principal=self.caller.name, request=request)

    @property
    def challenge(self) -> Challenge:
        """The challenges of the app, for the URL by which the client calls it."""
        login = self.route.login
        return NO_METADATA if login is None else login.at(self.host, self.path).challenge

    async def hold(self, size: int) -> None:
        """Wait for reply memory for a long reply of `size` bytes."""
        await self.route.reply_memory.take(size)
        self.held = size

    def let_go(self) -> None:
        """Give the reply memory back: the client has read the long reply."""
        self.route.reply_memory.give(self.held)
        self.held = 0

    def heard(self, size: int) -> None:
        """Note that the instance sent something, of which `size` bytes go to the client."""
        self.line.bytes_out += size
        self.quiet_since = perf_counter()
