"""Decides which Python requirements install without running any of the app's code, so outside of the sandbox."""

import re
import tomllib
from pathlib import Path
from typing import Any

_HASH = re.compile(r"\s--hash[= ]\w+:[0-9a-f]+")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*[\w \t.,<>=!~*+()\[\];'\"-]*")  # with what may follow it: no slash, no @
_VERSION = re.compile(r"(?:(?:c?python|pypy|graalpy)[-@]?)?[<>=!~\s]*\d[\w.,<>=!~*+\s-]*")


def plain_requirements(file: Path) -> list[str] | None:
    """Return the requirements of a requirements.txt or pyproject.toml, one a line.

    None if there is anything but names in it: an option, a path or a URL may make uv run the app's own code.
    """
    text = file.read_text(errors="replace")
    if file.name == "pyproject.toml":
        lines = _of_project(tomllib.loads(text))
    elif file.suffix == ".txt":
        lines = [line.split(" #")[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    else:
        lines = None
    if lines is None:
        return None
    lines = [line for line in lines if line and not line.startswith("#")]
    return lines if all(map(_is_plain, lines)) else None


def is_version(python: str) -> bool:
    """Return whether uv takes `python` as a version; a path would make it run that file."""
    return _VERSION.fullmatch(python) is not None


def _is_plain(line: str) -> bool:
    rest = _HASH.sub("", f"{line} ").strip()
    return _NAME.fullmatch(rest) is not None and "--" not in rest


def _of_project(content: dict[str, Any]) -> list[str] | None:
    project, tools = content.get("project"), content.get("tool")
    if not isinstance(project, dict) or project.get("dynamic") or (isinstance(tools, dict) and "uv" in tools):
        return None
    found = project.get("dependencies", [])
    return found if isinstance(found, list) and all(isinstance(each, str) for each in found) else None
