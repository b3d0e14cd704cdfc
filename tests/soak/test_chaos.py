"""A minute of calls while processes of the host are killed and stopped at random: no call hangs, and few are lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.host.running_host import Host, host
from tests.soak.test_soak import request
from tests.support import WEATHER, eventually

FAULTS = int(os.environ.get("PORTWAY_CHAOS_FAULTS", "8"))
CALLERS = 4
RECOVERY = 100.0  # seconds; a hung instance is noticed after about sixty, a hung gate or control after fifteen


class Gate:
    """Counts the gate's faults, so that a caller can tell whether one fell into its call."""

    def __init__(self) -> None:
        self.faults = 0
        self.unwell = threading.Event()

    @contextlib.contextmanager
    def fault(self) -> Iterator[None]:
        self.unwell.set()
        self.faults += 1
        yield
        self.unwell.clear()


def call(running: Host, number: int) -> tuple[int, str]:
    """Make one call on a connection of its own; return its status and its error, "" without one. Raises OSError."""
    url = urlsplit(running.ready["url"])
    city, body, headers = request(number)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=RECOVERY)
    try:
        connection.request(
            "POST", "/weather/mcp", body, headers | {"Authorization": f"Bearer {running.ready['token']}"}
        )
        reply = connection.getresponse()
        answer = json.loads(reply.read())
    finally:
        connection.close()
    if reply.status == 200:
        assert answer["id"] == number
        assert answer["result"]["structuredContent"]["city"] == city
        return 200, ""
    return reply.status, answer["error"]["message"]


def call_until(stopped: threading.Event, running: Host, gate: Gate, first: int) -> Counter[str]:
    """Call in sequence; return what came of the calls. Fails for a call that hangs or is lost without a fault."""
    seen: Counter[str] = Counter()
    number = first
    while not stopped.is_set():
        number += 2 * CALLERS + 1  # both eras
        faults, unwell = gate.faults, gate.unwell.is_set()
        try:
            status, error = call(running, number)
        except TimeoutError:
            raise AssertionError(f"call {number} hung; before it: {seen}") from None
        except (OSError, http.client.HTTPException) as lost:
            assert unwell or gate.faults > faults, f"call {number} was lost without a fault of the gate: {lost!r}"
            seen["cut"] += 1
            continue
        if status != 200:
            assert status in {502, 503}, error
            assert error, "an error says what happened"
        seen[str(status)] += 1
    return seen


def pids(running: Host, part: str) -> list[int]:
    return [pid for pid, line in running.processes().items() if part in line]


def hurt(running: Host, gate: Gate, part: str, number: signal.Signals) -> None:
    """Send a signal to the gate, control or the instance, and wait until the host answers calls by a new one."""
    with gate.fault() if part == "host.gate " else contextlib.nullcontext():
        victims = pids(running, part)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

        def recovered() -> bool:
            if not (new := pids(running, part)) or set(new) & set(victims):
                return False
            with contextlib.suppress(OSError, http.client.HTTPException):
                return call(running, 0)[0] == 200
            return False

        eventually(recovered, within=RECOVERY)


@pytest.mark.chaos
@pytest.mark.timeout(FAULTS * RECOVERY + 120)
def test_calls_are_answered_while_processes_are_killed_and_stopped(tmp_path: Path) -> None:
    chance = random.Random(8)
    kinds = [(part, number) for part in ("host.gate ", "host.control ", "portway run ") for number in (9, 19)]
    faults = (kinds * (FAULTS // len(kinds) + 1))[:FAULTS]
    chance.shuffle(faults)
    stopped, gate = threading.Event(), Gate()
    with host(tmp_path / "data", [WEATHER.parent]) as running, ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(call_until, stopped, running, gate, 1000 * n) for n in range(1, CALLERS + 1)]
        try:
            for part, number in faults:
                hurt(running, gate, part, signal.Signals(number))
                assert not [caller.exception() for caller in callers if caller.done()]
        finally:
            stopped.set()
        seen = sum((caller.result() for caller in callers), Counter())
    assert seen["200"] > seen["cut"] + seen["502"] + seen["503"]


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_a_host_stops_although_control_hangs(tmp_path: Path) -> None:
    with host(tmp_path / "data") as running:
        os.kill(running.process("control"), signal.SIGSTOP)
        running.child.process.terminate()
        running.child.process.wait(120)
        assert running.processes() == {}
