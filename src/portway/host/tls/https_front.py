"""Caddy in front of the gate as a child of the launcher: its sockets, start and stop."""

import contextlib
import os
import signal
import socket

from portway.host.child_probes import HttpProbe
from portway.host.children import Child
from portway.host.files import write_durably
from portway.host.launcher_handover import Handover
from portway.host.paths import Paths
from portway.host.tls.caddy_config import caddy_config
from portway.host.tls.caddy_log import CaddyLog
from portway.host.tls.caddy_program import find_caddy
from portway.host.tls.https_settings import HTTPS_PORT, HttpsError, HttpsSettings
from portway.host.tls.own_certificate import read_own_certificate, require_certificate, secret_path
from portway.host.tls.public_ports import open_ports
from portway.http.bind import Bind, ListenError

BEHIND_CADDY = "unix"
"""Caddy as a proxy that the gate believes (`gate/trusted_proxies.py`)."""

_GARBAGE = "300"  # % of what is in use: a third of the collections that Go makes by default, for 10 MB more
_TIMER_SLACK = 1_000_000  # nanoseconds; Go waits no shorter, but its scheduler wakes each 20 µs, for 10 % of the CPU
_MOST_THREADS = 4  # a gate is one thread, and gives no more work than they do
_STOP_SECONDS = 5.0  # the gate has ended by then, and with it every request


class HttpsFront:
    """Holds the sockets that clients and Caddy connect to, so that they outlive a Caddy and a gate."""

    def __init__(self, paths: Paths, settings: HttpsSettings, left: Handover | None = None) -> None:
        """Find Caddy, open the ports and write the configuration. Raises `HttpsError` and `ListenError`.

        `left` has the sockets of the launcher before, in whose place this one comes.
        """
        self._paths = paths
        self._program = find_caddy()
        own = own_path = None
        if settings.certificate is not None and settings.key is not None:
            own = read_own_certificate(settings.certificate, settings.key, settings.domain)
            own_path = secret_path(paths.secret.read_bytes())
        if settings.acme_ca is not None:
            require_certificate(settings.acme_ca)
        self._ports = open_ports(settings.https_port, settings.http_port, left)
        self.gate_listener = ((left and left.socket("gate")) or Bind(uds=str(paths.web_socket))).open()
        self.ask_listener = ((left and left.socket("ask")) or Bind(port=0)).open()
        host, port = self.ask_listener.getsockname()
        config = caddy_config(paths, settings, self._ports, f"http://{host}:{port}/", own_path)
        try:
            paths.tls.mkdir(mode=0o700, exist_ok=True)
            if left is None:
                paths.caddy_socket.unlink(missing_ok=True)  # of a Caddy that was killed
            write_durably(paths.caddy_config, config)
            if own is not None:
                write_durably(paths.own_certificate, own)
        except OSError as error:
            raise HttpsError(f"cannot make {error.filename}: {error.strerror}") from None
        self.port = self._ports.https_port
        self.url = f"https://{settings.domain}" + ("" if self.port == HTTPS_PORT else f":{self.port}")
        self.log = CaddyLog(left)

    @property
    def descriptors(self) -> dict[str, int]:
        """What a launcher leaves to its successor."""
        return {"ask": self.ask_listener.fileno(), **self._ports.left, **self.log.descriptors}

    def caddy(self, lock: int) -> Child:
        """Describe Caddy as a child of the launcher. It inherits the `lock` of the data directory."""
        command = [str(self._program), "run", "--config", str(self._paths.caddy_config)]
        return Child(
            "caddy",
            lambda: command,
            lambda pid: HttpProbe(pid, socket.AF_UNIX, str(self._paths.caddy_socket), "/"),
            kept=(lock, *self._ports.descriptors),
            end=signal.SIGKILL,
            stop_seconds=_STOP_SECONDS,
            output=self.log.writer,
            timer_slack=_TIMER_SLACK,
            environment={"GOMAXPROCS": str(_threads()), "GOGC": _GARBAGE}
            | os.environ
            | dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(self._paths.tls)),
        )

    def restore_gate_socket(self) -> bool:
        """Listen again where someone has removed the gate's socket; return whether a new gate must serve it."""
        if self._paths.web_socket.exists() or not self._paths.run.exists():
            return False
        with contextlib.suppress(ListenError), Bind(uds=str(self._paths.web_socket)).open() as opened:
            os.dup2(opened.fileno(), self.gate_listener.fileno(), inheritable=False)
            return True
        return False

    def close(self) -> None:
        """Let no more clients connect."""
        self._ports.close()


def _threads() -> int:
    """Return how many threads of Caddy may run at once.

    They are half of the cores, because gate and apps need the others. With one for each core, a sixth of Caddy's CPU
    goes into waking threads that find nothing to do.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(1, cores // 2), _MOST_THREADS)
