"""Files replaced durably, read up to a bound, and folders removed."""

import errno
import os
import shutil
import stat
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Replace the file at `path`, mode 0600. After a crash it holds the old bytes or the new ones, never a part.

    A new file survives a power cut, too.
    """
    is_new = not path.exists()
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
    if is_new:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)


def read_start(path: Path, most: int) -> bytes:
    """Return at most the first `most` bytes of a file.

    Raises `OSError` for what is no plain file: a pipe that a build has left would be waited for without end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        return file.read(most)


def remove_tree(root: Path) -> None:
    """Delete a folder that may be read-only, or not be there. Of a link, only the link is deleted."""
    if root.is_symlink():
        root.unlink()
        return
    for place, _, _ in os.walk(root):
        Path(place).chmod(0o700)
    shutil.rmtree(root, ignore_errors=True)
