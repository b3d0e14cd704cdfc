"""ARCHITECTURE.md lists every file of the package, by folder, each with the first paragraph of its docstring.

A folder is a heading; what its `__init__.py` says and its files follow. `--write` updates them (`make api`).
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

from source import ROOT, main, sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = "ARCHITECTURE.md"
PACKAGE = "src/portway/"
LONGEST = 240  # characters of the first paragraph
LIST = re.compile(r"^### `([\w/]*)`\n\n((?:[^\n#|-].*\n\n)?(?:- `\w+\.py`: .*\n)*)", re.MULTILINE)


def described(root: Path) -> dict[str, dict[str, str]]:
    """Map each folder to its files and what they hold; "" stands for the folder. Migrations are left out."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for source in sources(root, "src"):
        folder, slash, file = source.name.removeprefix(PACKAGE).rpartition("/")
        if "migrations" not in folder:
            paragraph = (ast.get_docstring(source.tree) or "").partition("\n\n")[0]
            found[folder + slash or PACKAGE]["" if file == "__init__.py" else file] = " ".join(paragraph.split())
    return found


def listed(files: dict[str, str]) -> str:
    about = f"{files['']}\n\n" if "" in files else ""
    return about + "".join(f"- `{file}`: {holds}\n" for file, holds in files.items() if file)


def violations(root: Path) -> Iterator[str]:
    page, folders = root / PAGE, described(root)
    for folder, files in folders.items():
        for file, holds in files.items():
            if not 0 < len(holds) <= LONGEST:
                name = file or "__init__.py"
                yield f"{folder}{name}: the first paragraph of its docstring has {len(holds)} characters"
    if page.exists():
        lists = dict(LIST.findall(page.read_text(encoding="utf-8")))
        for folder in sorted(lists.keys() | folders.keys()):
            if lists.get(folder) != listed(folders.get(folder, {})):
                yield f"{PAGE} does not list the files of {folder} as they are: run `make api`"


def write(page: Path) -> None:
    folders, text = described(ROOT), page.read_text(encoding="utf-8")

    def written(found: re.Match[str]) -> str:
        return found[0].removesuffix(found[2]) + listed(folders.get(found[1], {}))

    page.write_text(LIST.sub(written, text), encoding="utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv:
        write(ROOT / PAGE)
    else:
        main(violations)
