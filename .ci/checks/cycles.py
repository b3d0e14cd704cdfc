"""No modules of the package import each other in a circle.

Every import counts: at module level, inside a function, and under `if TYPE_CHECKING:`. There are no exceptions.
"""

from __future__ import annotations

import ast
from collections import deque
from typing import TYPE_CHECKING

from source import Source, imported, main, sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Graph = dict[str, set[str]]


def import_graph(modules: dict[str, Source]) -> Graph:
    """Map each module to the modules of the package that it imports, wherever in the file."""
    graph: Graph = {}
    for name, source in modules.items():
        statements = [node for node in ast.walk(source.tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        targets = {target for node in statements for target in imported(source, node)}
        graph[name] = {t if t in modules else t.rpartition(".")[0] for t in targets} & modules.keys() - {name}
    return graph


def shortest_circle(graph: Graph, start: str) -> list[str]:
    """Return the shortest way from `start` back to it, `start` first and not repeated; empty if there is none."""
    came_from: dict[str, str] = {}
    queue = deque([start])
    while queue:
        module = queue.popleft()
        for target in sorted(graph[module]):
            if target == start:
                way = [module]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if target not in came_from:
                came_from[target] = module
                queue.append(target)
    return []


def violations(root: Path) -> Iterator[str]:
    """Yield the shortest circle through each module that is in one, each circle once, shortest first."""
    modules = {source.module: source for source in sources(root, "src")}
    graph = import_graph(modules)
    seen: set[frozenset[str]] = set()
    for circle in sorted((shortest_circle(graph, name) for name in graph), key=lambda circle: (len(circle), circle)):
        if not circle or frozenset(circle) in seen:
            continue
        seen.add(frozenset(circle))
        files = " -> ".join(modules[name].name for name in [*circle, circle[0]])
        yield f"import circle of {len(circle)} files: {files}"


if __name__ == "__main__":
    main(violations)
