"""Turns a copied source into a release: a venv made by uv, the server found in it, all of it read-only."""

import asyncio
import contextlib
import os
import platform
import shutil
import signal
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from portway.host.builds.wheel import running_wheel
from portway.host.instances.processes import base_environment, build_mark, end_marked
from portway.host.instances.runtime import Release
from portway.host.paths import Paths

# What a build may know of the host: where packages come from. Nothing else is the app's business.
_PASSED = (
    *(
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_NO_INDEX",
        "UV_OFFLINE",
    ),
    *(
        "UV_INDEX_STRATEGY",
        "UV_KEYRING_PROVIDER",
        "UV_INSECURE_HOST",
        "UV_SYSTEM_CERTS",
        "UV_NATIVE_TLS",
        "UV_CONFIG_FILE",
    ),
    *("UV_HTTP_TIMEOUT", "UV_PYTHON_INSTALL_MIRROR", "UV_PYTHON_DOWNLOADS", "UV_CACHE_DIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
# uv does not read pip's settings; a host set up for pip has chosen its index all the same.
_FROM_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_NO_INDEX": "UV_NO_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
}
_SECONDS = 900.0
_IMPORT_SECONDS = 60.0
_LAST_LINES = 20
_LAST_BYTES = 16 * 1024


class BuildError(Exception):
    """The source cannot be built; the message is for its author, with the last lines of a failed command."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What uv is asked for: an interpreter, and where the requirements come from ("" when there are none)."""

    python: str
    requirements: str


def read_plan(source: Path) -> Plan:
    """How `source` wants to be built. Raises `BuildError` for a pyproject.toml that is not TOML."""
    project = {}
    if (pyproject := source / "pyproject.toml").is_file():
        try:
            table = tomllib.loads(pyproject.read_text()).get("project")
            project = table if isinstance(table, dict) else {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BuildError(f"pyproject.toml is not TOML: {error}") from None
    python = sys.executable
    if (pinned := source / ".python-version").is_file():
        python = (pinned.read_text(errors="replace").split() or [python])[0]
    elif isinstance(wanted := project.get("requires-python"), str) and not _satisfies(wanted):
        python = wanted
    if (source / "uv.lock").is_file() and project:
        return Plan(python, "uv.lock")
    if (source / "requirements.txt").is_file():
        return Plan(python, "requirements.txt")
    return Plan(python, "pyproject.toml" if project.get("dependencies") else "")


def describe(plan: Plan) -> str:
    """One line for a deploy's log."""
    python = platform.python_version() if plan.python == sys.executable else plan.python
    return f"python {python}, {plan.requirements or 'no requirements'}"


async def build(release: Release, plan: Plan, paths: Paths, variables: Mapping[str, str]) -> str:
    """Make `release.venv` for the copied source and return the file that holds its server. Raises `BuildError`.

    The output of every command is in `release.build_log`. Cancelled, it ends what it has started.
    """
    for folder in ("log", "home", "tmp"):
        (release.directory / folder).mkdir(exist_ok=True)
    wheel = await asyncio.to_thread(running_wheel, paths.wheels)
    uv = _find_uv()
    name, _, mark = build_mark(release.directory).partition("=")
    with release.build_log.open("ab", buffering=0) as log:
        run = _Commands(release, _environment(paths) | {name: mark}, log)
        await run(
            [uv, "venv", "--quiet", "--no-project", f"--python={plan.python}", str(release.venv)],
            "make its environment",
        )
        await run(_install(uv, release, await _requirements(run, uv, release, plan), wheel), "install its requirements")
        probe = _Commands(release, base_environment(release) | dict(variables) | {name: mark}, log)
        # -P: what the app's files shadow is what they shadow under `portway run`, no more.
        command = [str(release.venv / "bin" / "python"), "-P", "-m", "portway.cli.find_server", str(release.source)]
        found = await probe(command, "find its server", seconds=_IMPORT_SECONDS)
    await asyncio.to_thread(_freeze, release)
    return found.strip()


def remove(release: Release, *, keep_log: bool) -> None:
    """Delete a release's files; with `keep_log` all but what it printed."""
    for folder in ("src", "venv", "home", "tmp") if keep_log else (".",):
        remove_tree(release.directory / folder)


def remove_tree(root: Path) -> None:
    """Delete a folder that may be read-only, or not be there."""
    if root.is_symlink():  # what is behind a link that an app put here is none of ours
        root.unlink()
        return
    for place, _, _ in os.walk(root):
        Path(place).chmod(0o700)
    shutil.rmtree(root, ignore_errors=True)


class _Commands:
    """Runs a build's commands, one at a time, in the source's folder, all output to the log."""

    def __init__(self, release: Release, environment: dict[str, str], log: BinaryIO) -> None:
        self._release = release
        self._environment = environment
        self._log = log

    async def __call__(self, command: list[str], purpose: str, *, seconds: float = _SECONDS) -> str:
        """What it wrote to stdout. Raises `BuildError` when it fails or takes longer than `seconds`."""
        begun = self._log.tell()
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._release.source,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            raise BuildError(f"could not {purpose} within {seconds:.0f} s:{self._tail(begun)}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            end_marked(build_mark(self._release.directory))
        if process.returncode != 0:
            raise BuildError(f"could not {purpose}:{self._tail(begun)}")
        return output.decode()

    def _tail(self, begun: int) -> str:
        with self._release.build_log.open("rb") as log:
            log.seek(max(begun, log.seek(0, os.SEEK_END) - _LAST_BYTES))
            lines = log.read(_LAST_BYTES).decode(errors="replace").splitlines()[-_LAST_LINES:]
        return "".join(f"\n  {line}" for line in lines)


def _find_uv() -> str:
    try:
        from uv import find_uv_bin  # of the extra `host`, which an app's venv does not have

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        raise BuildError("uv is not installed here: pip install 'portway[host]'") from None


def _environment(paths: Paths) -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    # Credentials of a named index: UV_INDEX_<NAME>_USERNAME and _PASSWORD.
    environment |= {
        name: value
        for name, value in os.environ.items()
        if name.startswith("UV_INDEX_") and name.endswith(("_USERNAME", "_PASSWORD"))
    }
    for pip, uv in _FROM_PIP.items():
        if pip in os.environ:
            environment.setdefault(uv, os.environ[pip])
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(paths.cache),
        "UV_NO_PROGRESS": "1",
        "UV_COMPILE_BYTECODE": "1",
    } | environment


async def _requirements(run: _Commands, uv: str, release: Release, plan: Plan) -> Path | None:
    """The file for `uv pip install -r`: a lock is exported, the rest is taken as it is."""
    if plan.requirements != "uv.lock":
        return release.source / plan.requirements if plan.requirements else None
    exported = release.directory / "tmp" / "requirements.txt"
    options = ["--frozen", "--no-dev", "--no-emit-project", "--no-emit-package", "portway", f"--python={plan.python}"]
    await run([uv, "export", "--quiet", *options, "--output-file", str(exported)], "read its uv.lock")
    return exported


def _install(uv: str, release: Release, requirements: Path | None, wheel: Path) -> list[str]:
    # As a constraint, so that `portway[pydantic]` keeps its extra and no index's `portway` can take this one's place.
    constraint = release.directory / "tmp" / "constraints.txt"
    constraint.write_text(f"portway @ {wheel.as_uri()}\n")
    command = [
        uv,
        "pip",
        "install",
        "--python",
        str(release.venv / "bin" / "python"),
        "--constraint",
        str(constraint),
        "portway",
    ]
    return [*command, "--requirement", str(requirements)] if requirements else command


def _satisfies(wanted: str) -> bool:
    """Whether `requires-python` admits this interpreter; a specifier that is not plain is left to uv to judge."""
    own = sys.version_info[:3]
    for part in wanted.replace(" ", "").split(","):
        operator = part.rstrip("0123456789.")
        try:
            version = tuple(int(number) for number in part[len(operator) :].split("."))
        except ValueError:
            return False
        same = own[: len(version)]
        holds = {
            ">=": same >= version,
            "<": same < version,
            "<=": same <= version,
            ">": same > version,
            "!=": same != version,
        }
        if not holds.get(operator, False):
            return False
    return True


def _freeze(release: Release) -> None:
    """Make the release read-only, and its source private: the author's modes came along with the copy.

    The venv's files are links to uv's cache, which no instance may change; who reads that is not ours to say.
    """
    for root, kept in ((release.source, 0o500), (release.venv, 0o555)):
        for place, folders, files in os.walk(root):
            for name in [*files, *folders]:
                path = Path(place) / name
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode & kept)
        root.chmod(root.stat().st_mode & kept)
