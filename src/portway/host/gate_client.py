"""Asks the gate over gate.sock: to read its tables again, to drain an instance, to retire, for its counters.
`host/gate/control_socket.py` lists the requests.

For a while after an upgrade there are two gates: the one that serves, and the one before it, which ends its calls.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from portway.host.paths import Paths

_LINE_SECONDS = 10.0
_LONGEST_LINE = 256 << 20  # metrics of many apps, with as many names as the gate counts


class GateClient:
    """Sends requests to the gates. It is no error if none is up: a gate reads the table when it starts."""

    def __init__(self, paths: Paths) -> None:
        self._serving = paths.gate_socket
        self._retired = paths.retired_gate_socket

    async def table(self) -> bool:
        """Have the table read again; return True once the gate uses it, False when no gate answers."""
        return bool((await self._ask_all({"op": "table"}, _LINE_SECONDS))[0].get("ok"))

    async def tokens(self) -> None:
        """Have the changes of the tokens read; return once the gates use them."""
        await self._ask_all({"op": "tokens"}, _LINE_SECONDS)

    async def drain(self, instance: str, seconds: float) -> int:
        """Wait until no call to the instance is in flight, at most `seconds`; return the number still in flight."""
        request: dict[str, object] = {"op": "drain", "instance": instance, "seconds": seconds}
        return sum(int(each.get("in_flight", 0)) for each in await self._ask_all(request, seconds + _LINE_SECONDS))

    async def retire(self) -> None:
        """Have the gate that serves leave its place. Raises OSError if it refuses."""
        if error := (await _ask(self._serving, {"op": "retire"}, _LINE_SECONDS)).get("error"):
            raise OSError(f"the gate before this one does not retire: {error}")

    async def late(self, calls: list[object], sessions: list[object]) -> bool:
        """Tell the gate that serves what a retired one has to record; return whether it did."""
        request: dict[str, object] = {"op": "late", "calls": calls, "sessions": sessions}
        return bool((await _ask(self._serving, request, _LINE_SECONDS)).get("ok"))

    async def metrics(self) -> str | None:
        """Return the counters of the gate that serves, in Prometheus' text format; None when it does not answer."""
        text = (await _ask(self._serving, {"op": "metrics"}, _LINE_SECONDS)).get("text")
        return text if isinstance(text, str) else None

    async def is_used(self, instance: str) -> bool:
        """Return whether an instance has calls or legacy sessions, or may have some."""
        answers = await self._ask_all({"op": "used", "instance": instance}, _LINE_SECONDS)
        return any(answer.get("used", True) for answer in answers if answer) or not any(answers)

    async def is_running(self) -> bool:
        """Return whether a gate listens; a gate that is stopping does so until its last call has ended."""
        for path in (self._serving, self._retired):
            try:
                _, writer = await asyncio.open_unix_connection(path)
            except OSError:
                continue
            writer.close()
            return True
        return False

    async def _ask_all(self, request: dict[str, object], seconds: float) -> list[dict[str, Any]]:
        return await asyncio.gather(*(_ask(path, request, seconds) for path in (self._serving, self._retired)))


async def _ask(path: Path, request: dict[str, object], seconds: float) -> dict[str, Any]:
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(path, limit=_LONGEST_LINE)
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                answer = json.loads(await reader.readline() or b"{}")
            finally:
                writer.close()
    except (OSError, ValueError):  # a timeout is an OSError
        return {}
    return answer if isinstance(answer, dict) else {}
