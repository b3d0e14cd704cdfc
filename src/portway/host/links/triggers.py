"""Whether a new commit of a linked branch is deployed: `[skip deploy]`, `autoDeployTrigger`, `buildFilter`."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from portway.host.app_config import AppConfig

_SKIP = re.compile(r"\[(?:skip (?:deploy|render|cd)|(?:deploy|render|cd) skip)\]", re.IGNORECASE)


def objection(config: AppConfig, message: str, changed: Iterable[str] | None) -> str | None:
    """Return why a commit is not deployed, None when it is.

    `config` is that of the live release. `changed` are the paths that differ from what is live, None when unknown.
    """
    if config.auto_deploy != "commit":
        return f"autoDeployTrigger is {config.auto_deploy}"
    if found := _SKIP.search(message):
        return f"its message has {found[0]}"
    if changed is None:
        return None
    paths = list(changed)
    root = config.root_dir.strip("/")
    if root and root != "." and not any(path.startswith(f"{root}/") for path in paths):
        return f"nothing in {root} has changed"
    wanted = config.build_filter
    if wanted is None:
        return None
    kept = [path for path in paths if not _matches(path, wanted.ignored_paths)]
    if any(not wanted.paths or _matches(path, wanted.paths) for path in kept):
        return None
    return "buildFilter leaves out all that has changed"


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(_matches_glob(path.split("/"), pattern.strip("/").split("/")) for pattern in patterns)


def _matches_glob(names: list[str], pattern: list[str]) -> bool:
    """Return whether a path matches a glob: `**` stands for any folders and files, the others for one name each."""
    ends = {0}  # after how many names what is read of the pattern may end
    for part in pattern:
        if part == "**":
            ends = set(range(min(ends, default=len(names) + 1), len(names) + 1))
        else:
            ends = {end + 1 for end in ends if end < len(names) and fnmatchcase(names[end], part)}
    return len(names) in ends
