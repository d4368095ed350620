"""What is remembered of the agreement, and what was measured, over every database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Text, insert, select, update

from mainstay.agreement.ports import Counts, Shares, Slice, Spent
from mainstay.clock import FixedClock
from mainstay.errors import Invalid, NotFound
from mainstay.records.measures import TURNED_AWAY, Measured
from mainstay.storage.agreements import SqlAgreements
from mainstay.storage.database import Database
from mainstay.storage.measures import SqlMeasures, put_measure
from mainstay.storage.rows import micros
from mainstay.storage.schema import agreement_version, cache_audit, measure, money_scope

NOW = FixedClock().now()
DAY = timedelta(days=1)
ALL = Slice(since=NOW - 28 * DAY, until=NOW)
ROW = Measured(request_id="", at=NOW - DAY, status="answered", door="answers", total_ms=100.0)


def test_a_version_is_remembered_once(opened: Database) -> None:
    clock = FixedClock(step=timedelta(seconds=1))
    agreements = SqlAgreements(opened, clock)
    agreements.seen("agr_1", "{}")
    first = agreements.version("agr_1")
    agreements.seen("agr_1", "{}")
    agreements.seen("agr_2", '{"a":"ä"}')
    assert agreements.version("agr_1") == first
    assert agreements.version("agr_3") is None
    assert [held.digest for held in agreements.versions()] == ["agr_2", "agr_1"]
    assert agreements.find("agr_2").content == '{"a":"ä"}'
    with pytest.raises(Invalid, match="begins 2"):
        agreements.find("agr_")
    for start in ("agr_9", ""):
        with pytest.raises(NotFound):
            agreements.find(start)
    with opened.read() as connection:
        assert connection.scalar(select(agreement_version.c.first_seen).order_by("first_seen").limit(1)) == micros(NOW)


def test_approvals_are_kept_with_name_and_role(opened: Database) -> None:
    agreements = SqlAgreements(opened, FixedClock(step=timedelta(seconds=1)))
    agreements.seen("agr_1", "{}")
    agreements.seen("agr_2", "{}")
    first = agreements.approve("agr_1", " Ada Lovelace ", "head of service", "for the board")
    second = agreements.approve("agr_1", "Bram", "data protection officer")
    agreements.approve("agr_2", "Ada Lovelace", "head of service")
    assert agreements.approvals("agr_1") == [second, first]
    assert first.name == "Ada Lovelace"
    assert len(agreements.approvals()) == 3
    with pytest.raises(NotFound):
        agreements.approve("agr_9", "Ada", "head")
    for name, role, note in (
        ("", "x", ""),
        ("x", "  ", ""),
        ("a\x1b[31m", "x", ""),
        ("x" * 201, "x", ""),
        ("x", "x", "n" * 2001),
    ):
        with pytest.raises(Invalid):
            agreements.approve("agr_1", name, role, note)
    assert len(agreements.approvals()) == 3


def filled(opened: Database) -> SqlMeasures:
    """Times 1 to 100 ms in a scattered order, some failures, some turned away."""
    measures = SqlMeasures(opened)
    with opened.write(alone=False) as connection:
        for n in range(100):
            time = float(n * 37 % 100 + 1)
            put_measure(
                connection,
                replace(
                    ROW,
                    request_id=f"req_{n}",
                    total_ms=time,
                    first_ms=time / 2 if n % 2 else None,
                    cost_nanodollars=n * 10_000_000_000,
                    cached=n < 10,
                    covered=0.0 if n < 5 else 0.5 if n < 50 else None,
                    grounded=1.0 if n < 20 else None,
                    team="group:sales" if n < 30 else "",
                    door="chat" if n < 40 else "answers",
                ),
            )
        for n in range(7):
            put_measure(connection, replace(ROW, request_id=f"bad_{n}", failed=True, total_ms=1e6))
        for n in range(3):
            put_measure(connection, replace(ROW, request_id=f"away_{n}", status=TURNED_AWAY))
        put_measure(connection, replace(ROW, request_id="search", kind="search", failed=True))
        put_measure(connection, replace(ROW, request_id="old", at=NOW - 40 * DAY, failed=True))
        put_measure(connection, replace(ROW, request_id="now", at=NOW, failed=True))
    return measures


def test_counts(opened: Database) -> None:
    measures = filled(opened)
    cost = [n * 10_000_000_000 for n in range(100)]
    assert measures.counts(ALL) == Counts(
        requests=107,
        turned_away=3,
        failed=7,
        cached=10,
        cost=sum(cost),
        cost_squares=pytest.approx(float(sum(c * c for c in cost))),
        dearest=max(cost),
        grounded=Shares(events=20, total=20.0, some=20),
        covered=Shares(events=50, total=22.5, some=45),
    )
    assert measures.counts(replace(ALL, team="group:sales")).requests == 30
    assert measures.counts(replace(ALL, door="chat")).requests == 40
    assert measures.counts(replace(ALL, team="group:sales", door="answers")) == Counts()
    assert measures.counts(Slice(since=NOW, until=NOW + DAY)).failed == 1


def test_times_and_ranks(opened: Database) -> None:
    measures = filled(opened)
    assert measures.slower(ALL, "total_ms", 90.0) == (100, 10)
    assert measures.slower(ALL, "first_ms", 25.0)[0] == 50
    assert measures.slower(replace(ALL, door="page"), "total_ms", 1.0) == (0, 0)
    assert measures.ranked(ALL, "total_ms", [1, 2, 50]) == [1.0, 2.0, 50.0]
    assert measures.ranked(ALL, "total_ms", [90, 95, 100]) == [90.0, 95.0, 100.0]
    assert measures.ranked(ALL, "total_ms", [100, 1]) == [100.0, 1.0]
    assert measures.ranked(ALL, "total_ms", [99, 101]) == [99.0]
    assert measures.ranked(replace(ALL, door="page"), "total_ms", [1]) == []
    assert measures.ranked(ALL, "total_ms", []) == []


def test_a_request_is_measured_once_and_old_rows_go(opened: Database) -> None:
    measures = SqlMeasures(opened)
    measures.keep(replace(ROW, request_id="one", first_ms=3.5, grounded=0.5))
    measures.keep(replace(ROW, request_id="one", failed=True))
    measures.keep(replace(ROW, request_id="two", at=NOW - 40 * DAY))
    with opened.read() as connection:
        row = connection.execute(select(measure).where(measure.c.request_id == "one")).one()
    assert (row.failed, row.first_ms, row.grounded, row.kind) == (0, 3.5, 0.5, "answer")
    assert measures.prune(before=NOW - 28 * DAY) == 1
    assert measures.counts(Slice(since=NOW - 99 * DAY, until=NOW)).requests == 1


def test_audits_of_served_answers(opened: Database) -> None:
    audits = [(1, 1)] * 5 + [(0, 1)] * 2 + [(0, 0)] * 4  # (agreed, served)
    with opened.write(alone=False) as connection:
        for n, (agreed, served) in enumerate(audits):
            said = {"audit_id": str(n), "agreed": agreed, "served": served, "at": micros(NOW - DAY)}
            rest = {c.name: "x" if isinstance(c.type, Text) else 0 for c in cache_audit.c if c.name not in said}
            connection.execute(insert(cache_audit).values(said | rest))
        connection.execute(update(cache_audit).where(cache_audit.c.audit_id == "0").values(at=micros(NOW)))
    assert SqlMeasures(opened).audits(NOW - 2 * DAY, NOW) == (6, 2)


def test_purses(opened: Database) -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    rows = [
        ("user", "user:alice", midnight, midnight + DAY, 90, 10),
        ("user", "user:bram", midnight, midnight + DAY, 20, 0),
        ("user", "user:bram", midnight - DAY, midnight, 99, 0),
        ("user", "user:bram", midnight.replace(day=1), (midnight.replace(day=1) + 32 * DAY).replace(day=1), 50, 0),
        ("request", "req_1", midnight, None, 70, 0),
    ]
    with opened.write(alone=False) as connection:
        for n, (kind, name, start, end, settled, held) in enumerate(rows):
            connection.execute(
                insert(money_scope).values(
                    scope_id=str(n),
                    kind=kind,
                    name=name,
                    window_start=micros(start),
                    window_end=micros(end),
                    limit_n=100,
                    settled_n=settled,
                    held_n=held,
                )
            )
    measures = SqlMeasures(opened)
    assert measures.spent("user", "day", "", NOW) == Spent(
        purses=2, empty=1, name="user:alice", limit=100, settled=90, held=10
    )
    assert measures.spent("user", "day", "bram", NOW).settled == 20
    assert measures.spent("user", "day", "user:bram", NOW - DAY).settled == 99
    assert measures.spent("user", "month", "", NOW).settled == 50
    assert measures.spent("service", "total", "", NOW) == Spent()
