"""Arguments that many tools of the management API have, as they are described to clients."""

from typing import Annotated

from msgspec import Meta

AppName = Annotated[str, Meta(description="The name of the app, as `list_apps` tells it.")]
AppOrNot = Annotated[str, Meta(description="The name of an app; or give `group`.")]
GroupOrNot = Annotated[
    str, Meta(description="The name of a group of variables, which several apps use, in place of `app`; for an admin.")
]
Restart = Annotated[
    bool, Meta(description="Restart the apps that use them, so that the change is live; each becomes a new release.")
]
