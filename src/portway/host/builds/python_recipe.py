"""Reads how a Python app is built and started: the version of Python, the file with its requirements, its server
object, script metadata.
"""

import platform
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.host.app_config import AppConfig
from portway.host.builds.build_error import BuildError
from portway.host.builds.plain_requirements import is_version
from portway.host.builds.python_file import ServerObject
from portway.host.builds.python_objects import FILES, find_object, split
from portway.host.sources.source_text import source_text

_BEGIN, _END = "# /// script", "# ///"  # of the comment block with the metadata of a script (PEP 723)


@dataclass(frozen=True, slots=True)
class PythonRecipe:
    """What is read from a Python app's files.

    `python` is an interpreter or a version, as uv takes them. `requirements` is the file that names the requirements,
    "" if there is none; of a .py file, it is the metadata of PEP 723 in it. Without a start command, `server` is the
    object to serve, or `portway` are the files one of which holds a `portway.Server`, as only an import shows.
    """

    python: str
    requirements: str
    server: ServerObject | None = None
    portway: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return one line for a deploy's log."""
        python = platform.python_version() if self.python == sys.executable else self.python
        return f"python {python}, {self.requirements or 'no requirements'}"


def read_python_recipe(folder: Path, config: AppConfig, variables: Mapping[str, str]) -> PythonRecipe:
    """Read it from the files of an app. Raises `BuildError` when they cannot be what a start needs."""
    project, is_poetrys = _project(folder)
    script = script_metadata(folder, config)
    python = sys.executable
    if wanted := variables.get("PYTHON_VERSION", "").strip():
        python = wanted
    elif (pinned := folder / ".python-version").is_file():
        python = (source_text(pinned).split() or [python])[0]
    else:
        bound = project.get("requires-python") or (script[1].get("requires-python") if script else None)
        if isinstance(bound, str) and not _admits_ours(bound):
            python = bound
    if python != sys.executable and not is_version(python):  # uv would run a path
        raise BuildError(f"{python!r} is no version of Python: write one as in 3.12")
    if (folder / "uv.lock").is_file() and project:
        requirements = "uv.lock"
    elif (folder / "requirements.txt").is_file():
        requirements = "requirements.txt"
    elif project.get("dependencies"):
        requirements = "pyproject.toml"
    elif is_poetrys and not config.build_command:
        raise BuildError(
            "the requirements in pyproject.toml are in Poetry's own table: move them to the table `project`, which "
            "Poetry reads as well, or export them to requirements.txt"
        )
    else:
        requirements = script[0] if script else ""
    if config.start_command:
        return PythonRecipe(python, requirements)
    server, portway = find_object(folder, config.server, is_ours=python == sys.executable)
    return PythonRecipe(python, requirements, server, portway)


def script_metadata(folder: Path, config: AppConfig) -> tuple[str, dict[str, Any]] | None:
    """Return the Python file that the app starts and its metadata (PEP 723), None if it has none.

    Raises `BuildError` for metadata that is not TOML.
    """
    words = [split(config.server)[0], *config.start_command.split(), *FILES]
    for name in (word for word in words if word.endswith(".py")):
        path = folder / name
        if path.resolve().is_relative_to(folder.resolve()) and path.is_file():
            lines = source_text(path).splitlines()
            block = lines[lines.index(_BEGIN) + 1 :] if _BEGIN in lines else []
            if _END in block:
                try:
                    return name, tomllib.loads("\n".join(line[2:] for line in block[: block.index(_END)]))
                except tomllib.TOMLDecodeError as error:
                    raise BuildError(f"the script metadata in {name} is not TOML: {error}") from None
    return None


def _project(folder: Path) -> tuple[dict[str, Any], bool]:
    """Return the table `project` of pyproject.toml, and whether Poetry's own table has requirements."""
    if not (pyproject := folder / "pyproject.toml").is_file():
        return {}, False
    try:
        content = tomllib.loads(source_text(pyproject))
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"pyproject.toml is not TOML: {error}") from None
    table, tools = content.get("project"), content.get("tool")
    poetry = tools.get("poetry") if isinstance(tools, dict) else None
    wanted = poetry.get("dependencies") if isinstance(poetry, dict) else None
    return (table if isinstance(table, dict) else {}), isinstance(wanted, dict) and bool(wanted.keys() - {"python"})


def _admits_ours(wanted: str) -> bool:
    """Return whether `requires-python` admits this interpreter; a specifier that is not plain is left to uv."""
    own = sys.version_info[:3]
    for part in wanted.replace(" ", "").split(","):
        operator = part.rstrip("0123456789.")
        try:
            version = tuple(int(number) for number in part[len(operator) :].split("."))
        except ValueError:
            return False
        same = own[: len(version)]
        holds = {
            ">=": same >= version,
            "<": same < version,
            "<=": same <= version,
            ">": same > version,
            "!=": same != version,
        }
        if not holds.get(operator, False):
            return False
    return True
