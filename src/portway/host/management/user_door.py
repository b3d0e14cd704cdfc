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
_ENDED = encode_error(
    None,
    RpcError(
        REFUSED, "This token was revoked or has expired: `portway user rotate` and `portway user add` make new ones."
    ),
)


class UserDoor:
    """The ASGI application behind management.sock. It ends what is open with a token when the token ends."""

    def __init__(self, server: Server, users: Users) -> None:
        self._users = users
        self._app = HttpApp(server, verifier=self, limits=_LIMITS)
        self._open: dict[asyncio.Task[object], str] = {}  # requests, by the digests of their tokens
        self._ended: set[asyncio.Task[object]] = set()
        self.lifespan, self.end_streams = self._app.lifespan, self._app.end_streams
        users.on_end.append(self._end)

    async def verify(self, token: str) -> Principal | None:
        """Return the user of a token; None for an unknown one. Raises `StoreError`."""
        found = self._users.find(token)
        if found is None:
            return None
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = found.digest
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
                await send_bytes(send, 401, _ENDED, [JSON, _INVALID_TOKEN])
        finally:
            self._open.pop(task, None)
            self._ended.discard(task)

    def _end(self, token: str, seconds: float = 0) -> None:
        """End the requests with a token, by its digest, after some time; but for the one that ends it."""
        if seconds > 0:
            asyncio.get_running_loop().call_later(seconds, self._end, token)
            return
        for task, of in self._open.items():
            if of == token and task is not asyncio.current_task():
                self._ended.add(task)
                task.cancel()
