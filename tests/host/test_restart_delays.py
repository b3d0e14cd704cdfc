from __future__ import annotations

from portway.host.instances.restart_delays import RestartDelays


def test_crashes_in_a_row_are_answered_later_and_later_and_then_once_a_minute() -> None:
    restarts = RestartDelays()
    assert [restarts.crashed(float(second)) for second in range(7)] == [0, 1, 2, 4, 8, 60, 60]
    assert restarts.looping


def test_an_instance_that_crashes_soon_after_a_retry_is_still_in_its_loop() -> None:
    restarts = _looping(0)
    restarts.up(60)
    assert restarts.crashed(70) == 60
    assert restarts.looping


def test_an_instance_that_lived_a_whole_window_starts_with_a_clean_slate() -> None:
    restarts = _looping(0)
    restarts.up(60)
    assert restarts.crashed(121) == 0
    assert not restarts.looping


def test_a_long_life_counts_once_not_for_every_failed_start_after_it() -> None:
    restarts = RestartDelays()
    restarts.up(0)
    assert [restarts.crashed(100.0 + second) for second in range(6)] == [0, 1, 2, 4, 8, 60]


def test_rare_crashes_are_no_loop() -> None:
    restarts = RestartDelays()
    assert {restarts.crashed(hour * 3600.0) for hour in range(20)} == {0}
    assert not restarts.looping


def _looping(now: float) -> RestartDelays:
    restarts = RestartDelays()
    for _ in range(6):
        restarts.crashed(now)
    return restarts
