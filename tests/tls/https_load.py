"""Calls over HTTPS that go on while something happens."""

from __future__ import annotations

import collections
import contextlib
import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support import eventually
from tests.tls.https_client import NamedConnection, call

_CLIENTS = 4  # half of them connect for each call


class HttpsLoad:
    """What the calls have met so far: `done` calls, `failures` in words, and the certificates seen in handshakes."""

    def __init__(self, name: str, port: int, root: Path, path: str, token: str) -> None:
        self._target = name, port, root
        self._path, self._token = path, token
        self._end = threading.Event()
        self.done = 0
        self.failures: collections.Counter[str] = collections.Counter()
        self.serials: set[str] = set()

    def run(self, keeps: bool) -> None:
        connection = NamedConnection(*self._target)
        while not self._end.is_set():
            try:
                if connection.sock is None:
                    connection.connect()
                    self.serials.add(connection.serial)
                status = call(connection, self._path, self._token)
                if status != 200:
                    self.failures[f"status {status}"] += 1
                self.done += 1
                if not keeps:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.failures[f"{type(error).__name__}: {error}"] += 1
                connection.close()
        connection.close()

    def more(self, calls: int = 50, within: float = 20) -> None:
        """Wait for more calls."""
        before = self.done
        eventually(lambda: self.done >= before + calls, within=within)

    def stop(self) -> None:
        self._end.set()


@contextlib.contextmanager
def https_load(name: str, port: int, root: Path, path: str, token: str) -> Iterator[HttpsLoad]:
    """Call a host while the block lasts."""
    load = HttpsLoad(name, port, root, path, token)
    threads = [threading.Thread(target=load.run, args=(number % 2 == 0,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        load.more()
        yield load
    finally:
        load.stop()
        for thread in threads:
            thread.join(20)
