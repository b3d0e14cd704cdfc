"""Answers webhooks and deploy hooks of linked apps at /_portway/hooks/APP, or says why one is ignored (another branch,
no push, sent again); how large, how many at once.

A webhook is signed with the secret of the link; a deploy hook has the secret as `key`. What the headers or the key give
away is refused before any of the body is read. A body with a signature has to be read to verify it, and nothing else is
done with it before: few are read at once, not too slowly, and shared by the senders' addresses.
"""

import asyncio
import contextlib
import hmac
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from urllib.parse import parse_qs

import msgspec

from portway.host.backup.origin import RESTS
from portway.host.git.remote_url import read_git_url, read_ref
from portway.host.links.linker import Linker
from portway.host.links.webhooks import BadHook, delivery_of, event_of, is_genuine, is_push, may_be_genuine, read_push
from portway.host.sources.source import SourceError
from portway.host.store import LinkRecord, Store
from portway.http.asgi import Application, Receive, Scope, Send
from portway.http.places import Places
from portway.http.request_body import BodyTooLarge, ClientDisconnected, read_body
from portway.http.response import send_bytes

_PATH = re.compile(r"/_portway/hooks/([a-z0-9-]{1,40})")
_LARGEST_BODY = 5 * 1024 * 1024
_BODIES = 8  # that are read at once; up to twice as many when no sender has more than its share
_BODY_SECONDS = 10.0  # as long as the providers wait for an answer
_REMEMBERED = 1000  # deliveries
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_RETRY = (b"retry-after", b"1")
_JSON = (b"content-type", b"application/json")


class Answer(Exception):
    """The request is answered with a status and a sentence, which providers show."""

    def __init__(self, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


class HookServer:
    """The ASGI application behind git.sock: it answers hooks, and passes all else on to `git`."""

    def __init__(self, git: Application, linker: Linker, store: Store) -> None:
        self._git = git
        self._linker = linker
        self._store = store
        self._taken: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._places = Places()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Do nothing: what is needed is there before."""
        yield

    def end_streams(self) -> None:
        """Do nothing: each request ends by itself."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = _PATH.fullmatch(scope["path"])
        if found is None:
            await self._git(scope, receive, send)
            return
        headers = dict(scope["headers"])
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        try:
            if self._linker.rests:
                raise Answer(503, RESTS)
            if "key" in query:
                await self._deploy_hook(found[1], query, scope["method"], send)
            else:
                await self._webhook(found[1], scope["method"], headers, receive)
        except Answer as answer:
            await send_bytes(send, answer.status, f"{answer}\n".encode(), [_TEXT, *answer.headers])
        except ClientDisconnected:
            pass

    async def _deploy_hook(self, app: str, query: Mapping[str, str], method: str, send: Send) -> None:
        """Deploy the branch, or what `ref` names. Raises `Answer`."""
        link, secret = self._linker.find(app) or (None, "")
        if link is None or not hmac.compare_digest(query["key"].encode(), secret.encode()):
            raise Answer(401, "The key is not that of a link of this host.")
        if method not in ("GET", "POST"):
            raise Answer(405, "A deploy hook takes GET or POST.")
        try:
            ref = read_ref(query["ref"]) if "ref" in query else ""
        except SourceError as error:
            raise Answer(400, f"{error}.") from None
        waits = self._linker.look(app, ref)
        record = self._store.app(app)
        answer = {"deploy": {"id": f"{app}-{record.last_release + 1 if record else 1}"}}
        await send_bytes(send, 202 if waits else 200, msgspec.json.encode(answer), [_JSON])

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Return the body of a webhook. Raises `Answer`, and `ClientDisconnected`."""
        sender = headers.get(b"x-forwarded-for", b"")
        self._places.take(sender)
        try:
            if not self._places.admits(sender, _BODIES):
                raise Answer(503, "The host reads as many hooks as it can: try again in a moment.", _RETRY)
            async with asyncio.timeout(_BODY_SECONDS):
                return await read_body(headers.get(b"content-length"), receive, _LARGEST_BODY)
        except BodyTooLarge:
            raise Answer(413, f"A hook has at most {_LARGEST_BODY // 2**20} MB.") from None
        except TimeoutError:
            raise Answer(408, "The hook did not arrive in time.") from None
        finally:
            self._places.give(sender)

    async def _webhook(self, app: str, method: str, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        """Take a webhook. Raises `Answer` in any case but `ClientDisconnected`."""
        if method != "POST":
            raise Answer(405, "A webhook is a POST.")
        link, secret = self._linker.find(app) or (None, "")
        forged = Answer(401, "The signature is not made with the secret that `portway link` has shown.")
        if not may_be_genuine(secret, headers):
            raise forged
        body = await self._read(headers, receive)
        if link is None or not is_genuine(secret, headers, body):  # only now, so that no name of an app is found out
            raise forged
        event, delivery = event_of(headers), delivery_of(headers)
        if not is_push(event):
            raise Answer(200, f"{app} is linked to {link.url}; a push to {link.branch} is deployed.")
        if (app, delivery) in self._taken:
            raise Answer(200, "Ignored: this delivery was taken before.")
        try:
            pushed = read_push(headers, body)
        except BadHook as error:
            raise Answer(400, f"{error}.") from None
        _refuse_foreign(link, pushed.repository)
        if delivery:
            self._taken[app, delivery] = None
            if len(self._taken) > _REMEMBERED:
                self._taken.popitem(last=False)
        if link.branch not in pushed.branches:
            raise Answer(200, f"Ignored: it is no commit for the branch {link.branch}, which is deployed.")
        self._linker.look(app)
        raise Answer(202, f"The newest commit of {link.branch} is deployed, unless it is live already.")


def _refuse_foreign(link: LinkRecord, repository: str) -> None:
    linked = read_git_url(link.url).full_name
    if repository.strip("/").lower() != linked.lower():
        raise Answer(403, f"The link is with {linked}, and the hook is of another repository.")
