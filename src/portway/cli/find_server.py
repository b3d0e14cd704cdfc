"""Prints which file holds the server, run by a build in the app's venv: `python -m portway.cli.find_server FOLDER
FILE…`.

It writes the source's bytecode as well, because the release is read-only from then on.
"""

import compileall
import os
import py_compile
import sys

from portway.cli.load_server import LoadError, load


def find(targets: list[str]) -> str:
    """Return which of the targets, each FILE or FILE:OBJECT, is the server. Raises `LoadError` for none or several."""
    found, refused = {}, []
    for name in targets:
        try:
            found[name] = load(name)
        except LoadError as error:
            refused.append(str(error))
    if not found:
        raise LoadError("\n".join(refused))
    if len({id(server) for server in found.values()}) > 1:
        raise LoadError(
            f"there are several servers, in {' and '.join(found)}: keep one of them, or deploy a folder for each"
        )
    return next(iter(found))


def main(folder: str, *targets: str) -> int:
    # What the author's module prints while it is imported goes to the log, not into the answer.
    answer = os.dup(1)
    os.dup2(2, 1)
    os.chdir(folder)
    try:
        name = find(list(targets))
    except LoadError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    compileall.compile_dir(".", quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    os.write(answer, name.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
