"""Control's client of the gate's socket. `portway.host.gate.control_socket` lists the requests."""

import asyncio
import json
from pathlib import Path
from typing import Any

_LINE_SECONDS = 10.0


class GateClient:
    """Sends requests to the gate. It is no error if the gate is down: it reads the table when it starts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def table(self) -> bool:
        """Have the table read again; return True once the gate uses it, False when no gate answers."""
        return bool((await self._ask({"op": "table"}, _LINE_SECONDS)).get("ok"))

    async def tokens(self) -> None:
        """Have the changes of the tokens read; return once the gate uses them."""
        await self._ask({"op": "tokens"}, _LINE_SECONDS)

    async def drain(self, instance: str, seconds: float) -> int:
        """Wait until no call to the instance is in flight, at most `seconds`; return the number still in flight."""
        answer = await self._ask({"op": "drain", "instance": instance, "seconds": seconds}, seconds + _LINE_SECONDS)
        return int(answer.get("in_flight", 0))

    async def is_running(self) -> bool:
        """Return whether a gate listens; a gate that is stopping does so until its last call has ended."""
        try:
            _, writer = await asyncio.open_unix_connection(self._path)
        except OSError:
            return False
        writer.close()
        return True

    async def _ask(self, request: dict[str, object], seconds: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_unix_connection(self._path)
                try:
                    writer.write(json.dumps(request).encode() + b"\n")
                    answer = json.loads(await reader.readline() or b"{}")
                finally:
                    writer.close()
        except (OSError, ValueError):  # a timeout is an OSError
            return {}
        return answer if isinstance(answer, dict) else {}
