"""Tells whether a start command runs a Portway server, which then listens on a Unix socket."""

import ast
import re
from pathlib import Path

from portway.host.builds.python_file import PythonFile, PythonFiles, Unreadable

_COMMAND = re.compile(r"(?:exec )?(?:(portway run)|(?:uv run )?python[\d.]*(?: -u)?) ([\w./-]+\.py)(?: [\w./:=$-]+)*")
_OTHERS = ("uvicorn", "hypercorn", "granian", "gunicorn")  # serve it on a port, whatever PORTWAY_SOCKET says


def runs_portway_server(folder: Path, command: str) -> bool:
    """Return whether `command` starts a file of `folder` whose `portway.Server` serves by its own `run()`."""
    found = _COMMAND.fullmatch(command.strip())
    path = folder / found[2] if found else folder
    if not (found and path.is_file() and path.resolve().is_relative_to(folder.resolve())):
        return False
    try:
        file = PythonFiles(folder).read(path)
    except Unreadable:
        return False
    names = {name for name, server in file.servers.items() if server.kind == "portway"}
    if any(file.imports(module) for module in _OTHERS):
        return False
    return bool(names) and (found[1] is not None or _calls_run(file, names))


def _calls_run(file: PythonFile, names: set[str]) -> bool:
    methods = (call.func for call in file.calls() if isinstance(call.func, ast.Attribute))
    return any(
        method.attr == "run" and isinstance(method.value, ast.Name) and method.value.id in names for method in methods
    )
