"""The log writer, a process that reads the pipes of builds and instances into their logs: `python -m portway.host.logs
--data DIR`.

It reads the pipes of builds and instances and appends the data to their logs. At SIGTERM it ends when no pipe is open.
At SIGINT it writes what is in the pipes and ends.
"""

import argparse
import contextlib
import os
import select
import signal
import stat
import sys
import time
from pathlib import Path

from portway.host.logs.log_file import LogFile
from portway.host.logs.pipe_directory import bell_of, instance_of, link_of, ring
from portway.host.paths import locate

_NICE = 10  # an app that floods its log waits for it, and calls of other apps do not
_READ_BYTES = 64 * 1024
_LOOK_SECONDS = 1  # between looks for new pipes, in case the bell is lost


class LogWriter:
    """Writes the logs of one host, in one thread."""

    def __init__(self, directory: Path) -> None:
        self._stopping = False
        self._stopped = False
        self._next_look = 0.0
        self._directory = directory
        self._poll = select.poll()
        self._bell = -1
        self._pipes: dict[int, tuple[Path, Path]] = {}  # descriptor -> FIFO, log
        self._files: dict[Path, LogFile] = {}

    def run(self) -> None:
        """Write until `stop` is called."""
        while not self._stopped:
            if time.monotonic() >= self._next_look:
                self._look()
                self._next_look = time.monotonic() + _LOOK_SECONDS
            if self._stopping and not self._pipes:
                break
            for descriptor, _ in self._poll.poll(_LOOK_SECONDS * 1000):
                if descriptor == self._bell:
                    os.read(descriptor, _READ_BYTES)
                    self._next_look = 0.0
                else:
                    self._read(descriptor)
        for descriptor in list(self._pipes):  # a pipe holds no more than one read takes
            self._read(descriptor)

    def stop(self, *, at_once: bool) -> None:
        """End `run` when every pipe has ended; `at_once`: when their data is written. Safe in a signal handler."""
        self._stopping, self._stopped = True, self._stopped or at_once
        ring(self._directory)

    def _look(self) -> None:
        """Open the pipes that are new, and make the directory and the bell again if someone removed them."""
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            bell = bell_of(self._directory)
            if not bell.exists():
                os.mkfifo(bell, 0o600)
                if self._bell >= 0:
                    self._poll.unregister(self._bell)
                    os.close(self._bell)
                    self._bell = -1
            if self._bell < 0:
                self._bell = os.open(bell, os.O_RDWR | os.O_NONBLOCK)  # for writing too, so that reading never ends
                self._poll.register(self._bell, select.POLLIN)
            known = {pipe for pipe, _ in self._pipes.values()}
            for entry in os.scandir(self._directory):
                pipe = Path(entry.path)
                is_pipe = not pipe.suffix and stat.S_ISFIFO(entry.stat(follow_symlinks=False).st_mode)
                if is_pipe and pipe != bell and pipe not in known:
                    self._open(pipe)

    def _open(self, pipe: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            log = link_of(pipe).readlink()
            descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            self._pipes[descriptor] = pipe, log
            self._files.setdefault(log, LogFile(log))
            self._poll.register(descriptor, select.POLLIN)

    def _read(self, descriptor: int) -> None:
        pipe, log = self._pipes[descriptor]
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._files[log].append(pipe, data, instance_of(pipe))
            return
        self._files[log].finish(pipe)
        self._poll.unregister(descriptor)
        os.close(descriptor)
        del self._pipes[descriptor]
        if all(other != log for _, other in self._pipes.values()):
            self._files.pop(log).close()
        link_of(pipe).unlink(missing_ok=True)
        pipe.unlink(missing_ok=True)


def main() -> int:
    """Run the log writer until a signal ends it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m portway.host.logs", description="Writes the logs of a host.")
    parser.add_argument("--data", required=True, help="the host's data directory")
    writer = LogWriter(locate(parser.parse_args().data).log_pipes)
    os.nice(_NICE)
    signal.signal(signal.SIGTERM, lambda *_: writer.stop(at_once=False))
    signal.signal(signal.SIGINT, lambda *_: writer.stop(at_once=True))
    writer.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
