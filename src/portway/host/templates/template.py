"""A template: what `portway init` writes, and what `portway deploy template:NAME` deploys."""

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

_FILES = Path(__file__).parent / "files"
_NAME = b"weather-mcp"  # what the files of every template have where the app's name stands
_TOKEN = b"MCP_API_TOKEN="


@dataclass(frozen=True, slots=True)
class Template:
    """One template. `run` and `test` are for a shell in the project's folder."""

    name: str
    run: str
    test: str

    def files(self, app: str) -> dict[str, bytes]:
        """Return the content of each file by its path in the project, for an app of that name."""
        folder = _FILES / self.name
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        found = {path.relative_to(folder).as_posix(): path.read_bytes().replace(_NAME, app.encode()) for path in paths}
        if ".python-version" in found:  # any that the template allows: the one at hand needs no download
            found[".python-version"] = f"{sys.version_info.major}.{sys.version_info.minor}\n".encode()
        return found


_VENV = "python3 -m venv .venv && .venv/bin/pip install"

TEMPLATES = {
    template.name: template
    for template in (
        Template("fastmcp", f"{_VENV} -r requirements-test.txt && .venv/bin/python server.py", ".venv/bin/pytest"),
        Template(
            "portway",
            f"{_VENV} CHECKOUT-OF-PORTWAY -r requirements-test.txt && .venv/bin/python server.py",
            ".venv/bin/pytest",
        ),
        Template("node", "npm ci && npm run dev", "npm test"),
    )
}


def local_environment(example: bytes) -> bytes:
    """Return the content of a `.env` made of `.env.example`, with a new token of 256 random bits."""
    return example.replace(_TOKEN, _TOKEN + secrets.token_urlsafe(32).encode(), 1)
