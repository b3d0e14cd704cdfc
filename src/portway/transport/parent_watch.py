"""Ends a stdio server when its client is gone, even while a handler blocks the loop."""

from __future__ import annotations

import os
import select
import sys
import threading
import time

GRACE_SECONDS = 3.0
"""Time the loop has to end by itself once the client is gone."""


def watch(reader: int) -> None:
    """Start a thread that waits, in the kernel, for the hang-up of `reader` or the end of the parent process.

    PR_SET_PDEATHSIG would not do: it reports the end of the parent *thread*, and clients start servers from short-lived
    threads.
    """
    if sys.platform == "win32":
        return
    poll = select.poll()
    # POLLHUP is always reported; a socket that is closed on one side reports POLLRDHUP only.
    poll.register(reader, getattr(select, "POLLRDHUP", 0))
    if hasattr(os, "pidfd_open"):
        try:
            poll.register(os.pidfd_open(os.getppid()), select.POLLIN)
        except OSError:
            pass  # this kernel lacks the call, or the parent is outside this process namespace

    def wait() -> None:
        poll.poll()
        time.sleep(GRACE_SECONDS)
        os._exit(0)

    threading.Thread(target=wait, name="portway-orphan", daemon=True).start()
