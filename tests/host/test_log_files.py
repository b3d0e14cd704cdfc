from __future__ import annotations

from pathlib import Path

import pytest

from portway.host.instances.keeper import cut
from portway.host.logs.log_reader import read_log
from portway.host.releases.release import Release


@pytest.fixture
def release(tmp_path: Path) -> Release:
    (tmp_path / "log").mkdir()
    return Release("app", 2, tmp_path, "server.py")


def test_a_log_is_read_from_its_end_and_followed_by_whole_lines(release: Release) -> None:
    with release.log.open("a") as log:
        log.write("one\ntwo\nthree\nfo")
        log.flush()
        first = read_log(release, 2, "")
        assert first.lines == ["two", "three"]
        log.write("ur\n")
        log.flush()
    second = read_log(release, 2, first.cursor)
    assert second.lines == ["four"]
    assert read_log(release, 2, second.cursor).lines == []


def test_a_follower_goes_on_in_the_next_release_and_after_a_cut(release: Release) -> None:
    release.log.write_text("one\ntwo\n")
    assert read_log(release, 0, "1:400").lines == ["one", "two"]
    cursor = read_log(release, 0, "").cursor
    cut(release.log)
    release.log.write_text("new\n")
    assert read_log(release, 0, cursor).lines == ["new"]


def test_a_cut_log_goes_on_at_its_new_end_and_keeps_what_was_in_it(release: Release) -> None:
    with release.log.open("ab", buffering=0) as writer:
        writer.write(b"old\n")
        cut(release.log)
        writer.write(b"new\n")
    assert release.log.read_text() == "new\n"
    assert release.log.with_suffix(".log.1").read_text() == "old\n"


def test_no_log_is_no_error_and_a_failed_build_shows_its_own(release: Release) -> None:
    assert read_log(release, 10, "").lines == []
    release.build_log.write_text("it did not build\n")
    assert read_log(release, 10, "").lines == ["it did not build"]
