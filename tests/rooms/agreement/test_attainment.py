"""The numbers by hand, the intervals by simulation. Rows are held in a list: the ports as plainly as they can be."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from mainstay.agreement.attainment import (
    LEAST_EVENTS,
    Budgeted,
    ClauseStanding,
    objective_standing,
    quantile_ranks,
    standing,
    used_up,
)
from mainstay.agreement.intervals import wilson
from mainstay.agreement.ports import Counts, Limit, Shares, Slice, Spent, Timing
from mainstay.agreement.terms import Agreement, Budget, CacheRules, Governance, Objective, Payer, Period
from mainstay.clock import FixedClock
from mainstay.records.measures import TURNED_AWAY, Measured

NOW = FixedClock().now()
LATENCY = Objective(name="latency", measure="latency_p95_ms", target=1000)


@dataclass
class Listed:
    """``Measures`` and ``Spending`` over a list."""

    rows: list[Measured] = field(default_factory=list)
    checked: list[tuple[datetime, bool]] = field(default_factory=list)
    purse: Spent = field(default_factory=Spent)

    def _in(self, held: Slice) -> list[Measured]:
        return [
            row
            for row in self.rows
            if held.since <= row.at < held.until
            and held.team in ("", row.team)
            and held.door in ("", row.door)
            and row.kind == "answer"
        ]

    def counts(self, held: Slice) -> Counts:
        came = self._in(held)
        rows = [row for row in came if row.status != TURNED_AWAY]
        return Counts(
            requests=len(rows),
            turned_away=len(came) - len(rows),
            failed=sum(row.failed for row in rows),
            cached=sum(row.cached for row in rows),
            cost=sum(row.cost_nanodollars for row in rows),
            cost_squares=float(sum(row.cost_nanodollars**2 for row in rows)),
            dearest=max((row.cost_nanodollars for row in rows), default=0),
            grounded=shares([row.grounded for row in rows]),
            covered=shares([row.covered for row in rows]),
        )

    def _times(self, held: Slice, timing: Timing) -> list[float]:
        rows = [row for row in self._in(held) if row.status != TURNED_AWAY and not row.failed]
        return sorted(time for row in rows if (time := getattr(row, timing)) is not None)

    def slower(self, held: Slice, timing: Timing, than_ms: float) -> tuple[int, int]:
        times = self._times(held, timing)
        return len(times), sum(time > than_ms for time in times)

    def read(self, held: Slice, limits: Sequence[Limit]) -> tuple[Counts, dict[Limit, tuple[int, int]]]:
        return self.counts(held), {limit: self.slower(held, *limit) for limit in limits}

    def ranked(self, held: Slice, timing: Timing, ranks: Sequence[int], *, of: int | None = None) -> list[float]:
        times = self._times(held, timing)
        return [times[rank - 1] for rank in ranks if 1 <= rank <= len(times)]

    def audits(self, since: datetime, until: datetime) -> tuple[int, int]:
        held = [agreed for at, agreed in self.checked if since <= at < until]
        return len(held), held.count(False)

    def spent(self, of: Payer, per: Period, name: str, at: datetime) -> Spent:
        return self.purse


def shares(values: Sequence[float | None]) -> Shares:
    held = [value for value in values if value is not None]
    return Shares(events=len(held), total=sum(held), some=sum(value > 0 for value in held))


def rows(count: int, age: timedelta = timedelta(days=1), **values: object) -> list[Measured]:
    plain = Measured(request_id="", at=NOW - age, status="answered", total_ms=100.0, covered=1.0, grounded=1.0)
    return [replace(plain, request_id=f"{id(values)}-{n}", **values) for n in range(count)]  # type: ignore[arg-type]  # tests name fields


def one(held: Objective, measures: Listed) -> ClauseStanding:
    return objective_standing(held, measures, NOW)


def test_a_latency_that_is_kept() -> None:
    found = one(LATENCY, Listed([*rows(980), *rows(20, total_ms=5000.0)]))
    assert (found.state, found.value, found.events, found.bad) == ("met", 100.0, 1000, 20)
    assert found.budget_left == pytest.approx(1 - 20 / 50)
    assert found.sure
    assert (found.low, found.high) == (100.0, 100.0)
    assert found.target_text == "at most 1 s"
    assert found.burn == {"1h": None, "6h": None, "3d": pytest.approx(0.4)}


def test_a_latency_that_is_missed() -> None:
    found = one(LATENCY, Listed([*rows(900), *rows(100, total_ms=5000.0)]))
    assert (found.state, found.value, found.sure) == ("missed", 5000.0, True)
    assert found.budget_left == pytest.approx(-1)


def test_near_the_target_nothing_is_sure() -> None:
    measures = Listed([*rows(960), *rows(40, total_ms=5000.0)])
    found = one(LATENCY, measures)
    assert found.state == "met"
    assert not found.sure
    assert found.low == 100.0
    assert found.high == 5000.0


def test_with_little_data_nothing_is_said() -> None:
    assert one(LATENCY, Listed()).state == "too_little_data"
    assert one(LATENCY, Listed()).budget_left is None
    few = one(LATENCY, Listed(rows(LEAST_EVENTS - 1, total_ms=5000.0)))
    assert few.state == "too_little_data"
    assert few.value == 5000.0
    assert one(LATENCY, Listed(rows(LEAST_EVENTS, total_ms=5000.0))).state == "missed"


def test_failures_have_no_time_and_other_requests_no_part() -> None:
    measures = Listed(
        [
            *rows(100),
            *rows(100, total_ms=9e9, failed=True),
            *rows(100, total_ms=9e9, status=TURNED_AWAY),
            *rows(100, total_ms=9e9, kind="search"),
            *rows(100, total_ms=9e9, age=timedelta(days=29)),
            *rows(100, total_ms=9e9, team="group:other"),
        ]
    )
    assert one(replace(LATENCY, team=""), measures).events == 200
    assert one(replace(LATENCY, team="group:other"), measures).events == 100
    assert one(replace(LATENCY, window="60d"), measures).events == 300
    found = one(Objective(name="up", measure="availability", target=0.9), measures)
    assert (found.events, found.bad) == (300, 100)


@pytest.mark.parametrize(("measure", "target", "value"), [("availability", 0.99, 0.995), ("error_rate", 0.01, 0.005)])
def test_shares_of_requests(measure: str, target: float, value: float) -> None:
    held = Objective(name="x", measure=measure, target=target)  # type: ignore[arg-type]  # they are measures
    found = one(held, Listed([*rows(1990), *rows(10, failed=True)]))
    assert found.state == "met"
    assert found.value == pytest.approx(value)
    assert found.low is not None
    assert found.high is not None
    assert found.low < value < found.high
    assert found.budget_left == pytest.approx(0.5)
    low, high = wilson(10, 2000)
    assert {round(found.low, 9), round(found.high, 9)} == (
        {round(low, 9), round(high, 9)} if measure == "error_rate" else {round(1 - high, 9), round(1 - low, 9)}
    )


def test_means_of_shares_and_of_cost() -> None:
    measures = Listed(
        [
            *rows(50, grounded=1.0, covered=0.5, cost_nanodollars=1_000_000),
            *rows(50, grounded=0.8, covered=None, cost_nanodollars=3_000_000),
        ]
    )
    grounded = one(Objective(name="g", measure="groundedness", target=0.8), measures)
    assert grounded.value == pytest.approx(0.9)
    assert grounded.budget_left == pytest.approx(0.5)
    covered = one(Objective(name="c", measure="citation_coverage", target=0.8), measures)
    assert (covered.state, covered.events) == ("missed", 50)
    cost = one(Objective(name="d", measure="cost_per_request_usd", target=0.004), measures)
    assert cost.value == pytest.approx(0.002)
    assert cost.budget_left == pytest.approx(0.5)
    assert cost.low is not None
    assert cost.high is not None
    spread = 1.959964 * math.sqrt(100 / 99 * 1e-6) / 10
    assert (cost.low, cost.high) == (pytest.approx(0.002 - spread, rel=1e-5), pytest.approx(0.002 + spread, rel=1e-5))


def test_burn_rates_look_at_the_last_hours() -> None:
    measures = Listed(
        [
            *rows(100, age=timedelta(minutes=30), failed=True),
            *rows(100, age=timedelta(hours=5)),
            *rows(800, age=timedelta(days=2)),
        ]
    )
    found = one(Objective(name="up", measure="availability", target=0.9), measures)
    assert found.burn == {"1h": pytest.approx(10), "6h": pytest.approx(5), "3d": pytest.approx(1)}
    assert found.budget_left == pytest.approx(0)


def test_an_error_budget_of_nothing_is_spent_by_the_first() -> None:
    assert Budgeted(events=10, bad=0, allowed=0).left == 1
    assert Budgeted(events=10, bad=1, allowed=0).left == -math.inf
    assert Budgeted(events=0, bad=0, allowed=0).burn is None


def test_every_clause_stands() -> None:
    agreement = Agreement(
        objectives=(LATENCY, replace(LATENCY, name="wrong", measure="wrong_cache_rate", target=0.05)),
        budgets=(Budget(of="service", per="month", usd="10"), Budget(of="user", per="day", usd="1")),
    )
    measures = Listed(
        [*rows(98, cost_nanodollars=5_000_000), *rows(2, status=TURNED_AWAY), *rows(1, covered=0.0)],
        [(NOW - timedelta(days=1), True)] * 199 + [(NOW - timedelta(days=1), False)],
        Spent(purses=3, empty=1, name="user:alice", limit=10, settled=600_000_000, held=100_000_000),
    )
    found = {held.clause: held for held in standing(agreement, measures, measures, NOW)}
    assert list(found) == [
        "request.cap_usd",
        "request.deadline_s",
        "objectives.latency",
        "objectives.wrong",
        "traffic",
        "budgets.the service a month",
        "budgets.each user a day",
        "governance.citations_required",
        "cache.wrong_hits",
    ]
    assert found["request.cap_usd"].state == "met"
    assert found["budgets.the service a month"].budget_left == pytest.approx(0.93)
    assert found["budgets.each user a day"].budget_left == pytest.approx(0.3)
    assert "spent up: 1 of 3" in found["budgets.each user a day"].note
    assert (found["governance.citations_required"].state, found["governance.citations_required"].bad) == ("missed", 1)
    assert "2 of 101 were turned away" in found["traffic"].note
    cache = found["cache.wrong_hits"]
    assert cache.state == "too_little_data", "one wrong of 200 does not prove at most 2 %"
    assert cache.high == pytest.approx(0.0235, abs=5e-4)
    quiet = Agreement(cache=CacheRules(enabled=False), governance=Governance(citations_required=False))
    states = {held.clause: held.state for held in standing(quiet, Listed(), Listed(), NOW)}
    assert "cache.wrong_hits" not in states
    assert states["governance.citations_required"] == "informative"


def test_the_cap_that_was_broken() -> None:
    found = standing(Agreement(), Listed(rows(1, cost_nanodollars=10_000_001)), Listed(), NOW)[0]
    assert (found.state, found.value_text) == ("missed", "$0.010000001")


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    "held", [LATENCY, Objective(name="up", measure="availability", target=0.95), replace(LATENCY, team="group:a")]
)
@pytest.mark.parametrize(("good", "bad", "bad_lately", "said"), [
    (1000, 0, 0, False),
    (1000, 49, 1, False),  # as much as is permitted is not used up yet, see below
    (500, 100, 10, True),
    (500, 100, 0, False),  # it went last week
    (5, 0, 5, False),  # too few to say anything
])  # fmt: skip  # a line a case
def test_a_budget_is_used_up_when_it_is_gone_and_still_going(
    held: Objective, good: int, bad: int, bad_lately: int, said: bool
) -> None:
    worse: dict[str, Any] = {"failed": True} if held.measure == "availability" else {"total_ms": 5000.0}
    measures = Listed(
        [
            *rows(good, team=held.team),
            *rows(bad, team=held.team, **worse),
            *rows(bad_lately, HOUR / 2, team=held.team, **worse),
            *rows(2, HOUR / 2, team=held.team),
        ]
    )
    assert used_up(held, measures, NOW, least_events=20) is said
    shown = one(held, measures)
    assert shown.budget_left is not None
    assert said == (shown.events >= 20 and shown.budget_left <= 0 and (shown.burn["1h"] or 0) > 1)


def test_a_good_hour_spares_the_whole_window() -> None:
    class Hours(Listed):
        def slower(self, held: Slice, timing: Timing, than_ms: float) -> tuple[int, int]:
            assert held.until - held.since == HOUR
            return super().slower(held, timing, than_ms)

    assert not used_up(LATENCY, Hours(rows(100, HOUR / 2)), NOW, least_events=20)
    assert not used_up(LATENCY, Hours(), NOW, least_events=20)


def test_what_is_counted_anyway_is_looked_at_in_the_same_pass() -> None:
    asked: list[tuple[timedelta, tuple[Limit, ...]]] = []

    class Passes(Listed):
        def read(self, held: Slice, limits: Sequence[Limit]) -> tuple[Counts, dict[Limit, tuple[int, int]]]:
            asked.append((held.until - held.since, tuple(limits)))
            listed = Listed(self.rows)
            return listed.counts(held), {limit: listed.slower(held, *limit) for limit in limits}

        def counts(self, held: Slice) -> Counts:
            raise AssertionError(held)

        def slower(self, held: Slice, timing: Timing, than_ms: float) -> tuple[int, int]:
            raise AssertionError((held, timing, than_ms))

    agreement = Agreement(
        objectives=(
            LATENCY,
            replace(LATENCY, name="again"),
            Objective(name="up", measure="availability", target=0.9),
            Objective(name="cited", measure="citation_coverage", target=0.9),
        )
    )
    measures = Passes([*rows(90), *rows(10, total_ms=5000.0)])
    found = {held.clause: held for held in standing(agreement, measures, measures, NOW)}
    assert found["objectives.latency"].bad == found["objectives.again"].bad == 10
    deadline, target = ("total_ms", agreement.request.deadline_s * 1000), ("total_ms", LATENCY.target)
    assert sorted(asked, key=lambda one: one[0]) == [
        (timedelta(minutes=5), ()),
        (HOUR, (target,)),
        (6 * HOUR, (target,)),
        (timedelta(days=3), (target,)),
        (timedelta(days=28), (deadline, target)),
    ]


def test_ranks_of_quantiles() -> None:
    assert quantile_ranks(9, 0.5) == (2, 8)  # as in the printed tables for the median
    assert quantile_ranks(10, 0.95)[1] == 11, "ten values say nothing about how high a p95 may be"
    assert quantile_ranks(71, 0.95)[1] == 72
    assert quantile_ranks(72, 0.95)[1] == 72, "1 - 0.95^72 is the first above 97.5 %"
    low, high = quantile_ranks(1_000_000, 0.95)
    assert 0 < 950_000 - low < 500
    assert 0 < high - 950_000 < 500


@pytest.mark.parametrize("events", [40, 200])
def test_the_interval_of_a_p95_holds_the_truth_as_often_as_it_says(events: int) -> None:
    """Exponential times, whose p95 is known; seed 11."""
    chance, truth, held = random.Random(11), -math.log(0.05), 0
    low, high = quantile_ranks(events, 0.95)
    for _ in range(2000):
        times = sorted(chance.expovariate(1) for _ in range(events))
        below = times[low - 1] if low >= 1 else 0.0
        above = times[high - 1] if high <= events else math.inf
        held += below <= truth <= above
    assert held / 2000 > 0.935
