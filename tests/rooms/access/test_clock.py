"""Ids that sort by time, and a clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mainstay.clock import FixedClock, SystemClock


def test_ids_sort_by_time_and_never_repeat() -> None:
    clock = SystemClock()
    first = clock.new_id("req")
    started = clock.monotonic()
    while clock.monotonic() - started < 0.002:
        pass
    later = [clock.new_id("req") for _ in range(1000)]
    assert len(set(later)) == 1000
    assert all(first[:14] < one[:14] and len(one) == 30 and one.isalnum() is False for one in later)
    assert clock.now().tzinfo is UTC


def test_a_fixed_clock_gives_the_same_bytes() -> None:
    one, two = (FixedClock(datetime(2026, 5, 1, tzinfo=UTC), timedelta(seconds=1)) for _ in range(2))
    assert [(one.now(), one.new_id("x")) for _ in range(40)] == [(two.now(), two.new_id("x")) for _ in range(40)]
    assert one.new_id("x") == "x_" + "0" * 24 + "19"
    assert one.monotonic() == 40
    one.advance(timedelta(minutes=1))
    assert one.monotonic() == 100
