"""Restores a backup to a data directory: its key, room on the disk, files, links; nothing is left of one that failed.

States of the place DATA:

    (none) → DATA.restoring    the backup is looked at, its key is the right one, and its members are being written
    DATA.restoring → DATA      all is there: the folder gets its name
    DATA.restoring → (none)    something is wrong with the backup; what a killed restore left goes with the next
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from portway.counted import counted
from portway.host.backup.backup_format import BUNDLE, PROBE, BackupError, Manifest, Warnings, largest, place_in_tree
from portway.host.backup.backup_reader import BackupReader
from portway.host.backup.origin import Origin, keep_origin
from portway.host.files import remove_tree, write_durably
from portway.host.git.git_command import GitError
from portway.host.git.repository import Repository
from portway.host.paths import Paths
from portway.host.secrets.key_file import KeyFile, KeyFileError
from portway.host.secrets.variables import Variables
from portway.host.sources.source import SourceError, app_name
from portway.host.store import Store, StoreError

_ROOM_BYTES = 64 * 2**20  # that a restore leaves on the disk
_MOST_LINKS = 100_000


def restore_backup(
    reader: BackupReader, paths: Paths, key_file: KeyFile | None, report: Callable[[str], None], *, takes_over: bool
) -> list[str]:
    """Restore a backup to `paths.data`, which must be empty or not be there; return warnings.

    Unless it `takes_over`, the host knows that it is a copy. Raises `BackupError` or `OSError`; nothing is left then.
    """
    manifest = reader.manifest
    _require_key(manifest, key_file)
    _require_free(paths.data)
    with _draft(paths.data) as folder:
        draft = Paths(folder, paths.run)
        restoring = _Restoring(reader, draft, report)
        restoring.read()
        restoring.complete(key_file if manifest.probe else None)
        if not takes_over:
            keep_origin(draft, Origin(manifest.host, manifest.data, manifest.made))
        draft.lock.touch(mode=0o600)
        os.sync()
        folder.rename(paths.data)
    return restoring.warnings.lines()


def _require_key(manifest: Manifest, key_file: KeyFile | None) -> None:
    if not manifest.probe:
        return
    if key_file is None:
        raise BackupError("the variables in the backup are encrypted: name the file with their key by --key-from")
    try:
        found = key_file.read().decrypt(PROBE, manifest.probe)
    except (KeyFileError, OSError) as error:
        raise BackupError(str(error)) from None
    if found is None:
        raise BackupError(f"the key in {key_file.path} is not the one of this backup: name the right one")


def _require_free(data: Path) -> None:
    if data.is_symlink() or (data.exists() and not (data.is_dir() and not any(data.iterdir()))):
        raise BackupError(f"{data} is not empty: give --data a directory that is, or that is not there")
    if data.is_mount():
        raise BackupError(f"{data} is where a disk is mounted: give --data a directory in it")


@contextlib.contextmanager
def _draft(data: Path) -> Iterator[Path]:
    """Make the folder in which `data` is restored; it goes with the block unless it was renamed."""
    folder = data.with_name(f"{data.name}.restoring")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BackupError(f"another restore to {data} is under way: wait for its end") from None
        for left in folder.iterdir():  # by a restore that was killed
            remove_tree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        try:
            yield folder
        finally:
            if folder.exists():
                remove_tree(folder)
    finally:
        os.close(descriptor)


class _Restoring:
    """A restore to the data directory of `paths`."""

    def __init__(self, reader: BackupReader, paths: Paths, report: Callable[[str], None]) -> None:
        self.warnings = Warnings()
        self._reader = reader
        self._paths = paths
        self._report = report
        self._links: list[tuple[Path, str, Path]] = []
        self._bundles: list[Path] = []
        self._unchecked = 0

    def read(self) -> None:
        """Write every member. Nothing is written through a link, as links are made last."""
        for member in self._reader.members():
            with self._told(member.name):
                self._take(member)
        self._make_links()

    def complete(self, key_file: KeyFile | None) -> None:
        """Make of what was written a host. Raises `BackupError`."""
        paths = self._paths
        if not paths.database.is_file():
            raise self._reader.damaged()
        try:
            store = Store(paths.database)
            try:
                store.require_plain()
                if key_file is not None:
                    write_durably(paths.key, key_file.path.read_bytes())
                if store.encrypted():
                    Variables(store, KeyFile(paths.key))
                store.forget_machine()
                for app in store.apps():
                    app_name("", app.name)
                    for record in store.releases(app.name):
                        if record.status == "ready" and record.files is None:
                            paths.release(app.name, record.number).mkdir(mode=0o700, parents=True, exist_ok=True)
                            paths.unbuilt(app.name, record.number).touch()
            finally:
                store.close()
            for bundle in self._bundles:
                repository = Repository(bundle.with_name("git"))
                repository.make()
                repository.unbundle(bundle)
                bundle.unlink()
        except (StoreError, KeyFileError, SourceError, GitError) as error:
            raise BackupError(f"the backup cannot be restored: {error}") from None
        self._report(f"commits of {counted(len(self._bundles), 'app')}")

    def _take(self, member: tarfile.TarInfo) -> None:
        """Write one member. What no backup has is refused: other names, devices, files that are too large."""
        path, root, most = self._paths.data / member.name, place_in_tree(member.name), largest(member.name)
        if root is not None and member.isdir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif member.name == root:
            raise _foreign(member.name)
        elif root is not None and member.isreg():
            self._write(member, path, member.mode & 0o777)
            os.utime(path, (member.mtime, member.mtime))
        elif root is not None and member.issym() and "\0" not in member.linkname:
            if len(self._links) < _MOST_LINKS:
                self._links.append((path, member.linkname, self._paths.data / root))
            else:
                self.warnings.add(member.name, "is left out: there are too many links")
        elif most is not None and member.isreg() and member.size <= most:
            self._write(member, path, 0o600)
            if path.name == BUNDLE:
                self._bundles.append(path)
        else:
            raise _foreign(member.name)

    def _write(self, member: tarfile.TarInfo, path: Path, mode: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            for piece in self._reader.pieces(member):
                if piece == bytes(len(piece)):  # a file with holes may be larger than the disk
                    file.seek(len(piece), os.SEEK_CUR)
                else:
                    self._require_room(len(piece))
                    file.write(piece)
            file.truncate(member.size)
            os.fchmod(file.fileno(), mode)

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Raise `BackupError` for what the system says of a member."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._no_room() from None
            raise BackupError(f"{ascii(name)[:200]} cannot be written: {error.strerror}") from None

    def _require_room(self, size: int) -> None:
        self._unchecked -= size
        if self._unchecked < 0:
            self._unchecked = _ROOM_BYTES // 2
            if shutil.disk_usage(self._paths.data).free < _ROOM_BYTES + self._unchecked:
                raise self._no_room()

    def _no_room(self) -> BackupError:
        return BackupError(f"the disk of {self._paths.data.parent} has no room for the backup: make some")

    def _make_links(self) -> None:
        """Make the links, but for those that lead out of their folder. One below another would be made elsewhere."""
        links = {path for path, _, _ in self._links}
        for path, target, _ in self._links:
            name = str(path.relative_to(self._paths.data))
            if not links.isdisjoint(path.parents):
                raise _foreign(name)
            with self._told(name):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.symlink_to(target)
        for path, target, root in self._links:
            if not _stays(path, root):
                path.unlink()
                self.warnings.add(str(path.relative_to(self._paths.data)), f"is left out: it leads to {target!a}")


def _foreign(name: str) -> BackupError:
    return BackupError(f"the backup has a member that no backup has: {ascii(name)[:200]}")


def _stays(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root.resolve()) and not link.readlink().is_absolute()
    except (RuntimeError, OSError):  # a loop: the former until Python 3.12
        return False
