"""Connections to an app in a network namespace of its own: a process there hands out its sockets, which are connected
from here.

Whoever connects to that process's Unix socket is sent unconnected TCP sockets (SCM_RIGHTS, unix(7)), one for IPv4 and,
where there is IPv6, one for IPv6. A socket stays in the namespace in which it was made.
"""

import asyncio
import socket
import sys

_MOST_SOCKETS = 2
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


async def dial(path: str, port: int) -> socket.socket:
    """Return a connection to `port` on the loopback of the namespace whose sockets are handed out at `path`.

    IPv4 is tried first. Raises OSError.
    """
    loop = asyncio.get_running_loop()
    sockets = await _handed_out(path)
    error: OSError = ConnectionResetError()
    try:
        for offered in sockets:
            offered.setblocking(False)
            try:
                await loop.sock_connect(offered, (_LOOPBACK[offered.family], port))
            except OSError as refused:
                error = refused
            else:
                sockets.remove(offered)
                return offered
    finally:
        for each in sockets:
            each.close()
    raise error


async def _handed_out(path: str) -> list[socket.socket]:
    if sys.platform == "win32":
        raise OSError
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)
        await loop.sock_connect(asking, path)
        readable = asyncio.Event()
        loop.add_reader(asking, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(asking)
        _, descriptors, _, _ = socket.recv_fds(asking, 1, _MOST_SOCKETS)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]
