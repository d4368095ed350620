"""What the console looks up, over every database: ledger lines, purses, releases, who asked last, the dearest and slowest."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mainstay.agreement.budgets import Payer, scopes_of
from mainstay.agreement.terms import Agreement, Budget
from mainstay.clock import FixedClock
from mainstay.records.measures import Measured
from mainstay.records.traces import LIMITED, Journey, Search, Trace
from mainstay.storage.console import SqlLookups
from mainstay.storage.database import Database
from mainstay.storage.ledger import SqlLedger
from mainstay.storage.measures import SqlMeasures
from mainstay.storage.traces import SqlTraces
from mainstay.types import Actor, Mode, Usage

CLOCK = FixedClock()
NOW = CLOCK.now()
BUDGETS = Agreement(
    budgets=(
        Budget(of="service", per="month", usd="0.000001"),
        Budget(of="user", per="day", usd="0.00001"),
        Budget(of="user", per="total", usd="1"),
    )
)


@pytest.fixture
def lookups(opened: Database) -> SqlLookups:
    return SqlLookups(opened)


def test_lines_of_one_request_and_the_purses_it_drew_on(opened: Database, lookups: SqlLookups) -> None:
    ledger = SqlLedger(opened, CLOCK)
    payer = Payer(request_id="req_1", principal="user:alice")
    over = scopes_of(BUDGETS, payer, 1000, NOW)

    first, _ = (
        ledger.reserve(
            payer, over, least_n=1, most_n=amount, purpose="answer", model=model, price_version="p1", ttl_s=60
        )
        for amount, model in ((400, "small"), (300, "large"))
    )
    ledger.settle(first, actual_n=250, usage=Usage(input_tokens=7, output_tokens=2), estimated=True)
    lines = lookups.lines("req_1")
    assert {line.model: (line.state, line.held_n, line.settled_n) for line in lines} == {
        "small": ("settled", 400, 250),
        "large": ("open", 300, 0),
    }
    small = next(line for line in lines if line.model == "small")
    assert (small.estimated, small.input_tokens, small.output_tokens, small.closed is not None) == (True, 7, 2, True)
    assert lookups.lines("req_other") == ()
    purses = lookups.purses(NOW)
    assert (purses[0].kind, purses[0].name, purses[0].left_n) == ("service", "", 450)
    assert {(one.kind, one.until is None) for one in purses} == {("service", False), ("user", False), ("user", True)}
    assert purses[0].left == pytest.approx(0.45)
    assert all(one.until is None for one in lookups.purses(NOW + timedelta(days=400)))  # the others' windows are over


def test_releases_and_who_asked_last(opened: Database, lookups: SqlLookups) -> None:
    measures = SqlMeasures(opened)
    row = Measured(request_id="req_0", at=NOW, kind="answer", door="page", principal="user:alice", status="answered")
    for n, release in enumerate(["rel_a", "rel_a", "rel_b", ""]):
        measures.keep(replace(row, request_id=f"req_{n}", at=NOW + timedelta(minutes=n), release=release))
    assert lookups.releases(NOW) == (("rel_a", NOW), ("rel_b", NOW + timedelta(minutes=2)))
    assert lookups.releases(NOW + timedelta(minutes=1)) == (
        ("rel_a", NOW + timedelta(minutes=1)),
        ("rel_b", NOW + timedelta(minutes=2)),
    )
    traces = SqlTraces(opened)
    for n in range(3):
        traces.keep(journey(n, at=NOW + timedelta(minutes=n)))
    assert lookups.last_asked(["user:alice", "user:nobody"]) == {"user:alice": NOW + timedelta(minutes=2)}


def journey(n: int, **changes: object) -> Trace:
    made = Journey(f"req_{n:03}", Actor(principal="user:alice"), "answer", CLOCK)
    made.span("admit")
    return replace(made.trace("answered"), **changes)  # type: ignore[arg-type]  # tests name fields


def test_the_dearest_the_slowest_and_the_limited(opened: Database) -> None:
    traces = SqlTraces(opened)
    modes = ["", Mode.FULL, Mode.ECONOMY, Mode.STATIC]
    for n, (cost, ms) in enumerate([(5, 10.0), (90, 3.0), (40, 700.0), (90, 20.0)]):
        traces.keep(
            journey(n, at=NOW + timedelta(seconds=n), cost_nanodollars=cost, duration_ms=ms, mode=str(modes[n]))
        )

    def ids(found: object) -> list[str]:
        return [one.request_id for one in found]  # type: ignore[attr-defined]  # traces

    assert ids(traces.ranked(Search(), "cost")) == ["req_001", "req_003", "req_002", "req_000"]
    assert ids(traces.ranked(Search(limit=2), "time")) == ["req_002", "req_003"]
    assert ids(traces.ranked(Search(since=NOW + timedelta(seconds=2)), "cost")) == ["req_003", "req_002"]
    assert all(not one.spans and one.span_count == 1 for one in traces.ranked(Search(), "cost"))
    assert ids(traces.search(Search(mode=LIMITED)).traces) == ["req_003", "req_002"]
    assert ids(traces.ranked(Search(mode=LIMITED, asker="user:alice"), "time")) == ["req_002", "req_003"]
