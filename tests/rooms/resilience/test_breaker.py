"""Breakers: when they open, for how long, and that nothing anybody forgets keeps them shut."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mainstay.clock import FixedClock
from mainstay.errors import Invalid
from mainstay.resilience.breaker import Breaker, BreakerRule, Breakers, Permit


def go(breaker: Breaker) -> Permit:
    permit = breaker.permit()
    assert permit is not None
    return permit


def opened(clock: FixedClock, rule: BreakerRule | None = None) -> Breaker:
    breaker = Breaker(clock, rule)
    for _ in range(3):
        go(breaker).failed()
    assert breaker.state == "open"
    return breaker


def test_half_of_at_least_five_calls_open_it() -> None:
    breaker = Breaker(FixedClock())
    for n in range(4):
        permit = go(breaker)
        permit.failed() if n % 2 else permit.succeeded(slow=False)
    assert breaker.state == "closed"  # half failed, of four
    go(breaker).failed()
    assert breaker.state == "open"
    assert breaker.opens_in_s() == 5
    assert breaker.permit() is None


def test_slow_calls_count_as_much() -> None:
    breaker = Breaker(FixedClock())
    for n in range(6):
        go(breaker).succeeded(slow=n % 2 == 1)
    assert breaker.state == "open"


def test_less_than_half_does_not_open_it() -> None:
    breaker = Breaker(FixedClock())
    for n in range(200):
        permit = go(breaker)
        permit.failed() if n % 5 < 2 and n > 4 else permit.succeeded(slow=False)
    assert breaker.state == "closed"


def test_the_window_moves_on() -> None:
    clock = FixedClock()
    breaker = Breaker(clock, BreakerRule(in_a_row=100))
    for _ in range(4):
        go(breaker).failed()
    clock.advance(timedelta(seconds=30))
    for _ in range(4):
        go(breaker).failed()
    assert breaker.state == "closed"
    go(breaker).failed()
    assert breaker.state == "open"


def test_a_single_dead_model_of_a_quiet_service_is_not_tried_for_ever() -> None:
    """One question an hour never fills a window; three failures in a row are enough."""
    clock = FixedClock()
    breaker = Breaker(clock)
    for _ in range(3):
        go(breaker).failed()
        clock.advance(timedelta(hours=1))
    clock.advance(timedelta(hours=-1))
    assert breaker.state == "open"


def test_errors_of_the_caller_do_not_count() -> None:
    breaker = Breaker(FixedClock())
    for _ in range(50):
        go(breaker).neutral()
    go(breaker).failed()
    go(breaker).neutral()
    go(breaker).failed()
    assert breaker.state == "closed"
    go(breaker).failed()
    assert breaker.state == "open"


def test_it_is_closed_by_probes_that_all_come_back() -> None:
    clock = FixedClock()
    breaker = opened(clock)
    clock.advance(timedelta(seconds=5))
    assert breaker.state == "half_open"
    first, second = go(breaker), go(breaker)
    assert breaker.permit() is None
    assert breaker.opens_in_s() == 60  # until a forgotten one gives its place back
    first.succeeded(slow=False)
    assert breaker.state == "half_open"
    assert breaker.permit() is None  # one came back, one is on its way: no third is needed
    second.succeeded(slow=False)
    assert breaker.state == "closed"
    assert breaker.opens_in_s() == 0


def test_slow_probes_open_it_again() -> None:
    clock = FixedClock()
    breaker = opened(clock)
    clock.advance(timedelta(seconds=5))
    first, second = go(breaker), go(breaker)
    first.succeeded(slow=True)
    second.succeeded(slow=False)
    assert breaker.state == "open"


def test_each_failed_probe_doubles_the_time_up_to_a_minute() -> None:
    clock = FixedClock()
    breaker = opened(clock)
    waits = []
    for _ in range(6):
        waits.append(breaker.opens_in_s())
        clock.advance(timedelta(seconds=waits[-1]))
        go(breaker).failed()
    assert waits == [5, 10, 20, 40, 60, 60]


def test_one_that_fails_again_soon_goes_on_doubling_and_one_that_was_well_begins_anew() -> None:
    clock = FixedClock()
    breaker = opened(clock)
    for pause, expected in ((1, 10), (30, 5)):
        clock.advance(timedelta(seconds=breaker.opens_in_s()))
        for permit in (go(breaker), go(breaker)):
            permit.succeeded(slow=False)
        clock.advance(timedelta(seconds=pause))
        for _ in range(3):
            go(breaker).failed()
        assert breaker.opens_in_s() == expected


def test_retry_after_is_obeyed_from_the_first_time_and_within_reason() -> None:
    clock = FixedClock()
    breaker = Breaker(clock)
    go(breaker).failed(retry_after_s=17.5)
    assert (breaker.state, breaker.opens_in_s()) == ("open", 17.5)
    clock.advance(timedelta(seconds=17.5))
    go(breaker).failed(retry_after_s=1.0)
    assert breaker.opens_in_s() == 5  # its own time, which is longer
    clock.advance(timedelta(seconds=5))
    go(breaker).failed(retry_after_s=1e9)
    assert breaker.opens_in_s() == 3600


def test_retry_after_of_a_call_that_began_before_it_opened_counts() -> None:
    clock = FixedClock()
    breaker = Breaker(clock)
    late = go(breaker)
    for _ in range(3):
        go(breaker).failed()
    late.failed(retry_after_s=40)
    assert breaker.opens_in_s() == 40


def test_what_was_begun_before_says_nothing_about_the_probes() -> None:
    clock = FixedClock()
    breaker = Breaker(clock)
    late = [go(breaker) for _ in range(4)]
    for _ in range(3):
        go(breaker).failed()
    clock.advance(timedelta(seconds=5))
    for permit in late[:2]:
        permit.succeeded(slow=False)
    assert breaker.state == "half_open"
    for permit in late[2:]:
        permit.failed()
    assert breaker.state == "half_open"


def test_a_neutral_probe_gives_its_place_back_and_a_forgotten_one_too() -> None:
    clock = FixedClock()
    breaker = opened(clock)
    clock.advance(timedelta(seconds=5))
    go(breaker).neutral()
    go(breaker)
    go(breaker)
    assert breaker.permit() is None
    clock.advance(timedelta(seconds=breaker.opens_in_s()))
    go(breaker).succeeded(slow=False)
    go(breaker).succeeded(slow=False)
    assert breaker.state == "closed"


def test_only_the_first_word_about_a_permit_counts() -> None:
    breaker = Breaker(FixedClock())
    permit = go(breaker)
    permit.neutral()
    for _ in range(10):
        permit.failed(retry_after_s=9)
    assert breaker.state == "closed"


def test_each_key_has_its_own() -> None:
    breakers = Breakers(FixedClock())
    for _ in range(3):
        go(breakers.of("b/large")).failed()
    go(breakers.of("a/small")).succeeded(slow=False)
    assert breakers.states() == {"a/small": "closed", "b/large": "open"}
    assert breakers.of("b/large") is breakers.of("b/large")


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"slow": 1.1}, {"probes": 0}, {"open_s": 61}, {"probe_s": 0}])
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Invalid):
        BreakerRule(**wrong)  # type: ignore[arg-type]  # what is wrong is the value


class Calls(RuleBasedStateMachine):
    """Any order of calls, answers, forgetting and time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FixedClock()
        self.breaker = Breaker(self.clock)
        self.out: list[Permit] = []

    @rule()
    def call(self) -> None:
        state, wait = self.breaker.state, self.breaker.opens_in_s()
        permit = self.breaker.permit()
        assert (permit is None) == (wait > 0)
        assert state != "open" or permit is None
        assert state != "closed" or permit is not None
        if permit is not None:
            self.out.append(permit)

    @precondition(lambda self: self.out)
    @rule(
        which=st.integers(0, 50),
        how=st.sampled_from(["good", "slow", "bad", "neutral", "forget"]),
        after=st.floats(0, 90),
    )
    def answer(self, which: int, how: str, after: float) -> None:
        permit = self.out.pop(which % len(self.out))
        if how == "bad":
            permit.failed(after if after > 45 else None)
            if after > 45:
                assert self.breaker.opens_in_s() >= after - 1e-6
        elif how == "neutral":
            permit.neutral()
        elif how != "forget":
            permit.succeeded(slow=how == "slow")

    @rule(seconds=st.sampled_from([0.1, 1, 5, 29, 61]))
    def later(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @rule()
    def honest(self) -> None:
        """After as long as it says, a call may go."""
        self.clock.advance(timedelta(seconds=self.breaker.opens_in_s() + 1e-5))
        assert self.breaker.opens_in_s() == 0
        permit = self.breaker.permit()
        assert permit is not None
        self.out.append(permit)

    @rule()
    def recovers(self) -> None:
        """Whatever happened, good probes close it."""
        for _ in range(4):
            self.clock.advance(timedelta(seconds=self.breaker.opens_in_s() + 1e-5))
            go(self.breaker).succeeded(slow=False)
        assert self.breaker.state in ("closed", "half_open")

    @invariant()
    def never_more_probes_than_allowed(self) -> None:
        if self.breaker.state == "half_open":
            assert len(self.breaker._probes) <= 2


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
