"""Times in order over every database, read row by row, where there are too many to sort them all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Connection, func, select
from tests.support.databases import open_fresh, skip_without_postgres

from mainstay.agreement.ports import Limit, Slice
from mainstay.clock import FixedClock
from mainstay.storage.database import DIALECTS, Database
from mainstay.storage.measures import SqlMeasures
from mainstay.storage.rows import micros
from mainstay.storage.scans import FEW, STRIPES, WIDEST_READ
from mainstay.storage.schema import measure

NOW = FixedClock().now()
ROWS = 9_600
EVERY = timedelta(minutes=1)
STEP = EVERY // timedelta(microseconds=1)
ALL = Slice(since=NOW - ROWS * EVERY, until=NOW)
TEAM = Slice(since=ALL.since, until=NOW, team="group:a")
EACH = ROWS // STRIPES
SCATTERED = "(n * 7919) % 9601 + 0.5"  # another value for each row, in no order
MISLEADING = f"CASE WHEN n % {EACH} < 200 THEN 1.0 ELSE n END"  # what a sample meets first is unlike the rest
TIED = "CASE WHEN n % 10 = 0 THEN n ELSE 7.0 END"


@pytest.fixture(scope="module", params=DIALECTS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    skip_without_postgres(request.param)
    opened, close = open_fresh(request.param, tmp_path_factory.mktemp("measures"))
    yield opened
    close()


def filled(database: Database, total_ms: str) -> tuple[SqlMeasures, list[float]]:
    """A row every minute, the first at the begin of ``ALL``; every hundredth failed, every thousandth was turned away."""
    with database.read() as connection:
        there = connection.scalar(select(func.max(measure.c.model))) == total_ms
    if not there:
        SqlMeasures(database).prune(NOW)
    with database.write() as connection:
        if not there:
            _fill(connection, total_ms)
        rows = connection.exec_driver_sql("SELECT total_ms FROM measure WHERE failed = 0 AND status = 'answered'").all()
    return SqlMeasures(database, by_hours=False), sorted(row[0] for row in rows)


def _fill(connection: Connection, total_ms: str) -> None:
    connection.exec_driver_sql(
        "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers"
        f" WHERE n < {ROWS - 1}) INSERT INTO measure (request_id, at, kind, door, principal, team, status, mode, model,"
        " release, failed, cached, total_ms, first_ms, cost_n, grounded, covered)"
        f" SELECT 'req_' || n, {micros(ALL.since)} + CAST(n AS BIGINT) * {STEP}, 'answer', 'chat', '',"
        " CASE WHEN n < 6000 THEN 'group:a' ELSE '' END,"
        f" CASE WHEN n % 1000 = 1 THEN 'turned_away' ELSE 'answered' END, '', '{total_ms}', '',"
        " CASE WHEN n % 100 = 0 THEN 1 ELSE 0 END, 0,"
        f" {total_ms}, CASE WHEN n % 2 = 0 THEN n END, n, 1, 1 FROM numbers"
    )


@pytest.mark.parametrize("total_ms", [MISLEADING, TIED, SCATTERED])
def test_ranks_are_where_they_are_whatever_a_sample_says(database: Database, total_ms: str) -> None:
    measures, times = filled(database, total_ms)
    events = len(times)
    assert FEW < events < WIDEST_READ
    assert measures.slower(ALL, "total_ms", 0.0)[0] == events
    for middle in (1, events // 20, events // 2, events * 19 // 20, events):
        ranks = [rank for rank in (middle - 150, middle, middle + 150) if 1 <= rank <= events]
        expected = [times[rank - 1] for rank in ranks]
        assert measures.ranked(ALL, "total_ms", [*ranks, events + 1], of=events) == expected, middle
    assert measures.ranked(ALL, "total_ms", [1, events]) == [times[0], times[-1]]


@pytest.mark.parametrize(
    "held",
    [
        ALL,
        Slice(since=NOW - timedelta(hours=5), until=NOW),
        TEAM,
        Slice(since=NOW, until=NOW + timedelta(days=1)),
        Slice(since=ALL.since - timedelta(days=9), until=ALL.since),
    ],
)
def test_one_pass_says_the_same_as_several(database: Database, held: Slice) -> None:
    measures, _ = filled(database, SCATTERED)
    limits: list[Limit] = [("first_ms", 9000.0), ("total_ms", 20_000.0), ("total_ms", 100.0), ("first_ms", 1.0)]
    counts, slower = measures.read(held, limits)
    assert SqlMeasures(database).read(held, limits) == (counts, slower)
    assert counts == measures.counts(held)
    assert slower == {limit: measures.slower(held, *limit) for limit in limits}
    if held.until == NOW:
        minutes = {ALL: ROWS, TEAM: 6000}.get(held, 300)
        assert (counts.requests + counts.turned_away, counts.failed) == (minutes, minutes // 100)
        assert counts.turned_away == {ALL: 10, TEAM: 6}.get(held, 0)
