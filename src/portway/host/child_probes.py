"""Notices a hung gate, control or log writer: probes that never block, and when one counts as hung."""

import abc
import fcntl
import os
import socket
import struct
import termios
from pathlib import Path

from portway.host.logs.pipe_directory import bell_of
from portway.host.processes import processor_ticks

_CONNECT_SECONDS = 0.2
_MOST_SILENCES = 15  # looks without an answer
_MOST_IDLE = 30  # looks at a child that does not listen; the waits of control before it listens are shorter


class Probe(abc.ABC):
    """Checks whether one child still works.

    A child that cannot be asked, because it does not listen yet, works as long as it uses processor time. So one that
    migrates or mends its data for minutes is left alone.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._silences = self._idle = self._ticks = 0

    def look(self) -> bool:
        """Return True when so many looks in a row found no sign of work that the child must hang; once."""
        try:
            self._silences = 0 if self._answers() else self._silences + 1
            self._idle = 0
        except OSError:
            self._silences, before = 0, self._ticks
            self._ticks = processor_ticks(self._pid)
            self._idle = self._idle + 1 if self._ticks == before else 0
        return self._silences == _MOST_SILENCES or self._idle == _MOST_IDLE

    @abc.abstractmethod
    def _answers(self) -> bool:
        """Return False while the last request has no answer; else send the next. Raises OSError if nobody listens."""


class HttpProbe(Probe):
    """Asks a child for /health. Any answer counts, even an error or a closed connection."""

    def __init__(self, pid: int, family: socket.AddressFamily, address: str | tuple[str, int], path: str) -> None:
        super().__init__(pid)
        self._family = family
        self._address = address
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        self._asked: socket.socket | None = None

    def _answers(self) -> bool:
        if self._asked is not None:
            try:
                self._asked.recv(1)
            except BlockingIOError:
                return False
            except OSError:
                pass
            self._asked.close()
            self._asked = None
        asked = socket.socket(self._family)
        asked.settimeout(_CONNECT_SECONDS)
        try:
            asked.connect(self._address)
            asked.sendall(self._request)
        except TimeoutError:  # its queue of connections is full
            asked.close()
            return False
        except OSError:
            asked.close()
            raise
        asked.setblocking(False)
        self._asked = asked
        return True


class BellProbe(Probe):
    """Writes to the log writer's bell, and checks whether it was read."""

    def __init__(self, pid: int, directory: Path) -> None:
        super().__init__(pid)
        self._bell = bell_of(directory)

    def _answers(self) -> bool:
        bell = os.open(self._bell, os.O_WRONLY | os.O_NONBLOCK)
        try:
            if struct.unpack("i", fcntl.ioctl(bell, termios.FIONREAD, bytes(4)))[0]:
                return False
            os.write(bell, b"\0")
        finally:
            os.close(bell)
        return True
