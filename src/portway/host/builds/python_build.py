"""Builds a Python app with uv: virtual environment, requirements or lock file, the author's build command; finds a
Portway server by importing it, and says how it is started.
"""

import asyncio
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from portway.host.app_config import Start
from portway.host.builds import pip_shim, serve_object
from portway.host.builds.build_commands import BuildCommands
from portway.host.builds.build_error import BuildError
from portway.host.builds.build_sandboxes import BuildPlaces
from portway.host.builds.bytecode import add_bytecode
from portway.host.builds.plain_requirements import plain_requirements
from portway.host.builds.portway_command import runs_portway_server
from portway.host.builds.python_recipe import PythonRecipe, script_metadata
from portway.host.builds.uv_program import find_uv
from portway.host.builds.wheel import running_wheel
from portway.host.files import read_start
from portway.host.paths import Paths
from portway.host.releases.release import Release

_IMPORT_SECONDS = 60.0
_LARGEST_LOG = 1024 * 1024
# What a build without a command does as well, but with the packages that other apps have fetched.
_DEFAULT = re.compile(r"\s*(?:python3? -m )?pip3? install (?:--no-cache-dir )?-r requirements\.txt\s*")


async def build_python(
    release: Release, recipe: PythonRecipe, paths: Paths, variables: Mapping[str, str], places: BuildPlaces
) -> tuple[Start, bool]:
    """Make `release.venv`. Return how its server is started, and whether its packages were in a cache.

    Raises `BuildError`. `variables` are the app's own.
    """
    config, uv = release.config, find_uv()
    (release.tools / "uv").symlink_to(uv)
    commands = places.app({}, {})
    await _make_venv(places.host(), uv, release, recipe.python)
    interpreter = await asyncio.to_thread((release.venv / "bin" / "python").resolve)
    constraint = await _constraint(release, paths)
    is_default = recipe.requirements == "requirements.txt" and _DEFAULT.fullmatch(config.build_command)
    if config.build_command and not is_default:
        shims = _add_pip(release)
        own = {
            **{name: release.environment()[name] for name in ("PATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")},
            "UV_PYTHON": str(release.venv / "bin" / "python"),
            "PYTHONPATH": str(shims),
            pip_shim.CONSTRAINT: str(constraint),
        }
        shell = places.app(own, variables)
        await shell.run_shell(config.build_command, "build command")
        if recipe.portway:
            await _install(commands, uv, release, constraint, ["portway"])
    else:
        required = await _requirements(commands, uv, release, recipe)
        if recipe.portway:
            required.append("portway")
        packages = _plain(required) if places.walls.bubblewrap else None
        if packages and await _install_wheels(places.host(), uv, release, constraint, packages):
            pass
        elif required:
            await _install(commands, uv, release, constraint, required)
    is_cached = await asyncio.to_thread(_was_cached, release.build_log)
    await add_bytecode(release, interpreter, places.host(), paths)
    python = str(release.venv / "bin" / "python")
    if config.start_command:
        on_socket = runs_portway_server(release.folder, config.start_command)
        return Start(["/bin/sh", "-c", config.start_command], config.start_command, on_socket=on_socket), is_cached
    if recipe.server is not None:
        script = release.tools / Path(serve_object.__file__).name
        shutil.copyfile(serve_object.__file__, script)
        file = str(recipe.server.file.relative_to(release.folder))
        # Both are found from the app's folder and its PATH, so that the data directory can be moved.
        program = ["python", os.path.relpath(script, release.folder)]  # noqa: ASYNC240  # it reads no disk
        command = [*program, file, recipe.server.name, *config.origins]
        return Start(command, f"{file}:{recipe.server.name}"), is_cached
    finder = places.server(variables, compiles=True)
    # -P keeps the app's folder off sys.path, so its files cannot shadow more modules than under `portway run`.
    command = [python, "-P", "-m", "portway.cli.find_server", str(release.folder), *recipe.portway]
    server = (await finder.ask(command, "find its server", seconds=_IMPORT_SECONDS)).strip()
    return Start(["portway", "run", server, "--transport", "http"], server, on_socket=True), is_cached


