"""Reads from the syntax tree of a Python file which servers it makes and calls, importing nothing."""

import ast
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from portway.host.sources.source_text import LARGEST

Kind = Literal["portway", "fastmcp", "mcp"]

_ATTEMPTS = 3
_MOST_FILES = 100
_MOST_BYTES = 4 * 1024 * 1024
_FASTMCP = ("fastmcp", "fastmcp.server", "fastmcp.server.server")
_MCP1 = ("mcp.server", "mcp.server.fastmcp", "mcp.server.fastmcp.server")
_MCP2 = ("mcp.server", "mcp.server.mcpserver", "mcp.server.mcpserver.server")
CLASSES: dict[str, Kind] = {
    "portway.Server": "portway",
    "portway.app.Server": "portway",
    **{f"{module}.FastMCP": "fastmcp" for module in _FASTMCP},
    **{f"{module}.FastMCP": "mcp" for module in _MCP1},
    **{f"{module}.MCPServer": "mcp" for module in _MCP2},
}


class Unreadable(Exception):
    """The file is no Python that this interpreter reads; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class ServerObject:
    """A server at the top level of a file.

    `made_by` is the full name of its class, as in "fastmcp.FastMCP"; "" if only an import shows it.
    """

    file: Path
    name: str
    made_by: str

    @property
    def kind(self) -> Kind | None:
        return CLASSES.get(self.made_by)


@dataclass(slots=True)
class PythonFile:
    """One file of an app.

    `modules` are those it imports or imports from. `origins` maps each imported name to what it stands for, as in
    "FastMCP" to "fastmcp.FastMCP". `servers` are the server objects at its top level, also those of the app's other
    files. `inner` are the classes of servers that its functions make. `unknown` are the other names at its top level,
    each with what is called to make it ("" if it is no call).
    """

    path: Path
    tree: ast.Module
    modules: set[str] = field(default_factory=set)
    origins: dict[str, str] = field(default_factory=dict)
    servers: dict[str, ServerObject] = field(default_factory=dict)
    inner: set[str] = field(default_factory=set)
    unknown: dict[str, str] = field(default_factory=dict)

    def imports(self, module: str) -> bool:
        """Return whether the file imports `module` or anything of it."""
        names = self.modules | set(self.origins.values())
        return any(name == module or name.startswith(f"{module}.") for name in names)

    def origin(self, node: ast.expr) -> str:
        """Return what a name or attribute stands for, as far as imports tell: `f.FastMCP` as "fastmcp.FastMCP"."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.origins.get(node.id, node.id), *parts])

    def calls(self) -> Iterator[ast.Call]:
        """Yield every call in the file."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))


class PythonFiles:
    """Reads the Python files of the app in the folder `root`, up to `_MOST_FILES` and `_MOST_BYTES`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[Path, PythonFile | None] = {}
        self._left = _MOST_BYTES

    def read(self, path: Path) -> PythonFile:
        """Raise `Unreadable` when the file is not Python, or is too large."""
        name = str(path.relative_to(self._root))
        try:
            size = path.stat().st_size
            if size > min(LARGEST, self._left):
                raise Unreadable(f"{name} is larger than {LARGEST // 1024} KB")
            self._left -= size
            tree = _parsed(path.read_bytes(), name)
        except SyntaxError as error:
            raise Unreadable(f"{name}, line {error.lineno}, is not Python: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise Unreadable(f"{name} is not Python: {error}") from None
        file = self._files[path] = PythonFile(path, tree)
        for node in ast.walk(tree):
            _note_import(node, file)
        for statement in _top_level(tree.body):
            self._note(statement, file)
        made = {made_by for call in file.calls() if (made_by := _class_of(call, file))}
        file.inner = made - {server.made_by for server in file.servers.values()}
        return file

    def is_imported(self, module: str) -> bool:
        """Return whether a file that was read imports `module` or anything of it."""
        return any(file.imports(module) for file in self._files.values() if file is not None)

    def _note(self, statement: ast.stmt, file: PythonFile) -> None:
        """Note the servers and the unknown names that a statement at the top level binds."""
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                found = self._imported(statement, alias.name, file.path)
                if found is not None:
                    file.servers[alias.asname or alias.name] = found
                else:
                    file.unknown[alias.asname or alias.name] = ""
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            value, made_by = statement.value, _class_of(statement.value, file)
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                if not isinstance(target, ast.Name):
                    continue
                if made_by:
                    file.servers[target.id] = ServerObject(file.path, target.id, made_by)
                elif isinstance(value, ast.Name) and value.id in file.servers:
                    file.servers[target.id] = file.servers[value.id]
                else:
                    file.unknown[target.id] = file.origin(value.func) if isinstance(value, ast.Call) else ""

    def _imported(self, node: ast.ImportFrom, name: str, importer: Path) -> ServerObject | None:
        """Return the server that `from … import name` brings from another file of the app."""
        parts = node.module.split(".") if node.module else []
        if node.level > len(importer.parents):
            return None
        bases = [importer.parents[node.level - 1]] if node.level else [importer.parent, self._root, self._root / "src"]
        for base in dict.fromkeys(bases):
            module = base.joinpath(*parts)
            for path in (module.with_suffix(".py"), module / "__init__.py"):
                if path.is_relative_to(self._root) and path.is_file():
                    if path not in self._files and len(self._files) < _MOST_FILES:
                        self._files[path] = None  # while it is read: files may import each other
                        with contextlib.suppress(Unreadable):
                            self.read(path)
                    found = self._files.get(path)
                    return found.servers.get(name) if found else None
        return None


def _parsed(content: bytes, name: str) -> ast.Module:
    """Parse a file, again if another was parsed meanwhile: CPython 3.11 counts the depth of both as one.

    That can be during a garbage collection, which other threads may follow.
    """
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(SystemError, RecursionError):
            return ast.parse(content, name)
    return ast.parse(content, name)


def _note_import(node: ast.AST, file: PythonFile) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            file.modules.add(alias.name)
            first = alias.name.partition(".")[0]
            file.origins[alias.asname or first] = alias.name if alias.asname else first
    elif isinstance(node, ast.ImportFrom):
        module = f"{'.' * node.level}{node.module or ''}"
        file.modules.add(module)
        for alias in node.names:
            file.origins[alias.asname or alias.name] = f"{module}.{alias.name}"


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a file is imported, but the insides of functions and classes."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for block in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(statement, block, []))
            for handler in getattr(statement, "handlers", []):
                yield from _top_level(handler.body)


def _class_of(node: ast.expr, file: PythonFile) -> str:
    """Return the class of the server that a call makes, also by a class method; "" if it makes none."""
    if not isinstance(node, ast.Call):
        return ""
    origin = file.origin(node.func)
    return next((name for name in (origin, origin.rpartition(".")[0]) if name in CLASSES), "")
