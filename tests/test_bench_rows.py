"""benchmarks/RESULTS.md: a section is replaced whole and alone, and names a real row; plot.svg shows its figures."""

import re

import pytest

from benchmarks import plot, report
from benchmarks.oauth import ROWS

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


def test_the_plot_is_drawn_from_the_results():
    assert plot.PLOT.read_text() == plot.draw(report.RESULTS.read_text()), "run python -m benchmarks.plot"


def test_a_bar_is_as_long_as_its_figure_against_the_longest():
    svg = plot.draw(report.RESULTS.read_text())
    cpu = [float(figure) for _, figure in plot.bars(report.RESULTS.read_text(), plot.PANELS[0])]
    lengths = [float(length) for length in re.findall(r'<rect class="bar[^>]* width="([\d.]+)"', svg)[: len(cpu)]]
    assert [round(length / max(lengths), 3) for length in lengths] == [round(figure / max(cpu), 3) for figure in cpu]
    assert len(cpu) == 3
