"""The limit of calls at once: it grows where there is room, shrinks where there is none, and loses no slot."""

from __future__ import annotations

import gc
import random
import threading
from datetime import timedelta

import pytest

from mainstay.clock import FixedClock, SystemClock
from mainstay.errors import Invalid
from mainstay.resilience.concurrency import AdaptiveLimit, Slot


def take(limit: AdaptiveLimit) -> Slot:
    slot = limit.take()
    assert slot is not None
    return slot


def rounds(limit: AdaptiveLimit, clock: FixedClock, capacity: int, n: int, rng: random.Random) -> list[int]:
    """A model that answers in half a second until ``capacity`` calls, then proportionally later; always asked for all."""
    limits = []
    for _ in range(n):
        slots = []
        while (slot := limit.take()) is not None:
            slots.append(slot)
        first = 0.5 * max(1.0, len(slots) / capacity) * rng.uniform(0.9, 1.1)
        clock.advance(timedelta(seconds=first))
        for slot in slots:
            slot.done(first, ok=True, overloaded=False)
        limits.append(limit.limit)
    return limits


def test_it_grows_to_what_the_model_takes_and_no_further_than_allowed() -> None:
    clock = FixedClock()
    limit = AdaptiveLimit(clock, most=64, start=4)
    assert rounds(limit, clock, 1000, 200, random.Random(1))[-1] == 64


def test_it_settles_near_what_the_model_takes() -> None:
    clock = FixedClock()
    limit = AdaptiveLimit(clock, most=200, start=4)
    limits = rounds(limit, clock, 20, 60, random.Random(2))
    assert 20 <= limits[-1] <= 80, limits


def test_it_shrinks_when_the_model_gets_slower() -> None:
    clock = FixedClock()
    limit = AdaptiveLimit(clock, most=64, start=32)
    rounds(limit, clock, 64, 20, random.Random(3))
    before = limit.limit
    after = min(rounds(limit, clock, 8, 10, random.Random(4)))
    assert after < before / 2


def test_a_lasting_queue_never_becomes_normal() -> None:
    """Much longer than it trusts what it saw: it stays where it is, though what was seen at first is long ago."""
    clock = FixedClock()
    limit = AdaptiveLimit(clock, most=200, start=4)
    limits = rounds(limit, clock, 20, 1800, random.Random(5))
    assert clock.monotonic() > 1200
    assert max(limits) <= 80
    assert sorted(limits)[len(limits) // 20] >= 15


def test_a_model_that_became_slower_for_good_is_believed() -> None:
    clock = FixedClock()
    limit = AdaptiveLimit(clock, most=64, start=32)
    for n in range(1500):
        slots = []
        while (slot := limit.take()) is not None:
            slots.append(slot)
        clock.advance(timedelta(seconds=1))
        for slot in slots:
            slot.done(0.3 if n < 100 else 1.5, ok=True, overloaded=False)
        if n == 250:
            assert limit.limit < 10  # it looks like a queue, at first
    assert limit.limit == 64


def test_a_limit_nobody_comes_near_does_not_grow() -> None:
    clock = FixedClock()
    limit = AdaptiveLimit(clock, start=8)
    for _ in range(500):
        take(limit).done(0.5, ok=True, overloaded=False)
    assert limit.limit == 8


def test_a_refusal_cuts_it_once_in_a_second_and_never_below_the_least() -> None:
    clock = FixedClock()
    limit = AdaptiveLimit(clock, least=2, start=20)
    for slot in [take(limit) for _ in range(20)]:
        slot.done(None, ok=False, overloaded=True)
    assert limit.limit == 18
    for _ in range(60):
        clock.advance(timedelta(seconds=1))
        take(limit).done(None, ok=False, overloaded=True)
    assert limit.limit == 2


def test_failures_that_are_no_overload_say_nothing() -> None:
    limit = AdaptiveLimit(FixedClock(), start=8)
    for _ in range(100):
        take(limit).done(0.001, ok=False, overloaded=False)
        take(limit).done(None, ok=True, overloaded=False)
    assert (limit.limit, limit.in_flight) == (8, 0)


def test_never_more_than_the_limit() -> None:
    limit = AdaptiveLimit(FixedClock(), start=3)
    slots = [take(limit) for _ in range(3)]
    assert limit.take() is None
    slots[0].done(0.1, ok=True, overloaded=False)
    slots[0].done(0.1, ok=True, overloaded=False)
    assert limit.in_flight == 2
    slots.append(take(limit))
    assert limit.take(0.01) is None


def test_a_forgotten_slot_comes_back() -> None:
    limit = AdaptiveLimit(FixedClock(), start=1)
    take(limit)
    gc.collect()
    assert limit.in_flight == 0
    take(limit)


def test_who_waits_gets_the_slot_that_is_given_back() -> None:
    limit = AdaptiveLimit(SystemClock(), most=4, start=4)
    over: list[int] = []
    lock = threading.Lock()
    at_work = 0

    def work() -> None:
        nonlocal at_work
        for _ in range(50):
            slot = limit.take(60)
            assert slot is not None
            with lock:
                at_work += 1
                over.append(at_work)
            with lock:
                at_work -= 1
            slot.done(0.01, ok=True, overloaded=False)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(over) == 600
    assert max(over) <= 4
    assert limit.in_flight == 0


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(Invalid):
        AdaptiveLimit(FixedClock(), least=9, start=8)
