"""What a folder says about how it is built and started, before anything is built."""

from __future__ import annotations

import ast
import gc
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from portway.host.app_config import AppConfig
from portway.host.builds.build_error import BuildError
from portway.host.builds.node_recipe import NodeRecipe, admitted
from portway.host.builds.python_file import PythonFiles
from portway.host.builds.python_recipe import PythonRecipe
from portway.host.builds.recipe import Recipe, read_recipe

OWN = "from portway import Server\nserver = Server('s')\n"
FASTMCP = "from fastmcp import FastMCP\nmcp = FastMCP('weather')\n"
MCP1 = "import mcp.server.fastmcp as m\nhello: m.FastMCP = m.FastMCP('weather')\n"
MCP2 = "from mcp.server import MCPServer\nif True:\n    app = MCPServer('weather')\n"
PROJECT = '[project]\nname = "p"\nversion = "1"\n'
SCRIPT = "# /// script\n# requires-python = '>=3.99'\n# dependencies = ['idna']\n# ///\n" + OWN
POETRY = (
    '[tool.poetry]\nname = "p"\n[tool.poetry.dependencies]\nidna = "*"\n[build-system]\nrequires = ["poetry-core"]\n'
)


def recipe(folder: Path, files: dict[str, str], variables: dict[str, str] | None = None, **config: Any) -> Recipe:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return read_recipe(folder, AppConfig(**config), variables or {})


@pytest.mark.parametrize(
    ("files", "python", "requirements"),
    [
        ({}, None, ""),
        ({"requirements.txt": "idna"}, None, "requirements.txt"),
        ({"pyproject.toml": PROJECT}, None, ""),
        ({"pyproject.toml": PROJECT + 'dependencies = ["idna"]'}, None, "pyproject.toml"),
        ({"pyproject.toml": PROJECT, "uv.lock": "", "requirements.txt": ""}, None, "uv.lock"),
        ({"pyproject.toml": PROJECT + 'requires-python = ">=3.11, <4"'}, None, ""),
        ({"pyproject.toml": PROJECT + 'requires-python = ">=3.99"'}, ">=3.99", ""),
        ({"pyproject.toml": PROJECT + 'requires-python = "~=3.12"'}, "~=3.12", ""),
        ({"pyproject.toml": PROJECT + 'requires-python = ">=3.99"', ".python-version": "3.12\n"}, "3.12", ""),
        ({"server.py": SCRIPT}, ">=3.99", "server.py"),
    ],
)
def test_a_folder_says_how_it_is_built(
    tmp_path: Path, files: dict[str, str], python: str | None, requirements: str
) -> None:
    found = recipe(tmp_path, {"server.py": OWN} | files)
    assert found == PythonRecipe(python or sys.executable, requirements, portway=("server.py",))


def test_the_variable_python_version_counts_more_than_the_files(tmp_path: Path) -> None:
    found = recipe(tmp_path, {"server.py": OWN, ".python-version": "3.12"}, {"PYTHON_VERSION": "3.13.1"})
    assert found.describe() == "python 3.13.1, no requirements"
    with pytest.raises(BuildError, match="'src' is no version of Python: write one as in"):
        recipe(tmp_path, {"server.py": OWN}, {"PYTHON_VERSION": "src"})


@pytest.mark.parametrize(
    ("files", "server", "found"),
    [
        ({"server.py": FASTMCP}, "", "server.py:mcp fastmcp.FastMCP"),
        ({"main.py": MCP1}, "", "main.py:hello mcp.server.fastmcp.FastMCP"),
        ({"app.py": MCP2}, "", "app.py:app mcp.server.MCPServer"),
        ({"server.py": f"{FASTMCP}docs = FastMCP('docs')\n"}, "", "server.py:mcp fastmcp.FastMCP"),
        ({"server.py": f"{FASTMCP}docs = FastMCP('docs')\n"}, "server.py:docs", "server.py:docs fastmcp.FastMCP"),
        ({"src/weather/srv.py": FASTMCP}, "src/weather/srv.py", "src/weather/srv.py:mcp fastmcp.FastMCP"),
        ({"server.py": FASTMCP, "main.py": "from server import mcp as app"}, "", "server.py:mcp fastmcp.FastMCP"),
        ({"server.py": "import fastmcp as f\nmcp = f.FastMCP.from_openapi({})"}, "", "server.py:mcp fastmcp.FastMCP"),
        ({"server.py": "import fastmcp\nfrom lib import make\nserver = make()", "lib.py": ""}, "", "server.py:server "),
    ],
)
def test_the_object_of_another_framework_is_found_without_an_import(
    tmp_path: Path, files: dict[str, str], server: str, found: str
) -> None:
    read = recipe(tmp_path, files, server=server)
    assert isinstance(read, PythonRecipe)
    assert read.server
    assert f"{read.server.file.relative_to(tmp_path)}:{read.server.name} {read.server.made_by}" == found
    assert not read.portway


