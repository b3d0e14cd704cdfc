"""Records the commit of each release and lets the branch follow what is live; mends what an interrupted push has left.

A commit is held by a ref of the release that was built from it, which is written before that release goes live. So
what the store calls live has its commit whenever the host ends, and the branch is moved there at the latest when it
starts again.
"""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from portway.host.files import remove_tree
from portway.host.git.commit_source import CommitSource
from portway.host.git.git_command import GitError
from portway.host.git.repository import BRANCHES, Repository
from portway.host.paths import Paths
from portway.host.sources.folder_source import FolderSource
from portway.host.sources.source import Source
from portway.host.store import Store

_LEFTOVERS = ("objects/incoming-*", "objects/tmp_objdir-*")  # quarantines: git leaves them when it is told to end
_LOCKS = ("*.lock", "refs/**/*.lock")


@dataclass(frozen=True, slots=True)
class NewCommit:
    """The commit of a release that is being made; its objects are in the quarantine of `repository`.

    `branch` is the one that the repository is to have from then on, empty for the one it has.
    """

    id: str
    repository: Repository
    branch: str = ""


class ReleaseCommits:
    """The commits in the repositories of all apps. Every method runs git: call it on a thread."""

    def __init__(self, paths: Paths, store: Store) -> None:
        self._paths = paths
        self._store = store

    def repository(self, app: str) -> Repository:
        return Repository(self._paths.repository(app))

    @property
    def empty(self) -> Repository:
        """A repository without commits, which stands for that of an app not made yet."""
        return Repository(self._paths.data / "empty.git")

    def live(self, app: str) -> str:
        """Return the commit of the live release, empty when there is none. Raises `GitError`."""
        record, repository = self._store.live_release(app), self.repository(app)
        if record is None or not repository.exists:
            return ""
        return repository.of_release(record.build)

    def is_on_branch(self, app: str) -> bool:
        """Return whether a clone gets the live release, or what was live a moment ago. Raises `GitError`."""
        return bool(self.live(app) and self.repository(app).head())

    def record(self, app: str, source: Source, copy: Path, objects: Path) -> NewCommit | None:
        """Return the commit of a source that was copied to `copy`; None when there is no git.

        What it writes goes to `objects`. Raises `SourceError` for a push that lacks what is live, and `GitError`.
        """
        if shutil.which("git") is None and not isinstance(source, CommitSource):
            return None
        repository, live = self.repository(app), self.live(app)
        repository.make()
        if isinstance(source, CommitSource):
            held = repository.reading(source.repository)
            if source.repository.path == repository.path:
                held = source.repository
                source.refuse_loss(live)
            is_first = source.branch in BRANCHES and not repository.head()
            return NewCommit(source.commit, held, source.branch if is_first else "")
        objects.mkdir(exist_ok=True)
        writing = repository.writing(objects)
        return NewCommit(writing.commit_folder(copy, f"Deploy {source.name}\n", live), writing)

    def keep(self, number: int, commit: NewCommit) -> None:
        """Hold the commit of a release that is about to go live. Raises `GitError`."""
        commit.repository.keep(commit.id, number)
        if commit.branch:
            commit.repository.choose_branch(commit.branch)

    def record_live(self, app: str) -> None:
        """Record what is live if that was not done. Raises `SourceError`, and `GitError`."""
        record, repository, copy = self._store.live_release(app), self.repository(app), self._paths.draft()
        if record is None or self.live(app):
            return
        objects = copy.with_name(f"{copy.name}.objects")
        try:
            FolderSource(self._paths.release(app, record.build) / "src", asks_git=False).copy_to(copy)
            repository.make()
            objects.mkdir()
            writing = repository.writing(objects)
            commit = writing.commit_folder(copy, f"Release {record.number}, recorded later\n")
            self.keep(record.build, NewCommit(commit, writing))
            self.follow(app)
        finally:
            for made in (copy, objects):
                remove_tree(made)

    def follow(self, app: str) -> None:
        """Let the branch point at what is live, and forget the commits of releases that are gone. Raises `GitError`."""
        if self._point(app):
            repository = self.repository(app)
            repository.hold_only({record.number for record in self._store.releases(app)})
            repository.tidy()

    def _point(self, app: str) -> bool:
        """Let the branch point at what is live. Return whether that has a commit."""
        repository, live = self.repository(app), self.live(app)
        if live and repository.head() != live:
            repository.set_live(live)
        return bool(live)

    def mend(self) -> None:
        """At the start: remove what an interrupted push has left, and let each branch point at what is live."""
        for path in self._paths.data.glob("apps/*/git"):
            for lock in (each for pattern in _LOCKS for each in path.glob(pattern)):
                lock.unlink()
            self.clean(path.parent.name)
            self.remove_unmade(path.parent.name)
            with contextlib.suppress(GitError):  # the log has it
                self._point(path.parent.name)

    def clean(self, app: str) -> None:
        """Remove what ended pushes have left. Only while none is under way."""
        repository = self._paths.repository(app)
        for leftover in (each for pattern in _LEFTOVERS for each in repository.glob(pattern)):
            remove_tree(leftover)

    def remove_unmade(self, app: str) -> None:
        """Remove the repository of an app that was not made. Only while none is deployed or pushed to."""
        if self._store.app(app) is None:
            remove_tree(self._paths.repository(app))
            with contextlib.suppress(OSError):
                self._paths.app(app).rmdir()
