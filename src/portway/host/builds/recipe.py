"""How a source is built: the interpreter, and the file that names its requirements."""

import platform
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path


class BuildError(Exception):
    """The source cannot be built; the message is for its author, with the last lines of a failed command."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The interpreter, and the file with the requirements ("" if there is none), as uv takes them."""

    python: str
    requirements: str

    def describe(self) -> str:
        """Return one line for a deploy's log."""
        python = platform.python_version() if self.python == sys.executable else self.python
        return f"python {python}, {self.requirements or 'no requirements'}"


def read_recipe(source: Path) -> Recipe:
    """Read it from the files of `source`. Raises `BuildError` for a pyproject.toml that is not TOML."""
    project = {}
    if (pyproject := source / "pyproject.toml").is_file():
        try:
            table = tomllib.loads(pyproject.read_text()).get("project")
            project = table if isinstance(table, dict) else {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BuildError(f"pyproject.toml is not TOML: {error}") from None
    python = sys.executable
    if (pinned := source / ".python-version").is_file():
        python = (pinned.read_text(errors="replace").split() or [python])[0]
    elif isinstance(wanted := project.get("requires-python"), str) and not _admits_ours(wanted):
        python = wanted
    if (source / "uv.lock").is_file() and project:
        return Recipe(python, "uv.lock")
    if (source / "requirements.txt").is_file():
        return Recipe(python, "requirements.txt")
    return Recipe(python, "pyproject.toml" if project.get("dependencies") else "")


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
