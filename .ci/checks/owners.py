"""A third-party package is imported only by the modules that own it: `[tool.portway.owners]` of pyproject.toml."""

from __future__ import annotations

import ast
import sys
import tomllib
from typing import TYPE_CHECKING

from source import Source, imported, main, sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def third_party(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and top-level package of every third-party import, anywhere in the file."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = imported(source, node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)]
        else:
            continue
        for package in {name.partition(".")[0] for name in names}:
            if package not in sys.stdlib_module_names | {"portway", "_typeshed"}:
                yield node.lineno, package


def owns(owner: str, module: str) -> bool:
    return module == owner or module.startswith(f"{owner}.")


def violations(root: Path) -> Iterator[str]:
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    owners: dict[str, list[str]] = pyproject["tool"]["portway"]["owners"]
    used: set[tuple[str, str]] = set()
    for source in sources(root, "src"):
        for line, package in third_party(source):
            owner = next((o for o in owners.get(package, ()) if owns(o, source.module)), None)
            if owner:
                used.add((package, owner))
            else:
                named = ", ".join(owners.get(package, ())) or "no module"
                yield f"{source.name}:{line}: imports {package}, which {named} owns"
    for package, modules in owners.items():
        for owner in modules:
            if (package, owner) not in used:
                yield f"pyproject.toml: {owner} owns {package} and does not import it"


if __name__ == "__main__":
    main(violations)
