"""Builds the releases of a restored host again, from their commits.

A release without files is in one of two states: `Paths.unbuilt` exists, or it was built again and the file is gone. A
build that fails or is interrupted leaves the file, so it is tried again.
"""

import asyncio
import logging
import shutil
from dataclasses import replace
from pathlib import Path

from portway.host.app_config import Start
from portway.host.builds.build_error import BuildError
from portway.host.files import remove_tree
from portway.host.git.commit_source import copy_commit
from portway.host.git.git_command import GitError
from portway.host.git.release_commits import ReleaseCommits
from portway.host.paths import Paths
from portway.host.releases.make_releases import ReleaseMaker, SourceCopy
from portway.host.releases.release import Release
from portway.host.releases.steps import Steps, report_to
from portway.host.secrets.environments import Environments
from portway.host.secrets.redact import hide
from portway.host.sources.source import SourceError
from portway.host.store import ReleaseRecord, Store, StoreError

_AT_ONCE = 2
_OF_SOURCE = "RENDER_GIT_"  # begins the names of variables that tell an app its commit
_log = logging.getLogger("portway.host")


class Rebuilder:
    """Builds what is not built yet, each release once."""

    def __init__(
        self, paths: Paths, store: Store, environments: Environments, maker: ReleaseMaker, commits: ReleaseCommits
    ) -> None:
        self._paths = paths
        self._store = store
        self._environments = environments
        self._maker = maker
        self._commits = commits
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._locks: dict[Path, asyncio.Lock] = {}

    async def with_files(self, release: Release) -> Release:
        """Return a release with its files, which nobody waits for. Raises `BuildError`."""
        record = self._store.release(release.app, release.number)
        assert record is not None
        async with self._places:
            return replace(release, start=await self.start_of(record, Steps(report_to(_log, release.app))))

    async def start_of(self, record: ReleaseRecord, steps: Steps) -> Start:
        """Return how an instance of a release is started, once it has its files. Raises `BuildError`."""
        unbuilt = self._paths.unbuilt(record.app, record.build)
        async with self._locks.setdefault(unbuilt, asyncio.Lock()):
            if unbuilt.exists():
                await self._build(record.app, record.build, steps)
                await asyncio.to_thread(remove_tree, self._paths.kept_source(record.app, record.build))
                unbuilt.unlink()
        known = self._store.release(record.app, record.number)
        assert known is not None
        assert known.start is not None
        return known.start

    async def _build(self, app: str, number: int, steps: Steps) -> None:
        record = self._store.release(app, number)
        assert record is not None
        assert record.start is not None
        release = Release(app, number, self._paths.release(app, number), record.config)
        environment, copy = self._environments.of_release(record), self._paths.draft()
        steps.log = release.build_log
        try:
            await asyncio.to_thread(self._copy_source, release, copy)
            variables = {key: value for key, value in record.start.variables.items() if key.startswith(_OF_SOURCE)}
            source = SourceCopy(copy, variables)
            start = await self._maker.build_release(source, environment, steps, release, is_last=True)
            self._store.rebuilt(app, number, start)
        except (BuildError, SourceError, GitError, StoreError, OSError) as error:
            raise BuildError(hide(f"release {number} could not be built again: {error}", environment.secrets)) from None
        finally:
            await asyncio.to_thread(remove_tree, copy)

    def _copy_source(self, release: Release, copy: Path) -> None:
        """Bring the source of a release to `copy`. Raises `BuildError`, `SourceError`, `GitError` or `OSError`."""
        repository = self._commits.repository(release.app)
        kept = self._paths.kept_source(release.app, release.number)
        if kept.is_dir():
            shutil.copytree(kept, copy, symlinks=True)
        elif commit := repository.of_release(release.number) if repository.exists else "":
            copy_commit(repository, commit, copy)
        else:
            raise BuildError("its source was not in the backup: deploy the app again")
        release.remove_files()
