"""Ends a stdio server whose client is gone, even while a handler blocks the loop."""

from __future__ import annotations

import os
import select
import sys
import threading
import time

GRACE_SECONDS = 3.0
"""What the loop gets to end by itself once the client is gone."""


def watch(reader: int) -> None:
    """Have a thread wait, in the kernel, for the hang-up of `reader` or the end of the parent process.

    Not PR_SET_PDEATHSIG: that tells of the parent *thread*'s end, and clients start servers from short-lived threads.
    """
    if sys.platform == "win32":
        return
    poll = select.poll()
    # Asking for no event still tells of POLLHUP; a socket that is closed on one side only tells of POLLRDHUP.
    poll.register(reader, getattr(select, "POLLRDHUP", 0))
    if hasattr(os, "pidfd_open"):
        try:
            poll.register(os.pidfd_open(os.getppid()), select.POLLIN)
        except OSError:
            pass  # no such call in this kernel, or the parent is outside of this process namespace

    def wait() -> None:
        poll.poll()
        time.sleep(GRACE_SECONDS)
        os._exit(0)

    threading.Thread(target=wait, name="portway-orphan", daemon=True).start()
