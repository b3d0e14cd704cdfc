from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from portway.host.app_config import AppConfig, Start
from portway.host.paths import Paths
from portway.host.releases.prune import prune
from portway.host.store import FinishedRelease, InstanceRecord, Store, StoreError
from portway.host.store.tables import metadata
from portway.protocol.sealing import Keys

CONFIG = AppConfig(access="public", origins=["https://app.example.com"])
START = Start(["portway", "run", "server.py"], "server.py", on_socket=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    path = tmp_path / "what?a%41 #.db"
    store = Store(path)
    assert path.is_file(), "a path is no URL"
    yield store
    store.close()


def test_release_numbers_are_never_used_twice(store: Store) -> None:
    assert [store.begin_release("a", "/a"), store.begin_release("a", "/a"), store.begin_release("b", "/b")] == [1, 2, 1]
    store.forget_release("a", 2)
    assert store.begin_release("a", "/a") == 3


def test_only_a_finished_release_is_live(store: Store) -> None:
    store.begin_release("a", "/a")
    store.finish_releases([FinishedRelease("a", 1, CONFIG, START, "{}")])
    store.begin_release("a", "/a")
    store.fail_release("a", 2, "it did not build")

    assert [app.live for app in store.apps()] == [1]
    assert [(kept.status, kept.config, kept.start, kept.error) for kept in store.releases("a")] == [
        ("ready", CONFIG, START, ""),
        ("failed", AppConfig(), None, "it did not build"),
    ]


def test_the_newest_five_ready_and_the_newest_five_failed_releases_are_kept(store: Store, tmp_path: Path) -> None:
    paths = Paths(tmp_path / "data", tmp_path / "run")
    for number in range(1, 14):
        assert store.begin_release("a", "/a") == number
        if number % 2:
            store.finish_releases([FinishedRelease("a", number, CONFIG, START, "{}")])
        else:
            store.fail_release("a", number, "it did not build")
        paths.release("a", number).mkdir(parents=True)
    asyncio.run(prune(store, paths, "a"))

    kept = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert [release.number for release in store.releases("a")] == kept
    assert [number for number in range(1, 14) if paths.release("a", number).exists()] == kept


def test_a_build_is_kept_as_long_as_releases_share_its_files(store: Store, tmp_path: Path) -> None:
    paths = Paths(tmp_path / "data", tmp_path / "run")
    for number, files in enumerate([None, 1, 1, 1, 1, 1, 1, None, None, None, None], 1):
        assert store.begin_release("a", "/a", files=files) == number
        store.finish_releases([FinishedRelease("a", number, CONFIG, START, "{}")])
        paths.release("a", number).mkdir(parents=True)
    asyncio.run(prune(store, paths, "a"))
    assert [release.number for release in store.releases("a")] == [1, *range(3, 12)], "five of one build, and the build"
    store.begin_release("a", "/a")
    store.finish_releases([FinishedRelease("a", 12, CONFIG, START, "{}")])
    asyncio.run(prune(store, paths, "a"))
    assert [release.number for release in store.releases("a")] == [*range(8, 13)]
    assert not paths.release("a", 1).exists()


def test_a_token_name_is_unique_in_its_app(store: Store) -> None:
    for app in ("a", "b"):
        store.begin_release(app, "/")
        store.add_token(app, "ci", f"digest of {app}", ["read"])
    with pytest.raises(StoreError, match="a already has a token named 'ci': rotate or revoke it, or"):
        store.add_token("a", "ci", "another", [])
    assert [(token.app, token.scopes) for token in store.tokens()] == [("a", ("read",)), ("b", ("read",))]
    assert store.drop_token("a", "ci")
    assert not store.drop_token("a", "ci")


def test_an_apps_keys_are_its_own_and_stay(store: Store) -> None:
    for app in ("a", "b"):
        store.begin_release(app, "/")
    keys = store.sealing_keys("a")
    store.begin_release("a", "/")
    assert store.sealing_keys("a") == keys != store.sealing_keys("b")
    assert Keys.parse(keys)
    assert keys not in repr(store.apps()), "they are listed nowhere"


def test_a_destroyed_app_leaves_nothing(store: Store) -> None:
    store.begin_release("a", "/a")
    store.add_token("a", "ci", "digest", [])
    store.add_instance(InstanceRecord("i", "a", 1, "1:2"))
    store.destroy("a")
    assert (store.apps(), store.releases("a"), store.tokens(), store.instances()) == ([], [], [], [])


def test_the_migrations_make_the_tables_the_code_reads(tmp_path: Path) -> None:
    Store(tmp_path / "portway.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'portway.db'}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert differences == []


def test_alembic_is_not_imported_for_a_database_that_is_up_to_date(tmp_path: Path) -> None:
    Store(tmp_path / "portway.db").close()
    code = """
import pathlib, sys
from portway.host.store import Store
Store(pathlib.Path(sys.argv[1])).close()
print("alembic" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "portway.db")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
