"""Serves `/APP.git` over HTTP: user, rights, how many pushes and clones at once; a clone gets what is live, a push is a
deploy whose steps git prints.

The gate passes on what it gets for /APP.git; see `host/gate/control_relay.py`. Git itself runs as `git http-backend`.
"""

import asyncio
import base64
import binascii
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import msgspec

from portway.host.backup.origin import RESTS
from portway.host.git.cgi import CgiProgram, ClientLeft
from portway.host.git.git_command import GitError, git_environment, refuse_old_git
from portway.host.git.push import HookPipes, Pushed, read_pushed, source_of
from portway.host.git.push_options import PushOptions, PushOutcome, PushRefused
from portway.host.git.repository import Repository
from portway.host.management.management_types import Deployment
from portway.host.paths import Paths
from portway.host.releases.deploy import Deployer
from portway.host.releases.deploy_error import DeployError, Superseded
from portway.host.releases.live_line import failure_line, live_line
from portway.host.releases.make_releases import Deployed
from portway.host.releases.source_apps import DeployOptions
from portway.host.sources.source import SourceError, app_name
from portway.host.store import Cause, Store, StoreError
from portway.host.users import User, Users
from portway.http.asgi import Receive, Scope, Send
from portway.http.response import send_bytes

_PATH = re.compile(r"/([^/]+)\.git/(info/refs|git-upload-pack|git-receive-pack)")
_PULL, _PUSH = "git-upload-pack", "git-receive-pack"
_PUSHES, _PULLS = 4, 16  # at once
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_CHALLENGE = (b"www-authenticate", b'Basic realm="portway", charset="UTF-8"')
_RETRY = (b"retry-after", b"1")


