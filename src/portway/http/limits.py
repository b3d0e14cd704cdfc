"""The limits of one HTTP server, with their defaults: sizes of heads and bodies, numbers of connections, all time
limits, also those of a stop.
"""

from dataclasses import dataclass

BODY_BYTES = 4 * 1024 * 1024
"""The longest body of a request, unless configured otherwise."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds, and the status of what exceeds them.

    One timer per server checks the times, every `tick` seconds.
    """

    header_bytes: int = 65_536  # request line and headers together: 431
    header_count: int = 200  # 431
    header_seconds: float = 10.0  # from a request's first byte to its last header: 408
    body_bytes: int = BODY_BYTES  # checked by the app, with `read_body`: 413
    stall_seconds: float = 30.0  # without progress of a request (408), or of its answer (cut)
    idle_seconds: float = 60.0  # until a connection without a request is closed
    connections: int = 16_384  # 503; less if the process may not open so many files
    leaving: int = 128  # refused connections that may still read their answer; less as with `connections`
    calls: int = 4096  # in flight: 503
    calls_each: int = 1024  # of one authenticated caller: 429
    streams: int = 16_384  # open event streams without a call: 503
    streams_each: int = 1024  # of one authenticated caller: 429
    shutdown_seconds: float = 30.0  # for requests in flight when the server stops
    last_call_seconds: float = 0.1  # from the stop of the server to the end of an idle connection

    @property
    def tick(self) -> float:
        """How often deadlines are checked."""
        return min(1.0, max(0.02, min(self.header_seconds, self.stall_seconds, self.idle_seconds) / 4))
