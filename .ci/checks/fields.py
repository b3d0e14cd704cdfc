"""docs/blueprint-fields.md ends in the fields that a blueprint may have, as `portway.host.blueprint.fields` has them.

`--write` updates it (`make api`).
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from source import ROOT, main

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

HEADING = "## Fields\n"
ELSEWHERE = {"projects", "ungrouped", "envVarGroups.envVars"}  # hold what other rows list


def fields(section: Any, above: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # checked without the package
    """Yield each field of `section` and below it, with its name as the page writes it."""
    for field in section.fields:
        name = above + field.name
        yield name, field
        below = getattr(field.kind, "section", field.kind)
        if name not in ELSEWHERE and hasattr(below, "fields"):
            yield from fields(below, "" if name == "services" else f"{name}.")


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map each second member to all its first ones, as code."""
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        if f"`{name}`" not in found.setdefault(text, []):
            found[text].append(f"`{name}`")
    return {text: ", ".join(names) for text, names in found.items()}


def listed() -> str:
    """Return the end of the page."""
    # Imported by name, so that mypy can check this file without the package.
    known = list(fields(importlib.import_module("portway.host.blueprint.fields").ROOT))
    no_effect = grouped((name, field.no_effect) for name, field in known if field.no_effect)
    not_hosted = grouped((name, field.not_hosted) for name, field in known if field.not_hosted)
    old = grouped((name, f"`{field.instead}`") for name, field in known if field.instead)
    lines = [
        "",
        "Of the root, and of each of `services`. Anchors, aliases and `<<` are followed; a number stands for its text;",
        "booleans may be spelt as YAML 1.1 has them (`off`, `on`, `no`, `yes`).",
        "",
        "| field | value | what it does |",
        "| --- | --- | --- |",
        *(f"| `{name}` | {getattr(field.kind, 'says', '')} | {field.does} |" for name, field in known if field.does),
        "",
        "These are known and have no effect here; a deploy says so once:",
        "",
        "| field | why |",
        "| --- | --- |",
        *(f"| {names} | {reason} |" for reason, names in no_effect.items()),
        "",
        "These need what is not hosted here, an error without `--skip`:",
        *(f"{names} ({need});" for need, names in not_hosted.items()),
        "and services of other types and runtimes. Old names are read with a warning:",
        *(f"{names} (now {name})," for name, names in old.items()),
        "and what stands under an old and a new name is taken from the new one.",
    ]
    return "".join(f"{line}\n" for line in lines)


def written(page: Path) -> str:
    """Return the page with the fields as they are."""
    return page.read_text(encoding="utf-8").partition(HEADING)[0] + HEADING + listed()


def violations(root: Path) -> Iterator[str]:
    page = root / "docs" / "blueprint-fields.md"
    if page.exists() and page.read_text(encoding="utf-8") != written(page):
        yield "docs/blueprint-fields.md does not list the fields of host/blueprint/fields.py: run `make api`"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE = ROOT / "docs" / "blueprint-fields.md"
        PAGE.write_text(written(PAGE), encoding="utf-8")
    else:
        main(violations)
