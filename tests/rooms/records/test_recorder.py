"""Journeys are written beside requests: in batches, whole, and nothing is forgotten when the disk refuses for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.support.databases import open_fresh

from mainstay.clock import FixedClock
from mainstay.errors import Unavailable
from mainstay.guard.redaction import clean
from mainstay.records.content import RecordSettings
from mainstay.records.measures import Measured
from mainstay.records.recorder import BATCH, Recorder
from mainstay.records.retention import PASSING_FOR, Forgetting, Retention
from mainstay.records.spans import ImportedSpan
from mainstay.records.traces import Journey, Kept, Search, Texts, Trace
from mainstay.storage.database import Database
from mainstay.storage.measures import SqlMeasures
from mainstay.storage.traces import SqlTraces
from mainstay.types import Actor

CLOCK = FixedClock()
SECRET = "sk-proj-Zk3Pq8Wv5Rt2Yx7Bn4Mc"
GONE = "[redacted:key]"


class Watched(SqlTraces):
    """The real store, which tells how it was called, and refuses when the test says so."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self.refuses = False
        self.bad = ""

    def keep_all(self, batch: Sequence[Kept]) -> None:
        if self.refuses:
            raise Unavailable("the disk is full")
        if any(one.trace.request_id == self.bad for one in batch):
            raise ValueError("one bad journey")
        super().keep_all(batch)
        self.batches.append(len(batch))
        self.threads.add(threading.current_thread().name)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened, close = open_fresh("sqlite", tmp_path)
    yield opened
    close()


@pytest.fixture
def store(database: Database) -> Watched:
    return Watched(database)


def made(n: int) -> Trace:
    journey = Journey(f"req_{n}", Actor(principal="user:alice"), "answer", CLOCK)
    journey.span("admit", question_chars=n)
    return journey.trace("answered")


def measured(n: int) -> Measured:
    return Measured(request_id=f"req_{n}", at=CLOCK.now())


def test_kept_in_batches_by_another_thread_and_read_at_once(store: Watched, database: Database) -> None:
    recorder = Recorder(store, clean=clean, every_s=60)
    for n in range(BATCH - 1):
        recorder.keep(made(n), measured(n))
    assert recorder.waiting == BATCH - 1
    assert recorder.get("req_3") == made(3)
    assert recorder.waiting == 0
    assert store.batches == [BATCH - 1]
    for n in range(BATCH, 3 * BATCH):
        recorder.keep(made(n), measured(n))
    recorder.close()
    assert sum(store.batches) == 3 * BATCH - 1
    assert len(recorder.search(Search(limit=500)).traces) == 500
    assert SqlMeasures(database).prune(CLOCK.now().replace(year=2030)) == 3 * BATCH - 1


def test_written_soon_though_nobody_asks(store: Watched) -> None:
    recorder = Recorder(store, clean=clean, every_s=0.01)
    recorder.keep(made(1))
    for _ in range(500):
        if store.batches:
            break
        threading.Event().wait(0.02)
    assert store.threads == {"recorder"}
    recorder.close()


def test_many_threads_lose_nothing(store: Watched) -> None:
    recorder = Recorder(store, clean=clean, every_s=0.001, capacity=50)

    def ask(base: int) -> None:
        for n in range(100):
            recorder.keep(made(base + n), measured(base + n))
            if n % 10 == 0:
                assert recorder.get(f"req_{base + n}") is not None

    threads = [threading.Thread(target=ask, args=(base,)) for base in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    assert sum(store.batches) == 800
    assert recorder.lost == 0


def test_what_can_not_be_written_waits(store: Watched) -> None:
    recorder = Recorder(store, clean=clean, every_s=60, capacity=3)
    store.refuses = True
    for n in range(3):
        recorder.keep(made(n))
    with pytest.raises(Unavailable):
        recorder.keep(made(3))  # too much waits: this one hears it
    with pytest.raises(Unavailable):
        recorder.flush()
    assert recorder.get("req_0") is None  # reading goes on
    store.refuses = False
    recorder.flush()
    assert all(recorder.get(f"req_{n}") is not None for n in range(3))
    recorder.close()
    recorder.keep(made(4))  # after the end: written by who comes
    assert recorder.get("req_4") is not None


def test_what_is_lost_in_the_end_is_counted(store: Watched) -> None:
    recorder = Recorder(store, clean=clean, every_s=60)
    recorder.keep(made(1))
    store.refuses = True
    recorder.close()
    assert recorder.lost == 1


def test_one_bad_journey_costs_no_other(store: Watched) -> None:
    recorder = Recorder(store, clean=clean, every_s=60)
    for n in range(5):
        recorder.keep(made(n))
    store.bad = "req_2"
    recorder.close()
    assert recorder.lost == 1
    assert [recorder.get(f"req_{n}") is not None for n in range(5)] == [True, True, False, True, True]


def test_no_text_is_written_as_it_is(store: Watched, database: Database, tmp_path: Path) -> None:
    recorder = Recorder(store, clean=clean, settings=RecordSettings(content="all"))
    journey = Journey("req_1", Actor(principal="user:alice"), "answer", CLOCK)
    journey.facts["note"] = f"fact {SECRET}"
    journey.span("retrieve", filters=[f"name={SECRET}"], documents=["doc_1"], scores=[0.5], nested={"a": [SECRET]})
    journey.part("step", 0.0, why=SECRET)
    journey.span("generate")
    recorder.keep(journey.trace("answered"), texts=Texts(question=f"My key is {SECRET}", answer=f"So it is {SECRET}"))
    recorder.ingest(
        [
            ImportedSpan(
                trace_id="a" * 32,
                span_id="b" * 16,
                name=SECRET,
                start_us=1,
                duration_ms=1.0,
                attributes={SECRET: {"x": [SECRET]}},
                content={"q": SECRET},
                service=SECRET,
            )
        ]
    )
    recorder.hold("req_1", SECRET, at=CLOCK.now())
    recorder.close()
    assert recorder.content("req_1") == {"question": f"My key is {GONE}", "answer": f"So it is {GONE}"}
    assert recorder.content("a" * 32) == {"b" * 16 + ".q": GONE}
    held = recorder.get("req_1")
    assert held is not None
    assert held.spans[0].attributes["filters"] == [f"name={GONE}"]
    assert held.spans[0].attributes["scores"] == [0.5]
    database.close()
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes(), file


def test_texts_of_others_only_where_all_are_kept(store: Watched) -> None:
    span = ImportedSpan(trace_id="a" * 32, span_id="b" * 16, start_us=1, duration_ms=1.0, content={"q": "Hm?"})
    recorder = Recorder(store, clean=clean, settings=RecordSettings(content="questions"))
    recorder.ingest([span])
    recorder.keep(made(1), texts=Texts(question="Why?", answer="So."))
    recorder.close()
    assert recorder.content("a" * 32) is None
    assert recorder.content("req_1") == {"question": "Why?"}


def test_sampled_journeys_pass_unless_feedback_comes(store: Watched) -> None:
    clock = FixedClock()
    recorder = Recorder(store, clean=clean, settings=RecordSettings(sample=0.0))
    for n in range(3):
        recorder.keep(made(n))
    assert recorder.mark("req_1", "feedback")
    clock.advance(2 * PASSING_FOR)
    said = Forgetting(recorder, Retention.of(RecordSettings()), clock).run()
    assert (said.traces, said.dropped) == (0, 2)
    kept = [recorder.get(f"req_{n}") for n in range(3)]
    assert [one.kept if one else "" for one in kept] == ["dropped", "feedback", "dropped"]
    recorder.close()
