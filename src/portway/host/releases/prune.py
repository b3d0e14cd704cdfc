"""Deletes the old releases of an app."""

import asyncio

from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.store import Store

_KEPT = 5


async def prune(store: Store, paths: Paths, app: str) -> None:
    """Delete all but the newest five ready and the newest five failed releases of `app`."""
    records = store.releases(app)
    for status in ("ready", "failed"):
        for record in [record for record in records if record.status == status][:-_KEPT]:
            release = Release(app, record.number, paths.release(app, record.number), record.config)
            await asyncio.to_thread(release.remove, keep_log=False)
            store.forget_release(app, record.number)
