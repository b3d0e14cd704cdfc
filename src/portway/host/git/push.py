"""Reads and refuses what is pushed (other branches, deletions, lost commits), over the pipes between the hook and
control.

received   the hook has passed on what is pushed; `read_pushed` and `source_of` refuse what cannot be deployed
deploying  the deploys before it end, then it is deployed; each step is printed
accepted   the release is live, and the branch is moved
refused    the last line says why; git drops the objects of the push
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from portway.host.git.commit_source import CommitSource
from portway.host.git.push_options import PushOptions, PushRefused, read_options
from portway.host.git.repository import BRANCHES, OBJECTS, Repository, commit_id

_REQUEST_BYTES = 4_194_304  # more than an environment may hold
_NONE = re.compile(r"0+")
_HEADS = "refs/heads/"


@dataclass(frozen=True, slots=True)
class Pushed:
    """What is pushed: a commit for the branch, and the options of the push."""

    old: str
    new: str
    branch: str
    options: PushOptions = field(default_factory=PushOptions)
    quarantine: dict[str, str] = field(default_factory=dict)


class HookPipes:
    """The two pipes between a push's hook and control. `environment` and `kept` are for the program that runs it."""

    def __init__(self) -> None:
        self._from_hook, hook_writes = os.pipe()
        hook_reads, self._to_hook = os.pipe()
        self.kept: tuple[int, ...] = (hook_writes, hook_reads)
        self.environment = {"PORTWAY_ASKS": str(hook_writes), "PORTWAY_HEARS": str(hook_reads)}

    async def serve(self, answer: Callable[[bytes, Callable[[str], None]], Awaitable[bool]]) -> None:
        """Pass the hook's request to `answer`; the push passes if that returns True.

        `answer` also gets a function that prints a line for the person who pushes.
        """
        for descriptor in self.kept:
            os.close(descriptor)
        self.kept = ()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(self._from_hook, "rb", 0)
        )
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(self._to_hook, "wb", 0))
        self._from_hook = self._to_hook = -1
        try:
            request = b""
            while not _is_whole(request) and len(request) < _REQUEST_BYTES:
                if not (piece := await reader.read(_REQUEST_BYTES)):
                    return  # git has refused the push, or had nothing to update
                request += piece
            if await answer(request, lambda line: writing.write(f" {_plain(line)}\n".encode())):
                writing.write(b"ok\n")
        finally:
            reading.close()
            writing.close()

    def close(self) -> None:
        """Close what `serve` has not taken over."""
        for descriptor in (*self.kept, self._from_hook, self._to_hook):
            if descriptor >= 0:
                os.close(descriptor)


def _is_whole(request: bytes) -> bool:
    return request.partition(b"\0")[2].endswith(b"\0\0")


def _plain(line: str) -> str:
    """Return a line without characters by which a terminal could be steered."""
    return "".join(character if character.isprintable() else " " for character in line)


def read_pushed(request: bytes, repository: Repository) -> Pushed:
    """Return what is pushed. Raises `PushRefused`, when it is not one commit for the branch, and `GitError`."""
    lines, _, rest = request.partition(b"\0")
    refs = [line.split(" ", 2) for line in lines.decode(errors="replace").split("\n")[:-1]]
    names = [name for _, _, name in refs]
    branches = [name.removeprefix(_HEADS) for name in names if name.startswith(_HEADS)]
    branch = repository.branch()
    if not repository.head() and len(names) == 1 and branches and branches[0] in BRANCHES:
        branch = branches[0]
    if names != [_HEADS + branch]:
        other = next(name for name in names if name != _HEADS + branch)
        raise PushRefused(
            f"only the branch {branch} is deployed, alone, and this push has {other}: push it as "
            f"`git push REMOTE HEAD:{branch}`"
        )
    old, new, _ = refs[0]
    if _NONE.fullmatch(new):
        raise PushRefused(f"the branch {branch} is not deleted: `portway destroy` removes the app")
    environment = dict(entry.partition("=")[::2] for entry in rest.decode(errors="surrogateescape").split("\0"))
    quarantine = {name: environment[name] for name in OBJECTS if name in environment}
    return Pushed(
        "" if _NONE.fullmatch(old) else commit_id(old), commit_id(new), branch, _options(environment), quarantine
    )


def _options(environment: dict[str, str]) -> PushOptions:
    """Return the options of the push. Raises `PushRefused`."""
    count = int(environment.get("GIT_PUSH_OPTION_COUNT", "0"))
    return read_options(environment.get(f"GIT_PUSH_OPTION_{number}", "") for number in range(count))


def source_of(pushed: Pushed, repository: Repository, app: str, user: str) -> CommitSource:
    """Return the source of a push. Raises `PushRefused` for one that would drop commits, and `GitError`."""
    held = Repository(repository.path, pushed.quarantine)
    forced = pushed.options.force
    if pushed.options.deploy:
        return CommitSource(held, pushed.new, pushed.branch, f"a folder of {user}", app)
    if pushed.old and not forced and not held.has_ancestor(pushed.new, pushed.old):
        raise PushRefused(
            f"the push drops {pushed.old[:7]}, which is deployed: merge it, or replace it by "
            "`git push --force -o force`; its release stays, for `portway rollback`"
        )
    return CommitSource(
        held,
        pushed.new,
        pushed.branch,
        f"git push of {pushed.new[:7]} by {user}",
        app,
        replaces=pushed.old if forced else "",
    )
