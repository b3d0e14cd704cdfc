"""Finds the release that a rollback goes back to, or refuses."""

from collections.abc import Callable, Sequence

from portway.host.releases.deploy_error import DeployError
from portway.host.store import ReleaseRecord


def rollback_target(
    live: ReleaseRecord,
    records: Sequence[ReleaseRecord],
    number: int | None,
    is_same: Callable[[ReleaseRecord], bool],
) -> ReleaseRecord:
    """Return the release of that number, or the newest that served before the live one and was not the same.

    `records` are the releases of the app that are kept. Raises `DeployError`.
    """
    app = live.app
    served = {record.number: record for record in records if record.status == "ready" and record.number != live.number}
    if number in served:
        return served[number]
    if number is None:
        earlier = [record for record in reversed(served.values()) if not is_same(record)]
        if not earlier:
            raise DeployError(f"{app} has no earlier release that it can go back to")
        return earlier[0]
    choice = ", ".join(map(str, reversed(served))) or "none"
    if number == live.number:
        raise DeployError(f"release {number} of {app} is live: `portway restart {app}` starts it anew")
    if any(record.number == number for record in records):
        raise DeployError(f"release {number} of {app} never served: it can go back to {choice}")
    raise DeployError(f"{app} keeps no release {number}: it can go back to {choice}")
