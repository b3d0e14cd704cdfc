"""Logs: written through pipes, bounded, and read back by lines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from portway.host.gate.call_record import Line
from portway.host.logs import log_file
from portway.host.logs.log_entry import LogPage, Selection
from portway.host.logs.log_file import LogFile, previous, write_to
from portway.host.logs.log_pipe import LogPipe
from portway.host.logs.log_reader import read_page
from portway.host.logs.log_sources import AppLogs, open_sources
from portway.host.logs.stamp import read_stamp
from portway.host.paths import Paths
from portway.host.releases.release import Release
from tests.host.log_writer import log_writer
from tests.support import eventually

CREATED = "2026-01-31T12:00:00.000Z"
ANY = Selection()


@pytest.fixture
def release(tmp_path: Path) -> Release:
    (tmp_path / "log").mkdir()
    return Release("app", 2, tmp_path)


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    with tempfile.TemporaryDirectory(dir="/tmp") as run:
        yield Paths(tmp_path / "data", Path(run) / "run")


def read(
    release: Release, count: int | None, cursor: str = "", *, unfinished: bool = False, selection: Selection = ANY
) -> LogPage:
    with ExitStack() as stack:
        logs = AppLogs("app", CREATED, [(release, CREATED)], release.directory / "calls")
        return read_page(open_sources(logs, selection, stack), count, cursor, unfinished=unfinished)


def texts(
    release: Release, count: int | None = None, cursor: str = "", *, unfinished: bool = False
) -> list[str | None]:
    """Read page after page until there is no more."""
    found: list[str | None] = []
    while True:
        page = read(release, count, cursor, unfinished=unfinished)
        found += [entry.text for entry in page.entries]
        cursor = page.cursor
        if not page.more:
            return found


def test_a_log_is_read_from_its_end_and_followed_by_whole_lines(release: Release) -> None:
    with release.log.open("a") as log:
        log.write("one\ntwo\nthree\nfo")
        log.flush()
        assert texts(release, 3, unfinished=True) == ["two", "three", "fo"]
        first = read(release, 2)
        assert [entry.text for entry in first.entries] == ["two", "three"]
        log.write("ur\n")
        log.flush()
    second = read(release, None, first.cursor)
    assert [entry.text for entry in second.entries] == ["four"]
    assert texts(release, None, second.cursor) == []


def test_only_a_newline_ends_a_line(release: Release) -> None:
    release.log.write_bytes("a\u2028b\x0cc\rd\x85e\x1ef\n\ng\n".encode())
    assert texts(release, 10) == ["a\u2028b\x0cc\rd\x85e\x1ef", "", "g"]


@pytest.mark.parametrize("count", [1, 3, 70_000, 99_999, 200_000])
def test_any_number_of_last_lines_is_read_over_both_files(release: Release, count: int) -> None:
    lines = [f"line {number} {'x' * 20}" for number in range(100_000)]
    previous(release.log).write_text("".join(f"{line}\n" for line in lines[:60_000]))
    release.log.write_text("".join(f"{line}\n" for line in lines[60_000:]))
    assert texts(release, count) == lines[-count:]


def test_a_follower_goes_on_in_the_next_file(release: Release) -> None:
    release.log.write_text("one\ntwo\n")
    cursor = read(release, 0).cursor
    with release.log.open("a") as log:
        log.write("three\n")
    release.log.rename(previous(release.log))
    release.log.write_text("four\n")
    assert texts(release, 0, cursor) == ["three", "four"]


def test_a_follower_misses_nothing_that_is_still_there_when_its_file_is_gone(release: Release) -> None:
    release.log.write_text("one\n")
    cursor = read(release, 0).cursor
    release.log.rename(previous(release.log))
    release.log.write_text("two\n")
    release.log.rename(previous(release.log))
    release.log.write_text("three\n")
    assert texts(release, 0, cursor) == ["two", "three"]


def test_a_follower_is_shown_nothing_again_while_the_next_file_is_not_made_yet(release: Release) -> None:
    previous(release.log).write_text("zero\n")
    release.log.write_text("one\n")
    cursor = read(release, 0).cursor
    release.log.rename(release.directory / "moved")
    page = read(release, None, cursor)
    assert page.entries == []
    release.log.write_text("two\n")
    assert texts(release, 0, page.cursor) == ["two"]


def test_a_follower_knows_its_file_from_another_with_the_same_inode(release: Release) -> None:
    release.log.write_text("one\n")
    cursor = read(release, 0).cursor
    release.log.write_text("two\nthree\n")
    assert texts(release, 0, cursor) == ["two", "three"]


@pytest.mark.parametrize("move", [Path.unlink, lambda path: path.rename(path.with_suffix(".rotated"))])
def test_a_log_that_is_renamed_or_deleted_is_made_anew(release: Release, move: Callable[[Path], object]) -> None:
    log = LogFile(release.log)
    log.append("a", b"old\n")
    move(release.log)
    log.append("a", b"new\n")
    log.close()
    assert texts(release) == ["new"]


def test_a_log_is_cut_between_lines_and_keeps_one_file_before_it(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "LOG_BYTES", 80)
    log = LogFile(release.log)
    log.append("a", b"one\ntwo\nthree\nfour\n")
    log.close()
    kept = [
        [read_stamp(line)[2] for line in path.read_bytes().splitlines()]
        for path in (previous(release.log), release.log)
    ]
    assert kept == [[b"one", b"two"], [b"three", b"four"]]


def test_lines_of_two_sources_are_never_joined_and_the_last_one_is_ended(release: Release) -> None:
    log = LogFile(release.log)
    log.append("a", b"half of a")
    log.append("b", b"half of b")
    log.finish("a")
    log.finish("b")
    log.close()
    assert texts(release) == ["half of a", "half of b"]


def test_a_line_of_the_hosts_own_ends_one_that_was_left_unfinished(release: Release) -> None:
    release.log.write_text("half")
    write_to(release.log, "a step\nand another")
    assert texts(release) == ["half", "a step", "and another"]


def test_what_the_disk_refuses_is_counted(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    log = LogFile(release.log)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        log.append("a", b"lost\n")
    log.append("a", b"kept\n")
    log.close()
    assert texts(release) == ["portway: 5 bytes of this log could not be written", "kept"]


def test_what_is_written_while_no_log_writer_runs_is_written_by_the_next(paths: Paths, release: Release) -> None:
    with log_writer(paths):
        pipe = LogPipe(paths.log_pipes, release.log)
        os.write(pipe.descriptor, b"one\n")
        eventually(lambda: texts(release) == ["one"])
    os.write(pipe.descriptor, b"two")
    with log_writer(paths):
        eventually(lambda: texts(release, unfinished=True) == ["one", "two"])
        os.close(pipe.descriptor)
        eventually(lambda: texts(release) == ["one", "two"])
        eventually(lambda: {path.name for path in paths.log_pipes.iterdir()} == {"bell"})


def test_no_log_is_no_error(release: Release) -> None:
    assert texts(release, 10) == []


def test_lines_of_an_older_host_have_the_time_of_their_release(release: Release) -> None:
    release.log.write_text("2026 was written by nobody\nplain\n2026-02-01T00:00:00.000Z 0a1b2c3d stamped\n")
    found = [(entry.time, entry.instance, entry.text) for entry in read(release, None).entries]
    assert found == [
        (CREATED, None, "2026 was written by nobody"),
        (CREATED, None, "plain"),
        ("2026-02-01T00:00:00.000Z", "0a1b2c3d", "stamped"),
    ]


@pytest.mark.parametrize("minute", [0, 1, 17, 39, 40, 41, 58, 59])
@pytest.mark.parametrize("count", [None, 7])
def test_what_is_not_older_than_a_time_is_found_in_large_files(
    release: Release, minute: int, count: int | None
) -> None:
    lines = [f"2026-02-01T00:{number // 500:02d}:00.000Z 0a1b2c3d {number} {'x' * 40}" for number in range(30_000)]
    previous(release.log).write_text("\n".join(lines[:20_000]))
    release.log.write_text("".join(f"{line}\n" for line in lines[20_000:]))
    selection = Selection(since=f"2026-02-01T00:{minute:02d}:00.000Z")
    wanted = [line.split(" ", 2)[2] for line in lines if line >= selection.since]
    cursor, found = "", []
    while True:
        page = read(release, count, cursor, selection=selection)
        cursor, found = page.cursor, found + [entry.text for entry in page.entries]
        if not page.more:
            break
    assert found == (wanted if count is None else wanted[-count:])


def test_a_very_long_line_is_kept_in_pieces_that_name_their_instance(release: Release) -> None:
    log = LogFile(release.log)
    for _ in range(5):
        log.append("a", b"x" * 64 * 1024, "0a1b2c3d")
    log.append("a", b"end\n", "0a1b2c3d")
    log.close()
    entries = read(release, None).entries
    assert "".join(entry.text or "" for entry in entries) == "x" * 5 * 64 * 1024 + "end"
    assert {entry.instance for entry in entries} == {"0a1b2c3d"}
    assert max(len(entry.text or "") for entry in entries) <= 128 * 1024


def test_logs_are_joined_by_time_and_a_reader_goes_on_when_old_calls_are_dropped(release: Release) -> None:
    calls = release.directory / "calls"
    calls.mkdir()

    def call(number: int, app: str = "app") -> str:
        line = Line(seq=number, time=f"2026-02-01T00:0{number}:00.000Z", app=app, name=f"n{number}")
        return msgspec.json.encode(line).decode()

    for number in (1, 3):
        (calls / f"{number:012d}.jsonl").write_text(
            f"{call(number)}\n{call(number, 'other')}\nnot JSON\n{call(number + 1)}\n"
        )
    (calls / "000000000000.jsonl").write_bytes(
        msgspec.json.encode(
            Line(time="2026-01-01T00:00:00.000Z", app="app", name="of the app that had its name before")
        )
    )
    release.build_log.write_text("2026-02-01T00:00:00.000Z - built\n")
    release.log.write_text("".join(f"2026-02-01T00:0{number}:30.000Z 0a1b2c3d {number}\n" for number in (1, 4)))
    page = read(release, None)
    assert [entry.text or entry.name for entry in page.entries] == ["built", "n1", "1", "n2", "n3", "n4", "4"]
    first = read(release, None, selection=Selection(kind="call", since="2026-02-01T00:02:00.000Z"))
    assert [entry.name for entry in first.entries] == ["n2", "n3", "n4"]
    cursor = read(release, 3, selection=Selection(kind="call")).cursor
    (calls / "000000000001.jsonl").unlink()
    (calls / "000000000003.jsonl").unlink()
    (calls / "000000000005.jsonl").write_text(f"{call(5)}\n")
    (calls / "000000000006.jsonl").write_text(f"{call(6)}\n")
    assert [entry.name for entry in read(release, 0, cursor).entries if entry.kind == "call"] == ["n5", "n6"]
