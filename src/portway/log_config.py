"""Log records of `portway` on stderr, one line each, as text or JSON, with errors described in a line:
PORTWAY_LOG_FORMAT, PORTWAY_LOG_LEVEL.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback

import msgspec

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
_PACKAGE = os.path.dirname(__file__) + os.sep
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure() -> None:
    """Configure the `portway` loggers by PORTWAY_LOG_FORMAT (text or json) and PORTWAY_LOG_LEVEL (default info).

    Do nothing if the process has set a handler for `portway`. Raise ValueError for an unknown value.
    """
    logger = logging.getLogger("portway")
    if logger.handlers:
        return
    level = _choice("PORTWAY_LOG_LEVEL", LEVELS, "info")
    form = _choice("PORTWAY_LOG_FORMAT", FORMATS, "text")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False


def _choice(variable: str, allowed: tuple[str, ...], default: str) -> str:
    value = os.environ.get(variable, "").lower() or default
    if value not in allowed:
        raise ValueError(f"{variable}={value} is not known; use one of {', '.join(allowed)}")
    return value


class TextFormatter(logging.Formatter):
    """`2026-11-22T10:15:30.123Z WARNING portway.http: message key=value; ValueError: why (server.py:12 in f)`."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_timestamp(record)} {record.levelname} {record.name}: {record.getMessage()}"
        for key, value in _fields(record).items():
            line += f" {key}={value}"
        if record.exc_info and record.exc_info[1]:
            line += "; " + describe(record.exc_info[1])
        return line.replace("\r", "\\r").replace("\n", "\\n")


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, extra fields, exception (traceback)."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[1]:
            entry["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        return msgspec.json.encode(entry, enc_hook=str).decode()


def describe(error: BaseException) -> str:
    """Describe an exception in one line: type, message, and the frames, innermost first."""
    frames = list(traceback.extract_tb(error.__traceback__))
    # Our own frames are left out, unless there are no others.
    frames = [frame for frame in frames if not frame.filename.startswith(_PACKAGE)] or frames
    trail = ", ".join(
        f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}" for frame in reversed(frames)
    )
    return f"{type(error).__name__}: {error}" + (f" ({trail})" if trail else "")


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
