"""Draw plot.svg from the tables of RESULTS.md; `python -m benchmarks.plot` draws it again without measuring."""

import re
from dataclasses import dataclass, field
from html import escape

from benchmarks.measure import ROOT
from benchmarks.report import RESULTS

PLOT = ROOT / "benchmarks" / "plot.svg"
SHOWN = ("Portway", "mcp", "FastMCP", "gate", "Caddy")
OURS = ("Portway", "gate")
COLUMN, GAP, LABEL, BAR, STEP = 420, 20, 68, 16, 22  # pixels
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .card { fill: #ffffff; stroke: #d1d9e0 }
  .bar { fill: #8c959f }
  .ours { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .card { fill: #0d1117; stroke: #3d444d }
    .bar { fill: #6e7681 }
    .ours { fill: #4493f8 }
  }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One column of a row's table, as bars; `only` names the cells that choose the lines."""

    title: str
    row: str
    column: str
    only: dict[str, str] = field(default_factory=dict)


PANELS = (
    Panel("CPU per call, clients of 2025-11-25, µs", "cpu-async", "CPU µs/call", {"era": "legacy", "logging": "off"}),
    Panel("CPU per call, clients of 2026-07-28, µs", "cpu-async", "CPU µs/call", {"era": "modern", "logging": "off"}),
    Panel("p99 latency at 16 connections, ms", "cpu-async", "p99 ms", {"era": "legacy", "logging": "off"}),
    Panel("Start to first answer, ms", "start", "median ms"),
    Panel("Resident memory after 50,000 calls, MB", "memory", "MB after 50,000 calls"),
    Panel("The host's gate: CPU per proxied call, µs", "gate", "CPU µs/call", {"era": "legacy"}),
)


def bars(results: str, panel: Panel) -> list[tuple[str, str]]:
    """Return the name and the figure of each line that a panel shows, in the order of SHOWN."""
    section = re.search(rf"^## {panel.row}:.*?(?=^## |\Z)", results, re.MULTILINE | re.DOTALL)
    if section is None:
        raise ValueError(f"RESULTS.md has no section {panel.row}: measure it with --only {panel.row}")
    table = re.findall(r"(?:^\|.*\|\n)+", section[0], re.MULTILINE)[1]  # the first table is the verdicts
    header, _, *lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    cells = [dict(zip(header, line, strict=True)) for line in lines]
    found = {each[header[0]]: each[panel.column] for each in cells if panel.only.items() <= each.items()}
    return [(name, found[name]) for name in SHOWN if name in found]


def draw(results: str) -> str:
    """Return the SVG: two columns of panels, each with bars from zero on a scale of its own."""
    width, height = 2 * COLUMN + 3 * GAP, 28 + 3 * (4 * STEP + GAP) + 8
    about = 'role="img" aria-label="Portway beside mcp, FastMCP and Caddy; a shorter bar is better"'
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {about}>',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>',
        f'<text x="{GAP}" y="24">Shorter is better. Each panel has its own scale, from 0.</text>',
    ]
    for number, panel in enumerate(PANELS):
        left, top = GAP + number % 2 * (COLUMN + GAP), 44 + number // 2 * (4 * STEP + GAP)
        parts.append(f'<text class="title" x="{left}" y="{top + 12}">{escape(panel.title)}</text>')
        shown = bars(results, panel)
        longest = max(float(figure) for _, figure in shown)
        for line, (name, figure) in enumerate(shown, start=1):
            y, length = top + line * STEP, (COLUMN - LABEL - 60) * float(figure) / longest
            kind = "bar ours" if name in OURS else "bar"
            parts += [
                f'<text x="{left}" y="{y + 13}">{name}</text>',
                f'<rect class="{kind}" x="{left + LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>',
                f'<text x="{left + LABEL + length + 6:.1f}" y="{y + 13}">{figure}</text>',
            ]
    return "\n".join([*parts, "</svg>", ""])


def write() -> None:
    PLOT.write_text(draw(RESULTS.read_text()))


if __name__ == "__main__":
    write()
