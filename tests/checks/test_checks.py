"""Each of our own checks in `make check` fails on a violation and accepts similar correct code."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import ROOT

CHECKS = ROOT / ".ci" / "checks"

LOCKED = "click==8.5.1 ; sys_platform != 'win32' \\\n    --hash=sha256:00ff\n"
LOG = "src/portway/log.py"
TEMPLATE = "src/portway/host/templates/files/a"
FILES = "### `src/portway/`\n\n"
TABLE = "[tool.portway.owners]\n"
CIRCLE = "import circle of 2 files: src/p/a.py -> src/p/b.py -> src/p/a.py"

# check, files of a small tree, text it must print (None: nothing).
CASES = [
    ("sizes", {LOG: "x = 1\n" * 500}, None),
    ("sizes", {LOG: "x = 1\n" * 501}, "src/portway/log.py: 501 lines"),
    ("sizes", {LOG: "class A:\n  async def long(self):\n" + "    x = 1\n" * 59}, None),
    (
        "sizes",
        {LOG: "class A:\n  async def long(self):\n" + "    x = 1\n" * 60},
        "src/portway/log.py:2: long has 61 lines",
    ),
    (
        "cycles",
        {"src/p/__init__.py": "", "src/p/a.py": "import p.b\n", "src/p/b.py": "import os\nfrom p.b import x\n"},
        None,
    ),
    ("cycles", {"src/p/a.py": "import p.b\n", "src/p/b.py": "try:\n  from .a import x\nfinally: ...\n"}, CIRCLE),
    ("cycles", {"src/p/a.py": "import p.b\n", "src/p/b.py": "def f():\n  from p import a\n"}, CIRCLE),
    ("cycles", {"src/p/a.py": "import p.b\n", "src/p/b.py": "if TYPE_CHECKING:\n  import p.a\n"}, CIRCLE),
    (
        "cycles",
        {"src/p/__init__.py": "from p.a import x\n", "src/p/a.py": "from . import y\n"},
        "circle of 2 files: src/p/__",
    ),
    ("owners", {"pyproject.toml": TABLE + 'click = ["portway.log"]', LOG: "import click, os\nfrom . import x\n"}, None),
    (
        "owners",
        {"pyproject.toml": TABLE, LOG: "def f():\n  import click.core\n"},
        "log.py:2: imports click, which no module",
    ),
    ("owners", {"pyproject.toml": TABLE, LOG: "import_module('click')\n"}, "imports click"),
    ("owners", {"pyproject.toml": TABLE + 'click = ["portway.lo"]', LOG: "import click"}, "which portway.lo owns"),
    (
        "owners",
        {"pyproject.toml": TABLE + 'click = ["portway.log"]', LOG: "import os"},
        "owns click and does not import it",
    ),
    ("locks", {"locks/dev.txt": LOCKED}, None),
    ("locks", {"locks/dev.txt": f"--index-url x\n{LOCKED}"}, "dev.txt:1: names a place"),
    ("locks", {"locks/dev.txt": f"{LOCKED}    # via /home/me/pyproject.toml\n"}, "dev.txt:3: names a place"),
    ("locks", {"locks/dev.txt": f"click @ file:click.whl \\\n{LOCKED}"}, "dev.txt:1: names a place"),
    ("locks", {"locks/dev.txt": f"{LOCKED}idna==3.20\n"}, "no hash for idna==3.20"),
    ("locks", {f"{TEMPLATE}/a.in": "", f"{TEMPLATE}/a.txt": "idna==3.20\n"}, "no hash for idna==3.20"),
    ("locks", {f"{TEMPLATE}/package-lock.json": '"resolved": "x"'}, "package-lock.json:1: names a place"),
    ("owners", {"pyproject.toml": TABLE, f"{TEMPLATE}/server.py": "import fastmcp\n"}, None),
    ("locks", {"tests/node/package-lock.json": '{"a": {\n"resolved": "x"}}'}, "package-lock.json:2: names a place"),
    ("files", {"src/portway/log.py": '"""Logs."""\n', "ARCHITECTURE.md": FILES + "- `log.py`: Logs.\n"}, None),
    (
        "files",
        {"src/portway/log.py": '"""Log."""\n', "ARCHITECTURE.md": FILES},
        "does not list the files of src/portway/",
    ),
    ("files", {"src/portway/log.py": ""}, "src/portway/log.py: the first paragraph of its docstring has 0 characters"),
    ("fields", {"docs/blueprint-fields.md": "## Fields\n"}, "docs/blueprint-fields.md does not list the fields"),
    ("testlint", {"tests/a.py": "import asyncio\nasyncio.sleep(0)\n"}, None),
    ("testlint", {"tests/a.py": "import asyncio\nasyncio.sleep(0.01)\n"}, "tests/a.py:2: sleeps"),
    ("testlint", {"tests/a.py": "from time import sleep\nsleep(n)\n"}, "tests/a.py:2: sleeps"),
    ("testlint", {"tests/a.py": "def test_a():\n  t = time.time()\n  use(t)\n  assert f()\n"}, None),
    (
        "testlint",
        {"tests/a.py": "def test_a():\n  t = time.time()\n  d = now() - t\n  assert d < 1\n"},
        "a.py:4: asserts on",
    ),
    ("testlint", {"tests/a.py": "def test_a():\n  assert loop.time() < limit\n"}, "tests/a.py:2: asserts on"),
    ("testlint", {"tests/a.py": "@pytest.mark.skipif(old, reason='needs 3.12')\ndef test_a(): ...\n"}, None),
    ("testlint", {"tests/a.py": "@pytest.mark.skip\ndef test_a(): ...\n"}, "tests/a.py:1: is skipped without a reason"),
    ("testlint", {"tests/a.py": "@pytest.mark.skipif(old)\ndef test_a(): ...\n"}, "tests/a.py:1: is skipped"),
    ("testlint", {"tests/a.py": "def test_a():\n  pytest.skip('')\n"}, "tests/a.py:2: is skipped"),
]


def run_check(name: str, root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHECKS / f"{name}.py"), str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(("check", "files", "printed"), CASES)
def test_a_check_reports_violations_and_nothing_else(
    check: str, files: dict[str, str], printed: str | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = run_check(check, tmp_path)
    assert done.stderr == ""
    if printed is None:
        assert (done.stdout, done.returncode) == ("", 0)
    else:
        assert printed in done.stdout
        assert done.returncode == 1


def test_circles_are_listed_once_each_and_shortest_first(tmp_path: Path) -> None:
    targets = {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": ["e"], "e": ["d"], "f": ["a"]}
    (tmp_path / "src" / "p").mkdir(parents=True)
    for name, imports in targets.items():
        (tmp_path / "src" / "p" / f"{name}.py").write_text("".join(f"import p.{each}\n" for each in imports))
    circles = [
        line.partition(": ")[2].replace("src/p/", "") for line in run_check("cycles", tmp_path).stdout.splitlines()
    ]
    assert circles == ["d.py -> e.py -> d.py", "a.py -> b.py -> c.py -> a.py"]


def test_a_name_missing_from_api_txt_is_shown_as_a_difference(tmp_path: Path) -> None:
    text = (ROOT / "api.txt").read_text(encoding="utf-8")
    first, rest = text.split("\n", 1)
    (tmp_path / "api.txt").write_text(rest, encoding="utf-8")
    done = run_check("api", tmp_path)
    assert f"+{first}\n" in done.stdout
    assert done.returncode == 1


def test_a_layer_that_imports_upwards_breaks_the_contract(tmp_path: Path) -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    rows = next(c for c in config["contracts"] if c["id"] == "layers")["layers"]
    layers = [layer.strip("()") for row in rows for layer in re.split(r" [:|] ", row)]
    for layer in layers:
        (tmp_path / "portway" / layer).mkdir(parents=True)
        (tmp_path / "portway" / layer / "__init__.py").write_text("")
    (tmp_path / "portway" / "__init__.py").write_text("")
    (tmp_path / "portway" / "host" / "gate.py").write_text("import portway.client\n")
    (tmp_path / "portway" / "protocol" / "peek.py").write_text(
        "def peek():\n    import portway.server\n    import asyncio\n"
    )
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "portway.protocol is not allowed to import portway.server" in done.stdout
    assert "portway.protocol is not allowed to import asyncio" in done.stdout
    assert done.returncode == 1