class Refused(Exception):
    """The request is answered with a status and one sentence, which git shows."""

    def __init__(self, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class _Request:
    """A request, which its user is allowed to make."""

    app: str
    endpoint: str
    service: str
    user: User


class GitServer:
    """The ASGI application behind git.sock."""

    def __init__(
        self,
        paths: Paths,
        store: Store,
        users: Users,
        deployer: Deployer,
        deployment: Callable[[Deployed], Deployment],
    ) -> None:
        """`deployment` returns what is said of an app that was deployed."""
        self._paths = paths
        self._store = store
        self._users = users
        self._commits = deployer.commits
        self._deployer = deployer
        self._deployment = deployment
        self._running = Counter[tuple[str, str]]()  # by service and user, and of all users
        self._pushing = Counter[str]()  # by app
        self._making = asyncio.Lock()  # held while a repository is made or removed

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Do nothing: what is needed is there before."""
        yield

    def end_streams(self) -> None:
        """Do nothing: each request ends by itself, or is cancelled."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            request = self._read(scope)
            with self._place(request):
                await self._serve(request, scope, receive, send)
        except Refused as refused:
            await send_bytes(send, refused.status, f"{refused}\n".encode(), [_TEXT, *refused.headers])
        except (GitError, StoreError, OSError) as error:
            await send_bytes(send, 500, f"{error}\n".encode(), [_TEXT])
        except ClientLeft:
            pass

    def _read(self, scope: Scope) -> _Request:
        """Return what is asked for, and by whom. Raises `Refused`."""
        headers = dict(scope["headers"])
        user = self._user(headers.get(b"authorization", b""))
        found = _PATH.fullmatch(scope["path"])
        if found is None:
            raise Refused(404, "There is nothing at this path; the repository of an app is at /APP.git.")
        app, endpoint = found.groups()
        try:
            app_name("", app)
        except SourceError as error:
            raise Refused(404, f"{error}.") from None
        service = (
            endpoint if endpoint != "info/refs" else scope["query_string"].decode("ascii").removeprefix("service=")
        )
        method = "GET" if endpoint == "info/refs" else "POST"
        if service not in (_PULL, _PUSH):
            raise Refused(403, "This host speaks git's smart protocol only: upgrade git.")
        if scope["method"] != method:
            raise Refused(405, f"This path takes {method}.", (b"allow", method.encode()))
        if objection := user.objection("deploy" if service == _PUSH else "read", app):
            raise Refused(403, f"{objection}.")
        return _Request(app, endpoint, service, user)

    def _user(self, authorization: bytes) -> User:
        """Return the user whose token is the password of a Basic Authorization (RFC 7617). Raises `Refused`."""
        scheme, _, encoded = authorization.partition(b" ")
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            password = base64.b64decode(encoded, validate=True).decode().partition(":")[2]
            if scheme.lower() == b"basic" and (found := self._users.find(password)) is not None:
                return found.user
        raise Refused(
            401, "Give the token of a user of this host as the password; `portway user add` makes one.", _CHALLENGE
        )

    @contextlib.contextmanager
    def _place(self, request: _Request) -> Iterator[None]:
        """Take a place among the requests of its kind while the block lasts. Raises `Refused` when all are taken."""
        most = _PUSHES if request.service == _PUSH else _PULLS
        all_users, own = (request.service, ""), (request.service, request.user.name)
        if self._running[all_users] >= most or self._running[own] >= most * 3 // 4:  # one user leaves room for others
            raise Refused(503, "The host serves as many requests of git as it can: try again in a moment.", _RETRY)
        self._running.update((all_users, own))
        try:
            yield
        finally:
            self._running.subtract((all_users, own))

    async def _serve(self, request: _Request, scope: Scope, receive: Receive, send: Send) -> None:
        repository = self._commits.repository(request.app)
        if request.service == _PULL:
            if not await asyncio.to_thread(self._commits.is_on_branch, request.app):
                raise Refused(404, _nothing(request.app, is_known=self._store.app(request.app) is not None))
            async with CgiProgram(_environment(repository, request, scope)) as program:
                await program.exchange(receive, send)
            return
        if self._paths.restored.exists():
            raise Refused(503, RESTS)
        refuse_old_git()
        if request.endpoint != _PUSH and not repository.exists:  # it is made by a push, not by a look
            repository = self._commits.empty
        self._pushing[request.app] += 1
        try:
            async with self._making:
                await asyncio.to_thread(repository.make)
            await self._push(request, repository, scope, receive, send)
        finally:
            self._pushing[request.app] -= 1
            async with self._making:
                if request.endpoint == _PUSH and not self._pushing[request.app]:
                    await asyncio.to_thread(self._commits.clean, request.app)
                    with contextlib.suppress(DeployError), self._deployer.turns.at_once(request.app):
                        await asyncio.to_thread(self._commits.remove_unmade, request.app)

    async def _push(
        self, request: _Request, repository: Repository, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def answer(hook_request: bytes, tell: Callable[[str], None]) -> bool:
            return await self._deploy(request, repository, hook_request, tell)

        pipes = HookPipes()
        try:
            environment = _environment(repository, request, scope) | pipes.environment
            async with CgiProgram(environment, pipes.kept) as program:
                answering = asyncio.create_task(pipes.serve(answer))
                try:
                    await program.exchange(receive, send)
                finally:
                    answering.cancel()
                    await asyncio.gather(answering, return_exceptions=True)
        finally:
            pipes.close()

    async def _deploy(
        self, request: _Request, repository: Repository, hook_request: bytes, tell: Callable[[str], None]
    ) -> bool:
        """Deploy what is pushed, and tell how it goes. Return whether it is live."""
        app, options, outcome = request.app, PushOptions(), PushOutcome()

        async def report(step: str) -> None:
            tell_all("-----> ", step)

        def tell_all(prefix: str, text: str) -> None:
            """Tell the lines of a text, without paths of the host."""
            for line in self._paths.hidden(text).splitlines():
                tell(prefix + line)
                prefix = " " * len(prefix)

        try:
            pushed = await asyncio.to_thread(read_pushed, hook_request, repository)
            options = pushed.options
            source = await asyncio.to_thread(source_of, pushed, repository, app, request.user.name)
            done = await self._deployer.deploy(source, report, _deploy_options(pushed, request))
            outcome.apps = [self._deployment(one) for one in done]
        except Superseded as error:
            outcome.superseded = str(error)
        except (PushRefused, DeployError, GitError) as error:
            outcome.error = str(error)
        if options.deploy:
            outcome.error = self._paths.hidden(outcome.error)
            tell(msgspec.json.encode(outcome).decode())
        elif failure := outcome.superseded or outcome.error:
            tell_all("portway: ", failure)
            if (record := self._store.app(app)) is not None:
                tell(f"         {failure_line(app, record.live)}")
        for one in outcome.apps if not options.deploy else ():
            tell(live_line(one.app, one.url, one.release, one.before, one.tools, one.duration_ms))
            if one.token:
                tell(f"       token {one.token}   (shown once; more with `portway token create {one.app} NAME`)")
        return bool(outcome.apps)


def _deploy_options(pushed: Pushed, request: _Request) -> DeployOptions:
    options = pushed.options
    return DeployOptions(
        changes=options.changes,
        allowed=options.allowed,
        skip=options.skip,
        cause=Cause("deploy" if options.deploy else "push", asked_by=request.user.name, commit=pushed.new),
        accept=options.accept,
        pushed_to=request.app,
        user=request.user,
    )


def _environment(repository: Repository, request: _Request, scope: Scope) -> dict[str, str]:
    """Return the whole environment of the CGI program (RFC 3875 section 4.1).

    The version of the protocol that the client asks for is left out: version 2 gives any object by its id.
    """
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    environment = git_environment(repository.path) | {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": f"/{repository.path.name}/{request.endpoint}",
        "QUERY_STRING": f"service={request.service}" if request.endpoint == "info/refs" else "",
        "CONTENT_TYPE": headers.get(b"content-type", ""),
        "REMOTE_USER": request.user.name,
        "GIT_PROJECT_ROOT": str(repository.path.parent),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PORTWAY_BUILD": str(repository.path),  # by which a later control finds it, and ends it
    }
    del environment["GIT_DIR"]
    if headers.get(b"content-encoding") == "gzip":
        environment["HTTP_CONTENT_ENCODING"] = "gzip"
    return environment


def _nothing(app: str, *, is_known: bool) -> str:
    if is_known:
        return f"Nothing of {app} is in git: its live release was made without it. Deploy it again, or push to it."
    return f"There is no app {app} on this host: push to this address to make it."
