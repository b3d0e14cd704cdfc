"""Where logins are kept between runs (a file for each server, mode 0600, or in memory), and locked among processes."""

import asyncio
import contextlib
import glob
import hashlib
import os
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from portway.client.errors import ClientError
from portway.client.oauth.stored_login import Login
from portway.client.private_file import config_folder, read_private, write_private

_LOCK_SECONDS, _POLL_SECONDS = 30.0, 0.05


class LoginStorage(Protocol):
    """Keeps one login for each server, by the server's URL in its one form."""

    async def load(self, url: str) -> Login | None:
        """Return the login, None if there is none. Raises ClientError."""

    async def save(self, url: str, login: Login | None) -> None:
        """Replace the login, or forget it. Raises ClientError."""

    def lock(self, url: str) -> AbstractAsyncContextManager[None]:
        """Keep others from refreshing the same login meanwhile, those in other processes too. Raises ClientError."""


class MemoryStorage:
    """Keeps logins as long as the process lives."""

    def __init__(self) -> None:
        self._logins: dict[str, Login] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def load(self, url: str) -> Login | None:
        """Return the login of the server at `url`."""
        return self._logins.get(url)

    async def save(self, url: str, login: Login | None) -> None:
        """Replace the login, or forget it."""
        if login is None:
            self._logins.pop(url, None)
        else:
            self._logins[url] = login

    def lock(self, url: str) -> asyncio.Lock:
        """Return the lock of a login."""
        return self._locks[url]


class _File(msgspec.Struct):
    url: str
    login: Login


class FileStorage:
    """Keeps logins in files below a folder that only this user can read.

    The default is `portway/logins` under XDG_CONFIG_HOME, or where the system keeps what programs remember.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder or os.path.join(config_folder(), "logins")

    async def load(self, url: str) -> Login | None:
        """Return the login of the server at `url`. Raises ClientError for a file that is damaged, or open to others."""
        return await asyncio.to_thread(self._read, url)

    def _read(self, url: str) -> Login | None:
        found = read_private(self._path(url), _File)
        return found.login if found is not None and found.url == url else None

    async def logins(self) -> dict[str, Login]:
        """Return every login, by the server's URL. Raises ClientError for a file that is damaged, or open to others."""
        return await asyncio.to_thread(self._read_all)

    def _read_all(self) -> dict[str, Login]:
        found = [read_private(path, _File) for path in glob.glob(os.path.join(glob.escape(self._folder), "*.json"))]
        return {file.url: file.login for file in found if file is not None}

    async def save(self, url: str, login: Login | None) -> None:
        """Replace the file of a login, or remove it. Raises ClientError."""
        await asyncio.to_thread(self._write, url, login)

    def _write(self, url: str, login: Login | None) -> None:
        path = self._path(url)
        if login is not None:
            write_private(path, _File(url, login))
            return
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except OSError as error:
            raise ClientError(f"{path} cannot be written: {error.strerror}") from None

    @asynccontextmanager
    async def lock(self, url: str) -> AsyncIterator[None]:
        """Hold the lock of a login, which other processes wait for. Raises ClientError after 30 s."""
        path = f"{self._path(url)}.lock"
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ClientError(f"{path} cannot be written: {error.strerror}") from None
        try:
            await _lock(descriptor)
            yield
        finally:
            os.close(descriptor)  # which gives the lock back

    def _path(self, url: str) -> str:
        """Return the file of a server: its host for people, and a digest of the whole URL."""
        host = re.sub(r"[^A-Za-z0-9.-]", "_", urlsplit(url).netloc)[:60]
        return os.path.join(self._folder, f"{host}-{hashlib.sha256(url.encode()).hexdigest()[:16]}.json")


async def _lock(descriptor: int) -> None:
    """Wait until nobody else holds a file. Raises ClientError."""
    try:
        async with asyncio.timeout(_LOCK_SECONDS):
            while not _try_lock(descriptor):  # noqa: ASYNC110  # another process gives it back, which sends no event
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise ClientError("another process refreshes the login and does not end: end it, or try again") from None


def _try_lock(descriptor: int) -> bool:
    """Lock a file if nobody holds it. Closing it gives the lock back."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
