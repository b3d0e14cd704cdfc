"""Control groups (cgroups(7), version 2 or 1): the kernel's bounds on memory, processes and processor time of each
instance and build.

A host's group is named after it and stands below the group that it was started in. In it, each instance has
`apps/APP/INSTANCE`, and each command of a build `builds/BUILD`. All apps get equal shares of the processors, however
many instances they have; builds get what apps leave. Version 1 has such a tree for each controller, version 2 has one.
"""

import contextlib
import errno
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portway.host.app_config import UseLimits
from portway.host.processes import descendants
from portway.host.sandbox.cgroup_mounts import CONTROLLERS, own_places

_MB = 1024 * 1024
_PERIOD = 100_000  # microseconds, in which a group gets its share of the processors
_BUILDS_WEIGHT = {1: ("cpu.shares", "102"), 2: ("cpu.weight", "10")}  # a tenth of what the apps get
_HOST = "host"  # the group of gate, control and their launcher in version 2
_OTHERS = "the host's holds other programs too: start `portway up` in one of its own (systemd: Delegate=yes)"
_TRIES = 20
_ABANDONED_SECONDS = 60.0
_PREFIX = "portway-"
_changing = threading.Lock()  # one thread makes a group while another removes those above it as empty
_TRY_SECONDS = 10.0
_PAUSES = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)  # seconds between tries to remove a group: a killed process takes a moment
# It moves itself into the groups and becomes the command, so that the command starts nothing outside of them.
_JOIN = 'until [ "$1" = -- ]; do echo 0 > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Group:
    """The group of one instance or one command of a build: a directory for each controller that works here."""

    directories: Mapping[str, Path] = field(default_factory=dict)

    @property
    def join(self) -> list[str]:
        """The words to put before a command that is to run in the group."""
        places = dict.fromkeys(map(str, self.directories.values()))
        return ["/bin/sh", "-c", _JOIN, "sh", *places, "--"] if places else []

    def killed_for_memory(self) -> int | None:
        """Return the most bytes that it has used, if the kernel ended a process of it for want of memory."""
        directory = self.directories.get("memory")
        if directory is None:
            return None
        is_v1 = (directory / "memory.oom_control").exists()
        if not _entry(directory / ("memory.oom_control" if is_v1 else "memory.events"), "oom_kill"):
            return None
        for name in ("memory.max_usage_in_bytes", "memory.peak", "memory.current"):  # `peak` came with Linux 5.19
            with contextlib.suppress(OSError):
                return int((directory / name).read_text())
        return 0

    def was_full(self) -> bool:
        """Return whether a process or thread could not be started, as the group has all that it may have."""
        directory = self.directories.get("pids")
        return directory is not None and _entry(directory / "pids.events", "max") > 0

    def remove(self) -> None:
        """SIGKILL what is in it, and remove it. Blocks until that is done, for two seconds at most."""
        places = set(self.directories.values())
        for pause in _PAUSES:
            time.sleep(pause)
            for place in places:
                _kill(place)
            places = {place for place in places if not _removed(place)}
            if not places:
                break
        with _changing:
            for place in self.directories.values():
                for parent in place.parents:  # those that are empty now, up to the host's own
                    if not _removed(parent) or parent.name.startswith(_PREFIX):
                        break


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The groups of one host: `tops` are the directories of the host's own group, by controller; none where none work.

    `why_not` says why there are none.
    """

    version: int = 0
    tops: Mapping[str, Path] = field(default_factory=dict)
    why_not: str = "no cgroups were looked for"

    @property
    def kind(self) -> str:
        """What bounds apps and builds, in one word."""
        return f"cgroup-v{self.version}" if self.tops else "watcher"

    def __str__(self) -> str:
        """Say what bounds apps and builds, a watcher where no group does."""
        if not self.tops:
            return f"a watcher ends what uses too much; {self.why_not}"
        missing = [name for name in CONTROLLERS if name not in self.tops]
        return f"cgroup v{self.version}" + (f"; a watcher, as {' and '.join(missing)} cannot be had" if missing else "")

    def for_instance(self, app: str, identity: str, limits: UseLimits) -> Group:
        """Make the group of an instance. Raises OSError."""
        return self._make(("apps", app, identity), limits)

    def for_build(self, name: str, limits: UseLimits) -> Group:
        """Make the group of a command of a build. Raises OSError."""
        group = self._make(("builds", name), limits)
        if "cpu" in group.directories:
            file, weight = _BUILDS_WEIGHT[self.version]
            (group.directories["cpu"].parent / file).write_text(weight)
        return group

    def of_instance(self, app: str, identity: str) -> Group:
        """Return the group of an instance that an earlier control started, as far as it is there."""
        places = {name: top.joinpath("apps", app, identity) for name, top in self.tops.items()}
        return Group({name: place for name, place in places.items() if place.is_dir()})

    def remove_all_but(self, keep: Iterable[str]) -> None:
        """End what is in the groups of builds, and of instances whose ids are not in `keep`; remove those groups."""
        for top in set(self.tops.values()):
            for place in _tree(top):
                match place.relative_to(top).parts:
                    case ("builds", _) | ("apps", _, _) if place.name not in keep:
                        Group({"": place}).remove()
                    case _:
                        _removed(place)
            _remove_abandoned(top.parent)

    def _make(self, names: tuple[str, ...], limits: UseLimits) -> Group:
        with _changing:
            group = Group({controller: self._made(top, names) for controller, top in self.tops.items()})
        for controller, place in group.directories.items():
            for file, value in _settings(self.version, controller, limits):
                with contextlib.suppress(
                    FileNotFoundError
                ):  # there is no file for swap where the kernel does not count it
                    (place / file).write_text(value)
        return group

    def _made(self, top: Path, names: tuple[str, ...]) -> Path:
        """Make a group and those above it."""
        place = top
        place.mkdir(exist_ok=True)
        for name in names:
            if self.version == 2:
                _enable(place, self.tops)
            place /= name
            place.mkdir(exist_ok=True)
        return place


def find_cgroups(host: str) -> Cgroups:
    """Return the groups that the host of that identity can have here. This process must be a child of its launcher."""
    try:
        places = own_places(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
        groups = groups_in(places, _PREFIX + host, lambda: descendants(os.getppid()))
        _try(groups)
    except OSError as error:
        reason = _OTHERS if error.errno == errno.EBUSY else error.strerror
        return Cgroups(why_not=f"no cgroup can be used here: {reason}")
    return groups


def groups_in(places: Mapping[str, Path], name: str, processes: Callable[[], Iterable[int]]) -> Cgroups:
    """Return the groups that a host can have below those in `places`, which its `processes` are in. Raises OSError.

    Version 2 allows no processes beside groups with controllers, so those of the host go into a group of their own.
    """
    base = places.get("")
    controllers = (base / "cgroup.controllers").read_text().split() if base else []
    if base and "memory" in controllers:
        if base.name == _HOST and base.parent.name == name:
            base = base.parents[1]
        works = [controller for controller in CONTROLLERS if controller in controllers]
        if (base / "cgroup.type").exists():  # not at the root, which may have both
            _move(base, base / name / _HOST, processes)
        _enable(base, works)
        return Cgroups(2, dict.fromkeys(works, base / name))
    tops: dict[str, Path] = {}
    failure: OSError | None = None
    for controller in CONTROLLERS:
        try:
            if controller in places:
                (places[controller] / name).mkdir(exist_ok=True)
                tops[controller] = places[controller] / name
        except OSError as error:
            failure = error
    if failure is not None and not tops:
        raise failure
    return Cgroups(1, tops, "" if tops else "no cgroup is delegated to the host")


def _move(base: Path, target: Path, processes: Callable[[], Iterable[int]]) -> None:
    """Move those of the processes that are in `base` to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):  # the launcher may be starting some
        found = {int(pid) for pid in (base / "cgroup.procs").read_text().split()}.intersection(processes())
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                (target / "cgroup.procs").write_text(str(pid))
        if not found:
            break


