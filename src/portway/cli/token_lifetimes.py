"""`--expires` and `--overlap` of tokens, and the cell of a table that shows an expiry."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from portway.cli.durations import duration
from portway.cli.table import shown_time

if TYPE_CHECKING:
    from portway.host.management.management_types import TokenInfo, UserInfo

Command = TypeVar("Command", bound=Callable[..., Any])


def _expires(default: str) -> Callable[[Command], Command]:
    return click.option(
        "--expires",
        metavar="TIME",
        callback=duration,
        help=f"How long the token is valid: 30m, 24h, 90d. Default: {default}.",
    )


expires_option = _expires("for ever")
renewed_expires_option = _expires("as long as the one before")
overlap_option = click.option(
    "--overlap",
    metavar="TIME",
    default="0s",
    callback=duration,
    help="How long the token before stays valid, as in 24h. Default: it ends now.",
)


def shown_expiry(token: "TokenInfo | UserInfo") -> str:
    """Return when a token expires, and until when the one before it is valid."""
    until = "never" if token.expires is None else shown_time(token.expires)
    return until if token.former_expires is None else f"{until} (the one before: {shown_time(token.former_expires)})"