@pytest.mark.parametrize(
    ("files", "config", "message"),
    [
        ({"pyproject.toml": "= 1"}, {}, "pyproject.toml is not TOML: …"),
        ({"server.py": "# /// script\n# = 1\n# ///\n"}, {}, "the script metadata in … is not TOML: …"),
        (
            {"pyproject.toml": POETRY},
            {},
            "the requirements in pyproject.toml are in Poetry's own table: move them to …",
        ),
        ({"server.py": "def f(:\n"}, {}, "…, line …, is not Python: …"),
        ({"server.py": "\0"}, {}, "… is not Python: …"),
        ({"server.py": "x = 1\n" * 200_000}, {}, "… is larger than … KB"),
        (
            {"readme": ""},
            {},
            (
                "there is no … or … here…: name its server with --server FILE[:OBJECT], "
                "or give the command that serves it with --start"
            ),
        ),
        ({"src/w/a.py": FASTMCP}, {}, "there is no … here (there are servers in src/w/a.py:mcp): name its server …"),
        ({"server.py": OWN}, {"server": "../server.py"}, "there is no file … in the folder: …"),
        (
            {"server.py": FASTMCP, "app.py": MCP2},
            {},
            "there are several servers, …: name one with --server FILE:OBJECT",
        ),
        ({"server.py": "x = 1"}, {}, "there is no FastMCP, MCPServer or portway.Server at the top level of …: …"),
        (
            {"server.py": FASTMCP},
            {"server": "server.py:x"},
            "there is no FastMCP, … at the top level of x in server.py: …",
        ),
        (
            {"server.py": "from fastmcp import FastMCP\ndef main():\n    FastMCP('x').run()"},
            {},
            (
                "… makes its … inside a function, where it cannot be found: make it at the top level, or give --start "
                "'python …' if that serves it over HTTP on the port PORT"
            ),
        ),
        (
            {"server.py": f"{FASTMCP}mcp.run()"},
            {},
            'line … of … serves at import: put it under `if __name__ == "__main__":`, or give a --start command',
        ),
        (
            {"app.py": "import fastapi\napp = fastapi.FastAPI()"},
            {},
            "… in … is a web app, not an MCP server: give --start 'uvicorn app:app --host 127.0.0.1 --port $PORT'",
        ),
        (
            {"main.py": "import fastapi, fastapi_mcp\napp = fastapi.FastAPI()\nmcp = fastapi_mcp.FastApiMCP(app)"},
            {},
            "app in … is a web app, not an MCP server: give --start 'uvicorn main:app --host 127.0.0.1 --port $PORT'",
        ),
        (
            {"requirements.txt": "", "package.json": "{}"},
            {},
            "the folder holds a Python project (…) and a Node project (…): say which with --runtime python or …",
        ),
        (
            {},
            {"server": "a.py", "start_command": "python b.py"},
            "the server a.py and the start command `…` are both given: take one back, by --server '' or --start ''",
        ),
        (
            {},
            {"start_command": " "},
            "the start command is blank: leave it out, or give '' to take back an earlier one",
        ),
        ({}, {"root_dir": "x", "start_command": "a 'b"}, "the start command `…` is not one that a shell can read: …"),
        (
            {},
            {"build_command": "cd x && poetry install"},
            "the … command calls poetry, which the host does not have: …",
        ),
        (
            {"package.json": "{}"},
            {},
            "package.json has no start script: add one, or give the command …'node server.js'",
        ),
        ({"package.json": "{"}, {}, "package.json cannot be read: …"),
        (
            {"package.json": "{}", ".nvmrc": "v18.1"},
            {},
            ".nvmrc asks for Node v18.1, but Portway runs Node 20 and later",
        ),
        ({"package.json": '{"packageManager": "bun@1"}'}, {}, "package.json asks for bun: use npm, pnpm or yarn, or …"),
        ({"package.json": "{}", "bun.lock": ""}, {}, "the lock file is bun's: use npm, pnpm or yarn, or give a …"),
        ({"package.json": " " * 2**20 + "{}"}, {}, "package.json is larger than … KB"),
    ],
)
def test_a_folder_that_cannot_be_started_is_refused_with_the_mend(
    tmp_path: Path, files: dict[str, str], config: dict[str, str], message: str
) -> None:
    with pytest.raises(BuildError) as refused:
        recipe(tmp_path, files, **config)
    assert re.fullmatch(re.escape(message).replace("…", ".*?"), str(refused.value), re.DOTALL), refused.value


