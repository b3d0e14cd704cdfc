"""What the launcher says to systemd (READY=1, STOPPING=1), and the sockets it gets from it: sd_notify(3),
sd_listen_fds(3).
"""

import contextlib
import os
import socket

_FIRST = 3  # SD_LISTEN_FDS_START


def take_sockets() -> list[int]:
    """Return the descriptors of the sockets that systemd has opened for this process, once; usually none."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    descriptors = list(range(_FIRST, _FIRST + int(count)))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return descriptors


def notify(state: str) -> None:
    """Tell the service manager a state, such as "READY=1". Without one, or if it cannot be told, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.setblocking(False)
        to.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
