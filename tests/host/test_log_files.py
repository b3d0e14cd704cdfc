"""Logs: written through pipes, bounded, and read back by lines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portway.host.logs import log_file
from portway.host.logs.log_file import LogFile, previous
from portway.host.logs.log_pipe import LogPipe
from portway.host.logs.log_reader import read_log
from portway.host.paths import Paths
from portway.host.releases.release import Release
from tests.host.log_writer import log_writer
from tests.support import eventually


@pytest.fixture
def release(tmp_path: Path) -> Release:
    (tmp_path / "log").mkdir()
    return Release("app", 2, tmp_path)


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    with tempfile.TemporaryDirectory(dir="/tmp") as run:
        yield Paths(tmp_path / "data", Path(run) / "run")


def all_lines(release: Release, count: int, cursor: str = "") -> list[str]:
    """Read page after page until there is no more."""
    lines: list[str] = []
    while True:
        page = read_log(release, count, cursor)
        lines += page.lines
        cursor = page.cursor
        if not page.more:
            return lines


def test_a_log_is_read_from_its_end_and_followed_by_whole_lines(release: Release) -> None:
    with release.log.open("a") as log:
        log.write("one\ntwo\nthree\nfo")
        log.flush()
        first = read_log(release, 3, "")
        assert (first.lines, first.unfinished) == (["two", "three"], "fo")
        log.write("ur\n")
        log.flush()
    second = read_log(release, 3, first.cursor)
    assert (second.lines, second.unfinished) == (["four"], "")
    assert read_log(release, 3, second.cursor).lines == []


def test_only_a_newline_ends_a_line(release: Release) -> None:
    release.log.write_bytes("a\u2028b\x0cc\rd\x85e\x1ef\n\ng\n".encode())
    assert read_log(release, 10, "").lines == ["a\u2028b\x0cc\rd\x85e\x1ef", "", "g"]


@pytest.mark.parametrize("count", [1, 3, 70_000, 99_999, 200_000])
def test_any_number_of_last_lines_is_read_over_both_files(release: Release, count: int) -> None:
    lines = [f"line {number} {'x' * 20}" for number in range(100_000)]
    previous(release.log).write_text("".join(f"{line}\n" for line in lines[:60_000]))
    release.log.write_text("".join(f"{line}\n" for line in lines[60_000:]))
    assert all_lines(release, count) == lines[-count:]


def test_a_follower_goes_on_in_the_next_release_and_in_the_next_file(release: Release) -> None:
    release.log.write_text("one\ntwo\n")
    assert read_log(release, 0, "1:7:400").lines == ["one", "two"]
    cursor = read_log(release, 0, "").cursor
    with release.log.open("a") as log:
        log.write("three\n")
    release.log.rename(previous(release.log))
    release.log.write_text("four\n")
    assert all_lines(release, 0, cursor) == ["three", "four"]


@pytest.mark.parametrize("move", [Path.unlink, lambda path: path.rename(path.with_suffix(".rotated"))])
def test_a_log_that_is_renamed_or_deleted_is_made_anew(release: Release, move: Callable[[Path], object]) -> None:
    log = LogFile(release.log)
    log.append("a", b"old\n")
    move(release.log)
    log.append("a", b"new\n")
    log.close()
    assert release.log.read_text() == "new\n"


def test_a_log_is_cut_between_lines_and_keeps_one_file_before_it(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "LOG_BYTES", 10)
    log = LogFile(release.log)
    log.append("a", b"one\ntwo\nthree\nfour\n")
    log.close()
    assert (previous(release.log).read_text(), release.log.read_text()) == ("one\ntwo\n", "three\nfour\n")


def test_lines_of_two_sources_are_never_joined_and_the_last_one_is_ended(release: Release) -> None:
    log = LogFile(release.log)
    log.append("a", b"half of a")
    log.append("b", b"half of b")
    log.finish("a")
    log.finish("b")
    log.close()
    assert release.log.read_text() == "half of a\nhalf of b\n"


def test_what_the_disk_refuses_is_counted(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    log = LogFile(release.log)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        log.append("a", b"lost\n")
    log.append("a", b"kept\n")
    log.close()
    assert release.log.read_text() == "portway: 5 bytes of this log could not be written\nkept\n"


def test_what_is_written_while_no_log_writer_runs_is_written_by_the_next(paths: Paths, release: Release) -> None:
    with log_writer(paths):
        pipe = LogPipe(paths.log_pipes, release.log)
        os.write(pipe.descriptor, b"one\n")
        eventually(lambda: release.log.exists() and release.log.read_text() == "one\n")
    os.write(pipe.descriptor, b"two")
    with log_writer(paths):
        eventually(lambda: release.log.read_text() == "one\ntwo")
        os.close(pipe.descriptor)
        eventually(lambda: release.log.read_text() == "one\ntwo\n")
        eventually(lambda: {path.name for path in paths.log_pipes.iterdir()} == {"bell"})


def test_no_log_is_no_error_and_a_failed_build_shows_its_own(release: Release) -> None:
    assert read_log(release, 10, "").lines == []
    release.build_log.write_text("it did not build\n")
    assert read_log(release, 10, "").lines == ["it did not build"]
