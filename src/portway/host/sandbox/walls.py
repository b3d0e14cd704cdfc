"""Tries which walls this machine can put around apps (files, network, limits) when control starts; `--require`, and
what `portway ps` shows of them.
"""

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from portway.host.app_config import UseLimits
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.sandbox.bubblewrap import Bubblewrap, wrapped
from portway.host.sandbox.cgroups import Cgroups, find_cgroups

FACTS = ("files", "network", "limits")
_TRY_SECONDS = 10.0


class WallsError(Exception):
    """A wall that is needed does not stand; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Whether one kind of wall stands; `how` says by what, or why not."""

    stands: bool
    how: str


@dataclass(frozen=True, slots=True)
class Walls:
    """The walls around every app and build of this host. Without `bubblewrap`, there are none around their files.

    `cgroups` bound what they use as far as they can; a watcher does the rest.

    With `trusts_all`, apps get secrets also where nothing keeps other apps from reading them.
    """

    files: Fact
    network: Fact
    limits: Fact
    bubblewrap: Bubblewrap | None = None
    cgroups: Cgroups = field(default_factory=Cgroups)
    trusts_all: bool = False

    @property
    def standing(self) -> list[str]:
        """The names of those that stand."""
        return [name for name, fact in self.facts().items() if fact.stands]

    def facts(self) -> dict[str, Fact]:
        return {"files": self.files, "network": self.network, "limits": self.limits}

    def require(self, names: Iterable[str]) -> None:
        """Raise `WallsError` unless all of these stand."""
        for name in names:
            if not self.facts()[name].stands:
                raise WallsError(f"--require {name} cannot be met here: {self.facts()[name].how}")

    def require_for_secrets(self, what: str) -> None:
        """Raise `WallsError` if apps could read each other's secrets."""
        if not self.files.stands and not self.trusts_all:
            raise WallsError(
                f"{what} is refused, as every app here could read it ({self.files.how}): mend that, "
                "or start `portway up` with --trust-all-apps"
            )

    def unkept(self, limits: UseLimits) -> list[str]:
        """Say which of an app's limits have no effect here."""
        if limits.cpu is None or "cpu" in self.cgroups.tops:
            return []
        return [f"the limit of {limits.cpu:g} processor cores has no effect here ({self.limits.how})"]

    def summary(self) -> str:
        """Return them as `portway ps` shows them: "files,limits:cgroup-v1", or "none"."""
        return ",".join(f"limits:{self.cgroups.kind}" if name == "limits" else name for name in self.standing) or "none"

    def lines(self) -> list[str]:
        """Return a line for each, for the operator."""
        shown = {True: "walled", False: "open"}
        return [f"{name}: {shown[fact.stands]} ({fact.how})" for name, fact in self.facts().items()]


NO_WALLS = Walls(*(Fact(stands=False, how="not tried"),) * 3)


def raise_walls(paths: Paths) -> Walls:
    """Try what this machine can do, and return it."""
    cgroups = find_cgroups(paths.identity)
    limits = Fact(stands=True, how=str(cgroups))
    program, slirp = shutil.which("bwrap"), shutil.which("slirp4netns")
    if program is None:
        missing = Fact(stands=False, how="bubblewrap is not installed")
        return Walls(missing, _shared(missing.how), limits, cgroups=cgroups)
    files = Fact(stands=True, how="bubblewrap")
    refusal = "slirp4netns is not installed"
    if slirp is not None:
        bubblewrap = Bubblewrap(program, paths, slirp)
        if not (refusal := _refusal(bubblewrap)):
            return Walls(files, Fact(stands=True, how="slirp4netns"), limits, bubblewrap, cgroups)
    bubblewrap = Bubblewrap(program, paths)
    if failure := _refusal(bubblewrap):
        how = f"bubblewrap does not work here: {failure}"
        return Walls(Fact(stands=False, how=how), _shared("bubblewrap does not work here"), limits, cgroups=cgroups)
    return Walls(files, _shared(refusal), limits, bubblewrap, cgroups)


def _shared(reason: str) -> Fact:
    return Fact(stands=False, how=f"apps share the host's network, as {reason}")


def _refusal(bubblewrap: Bubblewrap) -> str:
    """Return why a command cannot be run under bubblewrap; "" when it can."""
    with TemporaryDirectory() as name:
        release = Release("try", 1, Path(name))
        for folder in (release.source, release.venv, release.home, release.directory / "tmp"):
            folder.mkdir()
        sandbox = bubblewrap.for_instance(release, release.directory / "tmp", {})
        with wrapped(sandbox, {}) as wrapping:
            try:
                done = subprocess.run(
                    [*wrapping.words, "true"],
                    env=wrapping.environment,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=_TRY_SECONDS,
                    check=False,
                    pass_fds=wrapping.descriptors,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return str(error)
    said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return said.removeprefix("portway: ") if done.returncode else ""
