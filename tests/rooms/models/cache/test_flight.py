"""Identical questions in the air: one works, all are served; a failure costs one more try."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from mainstay.clock import FixedClock, SystemClock
from mainstay.models.cache.flight import Flights, Follower, Landed, Leader, flight_key
from mainstay.models.cache.ports import Asked, Partition

PARTITION = Partition(release="r", agreement="a", language="en", embedder="e", model_class="m")
ASKED = Asked(question="What is the fee?", partition=PARTITION, read=frozenset({("d", "v")}))


@pytest.mark.parametrize(
    "change",
    [
        {"question": "What is the fine?"},
        {"read": frozenset({("d", "w")})},
        {"read": frozenset({("d", "v"), ("e", "v")})},
        {"personal": "user:ann"},
        {"history_digest": "h"},
        {"filters": ("a=b",)},
        {"partition": replace(PARTITION, release="s")},
    ],
)
def test_only_the_very_same_flies_together(change: dict[str, object]) -> None:
    other = replace(ASKED, **change)  # type: ignore[arg-type]  # names of its fields
    assert flight_key(ASKED, scope_digest="s") != flight_key(other, scope_digest="s")
    assert flight_key(ASKED, scope_digest="s") != flight_key(ASKED, scope_digest="t")
    assert flight_key(ASKED, scope_digest="s") == flight_key(
        replace(ASKED, question="what is the fee"), scope_digest="s"
    )


def test_followers_get_what_the_leader_lands() -> None:
    flights: Flights[str] = Flights(SystemClock())
    leader = flights.join("k")
    assert isinstance(leader, Leader)
    got: list[object] = []

    def follow(seat: Follower[str]) -> None:
        landed = seat.wait(30)
        got.append(landed.value if isinstance(landed, Landed) else landed)

    seats = [flights.join("k") for _ in range(8)]
    assert all(isinstance(seat, Follower) for seat in seats)
    threads = [threading.Thread(target=follow, args=(seat,)) for seat in seats]
    for thread in threads:
        thread.start()
    with leader:
        leader.land("answer")
    for thread in threads:
        thread.join()
    assert got == ["answer"] * 8
    assert flights.in_the_air() == 0
    assert flights.shared == 8
    assert isinstance(flights.join("k"), Leader)  # what comes later flies anew


def test_one_follower_takes_over_when_the_leader_fails() -> None:
    flights: Flights[str] = Flights(SystemClock())
    tried, got = Counter[str](), Counter[str]()
    lock = threading.Lock()
    start = threading.Barrier(12)

    def ask(name: str) -> None:
        start.wait()
        seat: Leader[str] | Follower[str] | Landed[str] | None = flights.join("k")
        if isinstance(seat, Follower):
            seat = seat.wait(30)
        if isinstance(seat, Landed):
            with lock:
                got[seat.value] += 1
            return
        assert isinstance(seat, Leader)
        with seat:
            with lock:
                tried["k"] += 1
                attempt = tried["k"]
            while attempt <= 3 and flights._air["k"].waiting < 12 - attempt:
                threading.Event().wait(0.001)  # until all the others are on board
            if attempt > 3:
                seat.land("at last")

    threads = [threading.Thread(target=ask, args=(str(n),)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tried["k"] == 4  # three failed, the fourth landed
    assert got == {"at last": 8}
    assert flights.in_the_air() == 0


def test_who_can_not_wait_goes_on_alone() -> None:
    flights: Flights[str] = Flights(SystemClock())
    leader = flights.join("k")
    assert isinstance(leader, Leader)
    seat = flights.join("k")
    assert isinstance(seat, Follower)
    assert seat.wait(0.0) is None
    leader.fail()
    assert flights.in_the_air() == 0


def test_a_leader_that_fell_silent_is_not_joined() -> None:
    clock = FixedClock()
    flights: Flights[str] = Flights(clock, longest_s=60)
    first = flights.join("k")
    assert isinstance(first, Leader)
    assert isinstance(flights.join("k"), Follower)
    clock.advance(timedelta(seconds=61))
    second = flights.join("k")
    assert isinstance(second, Leader)
    first.fail()  # late: it no longer leads anybody
    assert flights.in_the_air() == 1
    second.land("answer")
    second.fail()
    assert flights.in_the_air() == 0


def test_an_error_in_the_block_hands_the_lead_on() -> None:
    flights: Flights[str] = Flights(SystemClock())
    leader = flights.join("k")
    assert isinstance(leader, Leader)
    seat = flights.join("k")
    assert isinstance(seat, Follower)
    with pytest.raises(ValueError, match="broken"), leader:
        raise ValueError("broken")
    heir = seat.wait(1)
    assert isinstance(heir, Leader)
    heir.land("answer")
    assert flights.in_the_air() == 0
