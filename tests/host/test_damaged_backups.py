"""What no host is restored from: a file that is damaged, foreign, hostile, or without its key."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import os
import sqlite3
import tarfile
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from portway.cli.main import cli
from portway.host.backup.backup_format import FORMAT, Manifest
from portway.host.backup.backup_writer import BackupWriter
from portway.host.backup.file_tree import Found
from portway.host.files import remove_tree
from portway.host.paths import Paths
from portway.host.store import Store
from portway.host.store.tables import HEAD
from tests.host.backup_verbs import restore

MANIFEST = Manifest(FORMAT, "0", HEAD, 0, "machine", "/data", [], "")


def nothing_is_left(file: Path) -> bool:
    return not list(file.parent.glob("restored*"))


def test_the_key_is_not_in_the_backup_and_nothing_is_written_without_it(host_data: Path, backup: Path) -> None:
    with gzip.open(backup) as content:
        assert (host_data / "key").read_bytes().strip() not in content.read()
    (backup.parent / "host.key").unlink()
    refused = restore(backup)
    assert "the variables in the backup are encrypted: name the file with their key by --key-from" in refused.output
    (backup.parent / "host.key").write_bytes(b"A" * 43 + b"=\n")
    (backup.parent / "host.key").chmod(0o600)
    refused = restore(backup)
    assert "host.key is not the one of this backup: name the right one" in refused.output
    assert nothing_is_left(backup)


def test_nothing_is_restored_over_what_is_there(host_data: Path, backup: Path) -> None:
    before = sorted(host_data.rglob("*"))
    refused = restore(backup, data=host_data)
    assert "is not empty: give --data a directory that is, or that is not there" in refused.output
    assert sorted(host_data.rglob("*")) == before
    (backup.parent / "empty").mkdir()
    assert restore(backup, data=backup.parent / "empty").exit_code == 0


@pytest.mark.parametrize("kept", [0, 1, 9, 20, 300, 0.3, 0.5, 0.9, -30, -9, -8, -1])
def test_a_backup_that_is_cut_off_anywhere_is_refused(backup: Path, kept: float) -> None:
    whole = backup.read_bytes()
    backup.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    refused = restore(backup)
    assert "damaged" in refused.output
    assert refused.exit_code == 1
    assert nothing_is_left(backup)


@pytest.mark.parametrize("place", [0, 3, 12, 200, 1000, -1200, -8, -4, -1])
def test_a_backup_with_a_changed_byte_is_refused(backup: Path, place: int) -> None:
    whole = bytearray(backup.read_bytes())
    whole[place] ^= 0x55
    backup.write_bytes(whole)
    refused = restore(backup)
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit), refused.exception
    assert nothing_is_left(backup)


def archive(file: Path, *members: tuple[tarfile.TarInfo, bytes], manifest: bytes | None = None) -> Path:
    """Write a backup of these members, with the key of nothing and without an end."""
    text = msgspec.json.encode(MANIFEST) if manifest is None else manifest
    with tarfile.open(file, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for member, content in ((tarfile.TarInfo("portway-backup.json"), text), *members):
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return file


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def test_a_file_that_is_no_backup_or_of_a_newer_portway_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "host.backup"
    newer = {"format": FORMAT + 1, "apps": 3}
    later = msgspec.structs.replace(MANIFEST, schema="9999")
    for content, told in (
        (b"", "host.backup is not a backup of Portway"),
        (b"no archive", "host.backup is not a backup of Portway"),
        (gzip.compress(b"no archive"), "host.backup is not a backup of Portway"),
        (archive(file, manifest=b"[]").read_bytes(), "host.backup is not a backup of Portway"),
        (archive(file, manifest=b" " * 2**21).read_bytes(), "host.backup is not a backup of Portway"),
        (archive(file, manifest=msgspec.json.encode(newer)).read_bytes(), "was made by a newer Portway: upgrade this"),
        (archive(file, manifest=msgspec.json.encode(later)).read_bytes(), "was made by a newer Portway: upgrade this"),
        (archive(file, manifest=b'{"format": 1}').read_bytes(), "host.backup is damaged or cut off: restore another"),
        (archive(file).read_bytes(), "host.backup is damaged or cut off: restore another backup"),
    ):
        file.write_bytes(content)
        refused = restore(file)
        assert told in refused.output, content[:100]
        assert nothing_is_left(file)
    assert "name the file with the backup" in CliRunner().invoke(cli, ["restore"]).output
    assert "none' does not exist." in restore(tmp_path / "none").output
    assert "nokey' does not exist." in restore(file, "--key-from", str(tmp_path / "nokey")).output


STORAGE = "apps/app/storage"


@pytest.mark.parametrize(
    "hostile",
    [
        member("../escaped"),
        member("/tmp/escaped"),
        member(f"{STORAGE}/../../../../escaped"),
        member(f"{STORAGE}/a/../b"),
        member(f"{STORAGE}//a"),
        member(f"{STORAGE}/."),
        member(f"{STORAGE}/{'x' * 256}"),
        member(f"{STORAGE}/{'x/' * 1600}x"),
        member("apps/../storage/a"),
        member("apps/UPPER/storage/a"),
        member("apps/app/releases/0/source/a"),
        member("key"),
        member("lock"),
        member("apps/app/git/config"),
        member("portway.db", tarfile.DIRTYPE),
        member("portway.db", tarfile.SYMTYPE, "/etc/passwd"),
        member(f"{STORAGE}/hard", tarfile.LNKTYPE, "portway.db"),
        member(f"{STORAGE}/device", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member(f"{STORAGE}/disk", tarfile.BLKTYPE),
        member(f"{STORAGE}/pipe", tarfile.FIFOTYPE),
        member(f"{STORAGE}/sparse", tarfile.GNUTYPE_SPARSE),
        member(f"{STORAGE}/late", pax_headers={"mtime": "1e30"}),
        member(f"{STORAGE}/never", pax_headers={"mtime": "nan"}),
        member(f"{STORAGE}/link", tarfile.SYMTYPE, pax_headers={"linkpath": "a\0b"}),
        member(STORAGE),
        member(STORAGE, tarfile.SYMTYPE, "../../../out"),
        member("apps/app/releases/1/source", tarfile.SYMTYPE, "../../../../../out"),
    ],
    ids=lambda hostile: f"{hostile.type!r}-{hostile.name[:40]}",
)
def test_a_member_that_no_backup_has_is_refused(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    file = archive(tmp_path / "host.backup", (hostile, b""))
    refused = restore(file)
    assert refused.exit_code == 1
    assert "has a member that no backup has" in refused.output or "is damaged or cut off" in refused.output
    assert isinstance(refused.exception, SystemExit)
    assert nothing_is_left(file)
    assert not Path("/tmp/escaped").exists()


def test_nothing_is_written_through_a_link_or_over_another_member(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for told, *members in (
        ("a/b' cannot be written: ", (member(f"{STORAGE}/a"), b"x"), (member(f"{STORAGE}/a/b"), b"y")),
        ("a' cannot be written: File exists", (member(f"{STORAGE}/a"), b"x"), (member(f"{STORAGE}/a"), b"y")),
        ("a' cannot be written: File exists", (member(f"{STORAGE}/a/b"), b"x"), (member(f"{STORAGE}/a"), b"y")),
        ("is damaged", (member(f"{STORAGE}/a", tarfile.SYMTYPE, str(out)), b""), (member(f"{STORAGE}/a/b"), b"x")),
    ):
        file = archive(tmp_path / "host.backup", *members)
        refused = restore(file)
        assert refused.exit_code == 1
        assert told in refused.output
        assert nothing_is_left(file)
        assert not list(out.iterdir())


def test_no_link_is_made_below_another_link(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    file, links = tmp_path / "host.backup", (("a", "../../../../out"), ("a/made/link", "/etc"))
    with file.open("wb") as output, BackupWriter(output) as writer:
        writer.add_bytes("portway-backup.json", msgspec.json.encode(MANIFEST))
        for name, target in links:
            writer.add_found(f"{STORAGE}/{name}", Found(name, out.stat(), target=target))
        writer.close()
    assert "has a member that no backup has: 'apps/app/storage/a/made/link'" in restore(file).output
    assert not list(out.iterdir())
    assert nothing_is_left(file)


def whole(file: Path, *members: tuple[str, bytes]) -> Path:
    """Write a backup of these files, with a right digest."""
    with file.open("wb") as output, BackupWriter(output) as writer:
        writer.add_bytes("portway-backup.json", msgspec.json.encode(MANIFEST))
        for name, content in members:
            writer.add_bytes(name, content)
        writer.close()
    return file


def test_a_database_or_a_repository_that_is_none_is_refused(tmp_path: Path, paths: Paths) -> None:
    def database(app: str) -> bytes:
        paths.database.unlink(missing_ok=True)
        store = Store(paths.database)
        store.begin_release(app, "/")
        store.close()
        return paths.database.read_bytes()

    def changed(*statements: str) -> bytes:
        database("app")
        with contextlib.closing(sqlite3.connect(paths.database)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return paths.database.read_bytes()

    good = ("portway.db", database("app"))
    odd = "the backup cannot be restored: its database holds what no host has written"
    for members, told in (
        ([], "is damaged or cut off"),
        ([("portway.db", b"no database" * 100)], "the backup cannot be restored: the database"),
        ([("portway.db", good[1][:8192])], "the backup cannot be restored: the"),
        (
            [("portway.db", database("../../escaped"))],
            "the backup cannot be restored: '../../escaped' cannot name an app",
        ),
        ([("portway.db", changed("UPDATE releases SET number = '../../../escaped'"))], odd),
        ([("portway.db", changed("CREATE TRIGGER t AFTER INSERT ON apps BEGIN DELETE FROM users; END"))], odd),
        ([("portway.db", changed("CREATE VIEW v AS SELECT 1"))], odd),
        (
            [good, ("apps/app/repository.bundle", b"# v2 git bundle\n")],
            "the backup cannot be restored: git bundle failed",
        ),
        ([good], "restored to"),
    ):
        done = restore(whole(tmp_path / "host.backup", *members))
        assert told in done.output, members
        if done.exit_code:
            assert nothing_is_left(tmp_path / "host.backup")
        else:
            remove_tree(tmp_path / "restored")


def test_a_member_with_a_head_of_megabytes_is_refused_before_it_is_held(tmp_path: Path) -> None:
    file = tmp_path / "host.backup"
    long = member(f"{STORAGE}/a")
    long.pax_headers = {"comment": "x" * 2**21}
    refused = restore(archive(file, (long, b"")))
    assert "is damaged or cut off: restore another backup" in refused.output
    assert nothing_is_left(file)


def test_what_a_killed_restore_has_left_is_replaced_and_a_running_one_is_not_disturbed(backup: Path) -> None:
    left = backup.parent / "restored.restoring"
    (left / "apps").mkdir(parents=True)
    (left / "apps" / "half").write_text("half")
    descriptor = os.open(left, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    refused = restore(backup)
    assert "another restore to" in refused.output
    assert (left / "apps" / "half").exists()
    os.close(descriptor)
    assert restore(backup).exit_code == 0
    assert not left.exists()
    assert not (backup.parent / "restored/apps/half").exists()
