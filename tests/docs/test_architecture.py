"""ARCHITECTURE.md names files and folders that exist."""

from __future__ import annotations

import re

from tests.support import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_every_file_and_folder_it_names_exists() -> None:
    package = ROOT / "src" / "portway"
    paths = [path.relative_to(ROOT).as_posix() for path in [package, *package.rglob("*")]]
    paths += [
        path.relative_to(ROOT).as_posix()
        for folder in ("tests", "docs", ".ci")
        for path in ROOT.glob(f"{folder}/**/*.*")
    ]
    named = re.findall(r"`([\w./]+(?:\.py|/))`", TEXT)
    assert len(named) > 60
    missing = [name for name in named if not any(f"/{path}/".endswith(f"/{name.strip('/')}/") for path in paths)]
    assert missing == []


def test_the_glossary_is_short_and_defines_each_word_once() -> None:
    rows = re.search(r"## Glossary\n.*?\n\n(\|.*?)\n\n", TEXT, re.DOTALL)
    assert rows
    words = [word for row in rows[1].splitlines()[2:] for word in row.split("|")[1].strip().split(", ")]
    assert len(words) == len(set(words))
    assert 15 < len(words) <= 25
