"""Known traps are named with their mend before anything is switched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from portway.host.app_config import AppConfig
from portway.host.builds.build_error import BuildError
from portway.host.builds.preflight import look_after, look_before
from portway.host.builds.recipe import read_recipe
from portway.host.releases.release import Release

FASTMCP = "from fastmcp import FastMCP\nmcp = FastMCP('w')\n"
MCP1 = "from mcp.server.fastmcp import FastMCP\nmcp = FastMCP('w')\n"
PORT = "import os\n" + FASTMCP + "mcp.run(transport='http', port=int(os.environ['PORT']))"


def release(folder: Path, files: dict[str, str], **config: Any) -> Release:
    made = Release("app", 1, folder, AppConfig(**config))
    for name, content in files.items():
        path = (folder if name.startswith("venv") else made.source) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return made


def seen(made: Release) -> list[str]:
    recipe = read_recipe(made.folder, made.config, {})
    return [*look_before(made.folder, made.config, recipe, {}), *look_after(made, recipe)]


@pytest.mark.parametrize(
    ("files", "start", "warnings"),
    [
        ({"server.py": PORT}, "python server.py", []),
        ({"server.py": f"{FASTMCP}mcp.run()"}, "fastmcp run server.py", []),
        ({"server.py": "", "requirements.txt": "a==1\n# b\n-r c\n"}, "python server.py", []),
        ({"server.py": "", "requirements.txt": "portway\na==1 \\\n    --hash=sha256:aa\n"}, "python server.py", []),
        (
            {"server.py": "", "requirements.txt": "mcp"},
            "python server.py",
            [
                (
                    "requirements.txt does not pin every version, so each deploy may install others: "
                    "commit a uv.lock, or pin with =="
                )
            ],
        ),
        (
            {"server.py": f"{MCP1}mcp.settings.port = 1\nmcp.run('streamable-http')\nFastMCP('x', port=9)"},
            "exec python -u server.py",
            ["line 5 of server.py listens on port 9 whatever PORT says: use int(os.environ['PORT'])"],
        ),
        (
            {"weather/server.py": f"{FASTMCP}mcp.run('http')"},
            "python -m weather.server",
            ["line 3 of weather/server.py names no port, and does not read PORT: use port=int(os.environ['PORT'])"],
        ),
        (
            {"package.json": "{}", "a.js": "app.listen( 3000 )", "x.mjs": "SSEServerTransport"},
            "node a.js && node x.mjs",
            [
                "there is no lock file, so each deploy may install other versions: commit one",
                "a.js listens on port 3000 whatever PORT says: use process.env.PORT",
                "x.mjs speaks HTTP+SSE, which is too old: serve Streamable HTTP instead",
            ],
        ),
        (
            {"server.py": PORT, "venv/lib/python3.11/site-packages/mcp-1.22.0.dist-info/METADATA": ""},
            "python server.py",
            [
                (
                    "mcp 1.22.0 has a known weakness (CVE-2025-66416): web pages can reach a server on this machine "
                    "by DNS rebinding; require 1.23 or later"
                )
            ],
        ),
        (
            {"server.py": "", ".python-version": "3.11.99", "venv/pyvenv.cfg": "home = /\nversion_info = 3.11.7\n"},
            "python server.py",
            ["Python 3.11.99 could not be had: 3.11.7 is used"],
        ),
        (
            {
                "package.json": "{}",
                "yarn.lock": "",
                "node_modules/@modelcontextprotocol/sdk/package.json": '{"version": "1.25.3"}',
            },
            "node server.js",
            [
                (
                    "@modelcontextprotocol/sdk 1.25.3 has a known weakness (CVE-2026-25536): a shared transport can "
                    "mix up its clients; require 1.26 or later"
                )
            ],
        ),
    ],
)
def test_a_trap_is_a_warning_with_its_mend(
    tmp_path: Path, files: dict[str, str], start: str, warnings: list[str]
) -> None:
    assert seen(release(tmp_path, files, start_command=start)) == warnings


@pytest.mark.parametrize(
    ("files", "start", "message"),
    [
        (
            {"server.py": f"{FASTMCP}mcp.run()"},
            "python server.py",
            (
                "line 3 of server.py serves over stdio only: leave --start out to have its object served over HTTP, "
                'or run(transport="http") on the port PORT'
            ),
        ),
        (
            {"server.py": f"{MCP1}mcp.run(transport='sse')"},
            "python server.py",
            (
                "line 3 of server.py serves over HTTP+SSE, which is too old: leave --start out to have its object "
                'served over HTTP, or run(transport="streamable-http") on the port PORT'
            ),
        ),
        (
            {"package.json": "{}", "index.js": "new StdioServerTransport()"},
            "node index.js",
            (
                "index.js serves over stdio only: serve Streamable HTTP on the port PORT, "
                "with StreamableHTTPServerTransport or createMcpHandler"
            ),
        ),
        (
            {"server.py": MCP1, "venv/lib/python3.11/site-packages/mcp-2.3.0.dist-info/METADATA": ""},
            "",
            (
                "server.py imports mcp.server.fastmcp, which mcp 2.3.0 does not have: require mcp<2, or use "
                "MCPServer of mcp.server"
            ),
        ),
    ],
)
def test_a_server_that_cannot_work_is_refused_with_the_mend(
    tmp_path: Path, files: dict[str, str], start: str, message: str
) -> None:
    with pytest.raises(BuildError, match=re.escape(message)):
        seen(release(tmp_path, files, start_command=start))


def test_an_import_whose_absence_is_handled_is_no_trap(tmp_path: Path) -> None:
    server = "try:\n    from mcp.server.fastmcp import FastMCP\nexcept ImportError:\n    1\nmcp = FastMCP('w')\n"
    files = {
        "server.py": server,
        "venv/lib/python3.11/site-packages/mcp-2.3.0.dist-info/METADATA": "",
    }
    assert seen(release(tmp_path, files)) == []
