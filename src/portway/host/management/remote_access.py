"""The management API from afar (/_portway/mcp): users by token or login, how many calls at once, and the end of what is
open, within a minute, when their rights end.

A caller has the token of a user, or has logged in at the host's identity provider, where a group of theirs has a role.

A request of theirs is in one of these states:

    begun → open      its token was verified
    open → looked at  a minute has passed, the token was to expire, or users or groups have changed
    looked at → open  the token is of the same user with the same rights
    looked at → ended it is not
"""

import asyncio
import time
from dataclasses import dataclass, field, replace

from portway.app import Server
from portway.auth.challenge import NO_METADATA, Challenge
from portway.auth.principal import Principal
from portway.auth.tokens import VerifierUnavailable, is_good_meanwhile
from portway.host.management.callers import principal_of
from portway.host.new_token import is_of_a_host
from portway.host.store import StoreError
from portway.host.users import Users, UserToken
from portway.http.asgi import Message, Receive, Scope, Send
from portway.http.limits import Limits
from portway.http.response import JSON, cut_short, send_bytes
from portway.oauth.resource_server import ResourceServer
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.jsonrpc import encode_error
from portway.transport.http_app import HttpApp

_ROOT = "/_portway"  # below which the gate has the endpoint
_LIMITS = Limits(calls=48, calls_each=16, streams=12, streams_each=4)
_LOOK_SECONDS = 60.0
_ENDED = encode_error(
    None,
    RpcError(
        REFUSED, "This token was revoked or has expired: `portway user rotate` and `portway user add` make new ones."
    ),
)


@dataclass(slots=True)
class _Open:
    """A request under way: its token, whose that was until when, and when it is looked at again."""

    token: str = field(repr=False)
    found: UserToken
    timer: asyncio.TimerHandle


class UserDoor:
    """The ASGI application behind management.sock. It ends what is open with a token when the token ends."""

    def __init__(self, server: Server, users: Users, login: ResourceServer | None = None) -> None:
        """`login` is how the access tokens of the host's identity provider are taken, if it has one."""
        self._users = users
        self._login = login
        self._challenge: Challenge = login.resources[0].challenge if login else NO_METADATA
        oauth = replace(login, verifier=self) if login else None
        self._app = HttpApp(server, verifier=self, limits=_LIMITS, oauth=oauth, watches_tokens=False)
        self._open: dict[asyncio.Task[object], _Open] = {}
        self._ended: set[asyncio.Task[object]] = set()
        self._looks: set[asyncio.Task[None]] = set()
        self.lifespan, self.end_streams = self._app.lifespan, self._app.end_streams
        users.on_change.append(self._review)

    async def verify(self, token: str) -> Principal | None:
        """Return the user of a token; None for an unknown one.

        Raises `StoreError`, `VerifierUnavailable`, and RpcError (403) for someone who has logged in without a role.
        """
        found = await self._find(token)
        if found is None:
            return None
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = _Open(token, found, self._timer(task, found.expires))
        return principal_of(found.user, found.expires)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        task = asyncio.current_task()
        assert task is not None
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app({**scope, "root_path": _ROOT}, receive, noted)
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            if begun:
                cut_short(send)
            else:
                await send_bytes(send, 401, _ENDED, [JSON, self._challenge.unauthorized(had_token=True)])
        finally:
            request = self._open.pop(task, None)
            if request is not None:
                request.timer.cancel()
            self._ended.discard(task)

    async def _find(self, token: str) -> UserToken | None:
        found = self._users.find(token)
        if found is not None or self._login is None or is_of_a_host(token):
            return found
        caller = await self._login.verifier.verify(token)
        if caller is None:
            return None
        user = self._users.member(caller)
        if user is None:
            raise RpcError(
                REFUSED,
                f"You have logged in as {caller.subject}, but no group of yours has a role on this host: its operator "
                "gives one by `portway user map`.",
                status=403,
            )
        return UserToken(user, caller.expires)

    def _timer(self, task: asyncio.Task[object], expires: float | None) -> asyncio.TimerHandle:
        """Set when a request is looked at again: once its token expires, or in a minute."""
        seconds = _LOOK_SECONDS if expires is None else min(_LOOK_SECONDS, max(0, expires - time.time()))
        return asyncio.get_running_loop().call_later(seconds, self._begin_look, task)

    def _review(self) -> None:
        """Look at all requests, but for the one that changes something."""
        for task in self._open:
            if task is not asyncio.current_task():
                self._begin_look(task)

    def _begin_look(self, task: asyncio.Task[object]) -> None:
        look = asyncio.get_running_loop().create_task(self._look(task))
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _look(self, task: asyncio.Task[object]) -> None:
        """End a request whose token is not valid any more, or gives other rights."""
        request = self._open.get(task)
        if request is None:
            return
        try:
            found = await self._find(request.token)
        except (RpcError, StoreError):
            found = None
        except VerifierUnavailable as error:  # an outage of the provider takes nobody's right away
            found = request.found if is_good_meanwhile(request.found.expires, error) else None
        if self._open.get(task) is not request:
            return
        request.timer.cancel()
        if found is not None and found.user == request.found.user:
            request.found, request.timer = found, self._timer(task, found.expires)
        else:
            self._ended.add(task)
            task.cancel()
