"""Takes secrets out of what an error quotes of an app's output, and finds the variables that a failed start misses."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

from portway.host.files import read_start
from portway.host.variable_names import is_hosts_own

SHORTEST = 8
"""Shorter values, such as "true", are words of any log, and stay."""
# pydantic quotes the data it refuses, from a settings class the whole environment, cut in the middle.
_PYDANTIC_INPUT = re.compile(r"input_value=.*?(?=, input_type=|\]$)", re.MULTILINE)
_NAME = r"[A-Z][A-Z0-9_]{1,127}"
_WORDS = r"[A-Z][A-Z0-9]*_[A-Z0-9_]{1,127}"  # by its underscore, a name within a sentence
_VARIABLE = r"(?i:env(?:ironment)?[ -]var(?:iable)?s?)"
_MISSING = (
    re.compile(rf"^\s*KeyError: '({_NAME})'", re.MULTILINE),
    re.compile(rf"{_VARIABLE}\W*({_WORDS})\b"),
    re.compile(rf"\b({_WORDS})\b[^\n]{{0,40}}{_VARIABLE}"),
    re.compile(rf"\b({_WORDS})\b (?:is |was |must be )?(?:not set|missing|required|undefined|set)\b"),
)
_PROCESS_ENV = re.compile(rf"\bprocess\.env(?:\.|\[['\"])({_NAME})\b")
_SCRIPT = re.compile(r"(?:file://)?(/[^\s:()]+\.[cm]?[jt]s):\d+")  # a place in a stack of Node's
_SCRIPT_BYTES = 256 * 1024
_SETTINGS_FIELD = re.compile(r"^\s*(\w{2,128})\n\s*Field required \[type=missing", re.MULTILINE)
_MOST = 5


def hide(text: str, secrets: Mapping[str, str]) -> str:
    """Replace the secrets that `text` holds by their names, and what pydantic quotes."""
    text = _PYDANTIC_INPUT.sub("input_value=…", text)
    parts = [(line, name) for name, value in secrets.items() for line in (value, *value.splitlines())]
    for part, name in sorted(parts, key=lambda pair: -len(pair[0])):
        if len(part) >= SHORTEST:
            text = text.replace(part, f"[{name}]")
    return text


def missing_variables(text: str, known: Mapping[str, str], source: Path) -> list[str]:
    """Return the variables whose absence the last lines of a server blame, but for those that are `known`.

    `source` has its files: where JavaScript finds an undefined value, the file at that place names what it reads.
    """
    found = [match[1] for pattern in _MISSING for match in pattern.finditer(text)]
    if "pydantic_settings" in text:
        found += [match[1].upper() for match in _SETTINGS_FIELD.finditer(text)]
    if "of undefined" in text:
        found += _PROCESS_ENV.findall(text) or _PROCESS_ENV.findall(_blamed_script(text, source))
    names = dict.fromkeys(name for name in found if name not in known and not is_hosts_own(name))
    return list(names)[:_MOST]


def _blamed_script(text: str, source: Path) -> str:
    """Return the text of the first of the source's own scripts in a stack of Node's; "" if there is none."""
    for match in _SCRIPT.finditer(text):
        path = Path(match[1])
        if path.is_relative_to(source) and "node_modules" not in path.parts and path.resolve().is_relative_to(source):
            with contextlib.suppress(OSError):
                return read_start(path, _SCRIPT_BYTES).decode(errors="replace")
    return ""
