"""Finds the control groups of a process (proc(5))."""

from pathlib import Path, PurePosixPath

CONTROLLERS = ("memory", "pids", "cpu")


def own_places(mountinfo: str, cgroup: str) -> dict[str, Path]:
    """Return the directories of a process's groups, of version 1 by controller, and that of version 2 as ""."""
    paths: dict[str, PurePosixPath] = {}
    for line in cgroup.splitlines():
        _, listed, own = line.split(":", 2)
        paths |= dict.fromkeys(listed.split(","), PurePosixPath(own))
    places: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        mounted, _, kind = line.partition(" - ")
        root, mount = mounted.split()[3:5]
        if kind.startswith("cgroup2 "):
            names = [""]
        elif kind.startswith("cgroup "):
            names = [name for name in kind.split()[2].split(",") if name in CONTROLLERS]
        else:
            continue
        for name in names:
            path = paths.get(name)
            if path is not None and path.is_relative_to(root) and ".." not in path.parts:
                places.setdefault(name, Path(mount) / path.relative_to(root))
    return places
