"""A restored host that has not taken over: it leaves links and pushes to the host that was backed up.

Two hosts of one origin would follow the same links and take the same pushes. So the restored one has the file
`Paths.restored`, and does neither while the file is there.
"""

import shlex
import time

import msgspec

from portway.host.files import write_durably
from portway.host.paths import Paths

RESTS = "This host was restored from a backup: its operator says that it takes over by `portway restore --take-over`."
"""The answer to hooks and pushes meanwhile."""


class Origin(msgspec.Struct, frozen=True):
    """The machine, the data directory and the time (in Unix seconds) of a backup."""

    host: str
    data: str
    made: int


def keep_origin(paths: Paths, origin: Origin) -> None:
    """Let the host be one that has not taken over. Raises `OSError`."""
    write_durably(paths.restored, msgspec.json.encode(origin))


def notice(paths: Paths) -> str:
    """Return what the operator of a host that has not taken over must know, empty when it has."""
    try:
        origin = msgspec.json.decode(paths.restored.read_bytes(), type=Origin)
    except FileNotFoundError:
        return ""
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(origin.made))
    return (
        f"this host was restored from the backup of {origin.data} on {origin.host} of {made}: turn that host off, then "
        f"run `portway restore --take-over --data {shlex.quote(str(paths.data))}`; "
        "until then links are not followed, and hooks and pushes are refused"
    )
