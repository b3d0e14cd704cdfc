"""Shares the tarballs of npm packages among apps: what npm has fetched for one serves another, by the digest in the
lock file.

npm takes a package from its cache by the digest in the lock file, and needs no index for it. It must be able to write
to its cache, so each app has its own, and the host copies: only the host reads and writes the shared files. What an
app's cache holds was written by its builds, so no link in it is followed and no name believed.
"""

import base64
import contextlib
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from portway.host.files import read_start
from portway.host.paths import Paths

_LARGEST_LOCK = 16 * 1024 * 1024
_LARGEST = 64 * 1024 * 1024
_MOST_BYTES = 512 * 1024 * 1024  # that are shared, and that are copied before or after one build
_MOST_FILES = 16384  # likewise
_BLOCK = 1024 * 1024
_SHA512 = re.compile(r"(?:^|\s)sha512-([A-Za-z0-9+/]{86}==)")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_Place = tuple[int | None, str]  # a file's name in an open folder, or its path
_CONTENT = (".npm", "_cacache", "content-v2", "sha512")


class _Package(msgspec.Struct):
    integrity: str = ""


class _Lock(msgspec.Struct):
    """What matters here of a package-lock.json, from version 2 on."""

    packages: dict[str, _Package] = {}


def locked_digests(lock: Path) -> list[str]:
    """Return the SHA-512 of each tarball that a lock file of npm names, in hex; none if it cannot be read."""
    try:
        packages = msgspec.json.decode(read_start(lock, _LARGEST_LOCK), type=_Lock).packages.values()
    except (OSError, msgspec.DecodeError):  # npm says what is wrong with it
        return []
    digests = dict.fromkeys(text for package in packages for text in _SHA512.findall(package.integrity))
    return [base64.b64decode(digest).hex() for digest in digests][:_MOST_FILES]


def lend_tarballs(paths: Paths, app: str, digests: Sequence[str]) -> bool:
    """Copy those of these tarballs that are shared into the app's cache. Return whether all are, and there are any."""
    paths.app_cache(app).mkdir(mode=0o700, exist_ok=True)
    left, lent = _MOST_BYTES, 0
    for digest in digests:
        shared = paths.npm_tarballs / digest
        with contextlib.suppress(OSError):  # it is not shared, or the app's cache is odd
            os.utime(shared)
            with _folder(paths.app_cache(app), digest, makes=True) as own:
                left -= _copy((None, str(shared)), (own, digest[4:]), digest, left)
                lent += 1
    return 0 < lent == len(digests)


def share_tarballs(paths: Paths, app: str, digests: Iterable[str]) -> None:
    """Copy these tarballs of the app's cache to the shared ones, of which the least recently used go."""
    paths.npm_tarballs.mkdir(mode=0o700, exist_ok=True)
    left = _MOST_BYTES
    for digest in digests:
        shared = paths.npm_tarballs / digest
        with contextlib.suppress(OSError), _folder(paths.app_cache(app), digest, makes=False) as own:
            left -= _copy((own, digest[4:]), (None, str(shared)), digest, left)
    with contextlib.suppress(FileNotFoundError):  # removed by another build, which makes room itself
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in paths.npm_tarballs.iterdir()]
        total = 0
        for number, (_, size, path) in enumerate(sorted(files, reverse=True), 1):
            total += size
            if total > _MOST_BYTES or number > _MOST_FILES:
                path.unlink()


@contextlib.contextmanager
def _folder(cache: Path, digest: str, *, makes: bool) -> Iterator[int]:
    """Open the folder of an app's cache where npm keeps what has that digest. Raises `OSError` if a link is there."""
    descriptor = os.open(cache, _FOLDER)
    try:
        for name in (*_CONTENT, digest[:2], digest[2:4]):
            if makes:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=descriptor)
            inner = os.open(name, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(source: _Place, target: _Place, digest: str, most: int) -> int:
    """Copy a file unless the target exists; return the bytes read. What has not that digest is removed instead."""
    (folder, name), (to_folder, to_name) = source, target
    with contextlib.suppress(FileNotFoundError):
        os.stat(to_name, dir_fd=to_folder, follow_symlinks=False)
        return 0
    with open(os.open(name, _FILE, dir_fd=folder), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > min(_LARGEST, most):
            return 0
        draft, hashed = f"{to_name}.{secrets.token_hex(4)}", hashlib.sha512()
        try:
            with open(os.open(draft, _NEW, 0o600, dir_fd=to_folder), "wb") as copy:
                for _ in range(found.st_size // _BLOCK + 1):
                    block = file.read(_BLOCK)
                    hashed.update(block)
                    copy.write(block)
            if hashed.hexdigest() == digest:
                os.rename(draft, to_name, src_dir_fd=to_folder, dst_dir_fd=to_folder)
            else:
                os.unlink(name, dir_fd=folder)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=to_folder)
        return found.st_size
