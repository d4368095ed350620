"""When a burning error budget is worth waking somebody: the rules, the two traps, what follows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mainstay.agreement.attainment import budgeted
from mainstay.agreement.burning import (
    LOOSE_SHARE,
    RULES,
    Burnt,
    Fitted,
    Severity,
    burns_fast,
    enters,
    fitted,
    highest_share,
    looking,
    lower_share,
    permitted,
    promotion_blocked,
    read,
    readings,
    severities,
)
from mainstay.agreement.intervals import clopper_pearson_lower, wilson
from mainstay.agreement.openslo import exported, imported
from mainstay.agreement.ports import Counts, Limit, Shares, Slice, Timing
from mainstay.agreement.sense import contradictions
from mainstay.agreement.terms import Agreement, Objective
from mainstay.agreement.wording import promise

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
UP = Objective(name="up", measure="availability", target=0.999, window="30d")
ALL = tuple(Severity)


class Requests:
    """``Measures`` over requests in memory: when, whether it failed, how long it took, what it cost, how well founded."""

    def __init__(self, rows: Sequence[tuple[datetime, bool, float, int, float | None]] = ()) -> None:
        self.rows = list(rows)
        self.looks: list[Slice] = []

    def add(self, count: int, bad: int, *, ago: timedelta, within: timedelta, **more: float) -> Requests:
        """``count`` requests spread evenly over ``within`` that ended ``ago``; every so many of them bad."""
        for n in range(count):
            at = NOW - ago - within * (n + 0.5) / count
            failed = bad > 0 and (n * bad) // count != ((n + 1) * bad) // count
            self.rows.append((at, failed, more.get("ms", 100.0), int(more.get("cost", 0)), more.get("grounded")))
        return self

    def _in(self, held: Slice) -> list[tuple[datetime, bool, float, int, float | None]]:
        self.looks.append(held)
        return [row for row in self.rows if held.since <= row[0] < held.until]

    def counts(self, held: Slice) -> Counts:
        rows = self._in(held)
        shares = [row[4] for row in rows if row[4] is not None]
        costs = [row[3] for row in rows]
        return Counts(
            requests=len(rows),
            failed=sum(row[1] for row in rows),
            cost=sum(costs),
            cost_squares=float(sum(cost * cost for cost in costs)),
            grounded=Shares(events=len(shares), total=sum(shares)),
        )

    def slower(self, held: Slice, timing: Timing, than_ms: float) -> tuple[int, int]:
        rows = [row for row in self._in(held) if not row[1]]
        return len(rows), sum(row[2] > than_ms for row in rows)

    def read(self, held: Slice, limits: Sequence[Limit]) -> tuple[Counts, Mapping[Limit, tuple[int, int]]]:
        return self.counts(held), {limit: self.slower(held, *limit) for limit in limits}

    def ranked(self, held: Slice, timing: Timing, ranks: Sequence[int], *, of: int | None = None) -> list[float]:
        raise AssertionError("alerts need no ranks")

    def audits(self, since: datetime, until: datetime) -> tuple[int, int]:
        return 0, 0


def firing(held: Objective, measures: Requests) -> set[Severity]:
    return {one.fitted.rule.severity for one in readings(held, measures, NOW, ALL) if one.over}


# -- the rules of one objective ----------------------------------------------------------------------------------------


def test_factors_follow_from_the_window() -> None:
    assert [round(one.factor, 6) for one in fitted(UP)] == [14.4, 6.0, 3.0, 1.0]
    assert [round(one.factor, 6) for one in fitted(replace(UP, window="28d"))] == [13.44, 5.6, 2.8, 1.0]
    week = fitted(replace(UP, window="7d"))
    assert [round(one.factor, 6) for one in week] == [3.36, 2.0, 1.0, 1.0], "never below what is as promised"
    assert [one.rule.long for one in fitted(replace(UP, window="1d"))] == [rule.long for rule in RULES[:3]]
    assert fitted(replace(UP, window="30m")) == []


@pytest.mark.parametrize("measure", ["latency_p50_ms", "latency_p95_ms", "first_token_p95_ms"])
def test_what_is_permitted_is_what_attainment_permits(measure: str) -> None:
    for target in (0.001, 0.5, 0.999):
        for held in (
            replace(UP, measure=measure, target=target),
            *(replace(UP, measure=one, target=target) for one in ("availability", "error_rate", "groundedness")),
            *(replace(UP, measure=one, target=target) for one in ("cost_per_request_usd", "wrong_cache_rate")),
        ):
            counted = budgeted(held, Requests(), Slice(since=NOW, until=NOW))
            assert permitted(held) == pytest.approx(counted.allowed)


def test_trap_one_no_threshold_is_out_of_reach() -> None:
    """Plain rules ask for 72 % bad at 95 % and for 144 % at 90 %."""
    for target in (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999):
        for one in fitted(replace(UP, target=target)):
            assert one.allowed <= one.share < 1.0
            assert one.share <= max(LOOSE_SHARE, 3 * one.allowed)
    tight, loose = fitted(UP)[0], fitted(replace(UP, target=0.95))[0]
    assert tight.burn == pytest.approx(14.4), "tight targets are left alone"
    assert loose.share == pytest.approx(0.25)
    assert highest_share(0.5) == pytest.approx(0.75)
    assert highest_share(0.0) == LOOSE_SHARE


def test_the_lower_bound_is_wilsons() -> None:
    source = random.Random(5)
    print("seed 5")
    for _ in range(500):
        events = source.randint(1, 5000)
        bad = source.randint(0, events)
        low, _ = wilson(bad, events, confidence=0.9544997361036416)
        assert lower_share(bad, events) == pytest.approx(low, abs=1e-9)


def test_the_lower_bound_is_close_to_the_exact_one() -> None:
    """From three bad events on it is about the exact one-sided 95 % bound, which few alert managers can compute."""
    for bad in (3, 5, 10, 30):
        for events in (bad, 100, 1000, 20_000):
            if bad <= events:
                exact = clopper_pearson_lower(bad, events)
                assert 0.85 * exact <= lower_share(bad, events) <= 1.55 * exact


def test_who_may_be_woken() -> None:
    page, ticket = Severity.PAGE, Severity.TICKET
    assert severities(UP) == severities(replace(UP, alert="page")) == (page, ticket)
    assert severities(replace(UP, alert="ticket")) == (ticket,)
    assert severities(replace(UP, alert="none")) == ()
    for measure in ("groundedness", "citation_coverage", "wrong_cache_rate", "cost_per_request_usd"):
        for alert in ("auto", "page", "ticket"):
            assert severities(replace(UP, measure=measure, alert=alert)) == (ticket,)
    downgraded = fitted(replace(UP, alert="ticket"))
    assert {one.rule.severity for one in downgraded} == {ticket}
    assert len(downgraded) == len(RULES), "what would page writes a ticket"
    assert fitted(replace(UP, alert="none")) == []


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_quiet_service_is_quiet() -> None:
    assert firing(UP, Requests()) == set()
    fine = Requests().add(1000, 0, ago=timedelta(0), within=timedelta(days=3))
    assert firing(UP, fine) == set()
    assert all(one.quiet for one in readings(UP, fine, NOW, ALL))


def test_an_outage_pages() -> None:
    down = Requests().add(3000, 0, ago=timedelta(minutes=20), within=timedelta(days=3))
    down.add(100, 100, ago=timedelta(0), within=timedelta(minutes=20))
    assert Severity.PAGE in firing(UP, down)
    assert burns_fast(UP, down, NOW)
    loose = replace(UP, target=0.9)
    assert Severity.PAGE in firing(loose, Requests().add(100, 100, ago=timedelta(0), within=timedelta(minutes=50)))


def test_what_is_over_does_not_fire() -> None:
    """The short window says so before the long one has forgotten."""
    over = Requests().add(300, 300, ago=timedelta(minutes=30), within=timedelta(minutes=20))
    over.add(200, 0, ago=timedelta(0), within=timedelta(minutes=30))
    paging = [one for one in readings(UP, over, NOW, [Severity.PAGE]) if one.fitted.rule.long == timedelta(hours=1)]
    assert [one.over for one in paging] == [False]
    assert paging[0].quiet
    assert paging[0].long_burn > 14.4


@pytest.mark.parametrize("count", [1, 2])
def test_trap_two_one_failure_in_a_quiet_hour_wakes_nobody(count: int) -> None:
    quiet = Requests().add(count, count, ago=timedelta(0), within=timedelta(minutes=4))
    assert readings(UP, quiet, NOW, ALL)[0].long_burn == pytest.approx(1000), "a burn of a thousand, and chance"
    assert firing(UP, quiet) == set()


def test_three_failures_of_three_do() -> None:
    """A service that five people an hour use is found down within the hour."""
    assert Severity.PAGE in firing(UP, Requests().add(3, 3, ago=timedelta(0), within=timedelta(minutes=36)))


def test_the_short_window_is_widened_until_it_holds_enough() -> None:
    held = fitted(UP)[0]
    looked: list[timedelta] = []

    def look(length: timedelta) -> Burnt:
        looked.append(length)
        events = int(length / timedelta(minutes=3))
        return Burnt(events=events, bad=events, low=lower_share(events, events), enough=True)

    found = read(held, look)
    assert found.over
    assert found.short == timedelta(minutes=40), "five minutes hold one event, forty hold thirteen"
    assert looked == [timedelta(hours=1), *(timedelta(minutes=width) for width in (5, 10, 20, 40))]


def test_no_short_window_is_read_while_the_long_one_is_fine() -> None:
    measures = Requests().add(1000, 0, ago=timedelta(0), within=timedelta(hours=1))
    readings(UP, measures, NOW, ALL)
    assert {(look.until - look.since) for look in measures.looks} == {rule.long for rule in RULES}


def test_an_alert_stays_until_it_is_clearly_over() -> None:
    """Between 80 % of the threshold and the threshold nothing opens, and what is open stays."""
    held = replace(UP, target=0.99)
    near = Requests().add(10_000, 1300, ago=timedelta(0), within=timedelta(hours=1))  # a burn of 13 against 14.4
    first = readings(held, near, NOW, [Severity.PAGE])[0]
    assert (first.over, first.quiet) == (False, False)
    below = Requests().add(10_000, 1100, ago=timedelta(0), within=timedelta(hours=1))
    assert readings(held, below, NOW, [Severity.PAGE])[0].quiet


def test_teams_and_doors_are_looked_at_alone() -> None:
    measures = Requests()
    readings(replace(UP, team="group:sales", door="chat"), measures, NOW, ALL)
    assert {(look.team, look.door) for look in measures.looks} == {("group:sales", "chat")}


def test_judged_measures_write_tickets() -> None:
    held = replace(UP, measure="groundedness", target=0.9)
    poor = Requests().add(600, 0, ago=timedelta(0), within=timedelta(days=3), grounded=0.3)
    assert firing(held, poor) == {Severity.TICKET}
    assert not any(one.over for one in readings(held, poor, NOW, [Severity.PAGE]))


def test_costs_write_tickets_when_the_mean_is_surely_above() -> None:
    held = replace(UP, measure="cost_per_request_usd", target=0.001)
    few = Requests().add(20, 0, ago=timedelta(0), within=timedelta(days=3), cost=50_000_000)
    assert firing(held, few) == set(), "twenty requests say nothing about a mean"
    dear = Requests().add(400, 0, ago=timedelta(0), within=timedelta(days=3), cost=2_000_000)
    assert firing(held, dear) == {Severity.TICKET}
    fine = Requests().add(400, 0, ago=timedelta(0), within=timedelta(days=3), cost=900_000)
    assert firing(held, fine) == set()
    wild = Requests().add(60, 0, ago=timedelta(0), within=timedelta(days=3), cost=0)
    wild.add(1, 0, ago=timedelta(0), within=timedelta(minutes=1), cost=100_000_000)
    assert firing(held, wild) == set(), "one dear request is no mean"


def test_a_target_that_permits_nothing() -> None:
    never = replace(UP, target=1.0)
    assert all(one.share == 0.0 for one in fitted(never))
    assert firing(never, Requests().add(1000, 0, ago=timedelta(0), within=timedelta(hours=1))) == set()
    assert Severity.PAGE in firing(never, Requests().add(1000, 5, ago=timedelta(0), within=timedelta(hours=1)))


# -- what follows ------------------------------------------------------------------------------------------------------


def test_a_mode_is_entered_when_the_budget_is_spent_or_burns_fast() -> None:
    held = replace(UP, target=0.99)
    assert not enters(held, Requests().add(5000, 10, ago=timedelta(0), within=timedelta(days=2)), NOW)
    fast = Requests().add(50_000, 0, ago=timedelta(hours=1), within=timedelta(days=20))
    fast.add(100, 40, ago=timedelta(0), within=timedelta(minutes=30))
    assert enters(held, fast, NOW), "most of the budget is left, and it will not last"
    assert enters(replace(held, alert="none"), fast, NOW), "who hears of it is another question"
    spent = Requests().add(2000, 40, ago=timedelta(0), within=timedelta(days=20))
    spent.add(1, 1, ago=timedelta(0), within=timedelta(minutes=1))
    assert enters(held, spent, NOW), "spent, and it goes on"


def test_promotion_is_blocked_while_the_budget_is_spent() -> None:
    held = replace(UP, target=0.99, blocks_promotion=True)
    fine = Requests().add(2000, 5, ago=timedelta(0), within=timedelta(days=20))
    spent = Requests().add(2000, 40, ago=timedelta(0), within=timedelta(days=20))
    few = Requests().add(10, 1, ago=timedelta(0), within=timedelta(days=20))
    assert promotion_blocked(Agreement(objectives=(held,)), fine, NOW) == []
    assert promotion_blocked(Agreement(objectives=(held,)), few, NOW) == [], "one of ten is chance"
    assert promotion_blocked(Agreement(objectives=(replace(held, blocks_promotion=False),)), spent, NOW) == []
    blocked = promotion_blocked(Agreement(objectives=(held,)), spent, NOW)
    assert [one.objective for one in blocked] == ["up"]
    assert "40 of 2000" in blocked[0].why
    fast = Requests().add(50_000, 0, ago=timedelta(hours=1), within=timedelta(days=20))
    fast.add(100, 40, ago=timedelta(0), within=timedelta(minutes=30))
    assert "burns so fast" in promotion_blocked(Agreement(objectives=(held,)), fast, NOW)[0].why


def test_looks_count_what_attainment_counts() -> None:
    measures = Requests().add(200, 7, ago=timedelta(0), within=timedelta(hours=1), ms=9000.0)
    found = looking(UP, measures, NOW)(timedelta(hours=1))
    assert (found.events, found.bad) == (200, 7)
    late = looking(replace(UP, measure="latency_p95_ms", target=8000), measures, NOW)(timedelta(hours=1))
    assert (late.events, late.bad) == (193, 193), "what failed is no late answer"
    assert isinstance(fitted(UP)[0], Fitted)


# -- in the agreement --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["groundedness", "citation_coverage", "wrong_cache_rate", "cost_per_request_usd"])
def test_what_wakes_nobody_can_not_promise_to(measure: str) -> None:
    held = replace(UP, measure=measure, target=0.005, alert="page")
    found = [one for one in contradictions(Agreement(objectives=(held,)), {}) if one.key == "objectives.0.alert"]
    assert len(found) == 1
    assert "wakes nobody" in found[0].what
    quiet = Agreement(objectives=(replace(held, alert="ticket"),))
    assert not [one for one in contradictions(quiet, {}) if one.key == "objectives.0.alert"]


def test_openslo_brings_back_who_hears_and_what_is_blocked() -> None:
    held = replace(UP, alert="ticket", blocks_promotion=True)
    said = exported(Agreement(objectives=(held,)), "Harbour")
    assert list(imported(said.documents).objectives) == [held]


def test_the_words_of_an_objective_say_who_hears() -> None:
    assert "it writes tickets" in promise(replace(UP, alert="ticket"))
    assert "nothing new goes into service" in promise(replace(UP, blocks_promotion=True))
    assert promise(UP).endswith("over 30 days")
