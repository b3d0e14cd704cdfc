"""Control groups of version 2 on a kernel of their own: User-mode Linux, a kernel that runs as a process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, clean_env

KERNEL = shutil.which("linux.uml")
# The root is this machine's, read-only. The process is in a group that has the controllers, as in a delegated unit.
INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={paths}
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /dev/shm
mount -t cgroup2 none /sys/fs/cgroup
echo "+memory +pids +cpu" > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/unit
echo $$ > /sys/fs/cgroup/unit/cgroup.procs
cd /
{python} {program} 2>&1
echo o > /proc/sysrq-trigger
sleep 10
"""


@pytest.mark.slow
@pytest.mark.skipif(KERNEL is None, reason="User-mode Linux is not installed (apt install user-mode-linux)")
def test_version_2_bounds_memory_processes_and_processors(tmp_path: Path) -> None:
    assert KERNEL is not None
    init = tmp_path / "init"
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    program = ROOT / "tests" / "host" / "in_cgroup_v2.py"
    python = f"{sys.base_prefix}/bin/python3.{sys.version_info.minor}"
    init.write_text(INIT.format(paths=f"{ROOT / 'src'}:{ROOT}:{packages}", python=python, program=program))
    init.chmod(0o755)
    options = ["mem=400M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}", "quiet"]
    options += ["con=null", "con0=null,fd:1", "ssl=null", f"uml_dir={tmp_path}/"]
    environment = clean_env({"TMPDIR": str(tmp_path)})
    done = subprocess.run(
        [KERNEL, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    wanted = {
        "found": "cgroup v2 0::/unit/portway-x/host",
        "again": "True",
        "memory": "-9 48 MB of 48 MB of memory",
        "removed": "True",
        "pids": "it runs all of its 20 processes and threads, and can start no more 20 None",
        "killed": "-9",
        "builds": "10",
        "kept": "True False",
        "left": "host",
    }
    assert {name: said.get(name, "").strip() for name in wanted} == wanted, done.stdout
