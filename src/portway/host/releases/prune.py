"""Deletes old releases (the newest five are kept) and the files of destroyed apps.

A release goes in two steps, so that a host that is killed between them leaves nothing: its row, then its folder.
`prune_orphans` deletes the folders of such releases at the next start. An app that is to go is marked first;
`go_on_destroying` deletes those that are still marked at the next start.
"""

import asyncio

from portway.host.files import remove_tree
from portway.host.paths import Paths
from portway.host.store import AppRecord, Store

_KEPT = 5


async def prune(store: Store, paths: Paths, app: str) -> None:
    """Delete all but the newest five builds of `app`, the newest five releases of each, and the newest five failures.

    A build is kept as long as another release shares its files, and a release as long as an instance of it ends calls.
    """
    records = store.releases(app)
    ready = [record for record in records if record.status == "ready"]
    builds = list(dict.fromkeys(record.build for record in reversed(ready)))[:_KEPT]
    kept = {record.number for record in [record for record in records if record.status == "failed"][-_KEPT:]}
    kept |= {record.number for record in records if record.status == "building"}
    kept |= {instance.release for instance in store.instances() if instance.app == app}
    for build in builds:
        kept |= {record.number for record in [record for record in ready if record.build == build][-_KEPT:]}
    kept |= {record.build for record in records if record.number in kept}
    for record in records:
        if record.number not in kept:
            store.forget_release(app, record.number)
            await asyncio.to_thread(remove_tree, paths.release(app, record.number))


def prune_orphans(store: Store, paths: Paths) -> None:
    """Delete the folders of releases whose rows are gone.

    A restored database does not know the releases that were made since, so folders with greater numbers are kept.
    """
    for app in store.apps():
        known = {record.number for record in store.releases(app.name)}
        for folder in paths.releases(app.name):
            if int(folder.name) <= app.last_release and int(folder.name) not in known:
                remove_tree(folder)


def mark_destroyed(paths: Paths, app: AppRecord) -> None:
    """Mark an app that is about to be deleted. Raises `OSError`."""
    paths.app(app.name).mkdir(mode=0o700, exist_ok=True)
    paths.destroying(app.name).write_text(str(app.created))  # it is not an app that gets the name afterwards


def remove_app(paths: Paths, app: str) -> None:
    """Delete the files of an app whose row is gone. Raises `OSError`."""
    paths.drafts.mkdir(mode=0o700, exist_ok=True)
    gone = paths.draft()
    paths.app(app).rename(gone)  # at once, so that nothing is left of it without its mark
    remove_tree(gone)


def go_on_destroying(store: Store, paths: Paths) -> None:
    """Delete the apps that an earlier control was about to delete."""
    for mark in paths.data.glob("apps/*/destroying"):
        name, created = mark.parent.name, mark.read_text()
        app = store.app(name)
        if app is not None and str(app.created) != created:
            mark.unlink()
            continue
        store.destroy(name)
        remove_app(paths, name)
