"""The management API for users with tokens, whose requests the gate passes on."""

import asyncio

from portway.app import Server
from portway.auth.principal import Principal
from portway.host.management.callers import principal_of
from portway.host.users import Users
from portway.http.asgi import Message, Receive, Scope, Send
from portway.http.limits import Limits
from portway.http.response import JSON, cut_short, send_bytes
from portway.protocol.errors import REFUSED, RpcError
from portway.protocol.jsonrpc import encode_error
from portway.transport.http_app import HttpApp

_ROOT = "/_portway"  # below which the gate has the endpoint
_LIMITS = Limits(calls=48, calls_each=16, streams=12, streams_each=4)
_INVALID_TOKEN = (b"www-authenticate", b'Bearer error="invalid_token"')
_REVOKED = encode_error(None, RpcError(REFUSED, "This user was revoked; `portway user add` makes a new one."))


class UserDoor:
    """The ASGI application behind management.sock. It ends what a user has open when that user is revoked."""

    def __init__(self, server: Server, users: Users) -> None:
        self._users = users
        self._app = HttpApp(server, verifier=self, limits=_LIMITS)
        self._open: dict[asyncio.Task[object], str] = {}  # requests, by their users' names
        self._revoked: set[asyncio.Task[object]] = set()
        self.lifespan, self.end_streams = self._app.lifespan, self._app.end_streams
        users.on_revoke.append(self._end)

    async def verify(self, token: str) -> Principal | None:
        """Return the user of a token; None for an unknown one. Raises `StoreError`."""
        user = self._users.find(token)
        if user is None:
            return None
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = user.name
        return principal_of(user)

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
            if task not in self._revoked:
                raise
            task.uncancel()
            if begun:
                cut_short(send)
            else:
                await send_bytes(send, 401, _REVOKED, [JSON, _INVALID_TOKEN])
        finally:
            self._open.pop(task, None)
            self._revoked.discard(task)

    def _end(self, name: str) -> None:
        """End the requests of a revoked user, but for the one that revokes."""
        for task, user in self._open.items():
            if user == name and task is not asyncio.current_task():
                self._revoked.add(task)
                task.cancel()
