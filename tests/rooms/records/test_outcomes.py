"""Counting what came of answers: which outcome decides, and how sure a cost per solved case is."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from mainstay.records.outcomes import BLOCKS, Case, Kind, bootstrap, rows, solved

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def case(name: str, cost_n: int, *kinds: Kind) -> Case:
    return Case(
        name=name, cost_n=cost_n, newest={kind: (NOW + timedelta(minutes=n), None) for n, kind in enumerate(kinds)}
    )


def test_the_newest_decides_and_of_two_at_once_the_bad_news() -> None:
    assert solved({}) is None
    assert solved({Kind.EDITED: (NOW, None), Kind.THUMBS: (NOW, 1.0)}) is None
    assert solved({Kind.SOLVED: (NOW, None)})
    assert not solved({Kind.SOLVED: (NOW, None), Kind.REOPENED: (NOW + timedelta(1), None)})
    assert solved({Kind.SOLVED: (NOW + timedelta(1), None), Kind.REOPENED: (NOW, None)})
    assert not solved({Kind.SOLVED: (NOW, None), Kind.COMPLAINT: (NOW, None)})


def test_a_report_with_nothing_known() -> None:
    (row,) = rows({"rel_1": 7}, [])
    assert (row.requests, row.reported, row.rate, row.cost_n) == (7, 0, None, None)
    (row,) = rows({"rel_1": 7}, [case("rel_1", 5, Kind.REJECTED)])
    assert (row.decided, row.solved, row.rate, row.cost_n) == (1, 0, 0.0, None), "nothing is solved at no price"


def test_one_solved_case_says_nothing_about_the_price() -> None:
    (row,) = rows({"rel_1": 1}, [case("rel_1", 500, Kind.SOLVED)])
    assert (row.cost_n, row.cost_low_n, row.cost_high_n) == (500, None, None)


def test_few_solved_cases_have_no_upper_bound() -> None:
    low, high = bootstrap([100] * 10, [1, *[0] * 9])
    assert low is not None
    assert high is None, "three draws in ten hold no solved case"


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of 60 worlds with 200 cases each about 57 should; fewer than 52 would be a mistake."""
    source = random.Random(13)
    print("seed 13")
    truth = 5500 / 0.6
    held = 0
    for _ in range(60):
        costs = [source.randint(1000, 10_000) for _ in range(200)]
        good = [int(source.random() < 0.6) for _ in range(200)]
        low, high = bootstrap(costs, good)
        assert low is not None
        assert high is not None
        held += low <= truth <= high
    assert held >= 52


def test_many_cases_are_added_up_in_blocks() -> None:
    (row,) = rows({"m": 0}, (case("m", 1000, Kind.SOLVED if n % 2 else Kind.REJECTED) for n in range(3 * BLOCKS)))
    assert row.decided == 3 * BLOCKS
    assert row.requests == 3 * BLOCKS, "never fewer than are known"
    assert row.cost_n == 2000
    assert row.cost_low_n is not None
    assert row.cost_high_n is not None
    assert row.cost_low_n <= 2000 <= row.cost_high_n
