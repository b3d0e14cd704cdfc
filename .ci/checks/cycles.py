"""No two modules of the package need each other to be imported.

Imports inside functions or under `if TYPE_CHECKING:` run later or never; which are allowed is the layers' matter.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from source import imported, main, sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def at_import(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements that run when the module is imported."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.unparse(node.test):
                yield from at_import(node.body)
            yield from at_import(node.orelse)
        elif isinstance(node, ast.Try):
            handlers = [statement for handler in node.handlers for statement in handler.body]
            yield from at_import([*node.body, *handlers, *node.orelse, *node.finalbody])
        elif isinstance(node, ast.With | ast.ClassDef):
            yield from at_import(node.body)


def violations(root: Path) -> Iterator[str]:
    modules = {source.module: source for source in sources(root, "src")}
    graph: dict[str, set[str]] = {}
    for name, source in modules.items():
        targets = {target for node in at_import(source.tree.body) for target in imported(source, node)}
        graph[name] = {t if t in modules else t.rpartition(".")[0] for t in targets} & modules.keys() - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"import cycle: {' -> '.join(reversed(error.args[1]))}"


if __name__ == "__main__":
    main(violations)
