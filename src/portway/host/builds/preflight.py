"""Warns of common mistakes of servers (stdio only, SSE, a fixed port, packages that are unpinned or have a known
weakness), before and after the install.

A trap is a warning in the deploy's transcript, and an error only where the server cannot work.
"""

import ast
import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from portway.host.app_config import AppConfig
from portway.host.builds.build_error import BuildError
from portway.host.builds.node_recipe import NodeRecipe
from portway.host.builds.python_file import PythonFile, PythonFiles, Unreadable
from portway.host.builds.python_recipe import PythonRecipe
from portway.host.builds.recipe import Recipe
from portway.host.releases.release import Release
from portway.host.sources.source_text import LARGEST, source_text

_MOST_WORDS = 50
_RUNS = {"run", "run_async", "run_http_async", "run_streamable_http_async"}
_MAKERS = {"FastMCP", "MCPServer"}
_WEB = {"uvicorn", "hypercorn", "starlette", "fastapi", "aiohttp", "granian"}
_LISTEN = re.compile(r"\.listen\(\s*(\d{2,5})\b")
_PYTHON = re.compile(r"(?:^|[;&|/\s])python[\d.]*\s+(?:-\w\s+)*[\w./]+")
_FASTMCP = "FASTMCP_"  # settings that say how FastMCP serves
_PINNED = re.compile(r"==|@|^-|^\s*(#|$)|^\s+--hash|^portway\s*$")  # the host pins portway: it gives its own


@dataclass(frozen=True, slots=True)
class _Advisory:
    """A known weakness of a package, in the versions from `first` to before `fixed`."""

    package: str
    first: str
    fixed: str
    name: str
    what: str


_REBINDING = "web pages can reach a server on this machine by DNS rebinding"
_ADVISORIES = (
    _Advisory("mcp", "0", "1.23", "CVE-2025-66416", _REBINDING),
    _Advisory("@modelcontextprotocol/sdk", "0", "1.24", "CVE-2025-66414", _REBINDING),
    _Advisory(
        "@modelcontextprotocol/sdk", "1.10", "1.26", "CVE-2026-25536", "a shared transport can mix up its clients"
    ),
)


def look_before(folder: Path, config: AppConfig, recipe: Recipe, variables: Mapping[str, str]) -> list[str]:
    """Return the warnings about a source. Raises `BuildError` for a server that does not speak Streamable HTTP.

    `variables` are the app's own.
    """
    if isinstance(recipe, NodeRecipe):
        warnings = (
            [] if recipe.lock else ["there is no lock file, so each deploy may install other versions: commit one"]
        )
        for path in _named(folder, config.start_command or recipe.start, (".js", ".mjs", ".cjs", ".ts")):
            warnings += _node_file(path, source_text(path))
        return warnings
    warnings = _unpinned(folder, recipe)
    is_set = _FASTMCP in config.start_command or any(name.startswith(_FASTMCP) for name in variables)
    if _PYTHON.search(config.start_command) and not is_set:
        for file in _python_files(folder, config, recipe):
            warnings += _python_file(file, str(file.path.relative_to(folder)))
    return warnings


def look_after(release: Release, recipe: Recipe) -> list[str]:
    """Return the warnings about what a build has installed. Raises `BuildError` for what the server cannot import."""
    installed = _node_packages(release) if isinstance(recipe, NodeRecipe) else _python_packages(release)
    if isinstance(recipe, PythonRecipe) and _version(installed.get("mcp", "0"))[0] >= 2:
        for file in _python_files(release.folder, release.config, recipe):
            if "mcp.server.fastmcp" in _needed(file.tree):
                raise BuildError(
                    f"{file.path.name} imports mcp.server.fastmcp, which mcp {installed['mcp']} does not have: "
                    "require mcp<2, or use MCPServer of mcp.server"
                )
    return [*_other_python(release, recipe)] + [
        f"{each.package} {found} has a known weakness ({each.name}): {each.what}; require {each.fixed} or later"
        for each in _ADVISORIES
        if (found := installed.get(each.package)) and _version(each.first) <= _version(found) < _version(each.fixed)
    ]


def _other_python(release: Release, recipe: Recipe) -> Iterator[str]:
    """Say which Python is used in place of a patch version that could not be had."""
    settings = release.venv / "pyvenv.cfg"
    if isinstance(recipe, PythonRecipe) and re.fullmatch(r"3(\.\d+){2}", recipe.python) and settings.is_file():
        found = re.search(r"^version\S* = (\S+)", source_text(settings), re.MULTILINE)
        if found and found[1] != recipe.python:
            yield f"Python {recipe.python} could not be had: {found[1]} is used"


def _unpinned(folder: Path, recipe: PythonRecipe) -> list[str]:
    name = recipe.requirements
    if name in {"", "uv.lock"}:
        return []
    if name == "requirements.txt":
        lines = source_text(folder / name).splitlines()
        if all(_PINNED.search(line) for line in lines):
            return []
    return [f"{name} does not pin every version, so each deploy may install others: commit a uv.lock, or pin with =="]


