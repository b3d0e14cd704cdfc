from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import uvloop

from portway.http.serve import Bind, Limits
from tests.http.running_listener import Listener, Plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portway.http.asgi import App


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def listen(request: pytest.FixtureRequest) -> Iterator[Callable[..., Listener]]:
    started: list[Listener] = []

    def start(app: App | Plain, bind: Bind | None = None, **limits: float) -> Listener:
        listener = Listener(app, Limits(**limits), bind, request.param)  # type: ignore[arg-type]
        started.append(listener)
        return listener

    yield start
    for listener in started:
        listener.stop()
        listener.join()
