"""In which sandbox a command of a build runs: those that run code of the app or of a package, and those that do not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from portway.host.builds.build_commands import BuildCommands
from portway.host.builds.build_environment import build_environment, needs_loopback, sandboxed_environment
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.sandbox.bubblewrap import Sandbox
from portway.host.sandbox.walls import Walls

_LOW_PRIORITY = ["nice", "-n", "10"]
_PORT = "10000"  # Render's, for a server that reads it when it is imported


@dataclass(frozen=True, slots=True)
class BuildPlaces:
    """The places of one build. Where the walls have no bubblewrap, all of them are the host's own."""

    release: Release
    paths: Paths
    walls: Walls

    def host(self) -> BuildCommands:
        """Return the place of commands that run nothing of the app or of a package.

        They share their caches with all apps, and read no settings from the app's folder.
        """
        folder = self.release.folder if self.walls.bubblewrap is None else self.release.directory
        return self._commands(build_environment(self.paths), folder)

    def app(self, more: Mapping[str, str], variables: Mapping[str, str]) -> BuildCommands:
        """Return the place of commands of the app. They write to its files and to a cache of its own.

        `more` goes before the variables of a build, the app's own `variables` after.
        """
        folder = self.release.folder
        if self.walls.bubblewrap is None:
            environment = {**variables, **build_environment(self.paths), **more}
            return self._commands(environment, folder, before=_LOW_PRIORITY)
        of_build = sandboxed_environment(self.release, self.paths)
        environment, shares = {**variables, **of_build, **more}, needs_loopback(of_build, self.paths)
        sandbox = partial(self.walls.bubblewrap.for_build, self.release, of_build, shares_network=shares)
        return self._commands(environment, folder, sandbox, _LOW_PRIORITY)

    def server(self, variables: Mapping[str, str], *, compiles: bool = False) -> BuildCommands:
        """Return the place of commands in an instance's environment; `compiles`: they keep bytecode by the source."""
        release = self.release
        environment = {**release.environment(), "PORT": _PORT, **variables}
        if self.walls.bubblewrap is None:
            return self._commands(environment, release.folder)
        writable = {str(release.source): release.source} if compiles else {}
        sandbox = partial(self.walls.bubblewrap.for_instance, release, release.directory / "tmp", writable)
        environment["TMPDIR"] = "/tmp"  # noqa: S108  # its own
        return self._commands(environment, release.folder, sandbox)

    def _commands(
        self,
        environment: dict[str, str],
        folder: Path,
        sandbox: Callable[[], Sandbox] | None = None,
        before: Sequence[str] = (),
    ) -> BuildCommands:
        return BuildCommands(self.release, environment, self.paths, folder, self.walls.cgroups, sandbox, before)
