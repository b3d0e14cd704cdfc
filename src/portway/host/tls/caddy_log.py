"""Passes errors of Caddy on to the host's own log."""

import json
import os

from portway.counted import counted
from portway.host.console import say
from portway.host.launcher_handover import Handover

_READ_BYTES = 65_536  # what a pipe holds
_MOST_LINES = 20  # printed at once; the rest is counted
_MOST_CHARACTERS = 1000
_SHOWN_LEVELS = ("error", "panic", "fatal")
_SAID_OTHERWISE = ("level", "ts", "msg")


class CaddyLog:
    """A pipe that Caddy writes to. What is not read makes it wait, so `pass_on` is called every second."""

    def __init__(self, left: Handover | None = None) -> None:
        if left is not None and "caddy log" in left.descriptors:
            self._reader, self.writer = left.descriptors["caddy log"], left.descriptors["caddy output"]
        else:
            self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._rest = b""

    @property
    def descriptors(self) -> dict[str, int]:
        """What a launcher leaves to its successor."""
        return {"caddy log": self._reader, "caddy output": self.writer}

    def pass_on(self) -> None:
        """Print what Caddy has written since: its errors, and what is no entry of a log."""
        try:
            written = os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            return
        *lines, rest = (self._rest + written).split(b"\n")
        self._rest = rest[-_READ_BYTES:]
        shown = [text for line in lines if (text := _shown(line))]
        for text in shown[:_MOST_LINES]:
            say(f"portway: caddy: {text[:_MOST_CHARACTERS]}")
        if len(shown) > _MOST_LINES:
            say(f"portway: caddy: and {counted(len(shown) - _MOST_LINES, 'error')} more")


def _shown(line: bytes) -> str:
    """Return an entry of the log as text, "" for one that is no error."""
    try:
        entry = json.loads(line)
        if entry["level"] not in _SHOWN_LEVELS:
            return ""
        details = (f"{name}={value}" for name, value in entry.items() if name not in _SAID_OTHERWISE)
        return " ".join((entry["msg"], *details))
    except (ValueError, TypeError, KeyError):
        return line.decode(errors="replace").strip()
