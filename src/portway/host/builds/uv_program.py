"""Finds uv."""

from portway.host.builds.build_error import BuildError


def find_uv() -> str:
    """Return the path of uv. Raises `BuildError` when it is not installed."""
    try:
        from uv import find_uv_bin  # of the extra `host`, which an app's venv does not have

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        raise BuildError("uv is not installed here: pip install 'portway[host]'") from None
