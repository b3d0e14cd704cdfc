"""Deletes the old releases of an app."""

import asyncio

from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.store import Store

_KEPT = 5


async def prune(store: Store, paths: Paths, app: str) -> None:
    """Delete all but the newest five builds of `app`, the newest five releases of each, and the newest five failures.

    The release that was built is kept as long as others share its files.
    """
    records = store.releases(app)
    ready = [record for record in records if record.status == "ready"]
    builds = list(dict.fromkeys(record.files or record.number for record in reversed(ready)))
    kept = {record.number for record in [record for record in records if record.status == "failed"][-_KEPT:]}
    for build in builds[:_KEPT]:
        kept |= {build, *[record.number for record in ready if (record.files or record.number) == build][-_KEPT:]}
    for record in records:
        if record.status != "building" and record.number not in kept:
            release = Release(app, record.number, paths.release(app, record.number), record.config)
            await asyncio.to_thread(release.remove, keep_log=False)
            store.forget_release(app, record.number)
