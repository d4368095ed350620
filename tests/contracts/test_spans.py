"""Steps, searches, imported traces, texts and retention of the port Traces, over every database."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, select
from tests.support.databases import open_fresh

from mainstay.clock import FixedClock
from mainstay.errors import Invalid
from mainstay.records.audit import Filters
from mainstay.records.measures import Measured
from mainstay.records.spans import MAX_BATCH, MAX_TRACE_SPANS, ImportedSpan, Ingested
from mainstay.records.traces import Journey, Kept, Search, Span, Trace
from mainstay.storage import traces as module
from mainstay.storage.audit import SqlAudit
from mainstay.storage.database import Database
from mainstay.storage.rows import micros
from mainstay.storage.schema import measure, span, trace, trace_content
from mainstay.storage.traces import SqlTraces
from mainstay.types import Actor

CLOCK = FixedClock()
NOW = CLOCK.now()
BEGAN = micros(NOW) or 0


def journey(n: int, **changes: object) -> Trace:
    """A journey with a step that has two parts."""
    made = Journey(f"req_{n:06}", Actor(principal=f"user:u{n % 3}"), "answer", CLOCK)
    made.span("admit", question_chars=n)
    made.part("step", CLOCK.monotonic(), name="attempt", error="rate")
    made.part("step", CLOCK.monotonic(), name="attempt")
    made.span("generate", model="small", error="" if n % 4 else "overload")
    held = replace(made.trace("answered"), at=NOW + timedelta(milliseconds=n))
    return replace(held, **changes)  # type: ignore[arg-type]  # tests name fields


def imported(trace_id: int, n: int, *, parent: int = 0, start_ms: float = 0.0, **changes: object) -> ImportedSpan:
    made = ImportedSpan(
        trace_id=f"{trace_id:032x}",
        span_id=f"{n:016x}",
        parent_id=f"{parent:016x}" if parent else "",
        kind="generate",
        name=f"chat {n} ä",
        start_us=BEGAN + int(start_ms * 1000),
        duration_ms=10.0,
        attributes={"a": [1, {"b": None}], "n": n},
        principal="service:crm",
        service="crm",
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # tests name fields


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Database]:
    """SQLite: PostgreSQL plans by what is in a table, not by its indexes alone."""
    database, close = open_fresh("sqlite", tmp_path)
    yield database
    close()


@pytest.fixture
def traces(opened: Database) -> SqlTraces:
    return SqlTraces(opened)


# -- own journeys ------------------------------------------------------------------------------------------------------


def test_a_journey_with_parts_comes_back_as_it_was(traces: SqlTraces) -> None:
    kept = journey(
        0, mode="full", door="chat", cost_nanodollars=2**40, first_ms=1.5, failed=True, parent_id="0" * 15 + "1"
    )
    traces.keep(kept)
    assert traces.get("req_000000") == kept
    admit, generate, *parts = kept.spans
    assert (admit.parent_id, generate.parent_id) == (kept.root_id, kept.root_id)
    assert [part.parent_id for part in parts] == [generate.span_id] * 2
    assert (parts[0].status, parts[0].error_class, parts[1].status) == ("error", "rate", "ok")
    assert len({one.span_id for one in kept.whole}) == 5
    assert kept.whole[0].parent_id == "0" * 15 + "1"
    bare = traces.skeleton("req_000000")
    assert bare is not None
    assert [one.span_id for one in bare.spans] == [one.span_id for one in kept.spans]
    assert not any(one.attributes for one in bare.spans)
    assert traces.span("req_000000", generate.span_id) == generate
    assert traces.span("req_000000", kept.root_id) == kept.whole[0]
    assert traces.span("req_000000", "f" * 16) is None
    assert traces.span("req_other", generate.span_id) is None


def test_by_the_id_of_its_trace(traces: SqlTraces) -> None:
    traces.keep(journey(1))
    assert traces.get(journey(1).trace_id) == journey(1)
    assert traces.get("f" * 32) is None
    for odd in ("req_\0", "ä", "'; --", ""):
        assert traces.get(odd) is None


def test_a_batch_is_written_together(opened: Database, traces: SqlTraces) -> None:
    measured = [Measured(request_id=f"req_{n:06}", at=NOW) for n in range(3)]
    put: list[object] = []

    class Decisions:
        def put_all(self, connection: Connection, records: Sequence[object]) -> None:
            assert connection.in_transaction()
            put.extend(records)

    writing = SqlTraces(opened, decisions=Decisions())
    writing.keep_all(
        [
            Kept(trace=journey(n), measured=measured[n], decision=f"d{n}" if n else None, content={"question": "?"})
            for n in range(3)
        ]
    )
    assert put == ["d1", "d2"]
    assert traces.content("req_000002") == {"question": "?"}
    with opened.read() as connection:
        assert len(connection.execute(select(measure)).all()) == 3

    class Broken:
        def put_all(self, connection: Connection, records: Sequence[object]) -> None:
            raise Invalid("no")

    with pytest.raises(Invalid):
        SqlTraces(opened, decisions=Broken()).keep(journey(9), Measured(request_id="req_000009", at=NOW), decision="x")
    assert traces.get("req_000009") is None, "all or none"


# -- searching ---------------------------------------------------------------------------------------------------------


def everything(traces: SqlTraces, wanted: Search) -> list[str]:
    found: list[str] = []
    for _ in range(500):
        page = traces.search(wanted)
        assert len(page.traces) <= wanted.limit
        found += [one.request_id for one in page.traces]
        if not page.next:
            return found
        wanted = replace(wanted, after=page.next)
    raise AssertionError("it does not end")


def test_searches_are_what_the_filters_say(
    opened: Database, traces: SqlTraces, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(seed := 20261122)
    rng = random.Random(seed)
    monkeypatch.setattr(module, "LOOK_AT", 17)  # so that pages end before they are full
    monkeypatch.setattr(module, "LOOK_AT_ROWS", 11)
    kept = [
        journey(
            n,
            at=NOW + timedelta(milliseconds=rng.randrange(40)),  # many at the same moment
            status=rng.choice(["answered", "refused"]),
            mode=rng.choice(["full", "economy"]),
            model=rng.choice(["a", "b", ""]),
            release=rng.choice(["r1", "r2"]),
            door=rng.choice(["chat", "cli"]),
            kind=rng.choice(["answer", "audit"]),
            failed=rng.random() < 0.2,
            cost_nanodollars=rng.randrange(100),
            duration_ms=float(rng.randrange(100)),
        )
        for n in range(120)
    ]
    traces.keep_all([Kept(trace=one) for one in kept])
    order = sorted(kept, key=lambda one: (one.at, one.request_id), reverse=True)
    for _ in range(60):
        chosen = rng.choice(kept)
        said: dict[str, object] = {
            name: getattr(chosen, name)
            for name in ("asker", "status", "mode", "model", "release", "door", "kind", "failed", "trace_id")
            if rng.random() < (0.05 if name == "trace_id" else 0.25)
        }
        if rng.random() < 0.3:
            said["min_cost"] = rng.randrange(1, 100)
        if rng.random() < 0.3:
            said["min_ms"] = float(rng.randrange(1, 100))
        if rng.random() < 0.3:
            said["since"] = NOW + timedelta(milliseconds=rng.randrange(40))
        if rng.random() < 0.3:
            said["before"] = NOW + timedelta(milliseconds=rng.randrange(40))
        wanted = Search(limit=rng.randrange(1, 30), **said)  # type: ignore[arg-type]  # drawn by name
        assert everything(traces, wanted) == [one.request_id for one in order if fits(one, wanted)], said


def fits(one: Trace, wanted: Search) -> bool:
    """The filters once more, in the plainest words."""
    names = ("asker", "status", "mode", "model", "release", "door", "kind", "trace_id")
    same = all(getattr(one, name) == value for name in names if (value := getattr(wanted, name)))
    failed = wanted.failed is None or one.failed == wanted.failed
    dear = one.cost_nanodollars >= wanted.min_cost and one.duration_ms >= wanted.min_ms
    times = (wanted.since is None or one.at >= wanted.since) and (wanted.before is None or one.at < wanted.before)
    return same and failed and dear and times


def test_lists_carry_no_steps(traces: SqlTraces) -> None:
    traces.keep(journey(1))
    (shown,) = traces.search(Search()).traces
    assert (shown.spans, shown.span_count) == ((), 4)


def test_a_cursor_of_nobodys_is_refused(traces: SqlTraces) -> None:
    for odd in ("x", "1", "~", "-1~req", "1" * 30 + "~a", "1~\0", "1~ä"):
        if odd == "1":
            traces.search(Search(after=odd))  # a moment alone is one
            continue
        with pytest.raises(Invalid):
            traces.search(Search(after=odd))
    with pytest.raises(Invalid):
        traces.search(Search(outcome="solved"))


def test_outcomes_are_joined(opened: Database, traces: SqlTraces) -> None:
    traces.keep_all([Kept(trace=journey(n)) for n in range(4)])
    joined = SqlTraces(opened, outcome=lambda name: trace.c.request_id == f"req_00000{name}")
    assert everything(joined, Search(outcome="2")) == ["req_000002"]


@contextmanager
def plans(database: Database) -> Iterator[list[str]]:
    """What SQLite does for each statement that is sent meanwhile."""
    said: list[str] = []
    engine = database._engine  # type: ignore[attr-defined]  # the contract's test looks behind the port

    def explain(connection: Connection, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT"):
            driver = connection.connection.driver_connection
            assert driver is not None
            rows = driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            said.extend(row[3] for row in rows)

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield said
    finally:
        event.remove(engine, "before_cursor_execute", explain)


@pytest.mark.parametrize(
    "wanted",
    [
        Search(),
        Search(asker="user:u1"),
        Search(asker="user:u1", status="refused", min_ms=9.0),
        Search(failed=True),
        Search(failed=True, model="a"),
        Search(status="refused"),
        Search(min_cost=5),
        Search(mode="economy", model="a", release="r", door="cli", kind="answer", min_cost=1, min_ms=1.0, failed=False),
        Search(trace_id="a" * 32),
        Search(since=NOW, before=NOW + timedelta(days=1), status="refused"),
    ],
    ids=str,
)
def test_no_search_reads_the_table(file: Database, wanted: Search) -> None:
    traces = SqlTraces(file)
    traces.keep_all([Kept(trace=journey(n)) for n in range(5)])
    for after in ("", f"{BEGAN + 5000}~req_z"):
        with plans(file) as said:
            traces.search(replace(wanted, after=after))
        assert said
        for step in said:
            # Each table by an index, and nothing is sorted but the few requests of one trace.
            assert "USING" in step or (wanted.trace_id and step == "USE TEMP B-TREE FOR ORDER BY"), step
        if not (wanted.asker or wanted.trace_id or wanted.failed):
            assert any("COVERING INDEX trace_by_time" in step for step in said), said


def test_reading_an_imported_trace_goes_by_its_key(file: Database) -> None:
    traces = SqlTraces(file)
    traces.ingest([imported(1, 1)])
    with plans(file) as said:
        traces.skeleton("trace_" + "0" * 31 + "1")
        traces.span("trace_" + "0" * 31 + "1", "0" * 15 + "1")
    assert said
    assert all(step.startswith("SEARCH") for step in said), said


# -- imported ----------------------------------------------------------------------------------------------------------


def test_an_imported_trace_reads_like_one_of_ours(traces: SqlTraces) -> None:
    said = traces.ingest(
        [
            imported(
                1, 2, parent=1, start_ms=5, model="small", input_tokens=3, cost_nanodollars=7, content={"q": "Hm?"}
            ),
            imported(1, 1, name="root", status="error", duration_ms=50.0),
            imported(2, 1),
        ]
    )
    assert said == Ingested(kept=3)
    held = traces.get("trace_" + "0" * 31 + "1")
    assert held is not None
    assert held == replace(traces.get("0" * 31 + "1") or held)
    assert held.imported
    assert (held.name, held.status, held.failed, held.model) == ("root", "error", True, "small")
    assert (held.duration_ms, held.input_tokens, held.cost_nanodollars, held.span_count) == (50.0, 3, 7, 2)
    assert [(one.span_id[-1:], one.start_ms, one.name) for one in held.spans] == [
        ("1", 0.0, "root"),
        ("2", 5.0, "chat 2 ä"),
    ]
    assert held.spans[1].attributes["a"] == [1, {"b": None}]
    assert held.spans[1].attributes["model"] == "small"
    assert traces.span(held.request_id, "0" * 15 + "2") == held.spans[1]
    assert traces.content(held.request_id) == {"0" * 15 + "2.q": "Hm?"}
    assert [one.request_id[-1:] for one in traces.search(Search(kind="imported")).traces] == ["2", "1"]


@pytest.mark.parametrize("count", [1, 2, 127, 300])
def test_a_batch_of_any_size_is_kept_whole(traces: SqlTraces, count: int) -> None:
    sent = [
        imported(
            7 + n % 3,
            n + 1,
            parent=n,
            start_ms=float(n),
            first_ms=None if n % 2 else n / 8,
            input_tokens=n * 2**20,
            cost_nanodollars=2**40 * (n % 2),
            model="small" if n % 3 else "",
            error_class="late" if n % 5 == 0 else "",
            attributes={} if n % 7 == 0 else {"n": n, "x": 'ä\n"', "big": 2**62, "some": [0.1, None, True, 1e300]},
        )
        for n in range(count)
    ]
    assert traces.ingest(sent) == Ingested(kept=count)
    assert traces.ingest([*sent[::2], imported(7, count + 1)]) == Ingested(kept=1, known=len(sent[::2]))
    for one in sent:
        held = traces.span(f"trace_{one.trace_id}", one.span_id)
        assert held is not None
        said = {
            "service": one.service,
            "model": one.model,
            "input_tokens": one.input_tokens,
            "cost_nanodollars": one.cost_nanodollars,
            "first_ms": one.first_ms,
        }
        assert held.attributes == {**one.attributes, **{name: value for name, value in said.items() if value}}
        assert (held.parent_id, held.kind, held.name) == (one.parent_id, one.kind, one.name)
        assert (held.duration_ms, held.status, held.error_class) == (one.duration_ms, one.status, one.error_class)


def test_spans_that_come_again_change_nothing(opened: Database, traces: SqlTraces) -> None:
    batch = [imported(1, n, parent=n - 1, cost_nanodollars=1) for n in range(1, 6)]
    assert traces.ingest(batch[:3]) == Ingested(kept=3)
    assert traces.ingest([*batch, batch[0]]) == Ingested(kept=2, known=4)
    assert traces.ingest(batch) == Ingested(known=5)
    held = traces.get("0" * 31 + "1")
    assert held is not None
    assert (held.span_count, held.cost_nanodollars) == (5, 5)
    with opened.read() as connection:
        assert len(connection.execute(select(span)).all()) == 5


def test_late_and_early_spans_stretch_the_trace(traces: SqlTraces) -> None:
    traces.ingest([imported(1, 2, parent=1, start_ms=100)])
    traces.ingest([imported(1, 3, parent=1, start_ms=200)])
    traces.ingest([imported(1, 1, start_ms=50, duration_ms=20.0)])
    held = traces.get("0" * 31 + "1")
    assert held is not None
    assert held.at == NOW + timedelta(milliseconds=50)
    assert held.duration_ms == pytest.approx(160.0)
    assert [one.start_ms for one in held.spans] == [0.0, 50.0, 150.0]


def test_a_trace_that_two_send_is_nobodys_own(traces: SqlTraces) -> None:
    traces.ingest([imported(1, 1)])
    traces.ingest([imported(1, 2, principal="service:other")])
    held = traces.get("0" * 31 + "1")
    assert held is not None
    assert held.asker == ""


def test_requests_of_ours_stand_within_the_callers_trace(traces: SqlTraces) -> None:
    own = journey(
        1, trace_id=f"{1:032x}", parent_id=f"{1:016x}", asker="service:crm", at=NOW + timedelta(milliseconds=3)
    )
    stranger = journey(2, trace_id=f"{1:032x}", asker="user:alice")
    traces.keep_all([Kept(trace=own), Kept(trace=stranger)])
    traces.ingest([imported(1, 1, duration_ms=20.0)])
    held = traces.get("0" * 31 + "1")
    assert held is not None
    assert len(held.spans) == 1 + len(own.whole)
    root = next(one for one in held.spans if one.span_id == own.root_id)
    assert (root.start_ms, root.parent_id) == (3.0, f"{1:016x}")
    assert traces.span(held.request_id, own.spans[0].span_id) is not None
    assert traces.span(held.request_id, stranger.spans[0].span_id) is None
    assert everything(traces, Search(trace_id=f"{1:032x}")) == ["req_000001", "req_000002", held.request_id]


def test_what_is_too_much_is_refused(opened: Database, traces: SqlTraces) -> None:
    with pytest.raises(Invalid):
        traces.ingest([imported(1, 1)] * (MAX_BATCH + 1))
    assert traces.ingest([]) == Ingested()
    traces.ingest([imported(1, 1)])
    with opened.write() as connection:
        connection.execute(trace.update().values(span_count=MAX_TRACE_SPANS))
    said = traces.ingest([imported(1, 2), imported(2, 1)])
    assert (said.kept, said.refused) == (1, 1)
    assert str(MAX_TRACE_SPANS) in said.why


def test_two_writers_count_each_span_once(traces: SqlTraces) -> None:
    batch = [imported(t, n, cost_nanodollars=1) for t in range(1, 5) for n in range(1, 26)]
    kept: list[int] = []

    def send(seed: int) -> None:
        mixed = random.Random(seed).sample(batch, len(batch))
        kept.append(sum(traces.ingest(mixed[at : at + 20]).kept for at in range(0, 100, 20)))

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(kept) == 100
    for t in range(1, 5):
        held = traces.get(f"{t:032x}")
        assert held is not None
        assert (held.span_count, held.cost_nanodollars, len(held.spans)) == (25, 25, 25)


# -- keeping and forgetting --------------------------------------------------------------------------------------------


def at(days: float) -> datetime:
    return NOW - timedelta(days=days)


def test_classes_of_retention_and_holds(opened: Database, traces: SqlTraces) -> None:
    old, newer = journey(1, at=at(100)), journey(2, at=at(40))
    held = journey(3, at=at(100))
    traces.keep_all([Kept(trace=one, content={"question": "?"}) for one in (old, newer, held)])
    traces.ingest([imported(1, n, start_ms=-100 * 86400e3, content={"q": "?"}) for n in (1, 2)])
    assert traces.hold("req_000003", "case 7", at=NOW)
    assert not traces.hold("req_nothing", "x", at=NOW)
    prune = partial(traces.prune, at(90), content_before=at(30), passing_before=at(1))
    first = prune(dry_run=True)
    assert (first.traces, first.spans, first.contents, first.held) == (2, 2, 4, 1)
    assert traces.get("req_000001") == old, "a dry run deletes nothing"
    assert prune() == first
    assert traces.get("req_000001") is None
    assert traces.get("0" * 31 + "1") is None
    assert traces.get("req_000002") == newer
    assert traces.content("req_000002") is None
    assert traces.content("req_000003") == {"question": "?"}
    with opened.read() as connection:
        assert connection.execute(select(span)).all() == []
        assert len(connection.execute(select(trace_content)).all()) == 1
    assert traces.hold("req_000003", "", at=NOW, why="closed")
    events = SqlAudit(opened, FixedClock()).list(Filters()).events
    assert [(one.action, one.subject, one.why) for one in events] == [
        ("hold.lifted", "request:req_000003", "closed"),
        ("hold.placed", "request:req_000003", "case 7"),
    ]
    assert prune().traces == 1
    assert traces.get("req_000003") is None


def test_a_legal_hold_on_a_person_or_a_request_binds_their_journeys(opened: Database, traces: SqlTraces) -> None:
    audit = SqlAudit(opened, FixedClock())
    of_user, other, of_request = journey(1, at=at(100)), journey(2, at=at(100)), journey(3, at=at(100))
    other, of_request = (replace(one, asker=f"user:other{n}") for n, one in enumerate((other, of_request)))
    traces.keep_all([Kept(trace=one, content={"question": "?"}) for one in (of_user, other, of_request)])
    holds = [audit.hold(of_user.asker, "case 7"), audit.hold("request:req_000003", "case 8")]
    pruned = traces.prune(at(90))
    assert (pruned.traces, pruned.held, pruned.contents) == (1, 2, 1)
    assert traces.get("req_000001") == of_user
    assert traces.content("req_000003") == {"question": "?"}
    for held in holds:
        audit.lift(held.id, "closed")
    assert traces.prune(at(90)).traces == 2


def test_what_sampling_left_out_loses_its_steps_alone(traces: SqlTraces) -> None:
    passing = [journey(n, kept="passing", at=at(2), facts={"n": n}) for n in range(3)]
    traces.keep_all([Kept(trace=one) for one in (*passing, journey(7, kept="passing"), journey(8, at=at(2)))])
    assert traces.mark("req_000001", "feedback")
    assert not traces.mark("req_000008", "feedback"), "it stays as it is"
    said = traces.prune(at(90), passing_before=at(1), dry_run=True)
    assert (said.traces, said.dropped) == (0, 2)
    assert traces.prune(at(90), passing_before=at(1)) == said
    left = {n: traces.get(f"req_{n:06}") for n in (0, 1, 2, 7, 8)}
    assert {n: one.kept for n, one in left.items() if one} == {
        0: "dropped",
        1: "feedback",
        2: "dropped",
        7: "passing",
        8: "all",
    }
    gone = left[0]
    assert gone is not None
    assert (gone.spans, gone.span_count, gone.facts) == ((), 4, {"n": 0})
    assert traces.prune(at(90), passing_before=at(1)).dropped == 0


def test_a_step_knows_when_it_ends() -> None:
    assert Span(kind="step", start_ms=1.0, duration_ms=2.0).end_ms == 3.0
