"""Which version of Portway a start of the host runs: the installed one, or that of the last `portway upgrade`."""

import os
import sys

from portway.host.paths import Paths
from portway.host.upgrade_files import INSTALLED, UpgradeFiles


def start_chosen_version(paths: Paths) -> None:
    """Replace this process by the version that the last upgrade has chosen, unless this is it.

    What was installed since the upgrade is newer than its choice, and goes on in this process.
    """
    chosen = UpgradeFiles(paths).chosen()
    if chosen is None or chosen.python == sys.executable or INSTALLED in os.environ:
        return
    from importlib.metadata import version

    if chosen.installed == version("portway") and os.access(chosen.python, os.X_OK):
        environment = os.environ | {INSTALLED: sys.executable}
        command = [chosen.python, "-m", "portway", *sys.argv[1:]]
        os.execve(chosen.python, command, environment)  # noqa: S606  # no shell is wanted
