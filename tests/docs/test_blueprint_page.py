"""docs/blueprint.md lists every field of the table that the blueprint is read by, with what it does."""

from __future__ import annotations

from collections.abc import Iterator

from portway.host.blueprint.fields import ROOT, Field, List, Section
from portway.host.blueprint.kinds import Kind
from tests.support import ROOT as REPOSITORY

PAGE = (REPOSITORY / "docs" / "blueprint.md").read_text()


def fields(section: Section, above: str = "") -> Iterator[tuple[str, Field]]:
    """Yield each field below `section` once, with its name as the page writes it."""
    for field in section.fields:
        name = above + field.name
        yield name, field
        if name in {"projects", "ungrouped", "envVarGroups.envVars"}:
            continue  # they hold what stands elsewhere
        if isinstance(field.kind, Section):
            yield from fields(field.kind, f"{name}.")
        elif isinstance(field.kind, List):
            yield from fields(field.kind.section, "" if field.name == "services" else f"{name}.")


def grouped(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Map each second member to all its first ones, as code."""
    rows: dict[str, list[str]] = {}
    for name, text in pairs:
        if f"`{name}`" not in rows.setdefault(text, []):
            rows[text].append(f"`{name}`")
    return {text: ", ".join(names) for text, names in rows.items()}


def tables() -> list[str]:
    """Return the parts of the page that the table of fields gives."""
    known = list(fields(ROOT))
    works = [
        f"| `{name}` | {field.kind.says if isinstance(field.kind, Kind) else ''} | {field.does} |"
        for name, field in known
        if field.does
    ]
    no_effect = grouped((name, field.no_effect) for name, field in known if field.no_effect)
    not_hosted = grouped((name, field.not_hosted) for name, field in known if field.not_hosted)
    old = grouped((name, f"`{field.instead}`") for name, field in known if field.instead)
    told = [field.does or field.no_effect or field.not_hosted or field.instead for _, field in known]
    return [
        "\n".join(works),
        "\n".join(f"| {names} | {reason} |" for reason, names in no_effect.items()),
        ";\n".join(f"{thing}: {names}" for thing, names in not_hosted.items()),
        "; ".join(f"{names} (now {name})" for name, names in old.items()),
        ", ".join(f"`{name}`" for (name, _), text in zip(known, told, strict=True) if not text),
    ]


def test_the_page_lists_every_field_that_portway_knows() -> None:
    for part in tables():
        assert part in PAGE, part
