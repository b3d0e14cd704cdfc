"""No test sleeps, asserts on the clock, or is skipped without a reason.

A test passes in the time that matters, and waits for an event or with `tests.support.eventually`.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from source import main, sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READINGS = {"time", "monotonic", "perf_counter", "process_time"}
CLOCKS = READINGS | {f"{reading}_ns" for reading in READINGS} | {"now", "utcnow"}
SKIPS = {"skip", "skipif", "xfail", "skipIf", "skipUnless", "expectedFailure"}


def name_of(node: ast.expr) -> str:
    """Return the dotted name of an expression or of the function it calls; '' for anything else."""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def sleeps(node: ast.AST) -> bool:
    """Return whether this calls anything named `sleep`, except `asyncio.sleep(0)`, which only yields."""
    if not isinstance(node, ast.Call) or name_of(node).rpartition(".")[2] != "sleep":
        return False
    argument = node.args[0] if node.args else None
    return not (isinstance(argument, ast.Constant) and argument.value == 0)


def reads_clock(node: ast.AST, stamped: set[str]) -> bool:
    """Return whether `node` contains a reading of a clock, or a name bound to one."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            owner, _, last = name_of(part).rpartition(".")
            if last in CLOCKS and (last != "time" or owner.rpartition(".")[2] in {"time", "loop", "get_running_loop"}):
                return True
        elif isinstance(part, ast.Name) and part.id in stamped:
            return True
    return False


def clock_asserts(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[int]:
    """Yield the lines of asserts that depend on when, or how fast, the test ran."""
    stamped: set[str] = set()
    nodes = sorted((n for n in ast.walk(function) if isinstance(n, ast.stmt)), key=lambda n: n.lineno)
    for node in nodes:
        if isinstance(node, ast.Assign) and reads_clock(node.value, stamped):
            stamped |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.Assert) and reads_clock(node.test, stamped):
            yield node.lineno


def unreasoned(node: ast.AST) -> bool:
    """Return whether this is a skip or an expected failure without a reason, or with an empty one."""
    if isinstance(node, ast.Call):
        last = name_of(node).rpartition(".")[2]
        if last not in SKIPS or not name_of(node).startswith(("pytest.", "unittest.")):
            return False
        reasons = [k.value for k in node.keywords if k.arg in {"reason", "msg"}]
        if last != "skipif":
            reasons += node.args[-1:]
        return not any(not isinstance(r, ast.Constant) or r.value for r in reasons)
    return isinstance(node, ast.expr) and name_of(node) in {f"pytest.mark.{skip}" for skip in SKIPS}


def violations(root: Path) -> Iterator[str]:
    for source in sources(root, "tests"):
        called = {id(node.func) for node in ast.walk(source.tree) if isinstance(node, ast.Call)}
        for node in ast.walk(source.tree):
            where = f"{source.name}:{getattr(node, 'lineno', 0)}"
            if sleeps(node):
                yield f"{where}: sleeps; wait for an event, a line, or with tests.support.eventually"
            if id(node) not in called and unreasoned(node):
                yield f"{where}: is skipped without a reason"
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                for line in clock_asserts(node):
                    yield f"{source.name}:{line}: asserts on the wall clock; assert what happened, or pass the time in"


if __name__ == "__main__":
    main(violations)
