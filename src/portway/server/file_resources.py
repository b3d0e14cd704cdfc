"""`add_file` and `add_folder`: files as resources, read for every request (16 MiB at most), on a thread, and never from
outside the folder; their media types.

Paths of the author are absolute.
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from portway.exceptions import RegistrationError, ResourceNotFound, ToolError
from portway.plans.content import ResourceContents
from portway.server.uri_templates import UriPattern

if TYPE_CHECKING:
    from mimetypes import MimeTypes

    from portway.server.options import ResourceOptions

MAX_BYTES = 16 * 1024 * 1024
_ABSENT = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO),
}
# Does not follow a link that has replaced the file since its path was resolved; does not wait for a pipe's writer.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
_FOLDER_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_DIRECTORY", "O_NOFOLLOW"))
_MAX_PATH = 4096  # characters
_ADDED_TYPES = {  # common in folders of documents, unknown to Python 3.11
    ".md": "text/markdown",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_TEXT_TYPES = (
    *("text/", "application/json", "application/javascript", "application/xml"),
    *("application/x-sh", "application/yaml", "application/toml"),
)


def described(path: str, options: ResourceOptions) -> ResourceOptions:
    """Return the options of a file's resource with its name and type filled in; raise RegistrationError for no file."""
    if not os.path.isfile(path):
        raise RegistrationError(f"add_file: there is no file {path!r}.")
    defaults: ResourceOptions = {"name": _shown(os.path.basename(path)), "mime_type": _type_of(path)}
    return {**defaults, **options}


def file_reader(path: str, mime_type: str | None) -> Callable[[], str | bytes]:
    """Return the function that reads one file, as `str` where its type and its bytes are text."""

    def read() -> str | bytes:
        return _as_text(_read(lambda: os.open(os.path.realpath(path), _FLAGS), os.path.basename(path)), mime_type)

    return read


def folder_reader(template: str, directory: str) -> Callable[..., ResourceContents]:
    """Return the function that reads the files under `directory`; its only parameter is the template's variable.

    It raises ResourceNotFound for what is no file, is hidden (a name begins with a dot), or is outside once links are
    followed.
    """
    pattern = UriPattern(template)
    if len(pattern.names) != 1 or pattern.optional:
        raise RegistrationError(f"add_folder: {template!r} needs one variable, the path, as in docs://{{+path}}.")
    if not os.path.isdir(directory):
        raise RegistrationError(f"add_folder: there is no folder {directory!r}.")

    def read(given: str | list[str]) -> ResourceContents:
        path = given if isinstance(given, str) else "/".join(given)
        mime_type = _type_of(path)
        data = _as_text(_read_inside(directory, path), mime_type)
        if isinstance(data, str):
            return ResourceContents(uri="", mime_type=mime_type or "text/plain", text=data)
        return ResourceContents(uri="", mime_type=mime_type or "application/octet-stream", blob=data)

    name = pattern.names[0]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameter = inspect.Parameter(name, kind)
    read.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    read.__name__ = _shown(os.path.basename(directory))
    return read


def path_completer(directory: str) -> Callable[[str], list[str]]:
    """Return the function that completes a path under `directory` level by level; folders end with a slash.

    A name that is not UTF-8 is left out: no URI can name it.
    """

    def complete(value: str) -> list[str]:
        folder, slash, begun = value.rpartition("/")
        try:
            root, names = _inside(directory, folder) if slash else (os.path.realpath(directory), [])
            names = sorted(name for name in _listed(root, names) if name.startswith(begun) and name == _shown(name))
        except (ResourceNotFound, OSError):
            return []
        found = []
        for name in names:
            path = f"{folder}{slash}{name}"
            try:
                root, inner = _inside(directory, path)
            except ResourceNotFound:
                continue
            target = os.path.join(root, *inner)
            if os.path.isdir(target):
                found.append(f"{path}/")
            elif os.path.isfile(target):
                found.append(path)
        return found

    return complete


def _inside(directory: str, path: str) -> tuple[str, list[str]]:
    """Return the real path of `directory`, and the names that lead from there to `path`, none of them a link.

    Raises ResourceNotFound if `path` is outside, hidden, or longer than a path can be.
    """
    if len(path) > _MAX_PATH:
        raise ResourceNotFound(path)
    root = os.path.realpath(directory)
    try:
        target = os.path.realpath(os.path.join(root, *path.split("/")))
        names = os.path.relpath(target, root).split(os.sep)  # begins with ".." if it is outside
    except ValueError:  # a NUL, or another drive
        raise ResourceNotFound(path) from None
    if any(not name or name.startswith(".") for name in (*path.split("/"), *names)):
        raise ResourceNotFound(path)
    return root, names


def _open_inside(root: str, names: list[str], flags: int) -> int:
    """Open what `names` lead to from `root`, each relative to the folder before, so that no link is followed.

    A folder that has been replaced by a link since `_inside` looked is an OSError.
    """
    if os.open not in os.supports_dir_fd:  # Windows
        return os.open(os.path.join(root, *names), flags)
    folder = os.open(root, _FOLDER_FLAGS)
    try:
        for name in names[:-1]:
            inner = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(names[-1] if names else ".", flags, dir_fd=folder)
    finally:
        os.close(folder)


def _listed(root: str, names: list[str]) -> list[str]:
    """Return the names in a folder inside `root`."""
    if os.scandir not in os.supports_fd:  # Windows
        return os.listdir(os.path.join(root, *names))
    folder = _open_inside(root, names, _FOLDER_FLAGS)
    try:
        return os.listdir(folder)
    finally:
        os.close(folder)


def _shown(name: str) -> str:
    """Return a file's name as UTF-8 can carry it."""
    return os.fsencode(name).decode(errors="replace")


def _read_inside(directory: str, path: str) -> bytes:
    root, names = _inside(directory, path)
    return _read(lambda: _open_inside(root, names, _FLAGS), path)


def _read(open_file: Callable[[], int], shown: str) -> bytes:
    try:
        file = open_file()
    except OSError as error:
        if error.errno in _ABSENT:
            raise ResourceNotFound(shown) from None
        raise
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ResourceNotFound(shown)
        with open(file, "rb", closefd=False) as opened:
            data = b"" if status.st_size > MAX_BYTES else opened.read(MAX_BYTES + 1)
    finally:
        os.close(file)
    if max(status.st_size, len(data)) > MAX_BYTES:
        raise ToolError(f"{shown} is larger than {MAX_BYTES >> 20} MiB, the most this server reads of a file.")
    return data


def _as_text(data: bytes, mime_type: str | None) -> str | bytes:
    textual = mime_type is None or mime_type.startswith(_TEXT_TYPES) or mime_type.endswith(("+json", "+xml"))
    if not textual or (mime_type is None and b"\0" in data):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _type_of(path: str) -> str | None:
    mime_type, encoding = _types().guess_type(path)
    if encoding is not None:
        return "application/gzip" if encoding == "gzip" else f"application/x-{encoding}"
    return mime_type


@functools.cache
def _types() -> MimeTypes:
    import mimetypes  # only servers with files need it

    types = mimetypes.MimeTypes()  # Python's own table, the same on every machine
    for suffix, mime_type in _ADDED_TYPES.items():
        types.add_type(mime_type, suffix)
    return types
