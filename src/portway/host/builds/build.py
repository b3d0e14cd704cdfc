"""Turns a copied source into a release: a venv made by uv, the server found in it, all of it read-only."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from portway.host.builds.build_commands import BuildCommands
from portway.host.builds.recipe import BuildError, Recipe
from portway.host.builds.uv_environment import uv_environment
from portway.host.builds.wheel import running_wheel
from portway.host.paths import Paths
from portway.host.releases.release import Release

_IMPORT_SECONDS = 60.0


async def build(release: Release, recipe: Recipe, paths: Paths, variables: Mapping[str, str]) -> str:
    """Make `release.venv` for the copied source and return the file that holds its server. Raises `BuildError`.

    The output of every command goes to `release.build_log`. When cancelled, it ends what it has started.
    """
    for folder in ("log", "home", "tmp"):
        (release.directory / folder).mkdir(exist_ok=True)
    wheel = await asyncio.to_thread(running_wheel, paths.wheels)
    uv = _find_uv()
    commands = BuildCommands(release, uv_environment(paths), paths)
    await commands.run(
        [uv, "venv", "--quiet", "--no-project", f"--python={recipe.python}", str(release.venv)],
        "make its environment",
    )
    requirements = await _requirements(commands, uv, release, recipe)
    await commands.run(_install(uv, release, requirements, wheel), "install its requirements")
    finder = BuildCommands(release, release.environment() | dict(variables), paths)
    # -P keeps the app's folder off sys.path, so its files cannot shadow more modules than under `portway run`.
    command = [str(release.venv / "bin" / "python"), "-P", "-m", "portway.cli.find_server", str(release.source)]
    found = await finder.run(command, "find its server", seconds=_IMPORT_SECONDS)
    await asyncio.to_thread(_freeze, release)
    return found.strip()


def _find_uv() -> str:
    try:
        from uv import find_uv_bin  # of the extra `host`, which an app's venv does not have

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        raise BuildError("uv is not installed here: pip install 'portway[host]'") from None


async def _requirements(commands: BuildCommands, uv: str, release: Release, recipe: Recipe) -> Path | None:
    """Return the file for `uv pip install -r`: a lock is exported, any other file is taken as it is."""
    if recipe.requirements != "uv.lock":
        return release.source / recipe.requirements if recipe.requirements else None
    exported = release.directory / "tmp" / "requirements.txt"
    options = ["--frozen", "--no-dev", "--no-emit-project", "--no-emit-package", "portway", f"--python={recipe.python}"]
    await commands.run([uv, "export", "--quiet", *options, "--output-file", str(exported)], "read its uv.lock")
    return exported


def _install(uv: str, release: Release, requirements: Path | None, wheel: Path) -> list[str]:
    # As a constraint, so that `portway[pydantic]` keeps its extra and no index's `portway` can take this one's place.
    constraint = release.directory / "tmp" / "constraints.txt"
    constraint.write_text(f"portway @ {wheel.as_uri()}\n")
    python = str(release.venv / "bin" / "python")
    command = [uv, "pip", "install", "--python", python, "--constraint", str(constraint), "portway"]
    return [*command, "--requirement", str(requirements)] if requirements else command


def _freeze(release: Release) -> None:
    """Make the release read-only, and its source private, because the copy kept the author's modes.

    The venv's files are links into uv's cache, so no instance may change them; who may read them stays as it is.
    """
    for root, kept in ((release.source, 0o500), (release.venv, 0o555)):
        for place, folders, files in os.walk(root):
            for name in [*files, *folders]:
                path = Path(place) / name
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode & kept)
        root.chmod(root.stat().st_mode & kept)
