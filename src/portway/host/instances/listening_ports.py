"""On which TCP ports processes listen (/proc, proc(5))."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

_LISTEN = "0A"
_MOST_LINES = 10_000


def listening(pids: Iterable[int]) -> dict[int, str]:
    """Return the ports on which the processes listen, each with its address as in "0.0.0.0:8000"."""
    found: dict[int, str] = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # gone, or another user's
            own = {os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")}
            for table in ("tcp", "tcp6"):
                with Path(f"/proc/{pid}/net/{table}").open() as lines:
                    for _, line in zip(range(_MOST_LINES), lines, strict=False):
                        fields = line.split()
                        if fields[3] == _LISTEN and f"socket:[{fields[9]}]" in own:
                            address, _, port = fields[1].partition(":")
                            found[int(port, 16)] = f"{_address(address)}:{int(port, 16)}"
    return found


def _address(text: str) -> str:
    """Return an address that is written as 32-bit words in the byte order of this machine."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    is_short = len(words) == 1
    return socket.inet_ntop(socket.AF_INET, packed) if is_short else f"[{socket.inet_ntop(socket.AF_INET6, packed)}]"
