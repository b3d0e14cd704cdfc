"""Rates: what a caller may do in any period, whose call waits for whose, and how much is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.policy import rates
from portway.policy.rates import Concurrency, Rate, whole_seconds


def test_calls_come_back_one_by_one() -> None:
    rate = Rate("3/minute")
    spellings = [rate, *map(Rate, ("3 per minute", "3 /m", "1/d"))]
    assert [each.says for each in spellings] == ["3 calls per minute"] * 3 + ["1 call per day"]
    assert [rate.take("ada", 0.0) for _ in range(3)] == [0, 0, 0]
    assert rate.take("ada", 0.0) == pytest.approx(20)
    assert rate.take("ada", 19.0) == pytest.approx(1)
    assert rate.take("bob", 19.0) == 0  # nobody waits for another
    assert rate.take("ada", 20.0) == 0
    assert rate.take("ada", 20.0) == pytest.approx(20)
    assert [rate.take("ada", 1000.0) for _ in range(3)] == [0, 0, 0]
    rate.give("ada")
    assert rate.take("ada", 1000.0) == 0
    assert rate.take("ada", 1000.0) == pytest.approx(20)
    assert (whole_seconds(0.2), whole_seconds(20.0), whole_seconds(19.1)) == (1, 20, 20)


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 5))
def test_no_more_than_twice_the_rate_in_any_period_and_who_waits_as_told_is_admitted(
    pauses: list[float], permits: int
) -> None:
    rate, now, admitted = Rate(f"{permits} per m"), 0.0, list[float]()
    for pause in pauses:
        now += pause
        wait = rate.take("ada", now)
        if wait:
            now += wait
            assert rate.take("ada", now + 1e-6) == 0
        admitted.append(now)
        assert sum(now - 60 < at for at in admitted) <= 2 * permits


def test_callers_who_come_and_go_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_MOST_CALLERS", 100)
    rate = Rate("2/minute")
    for number in range(10_000):
        rate.take(number, number * 1.0)
        assert len(rate._used_up) <= 100
    flooded = Rate("1/day")
    for number in range(1000):  # all of them still wait
        assert flooded.take(number, 0.0) == 0
        assert len(flooded._used_up) <= 100
    assert flooded.take(999, 0.0) > 0
    few = Rate("1/day")
    for number in range(20):  # these have their calls back when the others come
        few.take(number, -90_000.0)
    for number in range(20, 101):
        few.take(number, 0.0)
    assert all(few.take(number, 0.0) > 0 for number in range(20, 101)), "nobody is forgotten while there is room"
    places = Concurrency(2)
    assert [places.enter("ada"), places.enter("ada"), places.enter("ada"), places.enter("bob")] == [
        True,
        True,
        False,
        True,
    ]
    places.give("ada")
    assert places.enter("ada")
    for holder in ("ada", "ada", "bob"):
        places.give(holder)
    assert not places._held


@pytest.mark.parametrize("text", ["", "10", "10/", "0/minute", "1.5/minute", "10/week", "-1/s", "10/minutes"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate as in 10/minute; the units are second, minute, hour and day"):
        Rate(text)
