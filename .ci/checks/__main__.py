"""Run every check, also after a failure, and fail if any failed: `make check`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from source import ROOT

HERE = Path(__file__).parent
# Authors run these modules on every system, so mypy checks them for each; the host runs on Unix only.
BUILD_HALF = [
    *(
        f"src/portway/{package}"
        for package in ("protocol", "auth", "http", "plans", "sessions", "asking", "server", "client", "transport")
    ),
    *(f"src/portway/{module}.py" for module in ("__init__", "testing", "counted", "exceptions", "log_config")),
    *(f"src/portway/cli/{module}.py" for module in ("main", "run", "inspect", "call")),
]


def commands() -> list[list[str]]:
    built = [path for path in BUILD_HALF if (ROOT / path).exists()]
    mypy = ["mypy", "--no-error-summary"]
    return [
        ["ruff", "check", "--quiet", "--output-format=concise"],
        ["ruff", "format", "--check", "--output-format=concise"],
        mypy,
        *([*mypy, "--platform", name, "--cache-dir", f".mypy_cache/{name}", *built] for name in ("darwin", "win32")),
        ["lint-imports", "--no-logo"],
        *(["python", str(own.relative_to(ROOT))] for own in sorted(HERE.glob("[a-z]*.py")) if own.stem != "source"),
    ]


def main() -> None:
    scripts = Path(sys.executable).parent
    failed = []
    for command in commands():
        name = " ".join(part for part in command if not part.startswith("src/"))
        # The output must not depend on the terminal.
        env = os.environ | {"NO_COLOR": "1", "COLUMNS": "160"}
        result = subprocess.run(
            [scripts / command[0], *command[1:]], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        print(f"{'ok  ' if result.returncode == 0 else 'FAIL'} {name}", flush=True)
        if result.returncode:
            failed.append(name)
            print(result.stdout + result.stderr, flush=True)
    if failed:
        sys.exit(f"{len(failed)} of {len(commands())} checks failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
