"""Takes a changed certificate of the operator's (`--cert`) into use without a dropped call."""

import asyncio
import contextlib
import logging
from pathlib import Path

from portway.host.files import write_durably
from portway.host.paths import Paths
from portway.host.tls.https_settings import HttpsError
from portway.host.tls.own_certificate import read_own_certificate

_log = logging.getLogger("portway.host")
_LOOK_SECONDS = 1.0


class CertificateWatch:
    """Looks at both files every second.

    A new pair is read when the files have not changed for a second: they are often written one after the other. One
    that cannot be used is refused with a sentence, and the pair before it goes on, also in a Caddy that is restarted.
    """

    def __init__(self, paths: Paths, certificate: Path, key: Path, domain: str) -> None:
        self._paths = paths
        self._certificate = certificate
        self._key = key
        self._domain = domain

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def __aexit__(self, *_exception: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _watch(self) -> None:
        taken, before = None, None
        while True:
            now = await asyncio.to_thread(self._marks)
            if now == before and now != taken:
                try:
                    await self._take()
                    taken = now
                except HttpsError as error:
                    _log.error(
                        "the new certificate is not used, the one before stays: %s", error
                    )  # a sentence for the operator
                    taken = now
                except OSError as error:  # a full disk
                    _log.error(
                        "cannot write %s: %s", self._paths.own_certificate, error.strerror
                    )  # a sentence for the operator
            before = now
            await asyncio.sleep(_LOOK_SECONDS)

    def _marks(self) -> list[tuple[int, int, int] | None]:
        """Return what tells a file from its successor, of each file; None for one that is not there."""
        marks: list[tuple[int, int, int] | None] = []
        for path in (self._certificate, self._key):
            try:
                found = path.stat()
                marks.append((found.st_ino, found.st_size, found.st_mtime_ns))
            except OSError:
                marks.append(None)
        return marks

    async def _take(self) -> None:
        """Use the pair from now on, unless it is in use. Raises `HttpsError` for one that cannot be, and OSError."""
        pair = await asyncio.to_thread(read_own_certificate, self._certificate, self._key, self._domain)
        if pair != await asyncio.to_thread(self._paths.own_certificate.read_bytes):
            await asyncio.to_thread(write_durably, self._paths.own_certificate, pair)
            _log.info("the new certificate %s is in use", self._certificate)