def _try(groups: Cgroups) -> None:
    """Start a process in a group. Raises OSError when that cannot be done."""
    group = groups.for_instance("try", "try", UseLimits())
    try:
        subprocess.run([*group.join, "/bin/true"], check=True, capture_output=True, timeout=_TRY_SECONDS)
    except subprocess.SubprocessError:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM)) from None
    finally:
        group.remove()


def _enable(place: Path, controllers: Iterable[str]) -> None:
    """Let the groups below `place` have the controllers, which version 2 wants to be told. Raises OSError."""
    (place / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def _settings(version: int, controller: str, limits: UseLimits) -> list[tuple[str, str]]:
    """Return the files of a group to write, each with its content."""
    memory, quota = str(limits.memory_mb * _MB), str(round((limits.cpu or 0) * _PERIOD))
    settings = {
        (1, "memory"): [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)],
        (2, "memory"): [("memory.max", memory), ("memory.swap.max", "0"), ("memory.oom.group", "1")],
        (1, "cpu"): [("cpu.cfs_period_us", str(_PERIOD)), ("cpu.cfs_quota_us", quota)] if limits.cpu else [],
        (2, "cpu"): [("cpu.max", f"{quota} {_PERIOD}")] if limits.cpu else [],
    }
    return settings.get((version, controller), [("pids.max", str(limits.processes))])


def _entry(file: Path, name: str) -> int:
    """Return the number of one line of a file of lines "NAME NUMBER"; 0 without it."""
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            key, _, number = line.partition(" ")
            if key == name:
                return int(number)
    return 0


def _kill(place: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (place / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _remove_abandoned(base: Path) -> None:
    """Remove the empty groups of hosts that were killed; a host that lives puts a process into a new group at once."""
    before = time.time() - _ABANDONED_SECONDS
    for name in os.listdir(base):
        if name.startswith(_PREFIX):
            places = [place for place in _tree(base / name) if _changed(place) < before]
            for place in places:
                _removed(place)


def _tree(place: Path) -> list[Path]:
    """Return a group and those in it, the innermost first. Another host may be removing some."""
    return [Path(found) for found, _, _ in os.walk(place, topdown=False)]


def _changed(place: Path) -> float:
    try:
        return place.stat().st_mtime
    except OSError:  # removed
        return math.inf


def _removed(place: Path) -> bool:
    """Remove a group; return whether it is gone. One with processes or with groups in it stays."""
    try:
        place.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
