"""How gate, control and log writer are started: their command lines, descriptors, probes and signals."""

import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from portway.host.child_probes import BellProbe, HttpProbe, Probe
from portway.host.paths import Paths


@dataclass(frozen=True, slots=True)
class Child:
    """One child of the launcher.

    `command` is asked at each start, `probe` with the process id of each start. `kept` are descriptors that the child
    inherits, `output` the one it writes to, if not the launcher's; `environment` has its variables, if not the
    launcher's. `stop` lets it finish its work, in `stop_seconds`; `end` ends it at once, None where `stop` does.
    """

    name: str
    command: Callable[[], list[str]]
    probe: Callable[[int], Probe]
    kept: tuple[int, ...] = ()
    stop: signal.Signals = signal.SIGTERM
    end: signal.Signals | None = None
    stop_seconds: float = 60.0  # the gate and control take up to 30 by themselves
    output: int | None = None
    environment: Mapping[str, str] | None = None
    timer_slack: int = 0  # nanoseconds by which its timers may be late; 0 for the kernel's default


def gate(
    paths: Paths, lock: int, listener: socket.socket, key_file: Path, proxies: Sequence[str], ask: socket.socket | None
) -> Child:
    """Describe the gate, which serves who connects to `listener` and believes the `proxies`.

    It inherits the `lock` of the data directory. Caddy, if there is one, asks for the names of apps at `ask`.
    """
    kept = [lock, listener.fileno()]
    command = [*_module("gate", paths), "--fd", str(listener.fileno()), "--key-file", str(key_file)]
    if ask is not None:
        kept.append(ask.fileno())
        command.append(f"--ask-fd={ask.fileno()}")
    command += [f"--behind-proxy={network}" for network in proxies]
    return Child(
        "gate",
        lambda: command,
        lambda pid: HttpProbe(pid, listener.family, listener.getsockname(), "/_portway/health"),
        kept=tuple(kept),
        end=signal.SIGTERM,  # a second one
    )


def control(paths: Paths, lock: int, lifeline: int, arguments: list[str], announcing: list[str]) -> Child:
    """Describe control. Until it has printed the ready line, it gets the arguments `announcing` too.

    It inherits the `lock` of the data directory and the `lifeline`, the pipe that instances read.
    """
    command = [*_module("control", paths), "--lifeline", str(lifeline), *arguments]
    return Child(
        "control",
        lambda: command if paths.announced.exists() else command + announcing,
        lambda pid: HttpProbe(pid, socket.AF_UNIX, str(paths.control_socket), "/health"),
        kept=(lock, lifeline),
        end=signal.SIGINT,
    )


def log_writer(paths: Paths, lock: int) -> Child:
    """Describe the log writer. It inherits the `lock` of the data directory."""
    command = _module("logs", paths)
    return Child("logs", lambda: command, lambda pid: BellProbe(pid, paths.log_pipes), kept=(lock,), stop=signal.SIGINT)


def _module(name: str, paths: Paths) -> list[str]:
    return [sys.executable, "-m", f"portway.host.{name}", "--data", str(paths.data)]
