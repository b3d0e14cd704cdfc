"""Probes of the launcher's children. A probe never blocks: each look reads the last answer and sends a request."""

import contextlib
import fcntl
import os
import socket
import struct
import termios
from pathlib import Path
from typing import Protocol

from portway.host.logs.pipe_directory import bell_of

_CONNECT_SECONDS = 0.2


class Probe(Protocol):
    """Checks whether one child still works."""

    def look(self) -> int:
        """Return how many looks in a row found no answer; after an answer, send the next request."""


class HttpProbe:
    """Asks a child for /health. Any answer counts, even an error or a closed connection."""

    def __init__(self, family: socket.AddressFamily, address: str | tuple[str, int], path: str) -> None:
        self._family = family
        self._address = address
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        self._asked: socket.socket | None = None
        self._silences = 0

    def look(self) -> int:
        if self._asked is not None:
            try:
                self._asked.recv(1)
            except BlockingIOError:
                self._silences += 1
                return self._silences
            except OSError:
                pass
            self._asked.close()
            self._asked = None
        asked = socket.socket(self._family)
        asked.settimeout(_CONNECT_SECONDS)
        try:
            asked.connect(self._address)
            asked.sendall(self._request)
            asked.setblocking(False)
            self._asked, self._silences = asked, 0
        except TimeoutError:  # its queue of connections is full
            asked.close()
            self._silences += 1
        except OSError:  # nobody listens yet
            asked.close()
            self._silences = 0
        return self._silences


class BellProbe:
    """Writes to the log writer's bell, and checks whether it was read."""

    def __init__(self, directory: Path) -> None:
        self._bell = bell_of(directory)
        self._silences = 0

    def look(self) -> int:
        with contextlib.suppress(OSError):
            bell = os.open(self._bell, os.O_WRONLY | os.O_NONBLOCK)
            try:
                unheard = struct.unpack("i", fcntl.ioctl(bell, termios.FIONREAD, bytes(4)))[0]
                self._silences = self._silences + 1 if unheard else 0
                if not unheard:
                    os.write(bell, b"\0")
            finally:
                os.close(bell)
        return self._silences
