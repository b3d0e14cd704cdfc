"""`make check`: everything is run, so that one round shows all there is to mend; fails if any part failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from source import ROOT

HERE = Path(__file__).parent
# What an author runs must be typed for every system Python runs on; the host is for Unix alone.
BUILD_HALF = [
    *(
        f"src/portway/{package}"
        for package in ("protocol", "auth", "http", "plans", "sessions", "asking", "server", "client", "transport")
    ),
    *(f"src/portway/{module}.py" for module in ("__init__", "testing", "exceptions", "log_config")),
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
        said = " ".join(part for part in command if not part.startswith("src/"))
        # Colours and widths would make what is printed differ by terminal.
        env = os.environ | {"NO_COLOR": "1", "COLUMNS": "160"}
        done = subprocess.run(
            [scripts / command[0], *command[1:]], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {said}", flush=True)
        if done.returncode:
            failed.append(said)
            print(done.stdout + done.stderr, flush=True)
    if failed:
        sys.exit(f"{len(failed)} of {len(commands())} checks failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
