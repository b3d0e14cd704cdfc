"""Files in which this user's programs keep tokens: where they are, mode 0600, damaged ones, files open to others."""

import contextlib
import os
import stat
import sys
from typing import TypeVar

import msgspec

from portway.client.errors import ClientError
from portway.protocol.jsonrpc import UNREADABLE

T = TypeVar("T")
_MOST_BYTES = 1_000_000


def config_folder() -> str:
    """Return the folder of what this user's programs remember of Portway."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        return os.path.join(os.environ.get("LOCALAPPDATA", home), "portway")
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Application Support", "portway")
    return os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "portway")


def read_private(path: str, kind: type[T]) -> T | None:
    """Return what a file holds, None if it is not there. Raises ClientError if it is damaged, or open to others."""
    try:
        with open(path, "rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}") from None
    if sys.platform != "win32" and stat.S_IMODE(mode) & 0o077:
        raise ClientError(f"{path} holds tokens and others may read it: run `chmod 600 {path}`")
    try:
        return msgspec.json.decode(content, type=kind)
    except UNREADABLE:
        raise ClientError(f"{path} is damaged: remove it, and log in again by `portway login URL`") from None


def write_private(path: str, value: object) -> None:
    """Replace a file, whose folder is made if need be. Raises ClientError."""
    import tempfile

    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=folder, prefix="draft-")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(value)) + b"\n")
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror}") from None
