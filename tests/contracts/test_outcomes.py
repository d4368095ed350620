"""Outcomes and alerts over every database: kept once, counted right, one open alert an objective, one look at a time."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete
from tests.support.databases import open_fresh, skip_without_postgres

from mainstay.agreement.burning import Severity
from mainstay.clock import FixedClock
from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.records.alerts import Alert, Burn, Silence
from mainstay.records.audit import Filters
from mainstay.records.measures import Measured
from mainstay.records.outcomes import AXES, Kind, Outcomes
from mainstay.records.spans import Span
from mainstay.records.traces import Search, Trace
from mainstay.storage import schema
from mainstay.storage.alerts import SqlAlerts
from mainstay.storage.audit import SqlAudit
from mainstay.storage.database import DIALECTS, Database
from mainstay.storage.figures import SqlFigures
from mainstay.storage.measures import SqlMeasures
from mainstay.storage.outcomes import SqlOutcomes, has_outcome
from mainstay.storage.traces import SqlTraces
from mainstay.types import Actor

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
ALICE = Actor(principal="user:alice")


@pytest.fixture(scope="module", params=DIALECTS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    skip_without_postgres(request.param)
    opened, close = open_fresh(request.param, tmp_path_factory.mktemp("outcomes"))
    yield opened
    close()


@pytest.fixture
def empty(database: Database) -> Database:
    with database.write() as connection:
        for table in (schema.outcome, schema.alert, schema.silence, schema.measure, schema.trace, schema.fact):
            connection.execute(delete(table))
    return database


def redacted(text: str) -> str:
    return text.replace("hunter2", "[secret]")


def book(database: Database) -> tuple[Outcomes, FixedClock]:
    clock = FixedClock(NOW)
    return Outcomes(SqlOutcomes(database), clock, redact=redacted), clock


def answered(database: Database, *request_ids: str, cost: int = 1000, **more: str) -> None:
    SqlMeasures(database).keep_all(
        [
            Measured(
                request_id=request_id,
                at=NOW - timedelta(hours=1),
                principal="user:alice",
                status="answered",
                cost_nanodollars=cost,
                **{"release": "rel_1", "mode": "full", "model": "writer", **more},  # type: ignore[arg-type]  # texts
            )
            for request_id in request_ids
        ]
    )


# -- taking in ---------------------------------------------------------------------------------------------------------
def test_what_is_kept(empty: Database) -> None:
    outcomes, _ = book(empty)
    answered(empty, "req_1")
    held = outcomes.record(
        "req_1",
        Kind.SOLVED,
        by="service:helpdesk",
        value=12,
        unit="minutes",
        source="helpdesk",
        at=NOW - timedelta(minutes=5),
        comment="the password hunter2 worked",
        fields={"ticket": "T-7", "said": "hunter2", "stars": 4, "again": False},
        mark="T-7:solved",
    )
    found = outcomes.of("req_1", ALICE, all_of=True)
    assert found == [held]
    assert held.comment == "the password [secret] worked"
    assert held.fields == {"ticket": "T-7", "said": "[secret]", "stars": 4, "again": False}
    assert (held.value, held.unit, held.at) == (12.0, "minutes", NOW - timedelta(minutes=5))


def test_told_again_it_is_kept_once(empty: Database) -> None:
    outcomes, clock = book(empty)
    answered(empty, "req_1", "req_2")
    first = outcomes.record("req_1", Kind.SOLVED, by="a", mark="k", value=1)
    clock.advance(timedelta(hours=2))
    assert outcomes.record("req_1", Kind.SOLVED, by="a", mark="k", value=1) == first
    with pytest.raises(Conflict):
        outcomes.record("req_1", Kind.REJECTED, by="a", mark="k", value=1)
    assert outcomes.record("req_2", Kind.SOLVED, by="a", mark="k", value=1) != first
    outcomes.record("req_1", Kind.SOLVED, by="a", value=1)
    assert len(outcomes.of("req_1", ALICE, all_of=True)) == 2, "without a key each is one of its own"


def test_many_threads_tell_the_same(empty: Database) -> None:
    outcomes, _ = book(empty)
    answered(empty, "req_1")
    threads = [
        threading.Thread(target=lambda: outcomes.record("req_1", Kind.ACCEPTED, by="a", mark="once")) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes.of("req_1", ALICE, all_of=True)) == 1


def test_a_request_that_never_was(empty: Database) -> None:
    outcomes, _ = book(empty)
    for request_id in ("req_no", "", "req_\0", "ré", "x" * 500):
        with pytest.raises(NotFound):
            outcomes.record(request_id, Kind.SOLVED, by="a")
    SqlTraces(empty).keep(
        Trace(request_id="req_t", at=NOW, asker="user:alice", kind="answer", status="answered", spans=())
    )
    outcomes.record("req_t", Kind.SOLVED, by="a")


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": float("nan")},
        {"value": 1e300},
        {"unit": "x" * 65},
        {"unit": "<script>"},
        {"comment": "x" * 2001},
        {"at": NOW + timedelta(hours=1)},
        {"at": datetime(2026, 3, 1)},  # noqa: DTZ001 - that it has no zone is what is wrong
        {"at": datetime(1999, 1, 1, tzinfo=UTC)},
        {"mark": "a b"},
        {"mark": "x" * 129},
        {"fields": {f"f{n}": 1 for n in range(17)}},
        {"fields": {"a b": 1}},
        {"fields": {"a": float("inf")}},
        {"fields": {"a": "x" * 201}},
    ],
    ids=str,
)
def test_what_can_not_be_kept(empty: Database, wrong: dict[str, object]) -> None:
    outcomes, _ = book(empty)
    answered(empty, "req_1")
    with pytest.raises(Invalid):
        outcomes.record("req_1", Kind.SOLVED, by="a", **wrong)  # type: ignore[arg-type]  # what is wrong with it
    assert outcomes.of("req_1", ALICE, all_of=True) == []


def test_thumbs_of_ones_own_answers_alone(empty: Database) -> None:
    outcomes, clock = book(empty)
    answered(empty, "req_1")
    with pytest.raises(NotFound):
        outcomes.feedback(Actor(principal="user:bram"), "req_1", up=True)
    outcomes.feedback(ALICE, "req_1", up=False, comment="wrong year")
    clock.advance(timedelta(minutes=1))
    outcomes.feedback(ALICE, "req_1", up=True)
    outcomes.record("req_1", Kind.COMPLAINT, by="service:helpdesk", comment="about alice")
    assert [one.value for one in outcomes.of("req_1", ALICE, all_of=False)] == [1.0, 0.0]
    with pytest.raises(NotFound):
        outcomes.of("req_1", Actor(principal="user:bram"), all_of=False)
    row = outcomes.report("release", since=NOW - MONTH, until=NOW)[0]
    assert (row.up, row.kinds["thumbs"]) == (1, 1), "the newest counts"


def test_what_somebody_said_can_be_taken_back(empty: Database) -> None:
    outcomes, _ = book(empty)
    answered(empty, "req_1")
    outcomes.feedback(ALICE, "req_1", up=False, comment="my own words")
    assert outcomes.store.unsay("user:alice", NOW) == 1
    held = outcomes.of("req_1", ALICE, all_of=True)[0]
    assert (held.by, held.comment, held.value) == ("[taken back]", "", 0.0)
    log = SqlAudit(empty, FixedClock(NOW))
    said = log.list(Filters(action="outcomes.erased")).events
    assert [(one.subject, one.details) for one in said] == [("user:alice", {"outcomes": 1})]
    assert outcomes.store.unsay("user:alice", NOW) == 0
    assert len(log.list(Filters(action="outcomes.erased")).events) == 1


def test_what_a_legal_hold_binds_is_not_taken_back(empty: Database) -> None:
    outcomes, _ = book(empty)
    log = SqlAudit(empty, FixedClock(NOW))
    answered(empty, "req_1", "req_2")
    for name in ("req_1", "req_2"):
        outcomes.feedback(ALICE, name, up=False, comment="my own words")
    on_request = log.hold("request:req_1", "case 12")
    assert outcomes.store.unsay("user:alice", NOW) == 1
    assert [one.comment for one in outcomes.of("req_1", ALICE, all_of=True)] == ["my own words"]
    log.lift(on_request.id, "closed")
    on_person = log.hold("user:alice", "case 13")
    assert outcomes.store.unsay("user:alice", NOW) == 0
    log.lift(on_person.id, "closed")
    assert outcomes.store.unsay("user:alice", NOW) == 1


# -- counting ----------------------------------------------------------------------------------------------------------
def test_the_newest_that_decides_says_whether_it_is_solved(empty: Database) -> None:
    outcomes, clock = book(empty)
    answered(empty, "req_1", "req_2", "req_3", "req_4", "req_5", cost=3000)
    outcomes.record("req_1", Kind.TICKET_CLOSED, by="a")
    outcomes.record("req_2", Kind.TICKET_CLOSED, by="a")
    clock.advance(timedelta(hours=1))
    outcomes.record("req_2", Kind.REOPENED, by="a")
    outcomes.record("req_1", Kind.REOPENED, by="a", at=NOW - timedelta(minutes=30))  # late news of before
    outcomes.record("req_3", Kind.EDITED, by="a")
    outcomes.record("req_4", Kind.THUMBS, by="a", value=1)
    (row,) = outcomes.report("release", since=NOW - MONTH, until=NOW)
    assert (row.name, row.requests, row.reported, row.decided, row.solved) == ("rel_1", 5, 4, 2, 1)
    assert row.rate == 0.5
    assert row.low is not None
    assert row.high is not None
    assert row.low < 0.5 < row.high
    assert row.cost_n == 6000, "both cost something, one is solved"


def test_by_every_axis(empty: Database) -> None:
    outcomes, _ = book(empty)
    answered(empty, "req_1", "req_2", model="small")
    answered(empty, "req_3", model="big", mode="economy", release="rel_2")
    traces = SqlTraces(empty)
    for request_id, route in (("req_1", ["cache:miss", "small:answered"]), ("req_3", ["cache:hit"])):
        traces.keep(
            Trace(
                request_id=request_id,
                at=NOW,
                asker="user:alice",
                kind="answer",
                status="answered",
                spans=(
                    Span(kind="retrieve", start_ms=0, duration_ms=1),
                    Span(kind="generate", start_ms=0, duration_ms=1, attributes={"prompt": "answer@3"}),
                ),
                facts={"route": route},
            )
        )
    for request_id in ("req_1", "req_2", "req_3"):
        outcomes.record(request_id, Kind.SOLVED, by="a")
    wanted = {
        "release": {"rel_1": 2, "rel_2": 1},
        "model": {"small": 2, "big": 1},
        "mode": {"full": 2, "economy": 1},
        "route": {"cache:miss small:answered": 1, "cache:hit": 1, "": 1},
        "prompt": {"answer@3": 2, "": 1},
    }
    for axis in AXES:
        rows = outcomes.report(axis, since=NOW - MONTH, until=NOW)
        assert {row.name: row.requests for row in rows} == wanted[axis]
        assert {row.name: row.solved for row in rows} == wanted[axis]
        assert outcomes.report(axis, since=NOW, until=NOW + MONTH) == []


def test_counts_equal_those_of_a_simple_program(empty: Database) -> None:
    source = random.Random(11)
    print("seed 11")
    outcomes, clock = book(empty)
    names = [f"req_{n:03}" for n in range(60)]
    for name in names:
        answered(empty, name, model=source.choice(["small", "big"]), cost=source.randint(0, 10_000))
    told: dict[str, list[tuple[datetime, Kind]]] = {}
    for _ in range(150):
        name, kind = source.choice(names[:45]), source.choice([kind for kind in Kind if kind is not Kind.THUMBS])
        at = NOW - timedelta(seconds=source.randint(0, 100_000))
        clock.advance(timedelta(seconds=1))
        outcomes.record(name, kind, by="a", at=at)
        told.setdefault(name, []).append((at, kind))
    good = 0
    for said in told.values():
        deciding = [(at, kind) for at, kind in said if kind is not Kind.EDITED]
        newest = {kind: max(at for at, other in deciding if other is kind) for _, kind in deciding}
        if newest:
            last = max(newest.values())
            bad = {Kind.REJECTED, Kind.REOPENED, Kind.ESCALATED, Kind.UNDONE, Kind.COMPLAINT}
            good += not any(kind in bad for kind, at in newest.items() if at == last)
    rows = outcomes.report("model", since=NOW - MONTH, until=NOW)
    assert sum(row.reported for row in rows) == len(told)
    assert sum(row.solved for row in rows) == good


def test_traces_are_found_by_outcome(empty: Database) -> None:
    outcomes, _ = book(empty)
    traces = SqlTraces(empty, outcome=has_outcome)
    for name in ("req_1", "req_2"):
        traces.keep(Trace(request_id=name, at=NOW, asker="user:alice", kind="answer", status="answered", spans=()))
    outcomes.record("req_1", Kind.REJECTED, by="a")
    assert [one.request_id for one in traces.search(Search(outcome="rejected")).traces] == ["req_1"]
    assert [one.request_id for one in traces.search(Search(outcome="any")).traces] == ["req_1"]
    assert traces.search(Search(outcome="solved")).traces == ()


def test_forgetting(empty: Database) -> None:
    outcomes, clock = book(empty)
    answered(empty, "req_1")
    outcomes.record("req_1", Kind.SOLVED, by="a", at=NOW - timedelta(days=400))
    assert outcomes.store.prune(NOW) == 0, "by when it was told"
    assert outcomes.store.prune(clock.now() + timedelta(seconds=1)) == 1


# -- alerts ------------------------------------------------------------------------------------------------------------
BURN = Burn(
    long_s=3600, short_s=300, threshold=14.4, long_burn=50.0, short_burn=60.0, low_burn=40.0, events=100, bad=5.5
)
ALERT = Alert(id="alr_1", objective="up", severity=Severity.PAGE, opened=NOW, looked=NOW, burns=(BURN,))


def test_one_alert_an_objective_and_severity(empty: Database) -> None:
    alerts = SqlAlerts(empty)
    assert alerts.begin(ALERT)
    assert not alerts.begin(replace(ALERT, id="alr_2")), "another process was quicker"
    assert alerts.begin(replace(ALERT, id="alr_3", severity=Severity.TICKET))
    assert alerts.begin(replace(ALERT, id="alr_4", objective="fast"))
    assert alerts.get("alr_1") == ALERT
    alerts.looked(replace(ALERT, looked=NOW + timedelta(hours=1), resolved=NOW + timedelta(hours=1)))
    assert alerts.begin(replace(ALERT, id="alr_5", opened=NOW + timedelta(hours=2))), "the first one is over"
    assert [one.id for one in alerts.open_alerts()] == ["alr_3", "alr_4", "alr_5"]
    alerts.looked(replace(ALERT, looked=NOW + timedelta(hours=3), burns=()))
    held = alerts.get("alr_1")
    assert held is not None
    assert held.burns, "what is over stays as it is"


def test_one_look_at_a_time(empty: Database) -> None:
    alerts = SqlAlerts(empty)
    won: list[datetime] = []
    every = timedelta(seconds=45)

    def look() -> None:
        last = SqlAlerts(empty).claim(NOW, every)
        if last is not None:
            won.append(last)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert alerts.claim(NOW + timedelta(seconds=44), every) is None
    assert alerts.claim(NOW + timedelta(seconds=45), every) == NOW
    assert alerts.claim(NOW - timedelta(hours=1), every) is not None, "the clock was set back: nothing waits for it"


def test_telling_and_taking(empty: Database) -> None:
    alerts = SqlAlerts(empty)
    alerts.begin(ALERT)
    alerts.told([ALERT], NOW, "firing")
    held = alerts.acknowledge("alr_1", by="user:olga", note="on it", at=NOW)
    assert held is not None
    assert (held.told, held.notices, held.acknowledged_by, held.note) == (NOW, 1, "user:olga", "on it")
    assert alerts.to_tell_over() == []
    alerts.looked(replace(held, resolved=NOW))
    assert [one.id for one in alerts.to_tell_over()] == ["alr_1"]
    alerts.told([held], NOW, "resolved")
    assert alerts.to_tell_over() == []
    assert alerts.acknowledge("alr_1", by="x", note="", at=NOW) is None, "it is over"
    assert alerts.acknowledge("alr_\0", by="x", note="", at=NOW) is None
    assert [one.id for one in alerts.list(since=NOW)] == ["alr_1"]
    assert alerts.list(since=NOW + timedelta(seconds=1)) == []
    assert alerts.prune(NOW + timedelta(seconds=1)) == 1


def test_silences(empty: Database) -> None:
    alerts = SqlAlerts(empty)
    made = Silence(
        id="sil_1", objective="up", severity="", since=NOW, until=NOW + timedelta(hours=1), by="user:olga", note="x"
    )
    alerts.silence(made)
    assert alerts.silences(NOW) == [made]
    assert made.covers(ALERT, NOW)
    assert not made.covers(replace(ALERT, objective="fast"), NOW)
    assert not made.covers(ALERT, NOW + timedelta(hours=1))
    ended = alerts.unsilence("sil_1", by="user:olga", at=NOW + timedelta(minutes=1))
    assert ended is not None
    assert alerts.silences(NOW + timedelta(minutes=1)) == []
    assert alerts.unsilence("sil_1", by="user:olga", at=NOW + timedelta(minutes=2)) is None


def test_figures_of_money(empty: Database) -> None:
    day, month = timedelta(days=1), timedelta(days=31)
    with empty.write() as connection:
        connection.execute(delete(schema.money_scope))
        for scope_id, kind, length, held in (("1", "user", day, 5), ("2", "user", day, 7), ("3", "service", month, 9)):
            start = int((NOW - timedelta(hours=12)).timestamp() * 1e6)
            end = start + int(length.total_seconds() * 1e6)
            connection.execute(
                schema.money_scope.insert().values(
                    scope_id=scope_id,
                    kind=kind,
                    name=f"user:secret-name-{scope_id}",
                    window_start=start,
                    window_end=end,
                    limit_n=100,
                    settled_n=10,
                    held_n=held,
                )
            )
    rows = SqlFigures(empty).money(NOW)
    assert ("user", "day", "held", 12) in rows
    assert ("service", "month", "settled", 10) in rows
    assert SqlFigures(empty).money(NOW + timedelta(days=40)) == []
    assert "secret" not in str(rows)
    assert SqlFigures(empty).index() == {"documents": 0, "chunks": 0, "vectors": 0}
