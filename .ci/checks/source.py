"""Parsed Python files, and the common entry point of the checks."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = Path("src/portway/host/templates/files")


@dataclass(frozen=True, slots=True)
class Source:
    """One file: `name` is its path below the root, `module` its dotted name below `src/` (`portway.http`)."""

    name: str
    module: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The base of relative imports: the module itself for an `__init__`, else its parent."""
        return self.module if self.name.endswith("__init__.py") else self.module.rpartition(".")[0]


def sources(root: Path, folder: str) -> Iterator[Source]:
    """Yield every Python file below `root/folder` in order of name, without the templates, which are for others."""
    for path in sorted((root / folder).rglob("*.py")):
        if "node_modules" in path.parts or path.is_relative_to(root / TEMPLATES):
            continue
        text = path.read_text(encoding="utf-8")
        parts = path.relative_to(root / folder).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield Source(str(path.relative_to(root)), module, text, ast.parse(text, str(path)))


def imported(source: Source, node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the dotted names a statement imports, relative ones resolved; `from a import b` gives `a.b`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parents = source.package.split(".")
        base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
    return [f"{base}.{alias.name}" for alias in node.names]


def main(check: Callable[[Path], Iterator[str]]) -> None:
    """Check the repository, or the root given as argument; print one violation per line and exit 1 if any."""
    found = list(check(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
    print(*found, sep="\n" if found else "", end="\n" if found else "")
    sys.exit(bool(found))
