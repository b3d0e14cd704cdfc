"""The lock files name no package index and no local path, and every version in them has a hash."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from source import TEMPLATES, main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLACE = re.compile(r"://|file:|^-|@ |(^|\s)[./~]+\w*/")
NPM_PLACE = re.compile(r'"resolved"|"file:|"link": true')


def violations(root: Path) -> Iterator[str]:
    templates = [path for path in (root / TEMPLATES).glob("*/*.txt") if path.with_suffix(".in").exists()]
    for path in sorted([*(root / "locks").glob("*.txt"), *templates]):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(root)
        for number, line in enumerate(text.splitlines(), 1):
            if PLACE.search(line):
                yield f"{name}:{number}: names a place: {line.strip()}"
        for requirement in re.split(r"\n(?=\S)", text):
            if "--hash=sha256:" not in requirement:
                yield f"{name}: no hash for {requirement.split(' ')[0]}"
    for path in sorted([*root.glob("tests/node/package-lock.json"), *(root / TEMPLATES).glob("*/package-lock.json")]):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if NPM_PLACE.search(line):
                yield f"{path.relative_to(root)}:{number}: names a place: {line.strip()}"


if __name__ == "__main__":
    main(violations)
