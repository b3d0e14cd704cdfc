"""What one listener takes from its clients before it says no."""

from dataclasses import dataclass

BODY_BYTES = 4 * 1024 * 1024
"""The longest body taken, unless the listener or the app says otherwise."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a listener; sizes in bytes, times in seconds.

    Times are checked by one timer per listener, so they hold to within `tick`.
    """

    header_bytes: int = 65_536  # request line and headers together, 431 beyond
    header_count: int = 200  # 431 beyond
    header_seconds: float = 10.0  # from a request's first byte to its last header, 408 beyond
    body_bytes: int = BODY_BYTES  # for whoever reads bodies (`read_body`), 413 beyond
    stall_seconds: float = 30.0  # without a byte of an unfinished body, or a client that does not read: cut
    idle_seconds: float = 60.0  # between two requests of a connection
    connections: int = 16_384  # 503 beyond, or beyond what the open files of the process allow, if that is less
    calls: int = 4096  # in flight, 503 beyond
    calls_each: int = 1024  # of one authenticated caller, 429 beyond
    streams: int = 16_384  # event streams open without a call, 503 beyond
    streams_each: int = 1024  # of one authenticated caller, 429 beyond
    shutdown_seconds: float = 30.0  # for requests in flight when the listener stops

    @property
    def tick(self) -> float:
        return min(1.0, max(0.02, min(self.header_seconds, self.stall_seconds, self.idle_seconds) / 4))