@pytest.mark.parametrize(
    ("files", "config", "found"),
    [
        (
            {"package.json": '{"scripts": {"start": "node x.js", "prestart": "a"}}'},
            {},
            ("npm", "", "", "a && node x.js"),
        ),
        ({"package.json": "{}", "server.js": ""}, {}, ("npm", "", "", "node server.js")),
        ({"package.json": "{}", "yarn.lock": ""}, {"start_command": "node x"}, ("yarn", "", "yarn.lock", "")),
        (
            {"package.json": '{"packageManager": "pnpm@9.1.0+sha"}', "pnpm-lock.yaml": "", "yarn.lock": ""},
            {"start_command": "node x"},
            ("pnpm", "9.1.0", "pnpm-lock.yaml", ""),
        ),
        ({"main.js": ""}, {"start_command": "exec node main.js"}, ("npm", "", "", "")),
        (
            {"package.json": "{}", "requirements.txt": ""},
            {"build_command": "npm ci", "start_command": "X=1 node x"},
            ("npm", "", "", ""),
        ),
    ],
)
def test_a_node_folder_says_how_it_is_built(
    tmp_path: Path, files: dict[str, str], config: dict[str, str], found: tuple[str, ...]
) -> None:
    read = recipe(tmp_path, files, **config)
    assert isinstance(read, NodeRecipe)
    assert (read.manager, read.manager_version, read.lock, read.start) == found


@pytest.mark.parametrize(
    ("wish", "lowest", "highest"),
    [
        ("", 20, 99),
        ("lts/*", 20, 99),
        ("v20.11.1", 20, 20),
        (">=18", 20, 99),
        (">=18 <23", 20, 22),
        ("^20.19.0 || >=22.12", 20, 99),
        ("22.x", 22, 22),
        ("18 - 24", 20, 24),
        (">20.1 <=22", 20, 22),
        ("~16", None, None),
    ],
)
def test_a_range_of_npm_admits_versions_of_node(wish: str, lowest: int | None, highest: int | None) -> None:
    majors = admitted(wish)
    assert (majors[0] if majors else None, majors[-1] if majors else None) == (lowest, highest)


def test_a_file_is_read_when_a_garbage_collection_meanwhile_reads_another(tmp_path: Path) -> None:
    parsed = []

    def parse(phase: str, _: object) -> None:
        if phase == "start" and not parsed:
            parsed.append(ast.parse("x = 1"))

    thresholds = gc.get_threshold()
    (tmp_path / "server.py").write_text(OWN * 50)
    gc.callbacks.append(parse)
    try:
        for count in range(50, 150):  # the collection has to come while the tree is made
            parsed.clear()
            gc.set_threshold(count)
            assert PythonFiles(tmp_path).read(tmp_path / "server.py").servers["server"].kind == "portway"
    finally:
        gc.callbacks.remove(parse)
        gc.set_threshold(*thresholds)
