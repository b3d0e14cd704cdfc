"""Imports the `portway.Server` that `FILE[:OBJECT]` names, and says why that fails."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway import Server

NAMES = ("server", "mcp", "app")


class LoadError(Exception):
    """No server could be loaded. The message names the cause and the mend, and may hold the author's traceback."""


def load(target: str) -> Server:
    """Import FILE, with its folder first on `sys.path` as under `python FILE`, and return its server."""
    path, name = split(target)
    require_file(path)
    module = _import(path.resolve())
    return _named(module, path, name) if name else _found(module, path)


def require_file(path: Path) -> None:
    """Raise `LoadError` unless a path is that of a file."""
    if os.path.isdir(path):  # False, too, for what is too long for a path
        raise LoadError(f"{path} is a folder; give the file that holds the server, as in {path / 'server.py'}")
    if not os.path.isfile(path):
        raise LoadError(f"there is no file {path}; give a Python file that holds a portway.Server, as in server.py")


def split(target: str) -> tuple[Path, str]:
    """Split `FILE:OBJECT` into its two parts; OBJECT is empty when it is not given."""
    head, colon, tail = target.rpartition(":")
    if colon and tail.isidentifier() and not os.path.exists(target):
        return Path(head), tail
    return Path(target), ""


def _import(path: Path) -> ModuleType:
    from portway import Server

    # Under its plain name the author's other files can import this one, unless the name is taken (types.py).
    name = path.stem if path.stem not in sys.modules else f"portway_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path.name} is not a Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    run, Server.run = Server.run, _refuse_to_run  # type: ignore[method-assign]
    try:
        spec.loader.exec_module(module)
    except LoadError as error:
        raise LoadError(f"{path.name} {error}") from None
    except (Exception, SystemExit) as error:
        raise LoadError(f"{path.name} could not be imported:\n{_own_traceback(error, path)}") from error
    finally:
        Server.run = run  # type: ignore[method-assign]
    return module


def _refuse_to_run(*_: object, **__: object) -> None:
    raise LoadError('runs its server when it is imported: put that line under `if __name__ == "__main__":`')


def _own_traceback(error: BaseException, path: Path) -> str:
    """Format the traceback from the author's file on; for a refused registration only as deep as the author's code."""
    from portway.exceptions import RegistrationError

    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename != str(path):
        frame = frame.tb_next
    frames = [each for each, _ in traceback.walk_tb(frame)]
    ours = (each.f_globals.get("__name__", "").startswith("portway.") for each in frames)
    depth = next((index for index, is_ours in enumerate(ours) if is_ours), None)
    limit = depth if isinstance(error, RegistrationError) else None
    return "".join(traceback.format_exception(type(error), error, frame, limit, chain=False)).rstrip()


def _named(module: ModuleType, path: Path, name: str) -> Server:
    from portway import Server

    found: object = getattr(module, name, None)
    if isinstance(found, Server):
        return found
    if found is None:
        raise LoadError(f"{path} has no object {name}; {_mend(_servers(module), path)}")
    raise LoadError(f"{name} in {path} is a {_type_of(found)}, not a portway.Server; {_mend(_servers(module), path)}")


def _found(module: ModuleType, path: Path) -> Server:
    servers = _servers(module)
    usual = {name: server for name, server in servers.items() if name in NAMES}
    for candidates in (servers, usual):
        if len({id(server) for server in candidates.values()}) == 1:
            return next(iter(candidates.values()))
    if servers:
        raise LoadError(f"{path} holds several servers ({', '.join(servers)}); {_mend(servers, path)}")
    for name in NAMES:
        if (other := getattr(module, name, None)) is not None:
            raise LoadError(f"{name} in {path} is a {_type_of(other)}, not a portway.Server; {_mend(servers, path)}")
    raise LoadError(f"{path} holds no server; {_mend(servers, path)}")


def _servers(module: ModuleType) -> dict[str, Server]:
    from portway import Server

    return {name: value for name, value in vars(module).items() if isinstance(value, Server)}


def _mend(servers: dict[str, Server], path: Path) -> str:
    if servers:
        return f"name one, as in {path}:{next(iter(servers))}"
    return 'make one at module level, as in server = Server("weather")'


def _type_of(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
