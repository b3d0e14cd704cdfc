"""A server that takes and makes large texts, and says what that cost its process."""

import re
import time
from pathlib import Path

from portway import Server

server = Server("weighed")


@server.tool
async def take(text: str) -> int:
    """The length of a text."""
    return len(text)


@server.tool
async def make(size: int) -> str:
    """A text of `size` characters."""
    return "x" * size


@server.tool
def cost() -> list[float]:
    """CPU seconds used, bytes of memory held, and the most that were held since the last time (Linux)."""
    held, peak = (int(re.search(rf"{name}:\s+(\d+)", status())[1]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
    Path("/proc/self/clear_refs").write_text("5")
    return [time.process_time(), held, peak]


def status() -> str:
    return Path("/proc/self/status").read_text()
