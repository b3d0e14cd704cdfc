"""Turns a copied source into a release: a venv made by uv, the server found in it, all of it read-only."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from portway.host.app_config import Start
from portway.host.builds.build_commands import BuildCommands
from portway.host.builds.recipe import BuildError, Recipe
from portway.host.builds.uv_environment import uv_environment
from portway.host.builds.wheel import running_wheel
from portway.host.paths import Paths
from portway.host.releases.release import SYSTEM_PATH, Release

_IMPORT_SECONDS = 60.0


async def build(release: Release, recipe: Recipe, paths: Paths, variables: Mapping[str, str]) -> Start:
    """Make `release.venv` for the copied source and return how its server is started. Raises `BuildError`.

    The output of every command goes to `release.build_log`. When cancelled, it ends what it has started.
    """
    for folder in ("log", "home", "tmp"):
        (release.directory / folder).mkdir(exist_ok=True)
    wheel = await asyncio.to_thread(running_wheel, paths.wheels)
    uv = _find_uv()
    commands = BuildCommands(release, uv_environment(paths), paths)
    config = release.config
    await commands.run(
        [uv, "venv", "--quiet", "--no-project", f"--python={recipe.python}", str(release.venv)],
        "make its environment",
    )
    if config.build_command:
        in_venv = {
            "PATH": f"{release.venv / 'bin'}:{Path(uv).parent}:{SYSTEM_PATH}",
            "VIRTUAL_ENV": str(release.venv),
            "UV_PROJECT_ENVIRONMENT": str(release.venv),
        }
        _add_pip(uv, release)
        shell = BuildCommands(release, uv_environment(paths) | in_venv, paths)
        await shell.run(["/bin/sh", "-c", config.build_command], f"run its build command `{config.build_command}`")
    else:
        requirements = await _requirements(commands, uv, release, recipe)
        if requirements or not config.start_command:
            await commands.run(_install(uv, release, requirements, wheel), "install its requirements")
    if config.start_command:
        await asyncio.to_thread(_freeze, release)
        return Start(["/bin/sh", "-c", config.start_command], config.start_command)
    finder = BuildCommands(release, release.environment() | dict(variables), paths)
    # -P keeps the app's folder off sys.path, so its files cannot shadow more modules than under `portway run`.
    command = [str(release.venv / "bin" / "python"), "-P", "-m", "portway.cli.find_server", str(release.folder)]
    found = await finder.run(command, "find its server", seconds=_IMPORT_SECONDS)
    await asyncio.to_thread(_freeze, release)
    server = found.strip()
    return Start(["portway", "run", server, "--transport", "http"], server, on_socket=True)


def _find_uv() -> str:
    try:
        from uv import find_uv_bin  # of the extra `host`, which an app's venv does not have

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        raise BuildError("uv is not installed here: pip install 'portway[host]'") from None


async def _requirements(commands: BuildCommands, uv: str, release: Release, recipe: Recipe) -> Path | None:
    """Return the file for `uv pip install -r`: a lock is exported, any other file is taken as it is."""
    if recipe.requirements != "uv.lock":
        return release.folder / recipe.requirements if recipe.requirements else None
    exported = release.directory / "tmp" / "requirements.txt"
    options = ["--frozen", "--no-dev", "--no-emit-project", "--no-emit-package", "portway", f"--python={recipe.python}"]
    await commands.run([uv, "export", "--quiet", *options, "--output-file", str(exported)], "read its uv.lock")
    return exported


def _install(uv: str, release: Release, requirements: Path | None, wheel: Path) -> list[str]:
    # As a constraint, so that `portway[pydantic]` keeps its extra and no index's `portway` can take this one's place.
    constraint = release.directory / "tmp" / "constraints.txt"
    constraint.write_text(f"portway @ {wheel.as_uri()}\n")
    python = str(release.venv / "bin" / "python")
    command = [uv, "pip", "install", "--python", python, "--constraint", str(constraint)]
    if not release.config.start_command:
        command.append("portway")
    return [*command, "--requirement", str(requirements)] if requirements else command


def _add_pip(uv: str, release: Release) -> None:
    """Let `pip` in a build command be uv's, which is many times as fast and installs into the release."""
    for name in ("pip", "pip3"):
        path = release.venv / "bin" / name
        path.write_text(f'#!/bin/sh\nexec "{uv}" pip "$@"\n')
        path.chmod(0o755)


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