def _named(folder: Path, command: str, endings: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of a folder that a command names."""
    for word in re.findall(r"[\w./-]+", command)[:_MOST_WORDS]:
        path = (folder / word).resolve()
        is_ours = word.endswith(endings) and path.is_relative_to(folder.resolve()) and path.is_file()
        if is_ours and path.stat().st_size <= LARGEST:
            yield folder / word


def _python_files(folder: Path, config: AppConfig, recipe: PythonRecipe) -> list[PythonFile]:
    """Return the files that are started, as far as they can be read."""
    files, found = PythonFiles(folder), []
    module = re.search(r"-m\s+([\w.]+)|(?:uvicorn|gunicorn|hypercorn)\s(?:.*\s)?([\w.]+):\w+", config.start_command)
    names = (
        [(module[1] or module[2]).replace(".", "/") + ending for ending in (".py", "/__main__.py")] if module else []
    )
    paths = [*_named(folder, config.start_command, (".py",)), *_named(folder, " ".join(names), (".py",))]
    if recipe.server is not None:
        paths.append(recipe.server.file)
    for path in paths:
        with contextlib.suppress(Unreadable):
            found.append(files.read(path))
    return found


def _python_file(file: PythonFile, name: str) -> list[str]:
    """Look at how a file that is started serves. Raises `BuildError` when it does so in no usable way."""
    runs = [call for call in file.calls() if _called(call) in _RUNS and _is_server(call, file)]
    transports = {_transport(call) for call in runs}
    has_web = any(file.imports(module) for module in _WEB)
    if runs and not has_web and transports <= {"stdio", "sse"}:
        spoken = "HTTP+SSE, which is too old" if "sse" in transports else "stdio only"
        http = "http" if file.imports("fastmcp") else "streamable-http"
        raise BuildError(
            f"line {runs[0].lineno} of {name} serves over {spoken}: leave --start out to have its object served "
            f'over HTTP, or run(transport="{http}") on the port PORT'
        )
    serving = [call for call in file.calls() if _called(call) in _RUNS | _MAKERS]
    fixed = [(call, port) for call in serving if isinstance(port := _keyword(call, "port"), int)]
    warnings = [
        f"line {call.lineno} of {name} listens on port {port} whatever PORT says: use int(os.environ['PORT'])"
        for call, port in fixed
    ]
    has_port = any(keyword.arg in {"port", None} for call in serving for keyword in call.keywords)
    if transports & {"http", "streamable-http"} and not has_port:
        line = runs[0].lineno
        warnings.append(
            f"line {line} of {name} names no port, and does not read PORT: use port=int(os.environ['PORT'])"
        )
    return warnings


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_server(call: ast.Call, file: PythonFile) -> bool:
    """Return whether a method of another framework's server is called; that of Portway chooses its transport itself."""
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    server = file.servers.get(owner.id) if isinstance(owner, ast.Name) else None
    return server is not None and server.kind != "portway"


def _transport(call: ast.Call) -> str:
    """Return the transport that a call of `run` names; "" when only a run of the program shows it."""
    given = call.args[0] if call.args else next((each.value for each in call.keywords if each.arg == "transport"), None)
    if given is None:
        return "" if any(each.arg is None for each in call.keywords) else "stdio"
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else ""


def _keyword(call: ast.Call, name: str) -> object:
    value = next((each.value for each in call.keywords if each.arg == name), None)
    return value.value if isinstance(value, ast.Constant) else None


def _node_file(path: Path, text: str) -> list[str]:
    if "StdioServerTransport" in text and ".listen(" not in text and "serve(" not in text:
        raise BuildError(
            f"{path.name} serves over stdio only: serve Streamable HTTP on the port PORT, "
            "with StreamableHTTPServerTransport or createMcpHandler"
        )
    warnings = [
        f"{path.name} listens on port {port} whatever PORT says: use process.env.PORT" for port in _LISTEN.findall(text)
    ]
    if "SSEServerTransport" in text and "StreamableHTTP" not in text:
        warnings.append(f"{path.name} speaks HTTP+SSE, which is too old: serve Streamable HTTP instead")
    return warnings


def _needed(tree: ast.Module) -> set[str]:
    """Return the modules that a file imports, but those whose absence it handles."""
    handled = {
        node for each in ast.walk(tree) if isinstance(each, ast.Try) for part in each.body for node in ast.walk(part)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in handled:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node not in handled and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _python_packages(release: Release) -> dict[str, str]:
    """Return the versions of the packages in the app's environment, by name."""
    found = {}
    for path in release.venv.glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = path.name.removesuffix(".dist-info").partition("-")
        found[name.lower().replace("_", "-")] = version
    return found


def _node_packages(release: Release) -> dict[str, str]:
    found = {}
    for name in {each.package for each in _ADVISORIES}:
        with contextlib.suppress(OSError, BuildError, msgspec.DecodeError):
            content = source_text(release.folder / "node_modules" / name / "package.json")
            found[name] = msgspec.json.decode(content, type=_Package).version
    return found


class _Package(msgspec.Struct):
    version: str = "0"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("-")[0])[:3]) or (0,)