def _was_cached(log: Path) -> bool:
    """Return whether uv has installed packages and fetched or built none of them: it would have prepared those."""
    text = read_start(log, _LARGEST_LOG) if log.exists() else b""
    return b"Installed " in text and b"Prepared " not in text


async def _make_venv(commands: BuildCommands, uv: str, release: Release, python: str) -> None:
    """Make the environment; if that very patch version of Python cannot be had, with another one of the series."""
    command = [uv, "venv", "--quiet", "--no-project"]
    try:
        await commands.run([*command, f"--python={python}", str(release.venv)], "make its environment")
    except BuildError:
        series = re.fullmatch(r"(3\.\d+)\.\d+", python)
        if series is None:
            raise
        await commands.run([*command, f"--python={series[1]}", str(release.venv)], "make its environment")


async def _requirements(commands: BuildCommands, uv: str, release: Release, recipe: PythonRecipe) -> list[str]:
    """Return the requirements as arguments of `uv pip install`: a lock is exported, other files are taken as they are.

    An app whose code is below src/ is installed as well, so that its packages can be imported.
    """
    name, temporary = recipe.requirements, release.directory / "tmp" / "requirements.txt"
    has_package = (release.folder / "src").is_dir() and (release.folder / "pyproject.toml").is_file()
    own = ["."] if has_package and not release.config.build_command else []
    if name == "uv.lock":
        options = ["--frozen", "--no-dev", "--no-emit-project", "--no-emit-package", "portway"]
        export = [uv, "export", "--quiet", *options, f"--python={recipe.python}", "--output-file", str(temporary)]
        await commands.run(export, "read its uv.lock")
    elif name.endswith(".py"):
        found = script_metadata(release.folder, release.config)
        dependencies = found[1].get("dependencies", []) if found else []
        temporary.write_text("".join(f"{each}\n" for each in dependencies))
    elif name:
        return ["--requirement", str(release.folder / name), *own]
    else:
        return own
    return ["--requirement", str(temporary), *own]


async def _install(commands: BuildCommands, uv: str, release: Release, constraint: Path, required: list[str]) -> None:
    python = str(release.venv / "bin" / "python")
    install = [uv, "pip", "install", "--python", python, "--constraint", str(constraint), *required]
    await commands.run(install, "install its requirements")


def _plain(required: list[str]) -> list[str] | None:
    """Return the requirements that these arguments of uv name, None if installing them may run code of the app."""
    packages: list[str] = []
    for option in required:
        found = plain_requirements(Path(option)) if os.sep in option else [option]
        if option == "." or found is None:
            return None
        packages += found if option != "--requirement" else []
    return packages


async def _install_wheels(
    commands: BuildCommands, uv: str, release: Release, constraint: Path, packages: list[str]
) -> bool:
    """Install packages by name, from wheels only, with the cache that all apps share: nothing of them is run.

    Return False when one of them has to be built, which may run anything.
    """
    listed = release.tools / "packages.txt"
    listed.write_text("".join(f"{package}\n" for package in packages))
    try:
        await _install(commands, uv, release, constraint, ["--no-build", "--requirement", str(listed)])
    except BuildError as error:
        if "building from source is disabled" in str(error):
            return False
        raise
    return True


async def _constraint(release: Release, paths: Paths) -> Path:
    """Return a file that makes `portway[pydantic]` keep its extra, and no index's `portway` take this one's place."""
    wheel = await asyncio.to_thread(running_wheel, paths.wheels)
    constraint = release.directory / "tmp" / "constraints.txt"
    constraint.write_text(f"portway @ {wheel.as_uri()}\n")
    return constraint


def _add_pip(release: Release) -> Path:
    """Let `pip` and `python -m pip` in a build command be uv's. Return the folder to add to PYTHONPATH."""
    module = release.directory / "tmp" / "shims" / "pip"
    module.mkdir(parents=True)
    (module / "__init__.py").touch()
    shutil.copyfile(pip_shim.__file__, module / "__main__.py")
    for name in ("pip", "pip3"):
        path = release.tools / name
        path.write_text('#!/bin/sh\nexec python -m pip "$@"\n')
        path.chmod(0o755)
    return module.parent
