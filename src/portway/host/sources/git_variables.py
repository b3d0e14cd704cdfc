"""RENDER_GIT_COMMIT and the like: what git knows of a source, as variables of the app."""

import asyncio
import re
import shutil
from pathlib import Path

_SECONDS = 5.0
_SLUG = re.compile(r"[:/]([^:/]+/[^:/]+?)(?:\.git)?/?$")


async def git_variables(folder: Path) -> dict[str, str]:
    """Return RENDER_GIT_COMMIT, _BRANCH and _REPO_SLUG as far as git knows them; none outside a repository."""
    commit = await _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return {}
    branch = await _git(folder, "symbolic-ref", "--short", "--quiet", "HEAD")
    slug = _SLUG.search(await _git(folder, "config", "--get", "remote.origin.url"))
    found = {
        "RENDER_GIT_COMMIT": commit,
        "RENDER_GIT_BRANCH": branch,
        "RENDER_GIT_REPO_SLUG": slug[1] if slug else "",
    }
    return {name: value for name, value in found.items() if value}


async def _git(folder: Path, *arguments: str) -> str:
    """Return what one git command prints, empty when it fails. None of these runs what a repository configures."""
    if (git := shutil.which("git")) is None:
        return ""
    process = await asyncio.create_subprocess_exec(
        *(git, "-C", str(folder), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), _SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    text = printed.decode(errors="replace").strip()
    return text if process.returncode == 0 and text.isprintable() else ""
