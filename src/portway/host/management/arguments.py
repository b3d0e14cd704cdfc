"""The arguments that many tools of the management API share, with their descriptions."""

import time
from typing import Annotated

from msgspec import Meta

LONGEST_SECONDS = 10 * 365 * 86_400  # of a token's life

AppName = Annotated[str, Meta(description="The name of the app, as `list_apps` tells it.")]
AppOrNot = Annotated[str, Meta(description="The name of an app; or give `group`.")]
GroupOrNot = Annotated[
    str, Meta(description="The name of a group of variables, which several apps use, in place of `app`; for an admin.")
]
Restart = Annotated[
    bool, Meta(description="Restart the apps that use them, so that the change is live; each becomes a new release.")
]
Lifetime = Annotated[
    Annotated[int, Meta(ge=1, le=LONGEST_SECONDS)] | None,
    Meta(description="Seconds until it expires and what is open with it ends; by default it does not."),
]
Overlap = Annotated[
    int, Meta(description="Seconds for which the token before stays valid, too.", ge=0, le=LONGEST_SECONDS)
]


def expiry(lifetime: int | None) -> int | None:
    """Return when what lives so long from now on expires, in Unix seconds; None for never."""
    return None if lifetime is None else int(time.time()) + lifetime
