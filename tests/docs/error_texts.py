"""The error texts in the source of `src/portway`, and those that the pages in docs/ list.

A variable part of a text is written `…`. An error text is an argument of an exception (of its constructor, or of its
own `super().__init__`) or of one of SENDERS, which send a text to a client or an operator without raising. A text that
is only passed on, as `str(error)`, is found where it was made.
"""

from __future__ import annotations

import ast
import builtins
import functools
import gc
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from tests.support import ROOT

SOURCE = ROOT / "src" / "portway"
PAGES = [ROOT / "docs" / "troubleshooting.md", *sorted((ROOT / "docs").glob("errors-*.md"))]
OTHER_PAGES = sorted(set((ROOT / "docs").glob("*.md")) - set(PAGES))  # whose errors stand below a heading "Errors"
SENDERS = {
    *("refuse", "_answer", "Refusal"),  # replies of the listener and the transport
    "TokenRefusal",  # told in the log
    *("fail", "_end", "_show", "_say", "say", "_abandon"),  # ends of connections, of servers and of instances
    *("error", "exception", "warning", "print", "write"),  # lines of a log
}
_CLICK = {"ClickException", "UsageError", "BadParameter"}
_BUILTIN = {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)}
_ROW = re.compile(r"^\| (`+) ?(.+?) ?\1 \| .+ \|$", re.MULTILINE)
_FORMAT = re.compile(r"%(?:b|d|s|r|g|\.0f)")
_Scope = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_MOST = 8  # texts of one expression, as alternatives multiply


@dataclass(frozen=True)
class Error:
    """A text of the source, its place, and the function or exception that gets it."""

    text: str
    place: str
    carrier: str

    def is_written(self, text: str) -> bool:
        """Return whether `text`, as a page or a client shows it, can be this error."""
        return self._pattern.fullmatch(text) is not None

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.text.partition("\n")[0]).replace("…", ".+?"), re.DOTALL)  # a list may follow


@dataclass
class _Module:
    """One file, and the texts that its names and functions may hold."""

    path: Path
    tree: ast.Module
    functions: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = _assigned(node)
                returned = [part.value for part in ast.walk(node) if isinstance(part, ast.Return) and part.value]
                self.functions[node.name] = [text for value in returned for text in _texts(value, names, {})]

    def errors(self, exceptions: set[str]) -> Iterator[Error]:
        outer = _assigned(self.tree)
        for scope, node in _scoped(self.tree):
            if not isinstance(node, ast.Call):
                continue
            name = _name(node.func)
            if name not in exceptions | SENDERS and not _is_own_init(node, scope, exceptions):
                continue
            place = f"{self.path.relative_to(SOURCE)}:{node.lineno}"
            names = outer | (_assigned(scope[-1]) if scope else {})
            for argument in _arguments(node):
                for text in _texts(argument, names, self.functions):
                    if " " in text.strip():
                        yield Error(text, place, name)


def _arguments(node: ast.Call) -> Iterator[ast.expr]:
    """Yield the arguments of a call, and the "message" of a dict among them."""
    for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
        yield argument
        if isinstance(argument, ast.Dict):
            members = zip(argument.keys, argument.values, strict=True)
            yield from (value for key, value in members if isinstance(key, ast.Constant) and key.value == "message")


def _scoped(tree: ast.AST, scope: tuple[_Scope, ...] = ()) -> Iterator[tuple[tuple[_Scope, ...], ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        yield scope, node
        yield from _scoped(node, (*scope, node) if isinstance(node, _Scope) else scope)


def _is_own_init(node: ast.Call, scope: tuple[ast.AST, ...], exceptions: set[str]) -> bool:
    is_init = isinstance(node.func, ast.Attribute) and node.func.attr == "__init__"
    return is_init and bool(scope) and isinstance(scope[0], ast.ClassDef) and scope[0].name in exceptions


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _assigned(scope: ast.AST) -> dict[str, list[str]]:
    """Map each name to the texts assigned to it in `scope`; for a module, only at its top level."""
    nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
    found: dict[str, list[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).extend(_texts(node.value, {}, {}))
    return found


def _texts(node: ast.expr, names: dict[str, list[str]], functions: dict[str, list[str]]) -> list[str]:
    """Return the texts that an expression may have; [] if it is not text, or made elsewhere."""
    if isinstance(node, ast.Constant):
        value = node.value.decode() if isinstance(node.value, bytes) else node.value
        return [_FORMAT.sub("…", value)] if isinstance(value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = (_texts(side, names, functions) or ["…"] for side in (node.left, node.right))
        return ["".join(pair) for pair in product(*sides)][:_MOST]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, names, functions), *_texts(node.orelse, names, functions)]
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in _texts(value, names, functions)]
    if isinstance(node, ast.Name):
        return names.get(node.id, [])
    if isinstance(node, ast.Call):
        return functions.get(_name(node.func), [])
    return []


def _exceptions(trees: list[ast.Module]) -> set[str]:
    """Return the names of all exceptions: built-in ones, click's, everything raised, and their subclasses."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    raised = {_name(node.exc.func) for node in nodes if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)}
    known = _BUILTIN | _CLICK | raised
    size = 0
    while size != len(known):
        size = len(known)
        known |= {node.name for node in nodes if isinstance(node, ast.ClassDef) and known & set(map(_name, node.bases))}
    return known


def _parsed(path: Path) -> ast.Module:
    """Parse a file without a garbage collection in the midst of it.

    That may end an object whose traceback is printed, which parses in turn: CPython 3.11 fails on one within the other.
    """
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


@functools.cache
def errors() -> list[Error]:
    """Return every error text of the source, but for the findings of diagnosis/, which are printed with their mend."""
    paths = sorted(path for path in SOURCE.rglob("*.py") if path.parent.name != "diagnosis")
    modules = [_Module(path, _parsed(path)) for path in paths]
    exceptions = _exceptions([module.tree for module in modules])
    return [error for module in modules for error in module.errors(exceptions)]


@functools.cache
def documented() -> list[str]:
    """Return the error texts of the pages: the first cells of their tables, as code."""
    texts = [page.read_text() for page in PAGES]
    texts += [page.read_text().partition("\n## Errors\n")[2] for page in OTHER_PAGES]
    rows = [match for text in texts for match in _ROW.finditer(text)]
    return [match[2].replace("\\|", "|") for match in rows]


def asserted() -> set[str]:
    """Return the strings of the tests that may be error texts: those with a space, as plain text."""
    found = set()
    for path in set((ROOT / "tests").rglob("test_*.py")) - {Path(__file__).with_name("test_errors.py")}:
        nodes = list(ast.walk(_parsed(path)))
        docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and node not in docstrings:
                text = node.value if isinstance(node.value, str) else node.value.decode(errors="replace")
                if " " in text.strip() and len(text) < 400:
                    found.add(re.sub(r"\\(.)", r"\1", text).removeprefix("^").removesuffix("$").strip())
    return found
