"""Cancellations that came before their calls, kept for 5 s."""

from __future__ import annotations

SECONDS = 5.0
"""How long one is remembered: a call and its cancellation take different connections, and a busy loop may swap them."""
_LIMIT = 1000
_LONGEST_ID = 256

Key = tuple[str | bytes, int | str]


class EarlyCancellations(dict[Key, float]):
    """The cancelled calls that have not come, by session and request id, with the time until which they may come."""

    def add(self, session: str | bytes, request_id: int | str, now: float) -> None:
        """Remember a cancellation, in place of the oldest if there are too many."""
        if isinstance(request_id, str) and len(request_id) > _LONGEST_ID:
            return
        if len(self) >= _LIMIT:
            del self[next(iter(self))]
        self[session, request_id] = now + SECONDS

    def take(self, session: str | bytes, request_id: int | str, now: float) -> bool:
        """Forget the cancellation of a call; return whether there was one, not too long ago."""
        return self.pop((session, request_id), 0.0) > now
