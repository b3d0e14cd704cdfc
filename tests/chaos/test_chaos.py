"""A minute of calls while the host's processes are killed and stopped at random: no call hangs, few are lost.

A lost call was in flight at a gate that ended, and its connection was cut; or at an instance that ended, and it was
answered with an error that says so.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.host.running_host import Host, host
from tests.support import eventually

SEED = random.randrange(2**32) if os.environ.get("PORTWAY_FUZZ") == "anew" else 8
SECONDS = 60
# How often each target is killed, stopped until the host replaces it, and paused, that is stopped and continued, which
# no caller may notice. With more than five ends in a minute an app is in a crash loop, and its calls are refused.
PLAN = {"gate": (4, 1, 2), "control": (4, 2, 2), "one": (3, 1, 2), "two": (4, 1, 2)}
CALLERS = 5  # of each app
LIMIT = 200  # seconds; a call that takes longer hangs: a stopped instance is replaced within 60, a gate within 20
LOST = re.compile(r"The app '\w+' did not answer properly: ")
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@dataclass
class End:
    """An end of a process of a gate, control or app: from the signal until it is seen to be gone."""

    target: str
    pid: int
    begun: float
    over: float = math.inf

    def is_over(self) -> bool:
        """Whether its last thread has ended: until then its sockets are open."""
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            return state == "Z" and len(os.listdir(f"/proc/{self.pid}/task")) == 1
        return True


@dataclass
class Call:
    """One request: when, to which app, and how it ended."""

    app: str
    begun: float
    over: float
    outcome: str
    told: str = ""


def programs(running: Host) -> dict[int, str]:
    """Return the processes of the host but the launcher and the walls of its instances."""
    return {pid: line for pid, line in running.processes().items() if "bwrap " not in line}


@dataclass
class Monkey:
    """Kills, stops and continues processes of a host at times that the seed decides."""

    running: Host
    random: random.Random
    ends: list[End] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def pid(self, target: str) -> int:
        """Return a process of the target that nothing has been done to; 0 if there is none."""
        marks = {"gate": "host.gate ", "control": "host.control "}
        mark = marks.get(target, f"/apps/{target}/releases/1/venv/bin/portway run ")
        ended = {end.pid for end in self.ends}
        found = sorted(pid for pid, line in programs(self.running).items() if mark in line and pid not in ended)
        return self.random.choice(found) if found else 0

    def act(self) -> None:
        """Do all that PLAN says, at random times."""
        kinds = [
            (kind, target)
            for target, counts in PLAN.items()
            for kind, count in zip(("kill", "stop", "pause"), counts, strict=True)
            for _ in range(count)
        ]
        moments = sorted((self.random.uniform(0, SECONDS), *each) for each in kinds)
        begun = time.monotonic()
        for moment, kind, target in moments:
            self.stopping.wait(max(0.0, begun + moment - time.monotonic()))
            if not (pid := self.pid(target)):
                continue
            with contextlib.suppress(ProcessLookupError):
                if kind != "pause":
                    self.ends.append(End(target, pid, time.monotonic()))
                os.kill(pid, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
                if kind == "pause":
                    self.stopping.wait(self.random.uniform(0.1, 2))
                    os.kill(pid, signal.SIGCONT)
        self.stopping.wait(max(0.0, begun + SECONDS - time.monotonic()))

    def watch(self) -> None:
        """Note the end of each process, until all is over."""
        while not self.over.wait(0.01):
            for end in list(self.ends):
                if end.over == math.inf and end.is_over():
                    end.over = time.monotonic()

    def explains(self, call: Call, target: str) -> bool:
        return any(end.target == target and end.begun <= call.over and call.begun <= end.over for end in self.ends)


class Caller:
    """Calls one app, in both eras, with a session and without one."""

    def __init__(self, app: str, port: int, token: str, seed: int) -> None:
        self.calls: list[Call] = []
        self._app, self._port, self._token = app, port, token
        self._random = random.Random(seed)
        self._session = ""
        self._numbers = itertools.count(1)

    def call_until(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self.call()

    def call(self) -> Call:
        """Make one call; one that was refused before it ran is made again."""
        number, tool = next(self._numbers), self._random.choice(("echo", "echo", "slow", "steps"))
        is_modern, has_session = self._random.random() < 0.5, self._random.random() < 0.5
        while not is_modern and has_session and not self._session:
            self._session = self._post("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}, {})[1]
        params: dict[str, Any] = {"name": tool, "arguments": {"number": number}}
        meta: dict[str, Any] = {"progressToken": number} if tool == "steps" else {}
        if is_modern:
            headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
            meta |= META
        else:
            headers = {"MCP-Protocol-Version": "2025-11-25"} | (
                {"Mcp-Session-Id": self._session} if has_session else {}
            )
        while True:
            call, _ = self._post("tools/call", params | {"_meta": meta}, headers, number)
            if call.outcome != "refused":
                return call

    def _post(self, method: str, params: dict[str, Any], headers: dict[str, str], number: int = 0) -> tuple[Call, str]:
        """Send one request; return how it ended, and the session of the reply."""
        begun, session = time.monotonic(), ""
        body = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LIMIT)
        with contextlib.closing(connection):
            try:
                bearer = {"Authorization": f"Bearer {self._token}"}
                connection.request("POST", f"/{self._app}/mcp", body, HEADERS | bearer | headers)
                response = connection.getresponse()
                session = response.getheader("Mcp-Session-Id", "")
                text = response.read().decode()
                outcome, told = self._judged(response, text, number)
            except TimeoutError as error:
                outcome, told = "hung", str(error)
            except (OSError, http.client.HTTPException) as error:
                outcome, told = "cut", repr(error)
        call = Call(self._app, begun, time.monotonic(), outcome, told)
        self.calls.append(call)
        return call, session

    def _judged(self, response: http.client.HTTPResponse, text: str, number: int) -> tuple[str, str]:
        if response.headers.get_content_type() == "text/event-stream":
            data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
            text = data[-1] if data else "{}"
            if "method" in json.loads(text) or not data:
                return "cut", "the stream ended before the reply"
        reply = json.loads(text)
        told = reply.get("error", {}).get("message", "")
        if "result" in reply and reply["id"] == number:
            is_right = number == 0 or reply["result"].get("structuredContent") == {"result": number}
            return ("ok", "") if is_right else ("wrong", text)
        if response.status == 503 and response.getheader("Retry-After"):
            return "refused", told
        return ("lost", told) if LOST.match(told) else ("wrong", f"{response.status} {text}")


@contextlib.contextmanager
def two_apps(folder: Path) -> Iterator[tuple[Host, list[Caller]]]:
    """A host with the apps `one` and `two`, of one and two instances, and callers of both."""
    for name in ("one", "two"):
        (folder / name).mkdir()
        shutil.copyfile(Path(__file__).with_name("chaos_server.py"), folder / name / "server.py")
    with host(folder / "data") as running:
        port, callers = int(running.ready["url"].rpartition(":")[2]), []
        for count, name in ((1, "one"), (2, "two")):
            token = running.deploy(folder / name, name, num_instances=count).token
            assert token
            callers += [Caller(name, port, token, SEED + number) for number in range(CALLERS)]
        yield running, callers


@pytest.mark.chaos
@pytest.mark.timeout(SECONDS + 3 * LIMIT)
def test_calls_are_lost_only_at_a_gate_or_an_instance_that_ends_and_everything_serves_again(tmp_path: Path) -> None:
    sys.stdout.write(f"seed {SEED}\n")
    with two_apps(tmp_path) as (running, callers), ThreadPoolExecutor(len(callers) + 1) as pool:
        monkey = Monkey(running, random.Random(SEED))
        pool.submit(monkey.watch)
        work = [pool.submit(caller.call_until, monkey.stopping) for caller in callers]
        try:
            monkey.act()
            monkey.stopping.set()
            for each in work:
                each.result()
            eventually(lambda: all(end.over < math.inf for end in monkey.ends), within=LIMIT)
            check([call for caller in callers for call in caller.calls], monkey)
            eventually(lambda: {running.status(app).state for app in ("one", "two")} == {"up"}, within=LIMIT)
            for caller in callers:
                eventually(lambda: caller.call().outcome == "ok", within=LIMIT)  # noqa: B023
            eventually(lambda: len(programs(running)) == len(("gate", "control", "logs")) + 3, within=LIMIT)
            assert not [line for line in running.child.lines if "Traceback" in line]
        except BaseException as error:
            error.add_note("\n".join([f"seed {SEED}", *map(str, monkey.ends), *running.child.lines]))
            raise
        finally:
            monkey.stopping.set()
            monkey.over.set()


def check(calls: list[Call], monkey: Monkey) -> None:
    """Assert that each call has ended as it may."""
    sys.stdout.write(f"{Counter((call.app, call.outcome) for call in calls)}\n")
    bad = [call for call in calls if call.outcome in ("hung", "wrong")]
    bad += [call for call in calls if call.outcome == "cut" and not monkey.explains(call, "gate")]
    bad += [call for call in calls if call.outcome == "lost" and not monkey.explains(call, call.app)]
    assert not bad, "\n".join(map(str, bad))
    assert {call.app for call in calls if call.outcome == "ok"} == {"one", "two"}
