"""`python -m portway.host.gate --data DIR (--fd N | --port P)`: the gate as a process, as `portway up` starts it.

SIGTERM: no new connections, calls in flight are finished, the record is written out.
"""

import argparse
import gc
import logging
import resource
import sys
from collections.abc import Awaitable

import msgspec

from portway import log_config
from portway.host.gate.call_record import Record
from portway.host.gate.control_socket import Ops
from portway.host.gate.gate_app import Front
from portway.host.gate.metrics import Metrics
from portway.host.gate.routing import Routes
from portway.host.paths import Paths, locate
from portway.http.asgi import Receive, Scope, Send
from portway.http.serve import Bind, Limits, ListenError, StartupError, run

logger = logging.getLogger("portway.gate")

_CONNECTIONS = 4096
_DESCRIPTORS = 2 * _CONNECTIONS + 512  # each may have one to an instance


class Gate:
    """The ASGI application of the process: what starts and ends with it, around the front."""

    def __init__(self, paths: Paths) -> None:
        """Raises OSError when the data directory cannot be read."""
        routes, metrics = Routes(), Metrics()
        self._routes = routes
        secret = paths.secret.read_bytes()
        self._record = Record(paths.calls, secret)
        self._ops = Ops(routes, metrics, paths.routes, paths.gate_socket)
        self._front = Front(routes, self._record, metrics, secret)
        self.end_streams = self._front.end_streams

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """ASGI: HTTP goes to the front, without a coroutine in between."""
        return self._front(scope, receive, send) if scope["type"] == "http" else self._lifespan(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            try:
                await self._ops.start()
            except (OSError, ListenError, msgspec.DecodeError) as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self._ops.stop()
            for backend in self._routes.backends.values():
                await backend.client.close()
            self._record.close()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "websocket.close", "code": 1000})


def main() -> int:
    """Run the gate until a signal ends it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m portway.host.gate", description="The gate of a Portway host.")
    parser.add_argument("--data", required=True, help="the host's data directory")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="an inherited descriptor of a bound socket")
    where.add_argument("--port", type=int, help="a port of 127.0.0.1 to listen on")
    options = parser.parse_args()
    log_config.configure()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    paths = locate(options.data)
    try:
        gate = Gate(paths)
        gc.freeze()  # what is there now stays: the collector need not look at it again,
        gc.set_threshold(10_000)  # nor look for cycles every ten calls
        bind = Bind(fd=options.fd) if options.fd is not None else Bind(port=options.port)
        run(
            gate,
            bind,
            Limits(connections=_CONNECTIONS),
            on_ready=lambda url: logger.info("the gate listens on %s", url),
            on_stop=gate.end_streams,
        )
    except (OSError, ListenError, StartupError) as error:
        logger.error("the gate cannot start: %s", error)  # noqa: TRY400  # one sentence for the operator, no trace
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
