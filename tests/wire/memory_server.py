"""A server that takes and makes large texts, and reports the CPU time and memory of its process."""

import re
import time
from pathlib import Path

from portway import Server

server = Server("memory")


@server.tool
async def take(text: str) -> int:
    """Return the length of a text."""
    return len(text)


@server.tool
async def make(size: int) -> str:
    """Return a text of `size` characters."""
    return "x" * size


@server.tool
def cost() -> list[float]:
    """Return CPU seconds used, resident bytes, and the peak of resident bytes since the last call (Linux)."""
    resident, peak = (int(re.search(rf"{name}:\s+(\d+)", status())[1]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
    Path("/proc/self/clear_refs").write_text("5")
    return [time.process_time(), resident, peak]


def status() -> str:
    return Path("/proc/self/status").read_text()
