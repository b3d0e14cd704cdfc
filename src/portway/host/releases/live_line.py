"""Words the last line of a deploy: the URL, the release and the way back, or what goes on after a failure."""

from portway.counted import counted


def live_line(app: str, url: str, release: int, before: int | None, tools: int, duration_ms: int) -> str:
    """Return the line; it ends with the way back to the release that was live before, if there was one."""
    back = "" if before is None else f"   (back: portway rollback {app} {before})"
    return f"=====> {url}   release {release}, {counted(tools, 'tool')}, {duration_ms / 1000:.1f}s{back}"


def failure_line(app: str, live: int | None) -> str:
    """Return the line after a failure, for an app whose release `live` serves, or which has never had one."""
    if live is None:
        return f"{app} has never served: deploy again, or run `portway destroy {app}`"
    return f"nothing has changed: {app} goes on with release {live}"
