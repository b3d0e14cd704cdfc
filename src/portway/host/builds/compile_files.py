"""The script that compiles Python files to bytecode, on all cores: `python -I -S compile_files.py LIST`.

LIST has one path a line. The bytecode is taken as it is from then on, whatever the times of the files: they are
read-only. A file that cannot be compiled is left out.
"""

import concurrent.futures
import contextlib
import py_compile
import sys
from pathlib import Path

_AT_A_TIME = 25


def compile_file(path: str) -> None:
    with contextlib.suppress(py_compile.PyCompileError, OSError, ValueError, RecursionError):
        py_compile.compile(path, doraise=True, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


if __name__ == "__main__":
    listed = Path(sys.argv[1]).read_text().splitlines() if len(sys.argv) > 1 else []
    if listed:
        with concurrent.futures.ProcessPoolExecutor() as pool:
            for _ in pool.map(compile_file, listed, chunksize=_AT_A_TIME):
                pass
    sys.stdout.write(f"{sys.implementation.cache_tag} {'.'.join(map(str, sys.version_info))}\n")
