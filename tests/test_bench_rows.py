"""benchmarks/RESULTS.md can be trusted: a section is replaced whole, alone, and names a row that exists."""

import re

import pytest

from benchmarks import report
from benchmarks.rows import ROWS

NAMES = [row.name for row in ROWS]


def section(name: str, value: str) -> str:
    verdict = report.Verdict("figure", value, met=True)
    return report.section(name, "title", report.Findings([verdict], ("a",), [("b",)], ["make"]), "Measured once.")


def test_a_row_measured_again_replaces_its_section_and_keeps_the_others():
    first = report.merge("", {"start": section("start", "1"), "memory": section("memory", "2")}, NAMES)
    again = report.merge(first, {"start": section("start", "3")}, NAMES)
    assert [line for line in again.splitlines() if line.startswith("| figure | 3")]
    assert "| figure | 1 |" not in again
    assert "| figure | 2 |" in again
    assert report.merge(again, {}, NAMES) == again


def test_a_section_of_a_row_that_is_no_more_is_dropped():
    assert "gone" not in report.merge(section("gone", "1"), {}, NAMES)


@pytest.mark.skipif(not report.RESULTS.exists(), reason="RESULTS.md is written by `make bench`")
def test_every_section_of_the_results_is_a_row_with_verdicts():
    text = report.RESULTS.read_text()
    sections = re.findall(
        r"^## ([\w-]+):[^#]*?\n\n\| figure \|[^\n]*\n\| ---[^\n]*\n((?:\|[^\n]*\|\n)+)", text, re.MULTILINE
    )
    assert [name for name, _ in sections] == [name for name in NAMES if f"## {name}:" in text]
    for name, lines in sections:
        for line in lines.splitlines():
            *_, met = line.strip("| ").split(" | ")
            assert met in {"yes", "NO", "-"}, f"{name}: {line}"
