"""No file of the package over 500 lines, no function over 60 (signature and docstring count, decorators do not)."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from source import main, sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_LINES = 500
FUNCTION_LINES = 60


def violations(root: Path) -> Iterator[str]:
    for source in sources(root, "src"):
        if (lines := source.text.count("\n")) > FILE_LINES:
            yield f"{source.name}: {lines} lines; the limit is {FILE_LINES}, so split it by noun"
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    yield f"{source.name}:{node.lineno}: {node.name} has {lines} lines; the limit is {FUNCTION_LINES}"


if __name__ == "__main__":
    main(violations)
