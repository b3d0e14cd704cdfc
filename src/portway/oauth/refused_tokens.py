"""Logs why tokens are refused, which callers are never told, in few lines however many there are."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

_SECONDS = 10.0  # between two lines about the same reason
_LONGEST = 100  # characters of a value that a token brings
_MOST_SHOWN = 3  # values of a list
_log = logging.getLogger("portway.oauth")


class TokenRefusal:
    """Why a token is not taken: `text` has a `%s` for each of `parts`, which may come from the token."""

    __slots__ = ("parts", "text")

    def __init__(self, text: str, *parts: object) -> None:
        self.text = text
        self.parts = parts

    def __str__(self) -> str:
        return self.text % tuple(map(_shown, self.parts))


class ExpiredToken(TokenRefusal):
    """A token is not taken, because its time is over."""

    __slots__ = ()


@dataclass(slots=True)
class _Told:
    """When a reason was last told, in monotonic seconds, and how many tokens were refused for it since."""

    at: float
    others: int = 0


class RefusedTokens:
    """Logs why tokens are refused, each reason at most once in ten seconds for an issuer or an app.

    What it keeps is bounded: there are as many entries as trusted issuers, or apps, and texts of reasons.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], _Told] = {}

    def tell(self, refusal: TokenRefusal, issuer: str = "", claims: Mapping[str, object] | None = None) -> None:
        """Log that an access token was refused, unless there was a line a moment ago.

        `issuer` is the trusted one that the token is of, if any. `claims` are those of a token whose signature is not
        verified.
        """
        of = f" of {issuer}" if issuer else ""
        if claims is not None:
            of = f" that is claimed to be of {_shown(claims.get('iss'))} for {_shown(claims.get('sub'))}"
        self._log(issuer, f"a token{of}", refusal)

    def tell_of_app(self, app: str, refusal: TokenRefusal) -> None:
        """Log that a request for an app of a host was refused, unless there was a line a moment ago.

        `app` is empty for a request whose path or name is no app's.
        """
        self._log(app, f"a request for {app or 'no app of this host'}", refusal)

    def _log(self, of: str, what: str, refusal: TokenRefusal) -> None:
        key, now = (of, refusal.text), time.monotonic()
        told = self._told.get(key)
        if told is not None and now - told.at < _SECONDS:
            told.others += 1
            return
        others = f" ({told.others} others like it before)" if told is not None and told.others else ""
        self._told[key] = _Told(now)
        line = f"{what} was refused: {refusal}{others}"
        _log.warning("%s", line)


def _shown(value: object) -> str:
    """Return a value of a token as one short, printable text."""
    if value is None or value == []:
        return "nothing"
    values = value if isinstance(value, list) else [value]
    rest = ", …" if len(values) > _MOST_SHOWN else ""
    return ", ".join(map(_one_shown, values[:_MOST_SHOWN])) + rest


def _one_shown(value: object) -> str:
    if isinstance(value, str):
        return repr(value[:_LONGEST]) + ("…" if len(value) > _LONGEST else "")
    return str(value)[:_LONGEST] if isinstance(value, int | float) else f"a {type(value).__name__}"
