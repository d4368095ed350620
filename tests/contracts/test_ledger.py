"""The ledger over every database: never overspent, nothing held for ever, and books that add up, whatever happens."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, insert, update
from tests.support import spending
from tests.support.databases import open_fresh, skip_without_postgres

from mainstay.agreement.budgets import MoneyScope, Payer, scopes_of
from mainstay.agreement.ledger import AXES, Booked, Hold, Spent
from mainstay.agreement.terms import Agreement, Budget
from mainstay.clock import FixedClock, SystemClock
from mainstay.errors import Invalid
from mainstay.storage import schema
from mainstay.storage.database import DIALECTS, Database
from mainstay.storage.ledger import SqlLedger
from mainstay.types import Usage

SEED = 20261122
TTL_S = 60.0
DAY = timedelta(days=1)
USAGE = Usage(input_tokens=100, cached_input_tokens=60, output_tokens=20)
TABLES = (schema.money_entry, schema.hold, schema.money_scope, schema.measure, schema.trace)
ALICE = Payer(request_id="req_1", principal="user:alice", team=("group:a", "group:b"), key_id="key_1", release="rel_1")
BUDGETS = Agreement(
    budgets=(
        Budget(of="service", per="month", usd="0.000010"),
        Budget(of="user", per="day", usd="0.000002"),
        Budget(of="key", per="total", usd="0.000005"),
    )
)


@pytest.fixture(scope="module", params=DIALECTS)
def opened_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    skip_without_postgres(request.param)
    opened, close = open_fresh(request.param, tmp_path_factory.mktemp("ledger"))
    yield opened
    close()


@pytest.fixture
def database(opened_once: Database) -> Database:
    empty(opened_once)
    return opened_once


def empty(database: Database) -> None:
    with database.write() as connection:
        for table in TABLES:
            connection.execute(delete(table))


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def ledger(database: Database, clock: FixedClock) -> SqlLedger:
    return SqlLedger(database, clock)


def scopes(clock: FixedClock, payer: Payer = ALICE, cap_n: int = 1000) -> tuple[MoneyScope, ...]:
    return scopes_of(BUDGETS, payer, cap_n, clock.now())


def reserve(ledger: SqlLedger, over: Sequence[MoneyScope], least_n: int, most_n: int, payer: Payer = ALICE) -> Hold:
    return ledger.reserve(
        payer,
        over,
        least_n=least_n,
        most_n=most_n,
        purpose="answer",
        model="small",
        price_version="p1",
        ttl_s=TTL_S,
    )


def settle(ledger: SqlLedger, hold: Hold, actual_n: int) -> None:
    ledger.settle(hold, actual_n=actual_n, usage=USAGE, estimated=False)


def everywhere(ledger: SqlLedger, held_n: int, settled_n: int) -> None:
    """The same stands on every scope, and the books add up."""
    totals = ledger.totals()
    assert set(totals.values()) == {Booked(held_n=held_n, settled_n=settled_n)}
    assert totals == ledger.replayed()
    assert ledger.check() == []


# -- the life of a hold ------------------------------------------------------------------------------------------------
def test_held_then_settled_on_every_scope(ledger: SqlLedger, clock: FixedClock) -> None:
    hold = reserve(ledger, scopes(clock), 1, 700)
    everywhere(ledger, 700, 0)
    settle(ledger, hold, 450)
    everywhere(ledger, 0, 450)
    settle(ledger, hold, 450)
    ledger.cancel(hold, charged_n=3)
    everywhere(ledger, 0, 450)


def test_cancelled(ledger: SqlLedger, clock: FixedClock) -> None:
    ledger.cancel(reserve(ledger, scopes(clock), 1, 700))
    ledger.cancel(reserve(ledger, scopes(clock), 1, 700), charged_n=30)
    everywhere(ledger, 0, 30)
    assert ledger.standing().holds == {"cancelled": 2}


def test_expired_and_then_settled_late(ledger: SqlLedger, clock: FixedClock) -> None:
    hold = reserve(ledger, scopes(clock), 1, 700)
    assert ledger.sweep(hold.expires - timedelta(microseconds=1)) == 0
    assert ledger.sweep(hold.expires) == 1
    assert ledger.sweep(hold.expires) == 0
    everywhere(ledger, 0, 0)
    settle(ledger, hold, 450)
    settle(ledger, hold, 450)
    everywhere(ledger, 0, 450)
    assert (ledger.standing().holds, ledger.standing().late_n) == ({"late": 1}, 450)


def test_expired_and_then_cancelled_stays_expired(ledger: SqlLedger, clock: FixedClock) -> None:
    hold = reserve(ledger, scopes(clock), 1, 700)
    ledger.sweep(hold.expires)
    ledger.cancel(hold)
    assert ledger.standing().holds == {"expired": 1}


def test_a_hold_lost_with_the_database_is_booked_all_the_same(database: Database, clock: FixedClock) -> None:
    ledger = SqlLedger(database, clock)
    hold = reserve(ledger, scopes(clock), 1, 700)
    empty(database)
    settle(ledger, hold, 450)
    settle(ledger, hold, 450)
    everywhere(ledger, 0, 450)
    assert ledger.standing().holds == {"late": 1}


def test_above_its_hold_the_truth_is_booked_and_counted(ledger: SqlLedger, clock: FixedClock) -> None:
    settle(ledger, reserve(ledger, scopes(clock), 1, 700), 1500)
    everywhere(ledger, 0, 1500)
    assert (ledger.standing().breaches, ledger.standing().breached_n) == (1, 800)
    assert ledger.left(scopes(clock)) == 0


def test_a_free_call_is_written_down_and_books_nothing(ledger: SqlLedger, clock: FixedClock) -> None:
    hold = reserve(ledger, scopes(clock), 0, 0)
    assert (hold.amount_n, ledger.totals(), ledger.standing().holds) == (0, {}, {})
    settle(ledger, hold, 0)
    settle(ledger, hold, 0)
    assert (ledger.totals(), ledger.standing().holds) == ({}, {"settled": 1})
    ledger.cancel(reserve(ledger, scopes(clock), 0, 0))
    assert ledger.standing().holds == {"settled": 1}


def test_a_free_call_that_was_not_free(ledger: SqlLedger, clock: FixedClock) -> None:
    hold = reserve(ledger, scopes(clock), 0, 0)
    settle(ledger, hold, 9)
    settle(ledger, hold, 9)
    everywhere(ledger, 0, 9)
    assert ledger.standing().breached_n == 9


# -- limits ------------------------------------------------------------------------------------------------------------
def test_the_tightest_scope_decides_and_the_others_stay_as_they_are(ledger: SqlLedger, clock: FixedClock) -> None:
    for n in range(2):
        over = scopes(clock, replace(ALICE, request_id=f"req_{n}"))
        settle(ledger, reserve(ledger, over, 1000, 1000), 900)
    before = ledger.totals()
    over = scopes(clock, replace(ALICE, request_id="req_9"))
    assert ledger.left(over) == 200
    with pytest.raises(Spent) as refused:
        reserve(ledger, over, 201, 1000)
    assert (refused.value.scope.kind, refused.value.left_n) == ("user", 200)
    assert ledger.totals() | before == ledger.totals()
    assert reserve(ledger, over, 200, 1000).amount_n == 200


def test_the_limit_in_force_is_the_one_passed_in(ledger: SqlLedger, clock: FixedClock) -> None:
    over = scopes(clock)
    settle(ledger, reserve(ledger, over, 1000, 1000), 1000)
    with pytest.raises(Spent):
        reserve(ledger, over, 1, 1)
    raised = [replace(scope, limit_n=scope.limit_n + 50) for scope in over]
    assert reserve(ledger, raised, 1, 1000).amount_n == 50
    lowered = [replace(scope, limit_n=10) for scope in over]
    assert ledger.left(lowered) == 0
    with pytest.raises(Spent):
        reserve(ledger, lowered, 1, 1)


def test_what_lost_calls_held_is_given_to_who_needs_it(ledger: SqlLedger, clock: FixedClock) -> None:
    for n in range(2):
        reserve(ledger, scopes(clock, replace(ALICE, request_id=f"req_{n}")), 1000, 1000)
    over = scopes(clock, replace(ALICE, request_id="req_9"))
    with pytest.raises(Spent):
        reserve(ledger, over, 1, 1000)
    clock.advance(timedelta(seconds=TTL_S))
    assert ledger.standing().overdue == 2
    assert reserve(ledger, over, 1000, 1000).amount_n == 1000
    assert ledger.standing().holds == {"expired": 2, "open": 1}


def test_left_counts_no_hold_whose_time_is_over(ledger: SqlLedger, clock: FixedClock) -> None:
    reserve(ledger, scopes(clock), 1000, 1000)
    assert ledger.left(scopes(clock)) == 0
    clock.advance(timedelta(seconds=TTL_S))
    assert ledger.left(scopes(clock)) == 1000
    assert ledger.left([]) == 0


@pytest.mark.parametrize(("least_n", "most_n", "ttl_s"), [(-1, 1, 1.0), (2, 1, 1.0), (1, 1, 0.0)])
def test_what_can_not_be_held(ledger: SqlLedger, clock: FixedClock, least_n: int, most_n: int, ttl_s: float) -> None:
    with pytest.raises(Invalid):
        ledger.reserve(
            ALICE,
            scopes(clock),
            least_n=least_n,
            most_n=most_n,
            purpose="",
            model="",
            price_version="",
            ttl_s=ttl_s,
        )
    with pytest.raises(Invalid):
        settle(ledger, reserve(ledger, scopes(clock), 1, 1), -1)


# -- budgets that are added --------------------------------------------------------------------------------------------
def added(clock: FixedClock, *budgets: Budget, payer: Payer = ALICE) -> tuple[MoneyScope, ...]:
    return scopes_of(Agreement(budgets=budgets), payer, 1000, clock.now())


def standing_on(ledger: SqlLedger) -> dict[str, int]:
    """What stands on budgets, with books that add up."""
    assert ledger.check() == []
    totals = ledger.totals()
    assert totals == ledger.replayed()
    assert all(booked.held_n == 0 for booked in totals.values())
    return {scope_id: booked.settled_n for scope_id, booked in totals.items() if not scope_id.startswith("request/")}


def test_a_budget_that_is_added_counts_what_its_window_has_cost(ledger: SqlLedger, clock: FixedClock) -> None:
    def cost(actual_n: int, **who: Any) -> None:
        payer = replace(ALICE, request_id=f"req_of_{actual_n}", **who)
        settle(ledger, reserve(ledger, added(clock, payer=payer), 1, 1000, payer), actual_n)

    cost(1)
    clock.advance(DAY)
    cost(10)
    cost(100, principal="user:bob", team=("group:b", 'group:"a"'), key_id="key_2")
    cost(1000, principal="anonymous", team=(), key_id=None)
    ledger.sweep(reserve(ledger, added(clock), 70, 70).expires)  # a lost call counts as nothing
    clock.advance(DAY / 2)
    for per in ("day", "month", "total"):
        for of in ("service", "team", "user", "key"):
            assert ledger.left(added(clock, Budget(of=of, per=per, usd="1"))) == 1000
    month, day = "month:2026-01-01", "day:2026-01-02"
    assert standing_on(ledger) == {
        f"service/{month}/": 1111,
        f"service/{day}/": 1110,
        "service/total:/": 1111,
        f"team/{month}/group:a": 11,
        f"team/{day}/group:a": 10,
        "team/total:/group:a": 11,
        f"team/{month}/group:b": 111,
        f"team/{day}/group:b": 110,
        "team/total:/group:b": 111,
        f"user/{month}/user:alice": 11,
        f"user/{day}/user:alice": 10,
        "user/total:/user:alice": 11,
        f"key/{month}/key_1": 11,
        f"key/{day}/key_1": 10,
        "key/total:/key_1": 11,
    }


def test_a_budget_that_is_spent_when_it_is_added_refuses_the_first_call(ledger: SqlLedger, clock: FixedClock) -> None:
    settle(ledger, reserve(ledger, added(clock), 1, 1000), 600)
    budget = Budget(of="user", per="day", usd="0.0000006")
    with pytest.raises(Spent) as refused:
        reserve(ledger, added(clock, budget), 1, 1)
    assert (refused.value.scope.kind, refused.value.left_n) == ("user", 0)
    assert standing_on(ledger) == {"user/day:2026-01-01/user:alice": 600}  # which the next call need not work out
    more = replace(budget, usd="0.0000007")
    assert reserve(ledger, added(clock, more, payer=replace(ALICE, request_id="req_2")), 1, 1000).amount_n == 100


@pytest.mark.parametrize("end", ["settled", "cancelled", "lost", "late"])
def test_a_call_that_runs_when_a_budget_is_added_counts_as_a_whole(
    ledger: SqlLedger, clock: FixedClock, end: str
) -> None:
    running = reserve(ledger, added(clock), 1, 700)
    budget = Budget(of="service", per="month", usd="0.000001")
    assert ledger.left(added(clock, budget, payer=replace(ALICE, request_id="req_2"))) == 300
    if end in ("lost", "late"):
        ledger.sweep(running.expires)
    if end in ("settled", "late"):
        settle(ledger, running, 200)
    if end == "cancelled":
        ledger.cancel(running)
    assert standing_on(ledger) == {"service/month:2026-01-01/": 700}


def test_a_free_call_that_was_not_free_counts_once_where_nothing_was_spent_before(
    ledger: SqlLedger, clock: FixedClock
) -> None:
    hold = reserve(ledger, added(clock, Budget(of="service", per="day", usd="1")), 0, 0)
    settle(ledger, hold, 9)
    assert standing_on(ledger) == {"service/day:2026-01-01/": 9}


def test_a_budget_that_was_added_keeps_what_is_forgotten(ledger: SqlLedger, clock: FixedClock) -> None:
    settle(ledger, reserve(ledger, added(clock), 1, 1000), 100)
    for of in ("service", "user"):
        ledger.left(added(clock, Budget(of=of, per="total", usd="1")))
    ledger.left(added(clock, Budget(of="service", per="day", usd="1")))
    clock.advance(40 * DAY)
    assert ledger.prune(clock.now()) == 1
    kept = {"service/total:/": 100, "user/total:/user:alice": 100}
    assert standing_on(ledger) == kept
    ledger.left(added(clock, Budget(of="key", per="total", usd="1")))
    assert standing_on(ledger) == {**kept, "key/total:/key_1": 0}  # nobody remembers


def test_a_budget_is_added_by_many_at_once(database: Database, clock: FixedClock) -> None:
    """Each sees the same begin, and what was spent before counts once."""
    ledgers = [SqlLedger(database, clock) for _ in range(6)]
    settle(ledgers[0], reserve(ledgers[0], added(clock), 1, 1000), 300)
    budgets = [Budget(of=of, per="month", usd="0.0000005") for of in ("service", "team", "user", "key")]
    gate = threading.Barrier(6)

    def first(n: int) -> int:
        over = added(clock, *budgets, payer=replace(ALICE, request_id=f"req_{10 + n}"))
        gate.wait()
        try:
            hold = reserve(ledgers[n], over, 100, 100)
        except Spent:
            return 0
        settle(ledgers[n], hold, 100)
        return 1

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(first, range(6))) == 2
    assert set(standing_on(ledgers[0]).values()) == {500}
    assert len(standing_on(ledgers[0])) == 5


# -- many at once ------------------------------------------------------------------------------------------------------
def test_who_names_scopes_in_another_order_waits_for_nobody(database: Database) -> None:
    """Locks are taken in one order, whatever order scopes are named in; scopes that begin meanwhile included."""
    clock = SystemClock()
    ledger = SqlLedger(database, clock)
    many = [
        MoneyScope(
            scope_id=f"user/total:/u{n}",
            kind="user",
            name=f"u{n}",
            window_start=clock.now(),
            window_end=None,
            limit_n=10**9,
        )
        for n in range(6)
    ]

    def spend(worker: int) -> None:
        for n in range(12):
            over = [many[(worker * 5 + n + step * (1 + worker % 5)) % 6] for step in range(3)]
            over = list({scope.scope_id: scope for scope in over}.values())
            hold = reserve(ledger, over if worker % 2 else over[::-1], 1, 10)
            if n % 3:
                settle(ledger, hold, 5)
            else:
                ledger.sweep(hold.expires)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(spend, worker) for worker in range(6)]:
            done.result()
    ledger.sweep(clock.now() + DAY)
    assert ledger.check() == []
    assert all(booked.held_n == 0 for booked in ledger.totals().values())


def test_settled_and_swept_at_the_same_moment(database: Database, clock: FixedClock) -> None:
    ledger = SqlLedger(database, clock)
    holds = [reserve(ledger, scopes(clock, replace(ALICE, request_id=f"req_{n}")), 20, 20) for n in range(30)]
    gate = threading.Barrier(3)

    def settling(some: list[Hold]) -> None:
        gate.wait()
        for hold in some:
            settle(ledger, hold, 10)

    def sweeping() -> None:
        gate.wait()
        for _ in range(5):
            ledger.sweep(clock.now() + DAY)

    with ThreadPoolExecutor(3) as pool:
        for done in (pool.submit(settling, holds[::2]), pool.submit(settling, holds[1::2]), pool.submit(sweeping)):
            done.result()
    assert ledger.check() == []
    total = Counter(ledger.standing().holds)
    assert total["settled"] + total["late"] == 30
    assert ledger.totals()["key/total:/key_1"] == Booked(settled_n=300)


def test_spent_by_threads(database: Database) -> None:
    """Some thousand operations of every kind at once, watched by the database itself."""
    print(f"seed {SEED}")
    operations = 2000 if database.dialect == "sqlite" else 500
    clock = SystemClock()
    terms = spending.agreement(operations)
    lines: list[str] = []
    spending.watch(database)
    try:
        done = spending.in_threads(
            SqlLedger(database, clock), clock, terms, seed=SEED, operations=operations, threads=4, journal=lines.append
        )
        print(done, spending.audited(database, terms, lines))
        assert done["refused"] > 10
        assert done["held"] > 80
        assert done["breached_n"] > 0
    finally:
        spending.unwatch(database)


# -- reports -----------------------------------------------------------------------------------------------------------
def spent(ledger: SqlLedger, clock: FixedClock, request: str, actual_n: int, **payer: Any) -> None:
    who = replace(ALICE, request_id=request, **payer)
    settle(ledger, reserve(ledger, scopes(clock, who), 1, 1000, who), actual_n)


@dataclass(frozen=True)
class Line:
    name: str
    requests: int
    calls: int
    cost_n: int


def lines(ledger: SqlLedger, by: Any, **between: datetime) -> list[Line]:
    return [Line(row.name, row.requests, row.calls, row.cost_n) for row in ledger.report(by=by, **between)]


def test_reports_by_everything(database: Database, ledger: SqlLedger, clock: FixedClock) -> None:
    spent(ledger, clock, "req_1", 100)
    spent(ledger, clock, "req_1", 11)
    spent(ledger, clock, "req_2", 200, principal="user:bob", team=("group:b",), key_id=None)
    clock.advance(DAY)
    spent(ledger, clock, "req_3", 400, release="rel_2", team=())
    with database.write() as connection:
        for request, status in (("req_1", "answered"), ("req_2", "refused")):
            values = {
                c.name: 0 if "INT" in str(c.type) or "DOUBLE" in str(c.type) else "" for c in schema.measure.columns
            }
            connection.execute(insert(schema.measure), {**values, "request_id": request, "status": status})
        values = {c.name: 0 if "INT" in str(c.type) or "DOUBLE" in str(c.type) else "" for c in schema.trace.columns}
        connection.execute(insert(schema.trace), {**values, "request_id": "req_3", "status": "answered"})
    assert lines(ledger, "day") == [Line("2026-01-01", 2, 3, 311), Line("2026-01-02", 1, 1, 400)]
    assert lines(ledger, "user") == [Line("user:alice", 2, 3, 511), Line("user:bob", 1, 1, 200)]
    assert lines(ledger, "team") == [Line("", 1, 1, 400), Line("group:b", 2, 3, 311), Line("group:a", 1, 2, 111)]
    assert lines(ledger, "key") == [Line("key_1", 2, 3, 511), Line("", 1, 1, 200)]
    assert lines(ledger, "model") == lines(ledger, "model", since=clock.now() - DAY) == [Line("small", 3, 4, 711)]
    assert lines(ledger, "release") == [Line("rel_2", 1, 1, 400), Line("rel_1", 2, 3, 311)]
    assert lines(ledger, "purpose") == [Line("answer", 3, 4, 711)]
    assert lines(ledger, "outcome") == [Line("answered", 2, 3, 511), Line("refused", 1, 1, 200)]
    assert lines(ledger, "user", until=clock.now()) == [Line("user:bob", 1, 1, 200), Line("user:alice", 1, 2, 111)]
    (all_of_it,) = ledger.report(by="model")
    assert (all_of_it.answered, all_of_it.per_answered_n) == (2, 356)
    assert (all_of_it.input_tokens, all_of_it.cached_tokens, all_of_it.output_tokens) == (400, 240, 80)
    assert ledger.report(by="outcome")[1].per_answered_n is None


def test_reports_tell_what_went_wrong(ledger: SqlLedger, clock: FixedClock) -> None:
    lost, late = (reserve(ledger, scopes(clock), 10, 10) for _ in range(2))
    ledger.sweep(lost.expires)
    settle(ledger, late, 5)
    settle(ledger, reserve(ledger, scopes(clock), 10, 10), 12)
    ledger.settle(reserve(ledger, scopes(clock), 10, 10), actual_n=10, usage=Usage(), estimated=True)
    reserve(ledger, scopes(clock), 7, 7)
    (row,) = ledger.report(by="outcome")
    assert (row.name, row.lost, row.late, row.breaches, row.estimated, row.held_n) == ("unfinished", 1, 1, 1, 1, 7)
    assert row.cost_n == 27


@pytest.mark.parametrize("by", AXES)
def test_a_report_of_nothing(ledger: SqlLedger, by: Any) -> None:
    assert ledger.report(by=by) == []


# -- upkeep ------------------------------------------------------------------------------------------------------------
def test_forgetting_old_calls_keeps_what_still_counts(ledger: SqlLedger, clock: FixedClock) -> None:
    spent(ledger, clock, "req_1", 100)
    clock.advance(40 * DAY)
    spent(ledger, clock, "req_2", 200)
    assert ledger.prune(clock.now()) == 1  # never those of the last day: settling them twice must do nothing
    assert ledger.check() == []
    assert {scope_id.partition("/")[0] for scope_id in ledger.totals()} == {"key", "request", "service", "user"}
    assert ledger.totals()["key/total:/key_1"] == Booked(settled_n=300)
    assert [row.cost_n for row in ledger.report(by="day")] == [200]
    clock.advance(40 * DAY)
    assert ledger.prune(clock.now()) == 1
    assert ledger.totals() == {"key/total:/key_1": Booked(settled_n=300)} == ledger.replayed()
    assert ledger.prune(clock.now()) == 0


def test_what_is_open_is_not_forgotten(ledger: SqlLedger, clock: FixedClock) -> None:
    hold = reserve(ledger, scopes(clock), 1, 70)
    clock.advance(400 * DAY)
    assert ledger.prune(clock.now()) == 0
    settle(ledger, hold, 60)
    assert ledger.prune(clock.now()) == 1
    assert ledger.totals() == {"key/total:/key_1": Booked(settled_n=60)} == ledger.replayed()


def test_books_that_were_tampered_with(database: Database, ledger: SqlLedger, clock: FixedClock) -> None:
    settle(ledger, reserve(ledger, scopes(clock), 1, 70), 60)
    reserve(ledger, scopes(clock), 1, 70)
    key = schema.money_scope.c.scope_id == "key/total:/key_1"
    with database.write() as connection:
        connection.execute(update(schema.money_scope).where(key).values(settled_n=59, held_n=-1))
    said = "\n".join(ledger.check())
    assert "settled 59 and held -1, but its entries say 60 and 70" in said
    assert "open holds are 70" in said
    assert "below zero" in said
    clock.advance(DAY)
    assert "nobody sweeps" in ledger.check()[-1]


# -- against a model ---------------------------------------------------------------------------------------------------
@dataclass
class Known:
    """What the model knows of one hold."""

    hold: Hold
    open: bool = True
    counted: bool = False  # what it cost is booked
    actual_n: int = 0


class Books(RuleBasedStateMachine):
    """The ledger and a few dictionaries do the same; the dictionaries are obviously right."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        empty(database)
        self.clock = FixedClock()
        self.ledger = SqlLedger(database, self.clock)
        self.known: list[Known] = []
        self.held: Counter[str] = Counter()
        self.settled: Counter[str] = Counter()
        self.begun: set[str] = set()
        self.periods: tuple[Any, Any] = ("total", "day")

    @initialize(service=st.integers(50, 400), user=st.integers(20, 200))
    def agree(self, service: int, user: int) -> None:
        self.limits = {"service": service, "user": user}

    def scopes(self, request: int, user: int, cap_n: int) -> tuple[MoneyScope, ...]:
        budgets = (
            Budget(of="service", per=self.periods[0], usd=f"{self.limits['service'] / 1e9:.9f}"),
            Budget(of="user", per=self.periods[1], usd=f"{self.limits['user'] / 1e9:.9f}"),
        )
        payer = Payer(request_id=f"req_{request}", principal=f"user:{user}")
        return scopes_of(Agreement(budgets=budgets), payer, cap_n, self.clock.now())

    def left(self, over: Sequence[MoneyScope]) -> int:
        return min(scope.limit_n - self.held[scope.scope_id] - self.settled[scope.scope_id] for scope in over)

    def begin(self, over: Sequence[MoneyScope]) -> None:
        """A budget that nobody has asked for before has cost what its payer was held or has spent in its window."""
        for scope in over:
            if scope.kind != "request" and scope.scope_id not in self.begun:
                self.begun.add(scope.scope_id)
                self.settled[scope.scope_id] = sum(
                    known.hold.amount_n if known.open else known.actual_n
                    for known in self.known
                    if scope.name in ("", known.hold.payer.principal)
                    and scope.window_start <= known.hold.created
                    and (scope.window_end is None or known.hold.created < scope.window_end)
                )

    def book(self, known: Known, actual_n: int) -> None:
        for scope in known.hold.scopes:
            self.held[scope.scope_id] -= known.hold.amount_n if known.open else 0
            self.settled[scope.scope_id] += actual_n
        known.open, known.actual_n = False, actual_n

    def expire(self, now: datetime) -> int:
        over = [known for known in self.known if known.open and known.hold.expires <= now]
        for known in over:
            self.book(known, 0)
        return len(over)

    @rule(
        request=st.integers(0, 5),
        user=st.integers(0, 1),
        cap_n=st.integers(1, 150),
        least_n=st.integers(0, 80),
        more_n=st.integers(0, 80),
    )
    def reserve(self, request: int, user: int, cap_n: int, least_n: int, more_n: int) -> None:
        over = self.scopes(request, user, cap_n)
        most_n = least_n + more_n
        if most_n == 0:
            assert reserve(self.ledger, over, 0, 0).amount_n == 0
            return
        self.begin(over)
        if self.left(over) < max(1, least_n):
            self.expire(self.clock.now())
        left = self.left(over)
        if left < max(1, least_n):
            with pytest.raises(Spent) as refused:
                reserve(self.ledger, over, least_n, most_n)
            assert refused.value.left_n == max(0, left)
            return
        who = Payer(request_id=f"req_{request}", principal=f"user:{user}")
        hold = reserve(self.ledger, over, least_n, most_n, who)
        assert hold.amount_n == min(left, most_n)
        for scope in over:
            self.held[scope.scope_id] += hold.amount_n
        self.known.append(Known(hold))

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0), share=st.sampled_from([0.0, 0.3, 1.0, 1.0, 1.5]), cancelled=st.booleans())
    def end(self, which: int, share: float, cancelled: bool) -> None:
        """For the first time or again, in time or late, for what was held or more."""
        known = self.known[which % len(self.known)]
        actual_n = int(known.hold.amount_n * share)
        if cancelled:
            self.ledger.cancel(known.hold, charged_n=actual_n)
        else:
            settle(self.ledger, known.hold, actual_n)
        if not known.counted and (known.open or actual_n or not cancelled):
            known.counted = True
            self.book(known, actual_n)

    @rule(seconds=st.sampled_from([1, 30, 61, 40_000]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @rule()
    def sweep(self) -> None:
        assert self.ledger.sweep(self.clock.now()) == self.expire(self.clock.now())

    @rule(request=st.integers(0, 5), user=st.integers(0, 1), cap_n=st.integers(1, 150))
    def look(self, request: int, user: int, cap_n: int) -> None:
        over = self.scopes(request, user, cap_n)
        self.begin(over)
        self.expire(self.clock.now())
        assert self.ledger.left(over) == max(0, self.left(over))
        self.ledger.sweep(self.clock.now())

    @rule(of=st.sampled_from(["service", "user"]), limit_n=st.integers(0, 400))
    def agree_anew(self, of: str, limit_n: int) -> None:
        self.limits[of] = limit_n

    @rule(service=st.sampled_from(["day", "month", "total"]), user=st.sampled_from(["day", "month", "total"]))
    def agree_on_other_budgets(self, service: str, user: str) -> None:
        self.periods = (service, user)

    @invariant()
    def the_books_are_equal(self) -> None:
        totals = self.ledger.totals()
        assert totals == self.ledger.replayed()
        for scope_id, booked in totals.items():
            assert booked == Booked(held_n=self.held[scope_id], settled_n=self.settled[scope_id]), scope_id
        assert {s for s in (*self.held, *self.settled) if self.held[s] or self.settled[s]} <= totals.keys()


def test_the_books_of_a_model(tmp_path: Path) -> None:
    database, close = open_fresh("sqlite", tmp_path)
    try:
        run_state_machine_as_test(
            lambda: Books(database),  # type: ignore[arg-type,return-value]  # any maker of machines will do
            settings=settings(max_examples=20, stateful_step_count=30, deadline=None, derandomize=True),
        )
    finally:
        close()
