"""Watches the linked apps: polls each branch every minute, less often while that fails, and deploys a new commit.

A watch is in one of these states:

    waiting    for a hook, or for the time of the next look
    looking    at which commit the branch has; if that is the one it saw last, it waits again
    deploying  that commit, or saying why not; hooks that come meanwhile make it look again afterwards

What a hook says of a commit is a hint only: what is deployed is what the branch has when it is looked at. So the newest
commit is deployed, and what a replayed hook tells changes nothing. A commit that was tried is not tried again.
"""

import asyncio
import contextlib
import logging
import random
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from portway.host.files import remove_tree
from portway.host.git.commit_source import CommitSource
from portway.host.git.git_command import GitError, run_git
from portway.host.git.remote import Ref, Remote
from portway.host.git.remote_url import read_git_url, read_ref
from portway.host.git.repository import Repository
from portway.host.links.triggers import objection
from portway.host.new_token import new_token
from portway.host.paths import Paths
from portway.host.releases.deploy import Deployer
from portway.host.releases.deploy_error import DeployError
from portway.host.releases.make_releases import Deployed
from portway.host.releases.source_apps import DeployOptions
from portway.host.releases.steps import Report, report_to
from portway.host.secrets.variables import Owner, VariableError, Variables
from portway.host.sources.source import SourceError, app_name
from portway.host.store import Cause, LinkRecord, Store, StoreError

_KEY, _SECRET, _ALLOWED = "KEY", "SECRET", "ALLOWED"  # names, below which they are encrypted
_POLL_SECONDS = 60.0
_LONGEST_SECONDS = 960.0  # between looks at a repository that cannot be reached
_AT_ONCE, _AT_ONCE_OF_HOST = 16, 4  # repositories that are asked at a time, so that a slow host keeps up its own only
_PRIVATE_KEY = "PRIVATE KEY-----"
_MOST_SKIPPED = 20  # of skipped commits, those that are named
_LONGEST_NOTE = 600
_log = logging.getLogger("portway.host.links")


class LinkError(Exception):
    """An app cannot be linked or is not; the message is one sentence."""


