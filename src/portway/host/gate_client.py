"""Control's words to the gate, over the gate's socket: one JSON line each way (docs in `portway.host.gate`)."""

import asyncio
import json
from pathlib import Path
from typing import Any

_LINE_SECONDS = 10.0


class GateSignals:
    """A gate that is down is no error: it reads the table when it starts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def table(self) -> bool:
        """Have the table read again; True once it is in force, False when there is no gate to answer."""
        return bool((await self._ask({"op": "table"}, _LINE_SECONDS)).get("ok"))

    async def drain(self, instance: str, seconds: float) -> int:
        """Wait until no call to the instance is in flight, at most `seconds`; the number still in flight then."""
        answer = await self._ask({"op": "drain", "instance": instance, "seconds": seconds}, seconds + _LINE_SECONDS)
        return int(answer.get("in_flight", 0))

    async def _ask(self, request: dict[str, object], seconds: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_unix_connection(self._path)
                try:
                    writer.write(json.dumps(request).encode() + b"\n")
                    answer = json.loads(await reader.readline() or b"{}")
                finally:
                    writer.close()
        except (OSError, ValueError):  # TimeoutError is an OSError
            return {}
        return answer if isinstance(answer, dict) else {}
