"""Hand-overs over both databases: kept whole, changed once, found when no job is about them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete
from tests.support.databases import open_fresh, skip_without_postgres

from mainstay.clock import SystemClock
from mainstay.errors import Conflict
from mainstay.handover import HandOver, Source, State
from mainstay.storage import schema
from mainstay.storage.database import DIALECTS, Database
from mainstay.storage.handovers import KIND, SqlHandOvers, job_key
from mainstay.storage.jobs import SqlQueue

NOW = datetime(2026, 1, 1, 8, 0, 0, 123456, tzinfo=UTC)
ALL = tuple(State)
HELD = HandOver(
    id="ho_1",
    request_id="req_1",
    at=NOW,
    principal="user:alice",
    reason="topic: salary",
    question="What's the “crane” for?\n\u2028 🏗 it\x07's",
    history=(("user", "Hello"), ("assistant", "Good day")),
    sources=(
        Source(document="doc_1", version="v2", title="Cranes", uri="cranes.md", start=0, end=12, page=None),
        Source(document="doc_2", version="v1", title="Quay", uri="quay.pdf", start=5, end=9, page=3),
    ),
    draft="A draft [1].",
    language="en",
)


@pytest.fixture(scope="module", params=DIALECTS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    skip_without_postgres(request.param)
    opened, close = open_fresh(request.param, tmp_path_factory.mktemp("handovers"))
    yield opened
    close()


@pytest.fixture
def held(database: Database) -> SqlHandOvers:
    with database.write() as connection:
        connection.execute(delete(schema.handover))
        connection.execute(delete(schema.job))
    return SqlHandOvers(database)


def numbered(n: int, **more: object) -> HandOver:
    return replace(HELD, id=f"ho_{n}", at=NOW + timedelta(seconds=n), **more)  # type: ignore[arg-type]  # tests name fields


def test_comes_back_as_it_was(held: SqlHandOvers) -> None:
    held.create(HELD)
    assert held.get("ho_1") == HELD


@pytest.mark.parametrize("name", ["ho_2", "", "ho_\0", "hö", "x" * 10_000, "'; drop table handover --"])
def test_what_is_not_there(held: SqlHandOvers, name: str) -> None:
    held.create(HELD)
    assert held.get(name) is None
    assert not held.set_state(name, State.CLOSED, detail="", at=NOW, only_from=ALL)
    assert held.get("ho_1") == HELD


def test_lists(held: SqlHandOvers) -> None:
    for n in range(1, 6):
        held.create(numbered(n, principal=f"user:{'ab'[n % 2]}", state=State.FAILED if n == 3 else State.WAITING))
    assert [one.id for one in held.list()] == ["ho_5", "ho_4", "ho_3", "ho_2", "ho_1"]
    assert [one.id for one in held.list(limit=2)] == ["ho_5", "ho_4"]
    assert [one.id for one in held.list(principal="user:a")] == ["ho_4", "ho_2"]
    assert [one.id for one in held.list(state=State.FAILED)] == ["ho_3"]
    assert held.list(state=State.FAILED, principal="user:a") == []


def test_a_state_is_changed_from_where_it_was_thought_to_be(held: SqlHandOvers) -> None:
    held.create(HELD)
    assert held.set_state("ho_1", State.DELIVERED, detail="d", at=NOW, only_from=(State.WAITING,))
    assert not held.set_state("ho_1", State.FAILED, detail="f", at=NOW, only_from=(State.WAITING,))
    assert held.get("ho_1") == replace(HELD, state=State.DELIVERED, detail="d")


def test_of_many_who_close_one_does(held: SqlHandOvers) -> None:
    held.create(HELD)
    done: list[bool] = []

    def close(n: int) -> None:
        done.append(held.set_state("ho_1", State.CLOSED, detail=str(n), at=NOW, only_from=(State.WAITING,)))

    threads = [threading.Thread(target=close, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False] * 7 + [True]


def test_marks_of_many_threads_are_all_kept(held: SqlHandOvers) -> None:
    held.create(HELD)
    ways = [f"email:{n}@example.org" for n in range(8)]
    threads = [threading.Thread(target=held.mark_sent, args=("ho_1", way), kwargs={"at": NOW}) for way in ways * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = held.get("ho_1")
    assert found is not None
    assert sorted(found.sent) == ways
    assert replace(found, sent=()) == HELD
    held.mark_sent("ho_9", "webhook", at=NOW)  # its time to be kept was over


def test_a_worker_that_lost_its_job_writes_nothing(held: SqlHandOvers, database: Database) -> None:
    held.create(HELD)
    queue = SqlQueue(database, SystemClock())
    queue.add(KIND, {}, key=job_key("ho_1"))
    job = queue.claim("w", [KIND], lease_s=100)
    assert job is not None
    fenced = held.under(job.fence)
    fenced.mark_sent("ho_1", "webhook", at=NOW)
    queue.cancel(job.job_id)
    with pytest.raises(Conflict):
        fenced.set_state("ho_1", State.DELIVERED, detail="", at=NOW, only_from=ALL)
    with pytest.raises(Conflict):
        fenced.mark_sent("ho_1", "email:a@b", at=NOW)
    assert held.get("ho_1") == replace(HELD, sent=("webhook",))


def test_those_that_no_job_is_about(held: SqlHandOvers, database: Database) -> None:
    queue = SqlQueue(database, SystemClock())
    for n in range(1, 8):
        held.create(numbered(n, state=State.CLOSED if n == 7 else State.WAITING))
    queue.add(KIND, {}, key=job_key("ho_1"))  # ready
    for n in (2, 3, 4, 5):
        queue.add(KIND, {}, key=job_key(f"ho_{n}"), priority=n)
    assert queue.claim("w", [KIND], lease_s=100), "it is running"
    dead = queue.claim("w", [KIND], lease_s=100)
    done = queue.claim("w", [KIND], lease_s=100)
    assert dead
    assert done
    queue.fail(dead.fence, "the receiver answered 400", retry_s=None)
    queue.finish(done.fence, {})
    cancelled = next(job for job in queue.recent() if job.key == job_key("ho_5"))
    queue.cancel(cancelled.job_id)
    assert list(held.adrift()) == [
        ("ho_3", "the receiver answered 400"),
        ("ho_4", None),
        ("ho_5", "its job is cancelled"),
        ("ho_6", None),
    ]
    assert [one for one, _ in held.adrift(limit=2)] == ["ho_3", "ho_4"]


def test_prune(held: SqlHandOvers) -> None:
    for n, state in enumerate((*State, State.WAITING), 1):
        held.create(numbered(n, state=state))
    assert held.prune(before=NOW + timedelta(seconds=4)) == 3
    assert [one.id for one in held.list()] == ["ho_5", "ho_4"]
