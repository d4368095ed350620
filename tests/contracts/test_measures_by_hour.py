"""What was measured is the same by the hour as row by row: whatever was written when, late or beside readers."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from tests.support.databases import open_fresh, skip_without_postgres

from mainstay.agreement.ports import Counts, Limit, Slice
from mainstay.clock import FixedClock, SystemClock
from mainstay.errors import Unavailable
from mainstay.records.measures import TURNED_AWAY, Measured
from mainstay.storage import hours
from mainstay.storage.console import SqlLookups
from mainstay.storage.database import DIALECTS, Address, Database, open_database
from mainstay.storage.measures import SqlMeasures
from mainstay.storage.rows import micros, moment
from mainstay.storage.schema import measure, measure_hour, measure_release, measure_times
from mainstay.storage.settled import Settled

HOUR = timedelta(hours=1)
OLD = FixedClock().now().replace(minute=0, second=0, microsecond=0)  # long over: whatever is written there is late
TEAMS, DOORS = ("", "group:a", "group:b"), ("answers", "chat")
LIMITS: list[Limit] = [
    ("total_ms", 400.0),
    ("total_ms", 401.5),
    ("first_ms", 100.0),
    ("total_ms", 1e9),
    ("first_ms", -1.0),
]


@pytest.fixture(scope="module", params=DIALECTS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    skip_without_postgres(request.param)
    opened, close = open_fresh(request.param, tmp_path_factory.mktemp("measures"))
    yield opened
    close()


@pytest.fixture
def measures(database: Database) -> SqlMeasures:
    empty(database)
    return SqlMeasures(database)


def empty(database: Database) -> None:
    SqlMeasures(database).prune(datetime(2100, 1, 1, tzinfo=UTC))
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(measure_hour)) == 0
        assert connection.scalar(select(func.count()).select_from(measure_times)) == 0
        assert connection.scalar(select(func.count()).select_from(measure_release)) == 0


def burst(rng: random.Random, since: datetime, length: timedelta, count: int, name: str) -> list[Measured]:
    """Requests of all sorts. Shares and costs are such that sums of them are exact, in whatever order they are added up."""
    return [
        Measured(
            request_id=f"req_{name}_{n}",
            at=since + timedelta(microseconds=rng.randrange(length // timedelta(microseconds=1))),
            kind=rng.choices(["answer", "search"], [9, 1])[0],
            door=rng.choice(DOORS),
            team=rng.choice(TEAMS),
            release=rng.choice(["", "rel_a", f"rel_{name}"]),
            status=TURNED_AWAY if rng.random() < 0.1 else "answered",
            failed=rng.random() < 0.1,
            cached=rng.random() < 0.2,
            total_ms=rng.choice([rng.uniform(0, 2000), 400.0, float(rng.randrange(395, 405))]),
            first_ms=rng.choice([None, rng.expovariate(0.01), 100.0]),
            cost_nanodollars=rng.randrange(2**20),
            grounded=rng.choice([None, rng.randrange(9) / 8]),
            covered=rng.choice([None, rng.randrange(9) / 8]),
        )
        for n in range(count)
    ]


def same(database: Database, held: Slice) -> Counts:
    """Asserts that a slice reads alike by the hour and row by row."""
    by_hour, by_row = SqlMeasures(database), SqlMeasures(database, by_hours=False)
    found = by_hour.read(held, LIMITS)
    assert found == by_row.read(held, LIMITS)
    assert found[0] == by_hour.counts(held)
    for timing, than_ms in LIMITS:
        assert by_hour.slower(held, timing, than_ms) == found[1][timing, than_ms]
    for timing in hours.TIMINGS:
        events = found[1][timing, LIMITS[0][1] if timing == "total_ms" else 100.0][0]
        ranks = [0, 1, events // 20, events // 2, events // 2 + 3, events * 19 // 20, events, events + 1]
        ranked = by_row.ranked(held, timing, ranks)
        assert by_hour.ranked(held, timing, ranks) == ranked
        for rank, value in zip([rank for rank in ranks if 1 <= rank <= events][::4], ranked[::4], strict=True):
            assert by_hour.ranked(held, timing, [rank], of=events) == [value]
    with database.read() as connection:
        answered = (measure.c.kind == "answer", measure.c.release != "", measure.c.at >= micros(held.since))
        first = func.min(measure.c.at)
        rows = connection.execute(select(measure.c.release, first).where(*answered).group_by(measure.c.release))
        expected = sorted((at, name) for name, at in rows)
    assert [(micros(at), name) for name, at in SqlLookups(database).releases(held.since)] == expected[:200]
    return found[0]


def known(database: Database) -> list[datetime | None]:
    with database.read() as connection:
        wanted = select(measure_hour.c.hour).where(measure_hour.c.team == hours.EVERY).order_by(measure_hour.c.hour)
        return [moment(at) for at in connection.scalars(wanted)]


WRITE = st.tuples(
    st.just("write"), st.integers(0, 6 * 60), st.sampled_from([1, 59, 60, 300]), st.integers(1, 90), st.integers(0, 99)
)
LOOK = st.tuples(
    st.just("look"),
    st.integers(-90, 7 * 60),
    st.integers(0, 7 * 60),
    st.sampled_from(["", *TEAMS]),
    st.sampled_from(["", *DOORS]),
)
ALIGNED = st.tuples(
    st.just("look"), st.sampled_from([0, 60, 120]), st.sampled_from([60, 240, 600]), st.just(""), st.just("")
)
PRUNE = st.tuples(st.just("prune"), st.integers(0, 5 * 60))


STEPS = st.lists(st.one_of(WRITE, LOOK, ALIGNED, WRITE, PRUNE), min_size=3, max_size=9)
HOW = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=6, **HOW)
@given(STEPS)
def test_whatever_happens_hours_say_what_rows_say(database: Database, steps: Sequence[tuple[object, ...]]) -> None:
    check(database, steps)


@pytest.mark.long
@settings(max_examples=60, **HOW)
@given(STEPS)
def test_whatever_happens_in_many_ways(database: Database, steps: Sequence[tuple[object, ...]]) -> None:
    check(database, steps)


def check(database: Database, steps: Sequence[tuple[object, ...]]) -> None:
    empty(database)
    measures = SqlMeasures(database)
    whole = Slice(since=OLD - HOUR, until=OLD + 9 * HOUR)
    for n, step in enumerate([*steps, ("look", 0, 600, "", "")]):
        match step:
            case ("write", int(at), int(length), int(count), int(seed)):
                since = OLD + timedelta(minutes=at)
                measures.keep_all(burst(random.Random(seed), since, timedelta(minutes=length), count, str(n)))
            case ("look", int(at), int(length), str(team), str(door)):
                since = OLD + timedelta(minutes=at)
                until = since + timedelta(minutes=length)
                same(database, Slice(since=since, until=until, team=team, door=door))
            case ("prune", int(at)):
                measures.prune(OLD + timedelta(minutes=at))
    same(database, whole)


def test_a_late_row_counts_at_once_and_a_repeated_one_never_twice(database: Database, measures: SqlMeasures) -> None:
    rng = random.Random(1)
    held = Slice(since=OLD - HOUR, until=OLD + 5 * HOUR)
    first = burst(rng, OLD, 4 * HOUR, 300, "first")
    measures.keep_all(first)
    before = same(database, held)
    assert known(database) == [OLD + n * HOUR for n in range(5)]  # the last is empty, and known to be
    late = burst(rng, OLD + HOUR, HOUR, 5, "late")
    for one in late:
        measures.keep(one)
    assert known(database) == [OLD, *(OLD + n * HOUR for n in range(2, 5))]
    counts = same(database, held)
    answers = [one for one in late if one.kind == "answer"]
    came = before.requests + before.turned_away + len(answers)
    assert counts.requests + counts.turned_away == came
    measures.keep_all(first[:50])
    assert same(database, held) == counts
    assert measures.prune(OLD + 2 * HOUR + timedelta(minutes=30)) > 0
    assert known(database) == [OLD + 3 * HOUR, OLD + 4 * HOUR]
    same(database, held)


def test_hours_that_may_still_change_are_read_row_by_row(database: Database, measures: SqlMeasures) -> None:
    now = SystemClock().now()
    begin = now.replace(minute=0, second=0, microsecond=0)
    measures.keep_all(burst(random.Random(2), now - 6 * HOUR, 6 * HOUR, 400, "recent"))
    held = Slice(since=now - 6 * HOUR, until=now)
    same(database, held)
    found = known(database)
    assert found
    assert all(at is not None and at + HOUR + timedelta(minutes=15) <= SystemClock().now() for at in found)
    assert len(found) >= 4  # of the six at most the first and the last two are not whole or not over
    measures.keep_all(burst(random.Random(3), begin, timedelta(seconds=1), 10, "this hour"))
    same(database, held)
    # Ahead of the clock of this machine: nothing is added up, nothing is wrong.
    measures.keep_all(burst(random.Random(4), begin + 2 * HOUR, 3 * HOUR, 100, "ahead"))
    same(database, Slice(since=now - 6 * HOUR, until=now + 9 * HOUR))
    assert known(database) == found


def test_upkeep_adds_up_what_nobody_asked_for(database: Database, measures: SqlMeasures) -> None:
    now = SystemClock().now()
    measures.keep_all(burst(random.Random(5), now - 5 * HOUR, 3 * HOUR, 200, "kept"))
    assert known(database) == []
    measures.keep_up()
    assert len(known(database)) >= 3
    measures.keep_up()
    same(database, Slice(since=now - 6 * HOUR, until=now))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_late_writers_beside_readers_lose_nothing(dialect: str, tmp_path: Path) -> None:
    """Each thread on a connection of its own, as processes are; one prunes meanwhile."""
    skip_without_postgres(dialect)
    database, close = open_fresh(dialect, tmp_path)
    failures: list[BaseException] = []
    written, lock = [0], threading.Lock()
    held = Slice(since=OLD, until=OLD + 6 * HOUR)
    over = threading.Event()

    def at_work(opened: Database, name: str) -> None:
        rng, measures = random.Random(name), SqlMeasures(opened)
        for n in range(25):
            some = burst(rng, OLD + HOUR, 5 * HOUR, 4, f"{name}_{n}")
            measures.keep_all(some)
            with lock:
                written[0] += sum(one.kind == "answer" for one in some)

    def reading(opened: Database) -> None:
        measures, least = SqlMeasures(opened), 0
        while not over.is_set():
            with lock:
                least = written[0]
            counts, slower = measures.read(held, LIMITS)
            came = counts.requests + counts.turned_away
            assert came >= least, "what was committed before is counted"
            assert slower["total_ms", 1e9][1] == 0

    def pruning(opened: Database) -> None:
        measures, n = SqlMeasures(opened), 0
        while not over.is_set():
            measures.keep_all(burst(random.Random(n), OLD, HOUR // 2, 3, f"pruned_{n}"))
            measures.prune(OLD + HOUR)
            n += 1

    url = str(tmp_path / "mainstay.db") if dialect == "sqlite" else ""
    opened = [open_database(Address(url=url)) if url else database for _ in range(6)]

    def run(work: object, *given: object) -> None:
        try:
            work(*given)  # type: ignore[operator]  # one of the three above
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            failures.append(error)
            over.set()

    writers = [threading.Thread(target=run, args=(at_work, opened[n], f"w{n}")) for n in range(3)]
    others = [threading.Thread(target=run, args=(reading, one)) for one in opened[3:5]]
    others.append(threading.Thread(target=run, args=(pruning, opened[5])))
    for thread in (*writers, *others):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    for thread in others:
        thread.join()
    try:
        assert not failures, failures
        counts = same(database, Slice(since=OLD + HOUR, until=OLD + 6 * HOUR))
        assert counts.requests + counts.turned_away == written[0]
        same(database, held)
    finally:
        if url:
            for one in opened:
                one.close()
        close()


class Full(Settled):
    """A database that takes nothing, as on a full disk."""

    def write(self, **_: object) -> NoReturn:
        raise Unavailable("the database does not answer (database or disk is full)")


def test_where_nothing_can_be_written_rows_are_read(database: Database, measures: SqlMeasures) -> None:
    measures.keep_all(burst(random.Random(6), OLD, 3 * HOUR, 100, "kept"))
    held = Slice(since=OLD, until=OLD + 3 * HOUR)
    full = SqlMeasures(Full(database, lambda: None))
    assert full.read(held, LIMITS) == SqlMeasures(database, by_hours=False).read(held, LIMITS)
    full.keep_up()
    assert known(database) == []


def test_many_rows_are_added_up_by_and_by(database: Database, measures: SqlMeasures) -> None:
    """More than one transaction takes: the newest hours first, and what is left is read row by row meanwhile."""
    rng = random.Random(7)
    measures.keep_all(burst(rng, OLD, 5 * HOUR, 400, "many"))
    with database.read() as connection:
        lacking = hours.lacking(connection, (micros(OLD) or 0) + 5 * hours.HOUR)
    assert len(lacking) == 5
    hours.add_up(database, lacking[3:], 1)
    assert known(database) == [OLD + 3 * HOUR, OLD + 4 * HOUR]
    hours.add_up(database, lacking[:2], 1_000)
    assert known(database) == [OLD + n * HOUR for n in (0, 1, 3, 4)]
    with database.read() as connection:
        parts = hours.divided(connection, Slice(since=OLD, until=OLD + 5 * HOUR))
    assert [(one.since, one.until) for one in parts.rest] == [(OLD + 2 * HOUR, OLD + 3 * HOUR)]
    assert parts.lacking == (lacking[2],)
    same(database, Slice(since=OLD, until=OLD + 5 * HOUR))


def test_equal_times_in_several_pieces(database: Database, measures: SqlMeasures) -> None:
    """Pieces that begin, end or consist of one and the same time, and limits that are exactly that."""
    times = [7.0] * 64 + [8.0] * 10 + [9.0] * 120 + [9.5] + [10.0] * 5
    random.Random(8).shuffle(times)
    measures.keep_all(
        [
            Measured(request_id=f"req_tied_{n}", at=OLD + timedelta(seconds=n % 1800), status="answered", total_ms=time)
            for n, time in enumerate(times)
        ]
    )
    held = Slice(since=OLD, until=OLD + HOUR)
    for limit in (6.9, 7.0, 7.5, 8.0, 9.0, 9.5, 10.0, 11.0):
        assert measures.slower(held, "total_ms", limit) == (200, sum(time > limit for time in times)), limit
    in_order = sorted(times)
    for rank in range(1, 201):
        assert measures.ranked(held, "total_ms", [rank]) == [in_order[rank - 1]]
    assert measures.ranked(held, "total_ms", [0, 64, 65, 200, 201], of=200) == [7.0, 8.0, 10.0]
    with database.read() as connection:
        rows = select(measure_times.c.low, measure_times.c.high).where(measure_times.c.team == hours.EVERY)
        found = sorted(tuple(row) for row in connection.execute(rows))
    assert found == [(7.0, 7.0), (8.0, 9.0), (9.0, 9.0), (9.0, 10.0)]
