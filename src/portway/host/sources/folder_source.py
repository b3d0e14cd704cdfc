"""A folder on the host's machine as a source: how it is copied, and what of it is left out or refused."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from portway.host.sources.git_variables import git_variables
from portway.host.sources.source import SourceError
from portway.host.sources.source_rules import SKIPPED, refuse_large, refuse_link_out, refuse_many

_GIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A `Source`: a copy of `folder`, without what is no part of a server, such as `.git`, `.venv` and `.env`.

    A `.env` that is tracked by git is copied, so that it is found among the secrets of the source. Where a build may
    have written to the folder, it is not `asks_git`: git would read a configuration of the build's.
    """

    folder: Path
    asks_git: bool = True

    @property
    def location(self) -> str:
        return str(self.folder)

    @property
    def name(self) -> str:
        return self.folder.name

    async def variables(self) -> dict[str, str]:
        return await git_variables(self.folder)

    def copy_to(self, target: Path) -> None:
        """Raise `SourceError` for a link out of the folder, a special file, or more than 512 MB."""
        if not self.folder.is_dir():
            raise SourceError(f"there is no folder {self.folder}: give the one that holds your server")
        root = self.folder.resolve()
        if target.is_relative_to(root):
            raise SourceError(f"{root} holds the host's data directory: start `portway up` with a --data outside of it")
        size = count = 0
        target.mkdir(parents=True)
        for place, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name not in SKIPPED and name != ".env"]
            here = Path(place)
            there = target / here.relative_to(root)
            count += len(folders) + len(files)
            refuse_many(count, str(root))
            for name in [*folders, *files]:
                path = here / name
                if name in SKIPPED or (name == ".env" and not (self.asks_git and _is_tracked(path))):
                    continue
                if path.is_symlink():
                    refuse_link_out(path, root, str(path))
                    (there / name).symlink_to(path.readlink())
                elif path.is_dir():
                    (there / name).mkdir()
                elif path.is_file():
                    size += path.stat().st_size
                    refuse_large(size, str(root))
                    shutil.copy2(path, there / name)
                else:
                    raise SourceError(f"{path} is neither a file nor a folder: remove it from what you deploy")


def _is_tracked(path: Path) -> bool:
    """Return whether git has a file; False where there is no git."""
    # The folder's git configuration may name a program for fsmonitor, which must not run here.
    command = ["git", "-c", "core.fsmonitor=false", "ls-files", "--", path.name]
    try:
        done = subprocess.run(command, cwd=path.parent, capture_output=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return bool(done.stdout)
