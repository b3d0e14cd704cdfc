"""The gate process: its options, how many connections it takes, start and stop: `python -m portway.host.gate --data DIR
(--fd N | --port P)`.

`portway up` starts it.

On SIGTERM it takes no new connections, finishes the calls in flight and writes the call record out. With --standby it
takes the place of the gate that serves, as `gate_handover.py` says.
"""

import argparse
import contextlib
import gc
import logging
import resource
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

from portway import log_config
from portway.host.assertion_key import AssertionKey
from portway.host.console import never_wait_for_stderr
from portway.host.gate.caddy_ask import AskEndpoint
from portway.host.gate.call_record import CallRecord
from portway.host.gate.control_relay import ControlRelay
from portway.host.gate.control_socket import ControlSocket
from portway.host.gate.gate_app import GateApp
from portway.host.gate.gate_handover import RETIRED, Succession
from portway.host.gate.metrics import Metrics
from portway.host.gate.routing import Routes
from portway.host.gate.session_records import SessionRecords
from portway.host.gate.trusted_proxies import TrustedProxies
from portway.host.gate.upstream_tokens import UpstreamTokens
from portway.host.paths import Paths, locate
from portway.host.secrets.key_file import KeyFile
from portway.http.asgi import Receive, Scope, Send
from portway.http.serve import Bind, Limits, ListenError, run

logger = logging.getLogger("portway.gate")

_CONNECTIONS = 4096
_DESCRIPTORS = 2 * _CONNECTIONS + 512  # each client connection may need one to an instance
_OTHER_DESCRIPTORS = 28  # sockets and files of the gate's own, control's requests


class Gate:
    """What the HTTP server of the process serves: the gate app, and what starts and stops with the process."""

    def __init__(
        self,
        paths: Paths,
        key_file: KeyFile | None = None,
        proxies: TrustedProxies | None = None,
        ask: int | None = None,
        *,
        standby: bool = False,
    ) -> None:
        """Read the secret. Raises OSError.

        `proxies` are those in front of the gate, `ask` the descriptor of the socket where Caddy asks for names. With
        `standby`, wait to take the place of the gate that serves.
        """
        self._standby = standby
        self._proxies = proxies
        secret = paths.secret.read_bytes()
        self._routes = routes = Routes(UpstreamTokens(key_file), AssertionKey(secret))
        record, sessions = CallRecord(paths.calls, secret), SessionRecords(paths.sessions)
        metrics = Metrics(record)
        self._app = GateApp(routes, record, metrics, sessions, secret, ControlRelay(paths))
        self._succession = Succession(record, sessions, paths)
        self._control_socket = ControlSocket(self._app, routes, metrics, paths, self._succession)
        self._names = AskEndpoint(routes, paths, secret)
        self._ask = ask
        self.end_streams = self._app.end_streams

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass a request on without a coroutine of its own."""
        if self._proxies is not None:
            self._proxies.believe(scope)
        return self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Keep the records and answer control while the block lasts. Raises OSError and ListenError."""
        if self._standby:
            await self._control_socket.read()
            await self._succession.stand_by(self._app)
        self._succession.open()
        await self._control_socket.start()
        if self._ask is not None:
            await self._names.start(self._ask)
        yield
        if self._ask is not None:
            await self._names.stop()
        self._control_socket.stop()
        for backend in self._routes.backends.values():
            await backend.client.close()
        await self._succession.close()


def _connections() -> int:
    """Raise the soft limit of open files as far as needed; return how many clients' connections it allows for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY or soft >= _DESCRIPTORS:
        return _CONNECTIONS
    return max(1, (soft - soft // 8 - _OTHER_DESCRIPTORS) // 2)


def main() -> int:
    """Run the gate until a signal ends it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m portway.host.gate", description="The gate of a Portway host.")
    parser.add_argument("--data", required=True, help="the host's data directory")
    parser.add_argument("--key-file", type=Path, help="the file with the key of the apps' variables")
    parser.add_argument(
        "--behind-proxy",
        action="append",
        metavar="NETWORK",
        help="believe the X-Forwarded headers of a proxy there: a CIDR, or `unix` for a Unix socket",
    )
    parser.add_argument("--ask-fd", type=int, help="an inherited socket where Caddy asks for the names of apps")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="an inherited descriptor of a bound socket")
    where.add_argument("--port", type=int, help="a port of 127.0.0.1 to listen on")
    parser.add_argument("--standby", action="store_true", help="take the place of the gate that serves, at SIGUSR2")
    options = parser.parse_args()
    never_wait_for_stderr()
    log_config.configure()
    paths = locate(options.data)
    try:
        proxies = TrustedProxies(options.behind_proxy) if options.behind_proxy else None
        key_file = KeyFile(options.key_file) if options.key_file else None
        gate = Gate(paths, key_file, proxies, options.ask_fd, standby=options.standby)
        gc.freeze()  # objects made until here live as long as the process
        gc.set_threshold(10_000)  # the default would collect about every ten calls
        bind = Bind(fd=options.fd) if options.fd is not None else Bind(port=options.port)
        run(
            gate,
            bind,
            Limits(connections=_connections()),
            on_ready=lambda url: logger.info("the gate listens on %s", url),
            succeeded=RETIRED,
        )
    except (OSError, ListenError) as error:
        logger.error("the gate cannot start: %s", error)  # noqa: TRY400  # one sentence for the operator, without a traceback
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
