"""A log writer for tests that have no whole host."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from portway.host.logs.__main__ import LogWriter
from portway.host.paths import Paths


@contextlib.contextmanager
def log_writer(paths: Paths) -> Iterator[None]:
    """Write the logs of `paths` while the block lasts."""
    writer = LogWriter(paths.log_pipes)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield
    finally:
        writer.stop(at_once=True)
        thread.join()
