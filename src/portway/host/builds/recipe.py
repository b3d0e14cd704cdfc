"""Finds the runtime of an app, Python or Node, by its files and commands, and refuses programs that the host does not
have.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from portway.host.app_config import AppConfig, RuntimeName
from portway.host.builds.build_error import BuildError
from portway.host.builds.node_recipe import NodeRecipe, read_node_recipe
from portway.host.builds.python_recipe import PythonRecipe, read_python_recipe
from portway.host.releases.release import SYSTEM_PATH

Recipe = PythonRecipe | NodeRecipe

_PYTHON_FILES = ("requirements.txt", "pyproject.toml", "uv.lock")
_PYTHON_WORDS = {"python", "python3", "pip", "pip3", "uv", "uvicorn", "gunicorn", "fastmcp", "mcp", "portway"}
_NODE_WORDS = {"node", "npm", "npx", "pnpm", "yarn", "tsx"}
_MISSING = {
    "poetry": "leave it out and have the requirements in the table `project`, or say `pip install .`",
    "pipenv": "export its lock to requirements.txt",
    "bun": "use npm, pnpm or yarn",
}
# The first word of each command in a shell's line, after variables and `exec`.
_PROGRAM = re.compile(r"(?:^|[;&|(\n])\s*(?:(?:\w+=\S*|exec|env|time|then|do|else)\s+)*([\w./+-]+)")
_SHELL_SECONDS = 5.0


def read_recipe(folder: Path, config: AppConfig, variables: Mapping[str, str]) -> Recipe:
    """Read it from the files in `folder`, the app's, and from its settings. Raises `BuildError`."""
    if config.server and config.start_command:
        raise BuildError(
            f"the server {config.server} and the start command `{config.start_command}` are both given: take one back, "
            "by --server '' or --start ''"
        )
    for what, command in (
        ("build", config.build_command),
        ("pre-deploy", config.pre_deploy_command),
        ("start", config.start_command),
    ):
        if command.isspace():
            raise BuildError(f"the {what} command is blank: leave it out, or give '' to take back an earlier one")
    programs: set[str] = set()
    for what, command in (("build", config.build_command), ("start", config.start_command)):
        if command:
            programs |= _programs(what, command)
    if (config.runtime or _runtime(folder, config, programs)) == "node":
        return read_node_recipe(folder, config, variables)
    return read_python_recipe(folder, config, variables)


def _runtime(folder: Path, config: AppConfig, programs: set[str]) -> RuntimeName:
    """Return the runtime that an app does not name. Raises `BuildError` when its files allow both."""
    if config.server:
        return "python"
    python = [name for name in _PYTHON_FILES if (folder / name).is_file()]
    if not (folder / "package.json").is_file():
        return "node" if not python and programs & _NODE_WORDS and not programs & _PYTHON_WORDS else "python"
    is_python, is_node = bool(programs & _PYTHON_WORDS), bool(programs & _NODE_WORDS)
    if is_python != is_node:
        return "python" if is_python else "node"
    if python:
        raise BuildError(
            f"the folder holds a Python project ({python[0]}) and a Node project (package.json): "
            "say which with --runtime python or --runtime node"
        )
    return "node"


def _programs(what: str, command: str) -> set[str]:
    """Return the programs that a command for a shell calls. Raises `BuildError` when it cannot work here."""
    checked = subprocess.run(
        ["/bin/sh", "-n", "-c", command], capture_output=True, text=True, timeout=_SHELL_SECONDS, check=False
    )
    if checked.returncode:
        reason = checked.stderr.strip().rpartition(": ")[2]
        raise BuildError(f"the {what} command `{command}` is not one that a shell can read: {reason}")
    programs = {found[1].rpartition("/")[2] for found in _PROGRAM.finditer(command)}
    for program, mend in _MISSING.items():
        if program in programs and shutil.which(program, path=SYSTEM_PATH) is None:
            raise BuildError(f"the {what} command calls {program}, which the host does not have: {mend}")
    return programs
