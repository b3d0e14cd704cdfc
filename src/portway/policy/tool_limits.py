"""The limits of a tool together: its arguments, how often and how many at a time each caller may call it."""

import time
from collections.abc import Hashable, Mapping

from portway.policy.argument_limits import ArgumentLimits, Limit
from portway.policy.rates import Concurrency, Rate, whole_seconds
from portway.protocol.errors import REFUSED, RpcError


def exceeded(message: str, seconds: float = 0.0) -> RpcError:
    """Return the refusal of a call that is one too many (429); its data have the seconds for Retry-After."""
    return RpcError(REFUSED, message, {"retryAfter": whole_seconds(seconds)}, status=429)


class ToolLimits:
    """Compiled limits, with the counts of those who call. Raises ValueError for a limit that cannot be.

    `rate` is as in 10/minute, "" for none; `concurrency` counts the calls of one caller at a time, 0 for any number.
    """

    __slots__ = ("_concurrency", "_rate", "arguments")

    def __init__(self, arguments: Mapping[str, Limit] | None = None, rate: str = "", concurrency: int = 0) -> None:
        self.arguments = ArgumentLimits(arguments) if arguments else None
        self._rate = Rate(rate) if rate else None
        self._concurrency = Concurrency(concurrency) if concurrency else None

    def enter(self, tool: str, caller: Hashable) -> None:
        """Count a call that begins; each is followed by `leave`. Raises RpcError (429) and counts none."""
        key = tool, caller
        if self._concurrency is not None and not self._concurrency.enter(key):
            most = self._concurrency.most
            text = f"{tool} takes at most {most} calls of a caller at a time; call again when one of them has ended."
            raise exceeded(text)
        if self._rate is not None and (seconds := self._rate.take(key, time.monotonic())):
            self.leave(tool, caller)
            wait = whole_seconds(seconds)
            text = f"{tool} takes at most {self._rate.text} calls of a caller; call again in {wait} s."
            raise exceeded(text, seconds)

    def leave(self, tool: str, caller: Hashable) -> None:
        """Count a call that has ended."""
        if self._concurrency is not None:
            self._concurrency.give((tool, caller))
