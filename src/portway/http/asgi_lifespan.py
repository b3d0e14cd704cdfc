"""The server's side of the ASGI lifespan protocol."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portway.http.asgi import App, Message

logger = logging.getLogger("portway.http")

STOP_SECONDS = 10.0
"""Time for the app to shut down before it is cancelled."""


class StartupError(Exception):
    """The app could not start. The message is the app's."""


class Lifespan:
    """Runs `app` for its `lifespan` scope. An app that does not support it is served without."""

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._started = False

    async def start(self) -> None:
        """Start the app and wait until it is ready. Raise StartupError."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        answer = await self._ask("lifespan.startup")
        if answer["type"] == "lifespan.startup.failed":
            raise StartupError(answer.get("message") or "The application failed to start.")
        self._started = True

    async def stop(self) -> None:
        """Shut the app down."""
        if self._task is None or self._task.done():
            return
        try:
            async with asyncio.timeout(STOP_SECONDS if self._started else 0):
                answer = await self._ask("lifespan.shutdown")
                if answer["type"] == "lifespan.shutdown.failed":
                    logger.error("the application failed to shut down: %s", answer.get("message", ""))
                await asyncio.gather(self._task, return_exceptions=True)
        except TimeoutError:
            if self._started:
                logger.warning("the application did not shut down within %g seconds", STOP_SECONDS)
            self._task.cancel()

    async def _ask(self, event: str) -> Message:
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": event})
        return await self._answer

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._events.get, self._settle)
        except Exception as error:  # noqa: BLE001 - by ASGI, an app that does not support lifespan raises anything
            logger.debug("no lifespan: %r", error)
        finally:
            await self._settle({"type": "lifespan.ended"})

    async def _settle(self, message: Message) -> None:
        if not self._answer.done():
            self._answer.set_result(message)
