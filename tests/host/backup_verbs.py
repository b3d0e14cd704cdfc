"""`portway backup` and `portway restore` in the process of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from portway.cli.main import cli


def back_up(data: Path, file: Path, *options: str) -> Result:
    """Run `portway backup`, but with the priority of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "nice", lambda _: 0)
        return CliRunner().invoke(cli, ["backup", str(file), "--data", str(data), *options])


def restore(file: Path, *options: str, data: Path | None = None, key: Path | None = None) -> Result:
    """Run `portway restore`, by default to `restored` beside the backup, with the key `host.key` if it is there."""
    key = key or file.parent / "host.key"
    given = ["--key-from", str(key)] if key.exists() else []
    to = data or file.parent / "restored"
    return CliRunner().invoke(cli, ["restore", str(file), "--data", str(to), *given, *options])
