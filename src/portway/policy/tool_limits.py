"""All limits of one tool together: its arguments, rate and concurrency for each caller, and the refusal of a call that
is one too many (429).
"""

import logging
import time
from collections.abc import Hashable, Mapping

from portway.counted import counted
from portway.policy.argument_limits import ArgumentLimits
from portway.policy.confirmation import Confirmation
from portway.policy.rates import Concurrency, Rate, whole_seconds
from portway.policy.rules import Limit, PolicyRule
from portway.protocol.errors import REFUSED, RpcError

_log = logging.getLogger("portway.policy")


def exceeded(message: str, seconds: float = 0.0) -> RpcError:
    """Return the refusal of a call that is one too many (429); its data have the seconds for Retry-After."""
    return RpcError(REFUSED, message, {"retryAfter": whole_seconds(seconds)}, status=429)


class ToolLimits:
    """Compiled limits, with the counts of those who call. Raises ValueError for a limit that cannot be.

    `rate` is as in 10/minute, "" for none; `concurrency` counts the calls of one caller at a time, 0 for any number.
    `confirm` is how the user is asked to confirm a call, True for the usual text.
    """

    __slots__ = ("_concurrency", "_is_broken", "_rate", "arguments", "confirmation")

    def __init__(
        self,
        arguments: Mapping[str, Limit] | None = None,
        rate: str = "",
        concurrency: int = 0,
        confirm: bool | str = False,  # noqa: FBT002 - as a rule has it
    ) -> None:
        self.arguments = ArgumentLimits(arguments) if arguments else None
        self.confirmation = Confirmation("" if confirm is True else str(confirm)) if confirm else None
        self._is_broken = False
        self._rate = Rate(rate) if rate else None
        self._concurrency = Concurrency(concurrency) if concurrency else None

    @classmethod
    def of(cls, rule: PolicyRule) -> "ToolLimits":
        """Return the limits of a rule; if they cannot be checked, which the log says, limits that let nothing pass."""
        try:
            return cls(rule.arguments, rule.rate, rule.concurrency, rule.confirm)
        except ValueError as error:
            _log.error("a policy of %s lets no call pass: %s", rule.tool or "tools", error)
            broken = cls()
            broken._is_broken = True
            return broken

    def enter(self, tool: str, holder: Hashable) -> None:
        """Count a call that begins; each is followed by `leave` or `undo`. Raises RpcError (429) and counts none.

        `holder` is for whom it counts: the caller and, where these are the limits of several tools, the tool.
        """
        if self._is_broken:
            text = f"{tool} has limits that its host cannot check; the host's log says why."
            raise RpcError(REFUSED, text, status=503)
        if self._concurrency is not None and not self._concurrency.enter(holder):
            most = counted(self._concurrency.most, "call")
            text = f"{tool} takes at most {most} of a caller at a time; call again when one of them has ended."
            raise exceeded(text)
        if self._rate is not None and (seconds := self._rate.take(holder, time.monotonic())):
            self.leave(holder)
            wait = whole_seconds(seconds)
            text = f"{tool} takes at most {self._rate.says} of a caller; call again in {wait} s."
            raise exceeded(text, seconds)

    def leave(self, holder: Hashable) -> None:
        """Count a call that has ended."""
        if self._concurrency is not None:
            self._concurrency.give(holder)

    def undo(self, holder: Hashable) -> None:
        """Count a call no longer that does not run, or not before its user has confirmed it."""
        self.leave(holder)
        if self._rate is not None:
            self._rate.give(holder)
