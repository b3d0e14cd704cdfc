"""The instances of one release (`numInstances`): a keeper for each, and their state together."""

from collections.abc import Callable, Sequence

from portway.host.instances.keeper import Keeper
from portway.host.instances.runtime import Instance
from portway.host.instances.starter import Starter
from portway.host.releases.release import Release
from portway.host.routing_table import State


class InstanceGroup:
    """Keeps as many instances of a release running as its configuration says, each by itself.

    `changed` is called when one of them has changed.
    """

    def __init__(
        self,
        release: Release,
        starter: Starter,
        changed: Callable[[], None],
        instances: Sequence[Instance] = (),
        restarts: int = 0,
    ) -> None:
        """`instances` are ready; those that are missing are started. `restarts` were counted by earlier controls."""
        self.release = release
        self.keepers: list[Keeper] = []
        self._starter = starter
        self._changed = changed
        self._restarts = restarts  # of keepers that are gone
        for slot in range(self.wanted):
            self.keepers.append(self._keep(instances[slot] if slot < len(instances) else None))

    @property
    def wanted(self) -> int:
        """How many instances there should be."""
        return self.release.config.num_instances

    @property
    def up(self) -> list[Instance]:
        """The instances that take calls."""
        return up_instances(self.keepers)

    @property
    def running(self) -> list[Instance]:
        """The instances that take calls, and those that are unhealthy."""
        return [keeper.instance for keeper in self.keepers if keeper.instance is not None]

    @property
    def state(self) -> State:
        """The best state of its instances: the app is up while one of them is."""
        states = {keeper.state for keeper in self.keepers}
        return next(state for state in ("up", "starting", "unhealthy", "crashed", "stopped") if state in states)

    @property
    def reason(self) -> str:
        """Why instances are not up, in a sentence; "" when all are, or are being started for the first time."""
        reasons = [keeper.reason for keeper in self.keepers if keeper.reason]
        if not reasons or self.wanted == 1:
            return "".join(reasons)
        return f"{len(reasons)} of {self.wanted} instances: {reasons[0]}"

    @property
    def restarts(self) -> int:
        return self._restarts + sum(keeper.restarts for keeper in self.keepers)

    def replace(self, keeper: Keeper, instance: Instance) -> None:
        """Let the ready `instance` take the place of a keeper's, which the caller ends."""
        self._restarts += keeper.restarts
        self.keepers[self.keepers.index(keeper)] = self._keep(instance)

    def _keep(self, instance: Instance | None) -> Keeper:
        keeper = Keeper(self.release, self._starter, self._changed)
        keeper.begin(instance)
        return keeper


def up_instances(keepers: Sequence[Keeper]) -> list[Instance]:
    """Return the keepers' instances that take calls."""
    return [keeper.instance for keeper in keepers if keeper.state == "up" and keeper.instance is not None]
