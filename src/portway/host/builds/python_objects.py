"""Finds the server object of a Python app without importing it (`--server FILE:OBJECT`), or says what was found
instead.
"""

import ast
from itertools import islice
from pathlib import Path

from portway.host.builds.build_error import BuildError
from portway.host.builds.python_file import PythonFile, PythonFiles, ServerObject, Unreadable

FILES = ("server.py", "main.py", "app.py")
_NAMES = ("server", "mcp", "app")
_MOST_OTHERS = 50
_ASGI = {"fastapi.FastAPI", "starlette.applications.Starlette"}
_ASGI_METHODS = ("http_app", "streamable_http_app", "sse_app", "asgi")
_MOUNTED = ("fastapi_mcp.FastApiMCP", "fastapi_mcp.server.FastApiMCP")  # served by the web app that it is given
_NAME_IT = "name its server with --server FILE[:OBJECT], or give the command that serves it with --start"


def find_object(folder: Path, wanted: str, *, is_ours: bool) -> tuple[ServerObject | None, tuple[str, ...]]:
    """Return the object to serve, or the files (as FILE or FILE:OBJECT) of which one holds a `portway.Server`.

    `wanted` is FILE or FILE:OBJECT; when it is empty, `FILES` are looked at. `is_ours` says that the app's Python reads
    files as this one does. Raises `BuildError`.
    """
    file, name = split(wanted)
    present = [file] if file else [each for each in FILES if (folder / each).is_file()]
    if not present:
        raise BuildError(f"there is no {', '.join(FILES[:-1])} or {FILES[-1]} here{_elsewhere(folder)}: {_NAME_IT}")
    path = (folder / present[0]).resolve()
    if file and not (path.is_file() and path.is_relative_to(folder.resolve())):
        raise BuildError(f"there is no file {file} in the folder: {_NAME_IT}")
    files = PythonFiles(folder)
    read: dict[str, PythonFile] = {}
    for each in present:
        try:
            read[each] = files.read(folder / each)
        except Unreadable as error:
            if is_ours:
                raise BuildError(str(error)) from None
            return None, (wanted,) if wanted else tuple(present)
    if any(each.kind == "portway" for one in read.values() for each in one.servers.values()) or files.is_imported(
        "portway"
    ):
        return None, (wanted,) if wanted else tuple(present)
    if name:
        servers = {key: server for key, one in read.items() if (server := one.servers.get(name))}
    else:
        servers = {f"{key}:{each}": server for key, one in read.items() for each, server in _usual(one).items()}
    if len(set(servers.values())) > 1:
        raise BuildError(f"there are several servers, {' and '.join(servers)}: name one with --server FILE:OBJECT")
    for server in servers.values():
        for one in read.values():
            _refuse_to_run_at_import(one)
        return server, ()
    return _unclear(read, name, wanted, knows_mcp=files.is_imported("fastmcp") or files.is_imported("mcp"))


def split(target: str) -> tuple[str, str]:
    """Split FILE:OBJECT into its two parts; OBJECT is empty when it is not given."""
    head, colon, tail = target.rpartition(":")
    return (head, tail) if colon and tail.isidentifier() else (target, "")


def _usual(file: PythonFile) -> dict[str, ServerObject]:
    """Return the servers of a file; if they differ, only those with a usual name."""
    if len(set(file.servers.values())) < 2:
        return file.servers
    return {name: file.servers[name] for name in _NAMES if name in file.servers} or file.servers


def _unclear(
    read: dict[str, PythonFile], name: str, wanted: str, *, knows_mcp: bool
) -> tuple[ServerObject | None, tuple[str, ...]]:
    """Decide by what names are bound to, when no file makes a server at its top level. Raises `BuildError`."""
    for key, file in read.items():
        for each in (name,) if name else _NAMES:
            origin = file.unknown.get(each)
            if origin is None or origin in _MOUNTED:
                continue
            if origin in _ASGI or origin.rpartition(".")[2] in _ASGI_METHODS:
                module = key.removesuffix(".py").replace("/", ".")
                raise BuildError(
                    f"{each} in {key} is a web app, not an MCP server: "
                    f"give --start 'uvicorn {module}:{each} --host 127.0.0.1 --port $PORT'"
                )
            return (
                (ServerObject(file.path, each, ""), ()) if knows_mcp else (None, (wanted,) if wanted else tuple(read))
            )
    for key, file in read.items():
        if file.inner:
            made = min(file.inner)
            raise BuildError(
                f"{key} makes its {made} inside a function, where it cannot be found: make it at the top level, "
                f"or give --start 'python {key}' if that serves it over HTTP on the port PORT"
            )
    what = f"{name} in {wanted.rpartition(':')[0]}" if name else " and ".join(read)
    raise BuildError(f"there is no FastMCP, MCPServer or portway.Server at the top level of {what}: {_NAME_IT}")


def _refuse_to_run_at_import(file: PythonFile) -> None:
    for statement in file.tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            function = statement.value.func
            if (
                isinstance(function, ast.Attribute)
                and function.attr == "run"
                and file.origin(function.value) in file.servers
            ):
                raise BuildError(
                    f"line {statement.lineno} of {file.path.name} serves at import: "
                    'put it under `if __name__ == "__main__":`, or give a --start command'
                )


def _elsewhere(folder: Path) -> str:
    """Say which other files hold a server, in a few words."""
    files = PythonFiles(folder)
    found = []
    for pattern in ("*.py", "src/*.py", "src/*/*.py", "*/*.py"):
        for path in sorted(islice(folder.glob(pattern), _MOST_OTHERS)):
            try:
                servers = files.read(path).servers
            except Unreadable:
                continue
            found += [f"{path.relative_to(folder)}:{name}" for name in servers if servers[name].file == path]
    found = list(dict.fromkeys(found))
    return f" (there are servers in {', '.join(found[:5])})" if found else ""
