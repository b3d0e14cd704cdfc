"""The stamp that begins each line of a log: its time and instance."""

import re

from portway.host.timestamps import now

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([0-9a-f]{8}|-) ")


def make_stamp(instance: str) -> bytes:
    """Return the stamp of what is written now by an instance, or by nobody's ("")."""
    return f"{now()} {instance or '-'} ".encode()


def read_stamp(line: bytes) -> tuple[str, str, bytes]:
    """Return the time, the instance and the text of a line; both are "" where there is no stamp."""
    found = _STAMP.match(line)
    if found is None:
        return "", "", line
    return found[1].decode(), found[2].decode().removeprefix("-"), line[found.end() :]
