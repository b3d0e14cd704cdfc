"""Refuses a source with a secret in it: .env files, private keys, values of stored variables; `--allow-file`."""

import fnmatch
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path

from portway.host.sources.source import SourceError

_SHORTEST = 12  # shorter values are words of any source
_LARGEST_FILE = 1024 * 1024
_LARGEST = 64 * 1024 * 1024
_MOST_FILES = 50_000
_MOST_NAMED = 5
_EXAMPLES = ("example", "sample", "template", "dist", "defaults", "schema")
_KEY_FILES = {"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"}
# The header alone is in many a library; a key has its base64 below, in JSON behind an escaped newline.
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\\n|\\r|\s)+[A-Za-z0-9+/=:-]{16}"
)
_ALLOWING = {"push": ("push", "-o allow-file="), "link": ("link it again", "--allow-file ")}
"""What its owner does again to allow a file, and the option that says so, by the kind of a deploy."""


def refuse_secrets(source: Path, secrets: Mapping[str, str], allowed: Collection[str], *, kind: str) -> None:
    """Raise `SourceError` with the files that hold a secret, but for those that are `allowed`, paths or patterns.

    `secrets` are values by the name of their variable; the mend is that of the `kind` of deploy. The first MB of a file
    is looked at, and 64 MB and 50,000 files in all, the smallest first.
    """
    wanted = {value.strip().encode(): name for name, value in secrets.items() if len(value.strip()) >= _SHORTEST}
    found = []
    for path in _files(source):
        name = path.relative_to(source).as_posix()
        if any(fnmatch.fnmatchcase(name, pattern.removeprefix("./")) for pattern in allowed):
            continue
        if what := _secret_in(path, wanted):
            found.append((name, what))
    if found:
        found.sort()
        named = ", ".join(f"{name} {what}" for name, what in found[:_MOST_NAMED])
        rest = f", and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        verb, option = _ALLOWING.get(kind, ("deploy", "--allow-file "))
        options = " ".join(option + shlex.quote(name) for name, _ in found[:_MOST_NAMED])
        raise SourceError(
            f"the source holds secrets ({named}{rest}): set them by `portway env set` and remove them here, "
            f"or {verb} with {options}"
        )


def _files(source: Path) -> Iterator[Path]:
    """Yield the files that are no links, the smallest first, until what is read of them exceeds the bound."""
    paths = (Path(place, name) for place, _, files in os.walk(source) for name in files)
    sizes = sorted((path.lstat().st_size, path) for path in islice(paths, _MOST_FILES) if not path.is_symlink())
    read = 0
    for size, path in sizes:
        read += min(size, _LARGEST_FILE)
        if read > _LARGEST:
            return
        yield path


def _secret_in(path: Path, wanted: Mapping[bytes, str]) -> str:
    """Return what kind of secret a file is or holds, "" for none."""
    if _is_env_file(path.name):
        return "is a file of variables"
    if path.name in _KEY_FILES:
        return "is a private key"
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE)
    if _PRIVATE_KEY.search(content):
        return "holds a private key"
    return next((f"holds the value of {name}" for value, name in wanted.items() if value in content), "")


def _is_env_file(name: str) -> bool:
    """Return whether a file of that name has variables for a process: .env, .env.production, but not .env.example."""
    return name == ".env" or (name.startswith(".env.") and not any(word in name for word in _EXAMPLES))
