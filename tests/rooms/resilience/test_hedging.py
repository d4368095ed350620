"""Second calls: after the 95th percentile, and never more than their share."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.errors import Invalid
from mainstay.resilience.hedging import FirstTokens, HedgeBudget


@given(share=st.floats(0, 1), wishes=st.lists(st.booleans(), max_size=300))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_never_more_than_the_share(share: float, wishes: list[bool]) -> None:
    budget = HedgeBudget(share)
    taken = 0
    for calls, wish in enumerate(wishes, start=1):
        budget.earn()
        taken += wish and budget.take()
        assert taken <= share * calls + 1e-3


def test_the_share_is_used_up_when_all_are_late() -> None:
    budget = HedgeBudget(0.05)
    taken = 0
    for _ in range(1000):
        budget.earn()
        taken += budget.take()
    assert taken == 50


def test_a_quiet_day_is_not_saved_up_for_a_bad_hour() -> None:
    budget = HedgeBudget(0.05, burst=5)
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.take() for _ in range(100)) == 5


def test_without_a_share_there_are_none() -> None:
    budget = HedgeBudget(0)
    budget.earn()
    assert not budget.take()
    with pytest.raises(Invalid):
        HedgeBudget(1.5)


def test_p95_is_unknown_below_twenty_and_follows_the_newest() -> None:
    tokens = FirstTokens(newest=100)
    for n in range(19):
        tokens.seen(n)
    assert tokens.p95() is None
    tokens.seen(19)
    assert tokens.p95() == 18  # 19 of 20 are at most this
    for n in range(100):
        tokens.seen(100 + n)
    assert tokens.p95() == 194