@dataclass(slots=True)
class _Watch:
    """The task of a linked app. `asked` is set by hooks; `refs` are what deploy hooks ask for, "" for the branch."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    refs: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class Linker:
    """Links apps, and watches what they are linked to."""

    def __init__(self, paths: Paths, store: Store, variables: Variables, deployer: Deployer) -> None:
        self._paths = paths
        self._store = store
        self._variables = variables
        self._deployer = deployer
        self._watches: dict[str, _Watch] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._host_places = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(_AT_ONCE_OF_HOST))

    @property
    def rests(self) -> bool:
        """Whether the host was restored and has not taken over: the one that was backed up may deploy what is new."""
        return self._paths.restored.exists()

    def start(self) -> None:
        """Go on watching what was linked before."""
        for link in self._store.links():
            self._watch(link.app, random.uniform(0, _POLL_SECONDS))  # noqa: S311  # spreads the looks over the minute

    async def close(self) -> None:
        """Watch nothing any more."""
        tasks = [watch.task for watch in self._watches.values() if watch.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def link(
        self, app: str, url: str, branch: str, root: str, key: str, allowed: list[str], report: Report, user: str
    ) -> tuple[LinkRecord, str, list[Deployed]]:
        """Deploy a branch as the app, then link both; return the link, the secret of its hooks, and what is live.

        Files that are `allowed` may hold secrets, in later commits too. Raises `LinkError`; nothing is linked then.
        """
        try:
            name = app_name("", app)
            address = read_git_url(url)
            if key and address.scheme != "ssh":
                raise LinkError("a deploy key is for ssh: give the address as git@HOST:OWNER/NAME")
            if key and _PRIVATE_KEY not in key:
                raise LinkError("the file that --key names holds no private key: give the one whose name lacks .pub")
            link = LinkRecord(name, str(address), read_ref(branch) if branch else "", root)
            async with self._fetched(link, key, branch) as (ref, source, _):
                if not ref.name:
                    raise LinkError(f"{ref.commit[:7]} is a commit, and stays as it is: give a branch")
                await report(f"fetch  {ref.commit[:7]} of {address}#{ref.name}")
                changes = {"root_dir": root} if root else {}
                cause = Cause("link", asked_by=user, commit=source.commit)
                done = await self._deployer.deploy(
                    source, report, DeployOptions(None, changes, allowed=allowed, cause=cause, pushed_to=name)
                )
            secret = new_token("pwh_")
            self._variables.unset_all(Owner("link", name))
            kept = {_SECRET: secret, _KEY: key, _ALLOWED: "\n".join(allowed)}
            self._variables.set(Owner("link", name), {each: value for each, value in kept.items() if value})
            link = replace(link, branch=ref.name, seen=source.commit)
            self._store.put_link(link)
        except (SourceError, GitError, DeployError, VariableError, StoreError, OSError) as error:
            raise LinkError(str(error)) from None
        self._watch(name, _POLL_SECONDS)
        return link, secret, done

    def unlink(self, app: str) -> LinkRecord:
        """End a link; what is live stays. Raises `LinkError` when the app has none."""
        link = self._store.link(app)
        if link is None:
            raise LinkError(f"{app} is not linked: see `portway ps`")
        self._store.drop_link(app)
        self._paths.known_hosts(app).unlink(missing_ok=True)
        self._variables.unset_all(Owner("link", app))
        self.forget(app)
        return link

    def forget(self, app: str) -> None:
        """Watch an app no more, whose link is gone from the store; what is fetched for it is not deployed."""
        if (watch := self._watches.pop(app, None)) and watch.task:
            watch.task.cancel()

    def find(self, app: str) -> tuple[LinkRecord, str] | None:
        """Return the link of an app and the secret of its hooks."""
        link = self._store.link(app)
        secret = self._variables.values(Owner("link", app)).get(_SECRET, "") if link else ""
        return (link, secret) if link and secret else None

    def look(self, app: str, ref: str | None = None) -> bool:
        """Look at the branch of an app soon; with a `ref`, deploy that, or the branch for "", in any case.

        Return whether the app is at work already.
        """
        watch = self._watches[app]
        if ref is not None and ref not in watch.refs:
            watch.refs.append(ref)
        watch.asked.set()
        return app in self._deployer.turns.under_way()

    def _watch(self, app: str, first: float) -> None:
        if (before := self._watches.get(app)) and before.task:
            before.task.cancel()
        watch = self._watches[app] = _Watch()
        watch.task = asyncio.create_task(self._go_on(app, watch, first))

    async def _go_on(self, app: str, watch: _Watch, wait: float) -> None:
        """Look when asked, and each minute; less often while that fails."""
        failures = 0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(watch.asked.wait(), wait)
            watch.asked.clear()
            if self.rests:
                continue
            refs, watch.refs = watch.refs[-1:], []
            link = self._store.link(app)
            if link is None:
                return
            try:
                await self._look(link, refs[0] if refs else None)
                failures = 0
            except (SourceError, GitError, StoreError, VariableError, OSError) as error:
                failures += 1
                self._note(link, link.seen, f"{link.url} could not be looked at: {error}")
            except Exception:  # noqa: BLE001  # one fault must not end the watch; the log has it
                failures += 1
                _log.exception("the link of %s failed", app)
            wait = min(_POLL_SECONDS * 2**failures, _LONGEST_SECONDS)

    async def _look(self, link: LinkRecord, ref: str | None) -> None:
        """Deploy what is new, or what a deploy hook asks for. Raises `SourceError`, `GitError` and `StoreError`."""
        if ref is None:
            async with self._place(link):
                commit = await Remote(read_git_url(link.url), self._deployer.private_sources).look(link.branch)
            if not commit:
                async with self._place(link), self._remote(link, self._key(link.app)) as (remote, place):
                    commit = (await remote.find(link.branch, place)).commit
            if commit == link.seen:
                self._note(link, link.seen, "" if link.note.startswith(link.url) else link.note)
                return
        async with self._fetched(link, self._key(link.app), ref or link.branch) as (_, source, repository):
            commit = source.commit
            live = await asyncio.to_thread(self._deployer.commits.live, link.app)
            skipped = await asyncio.to_thread(_between, repository, live, commit)
            if ref is None and (why := await asyncio.to_thread(self._objection, link, repository, live, commit)):
                self._note(link, commit, f"{commit[:7]} was not deployed: {why}")
                return
            changes = {"root_dir": link.root} if link.root else {}
            cause = Cause("link", f"skips {', '.join(skipped)}" if skipped else "", "link", commit)
            allowed = self._variables.values(Owner("link", link.app)).get(_ALLOWED, "").splitlines()
            options = DeployOptions(None, changes, allowed=allowed, cause=cause, pushed_to=link.app)
            try:
                await self._deployer.deploy(source, report_to(_log, link.app), options)
            except DeployError as error:
                self._note(link, commit, f"{commit[:7]} failed: {error}")
            else:
                self._note(link, commit, "")

    def _objection(self, link: LinkRecord, repository: Repository, live: str, commit: str) -> str | None:
        config = self._store.live_config(link.app)
        if config is None:
            return None
        run = repository.environment()
        message = run_git(run, "log", "-1", "--format=%B", commit).decode(errors="replace")
        changed = None
        if live:
            listed = run_git(run, "diff-tree", "-r", "-z", "--name-only", "--no-renames", live, commit)
            changed = listed.decode(errors="replace").rstrip("\0").split("\0")
        return objection(config, message, changed)

    def _note(self, link: LinkRecord, seen: str, note: str) -> None:
        """Remember what became of a commit."""
        line = (note.splitlines() or [""])[0][:_LONGEST_NOTE]
        if (seen, line) != (link.seen, link.note):
            self._store.note_link(link.app, seen, line)
            _log.info("%s: %s", link.app, line or f"{seen[:7]} of {link.url}#{link.branch} is live")

    def _key(self, app: str) -> str:
        return self._variables.values(Owner("link", app)).get(_KEY, "")

    @contextlib.asynccontextmanager
    async def _place(self, link: LinkRecord) -> AsyncIterator[None]:
        """Take a place among those that ask repositories while the block lasts."""
        async with self._host_places[read_git_url(link.url).host], self._places:
            yield

    @contextlib.asynccontextmanager
    async def _remote(self, link: LinkRecord, key: str) -> AsyncIterator[tuple[Remote, Path]]:
        """Yield the repository elsewhere, and a new one for what is fetched from it, which goes with the block."""
        place = self._paths.draft()
        repository = Repository(place)
        try:
            await asyncio.to_thread(repository.make)
            kept = self._paths.known_hosts(link.app)
            known = kept if self._store.link(link.app) else None  # a new link trusts the other host anew
            yield Remote(read_git_url(link.url), self._deployer.private_sources, key, known), place
            if (met := place / "known_hosts").exists() and kept.parent.is_dir():  # the first deploy has made the app
                await asyncio.to_thread(shutil.copyfile, met, kept)
        finally:
            await asyncio.to_thread(remove_tree, place)

    @contextlib.asynccontextmanager
    async def _fetched(
        self, link: LinkRecord, key: str, ref: str
    ) -> AsyncIterator[tuple[Ref, CommitSource, Repository]]:
        """Yield a ref of the repository elsewhere, its commit as a source, and the repository that has it."""
        async with self._remote(link, key) as (remote, place):
            repository = Repository(place)
            ours = self._deployer.commits.repository(link.app)
            if ours.exists:
                (place / "objects" / "info").mkdir(exist_ok=True)
                (place / "objects" / "info" / "alternates").write_text(f"{ours.path / 'objects'}\n")
            async with self._place(link):
                found = await remote.find(ref, place)
                commit = await remote.fetch(found, repository)
            location = f"{link.url}#{found.name or found.commit[:7]}"
            yield found, CommitSource(repository, commit, found.name, location, link.app, remote.url.slug), repository


def _between(repository: Repository, live: str, commit: str) -> list[str]:
    """Return the short ids of the commits between what is live and a newer commit, newest first."""
    if not live:
        return []
    limit = f"--max-count={_MOST_SKIPPED + 1}"
    listed = run_git(repository.environment(), "rev-list", "--first-parent", limit, commit, f"^{live}")
    return [line[:7] for line in listed.decode().split()[1:]]
