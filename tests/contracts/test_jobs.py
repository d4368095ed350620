"""The queue over every implementation: no job lost, none done twice, whatever claims, crashes and clocks do.

Leases end here because a test says so (``lapse``), not because time passes.
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update
from tests.support.databases import open_fresh, skip_without_postgres

from mainstay.access.acl import Acl
from mainstay.clock import SystemClock
from mainstay.corpus.ports import AccessRule, Piece, Prepared
from mainstay.errors import Conflict, NotFound
from mainstay.models.embedders import EmbedderIdentity
from mainstay.storage import schema
from mainstay.storage.database import DIALECTS, Address, Database, open_database
from mainstay.storage.documents import SqlDocuments
from mainstay.storage.jobs import SqlQueue, claim_within
from mainstay.storage.sqlite import SqliteDatabase
from mainstay.workflows.ports import Job, JobState

CLOCK = SystemClock()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG = 3600.0
RULE = AccessRule(origin="acl:public", acl=Acl(("public",), ()))
MADE_BY = EmbedderIdentity(name="tiny", digest="d" * 64, precision="f32", dims=2)
LAW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)


@pytest.fixture(scope="module", params=DIALECTS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    skip_without_postgres(request.param)
    opened, close = open_fresh(request.param, tmp_path_factory.mktemp("jobs"))
    yield opened
    close()


@pytest.fixture
def queue(database: Database) -> SqlQueue:
    empty(database)
    return SqlQueue(database, CLOCK)


def empty(database: Database) -> None:
    with database.write() as connection:
        for table in (schema.vector, schema.chunk, schema.document_version, schema.document, schema.job):
            connection.execute(delete(table))


def lapse(database: Database, job_id: str) -> None:
    """The lease of this job is over."""
    with database.write(alone=False) as connection:
        connection.execute(update(schema.job).where(schema.job.c.job_id == job_id).values(lease_until=1))


def claimed(queue: SqlQueue, owner: str = "a", kinds: tuple[str, ...] = ("k",), **more: Any) -> Job:
    job = queue.claim(owner, kinds, lease_s=LONG, **more)
    assert job is not None
    return job


def document(name: str) -> Prepared:
    text = f"All about {name}."
    piece = Piece(
        chunk_id=f"chk_{name}",
        start=0,
        end=len(text),
        page=None,
        heading_path=(),
        section_start=0,
        section_end=len(text),
        prefix="",
        text=text,
    )
    return Prepared(
        doc_id=f"doc_{name}",
        source="s",
        path=name,
        uri=name,
        title=name,
        media_type="text/plain",
        version="1",
        raw_digest="x",
        rule=RULE,
        own_access=None,
        metadata={},
        language="en",
        modified=None,
        size=len(text),
        recipe="1",
        text=text,
        pieces=(piece,),
    )


def held(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.scalars(select(schema.document.c.path)))


# -- what a queue is ---------------------------------------------------------------------------------------------------
def test_the_life_of_a_job(queue: SqlQueue) -> None:
    job = queue.add("k", {"n": 1}, requested_by="user:x")
    assert (job.state, job.attempts, job.token, job.payload) == (JobState.READY, 0, 0, {"n": 1})
    mine = claimed(queue)
    assert (mine.job_id, mine.state, mine.attempts, mine.token, mine.owner) == (job.job_id, "running", 1, 1, "a")
    assert mine.lease_until is not None
    assert queue.claim("b", ["k"], lease_s=LONG) is None
    assert queue.heartbeat(mine.fence, lease_s=2 * LONG, progress={"done": 1, "total": 2}) is JobState.RUNNING
    seen = queue.get(job.job_id)
    assert seen is not None
    assert seen.progress == {"done": 1, "total": 2}
    assert seen.lease_until is not None
    assert seen.lease_until > mine.lease_until
    queue.finish(mine.fence, {"made": 3})
    done = queue.get(job.job_id)
    assert done is not None
    assert (done.state, done.result, done.lease_until, done.requested_by) == ("done", {"made": 3}, None, "user:x")
    for late in (lambda: queue.finish(mine.fence, {}), lambda: queue.heartbeat(mine.fence, lease_s=1)):
        with pytest.raises(Conflict):
            late()
    with pytest.raises(Conflict):
        queue.fail(mine.fence, "late", retry_s=1)
    with pytest.raises(Conflict):
        queue.release(mine.fence)


def test_the_most_urgent_first_then_the_oldest(queue: SqlQueue) -> None:
    queue.add("k", {"n": "later"}, delay_s=LONG)
    queue.add("other", {"n": "other"}, priority=1)
    for name, priority in (("b", 100), ("c", 100), ("a", 5), ("d", 900)):
        queue.add("k", {"n": name}, priority=priority)
    taken = []
    while (job := queue.claim("w", ["k"], lease_s=LONG)) is not None:
        taken.append(job.payload["n"])
    assert taken == ["a", "b", "c", "d"]
    assert queue.claim("w", [], lease_s=LONG) is None


def test_a_job_by_name_is_taken_before_its_time(queue: SqlQueue) -> None:
    job = queue.add("k", {}, delay_s=LONG)
    assert queue.claim("a", ["k"], lease_s=LONG) is None
    assert queue.claim("a", ["other"], lease_s=LONG, job_id=job.job_id) is None
    assert claimed(queue, job_id=job.job_id).job_id == job.job_id
    assert queue.claim("b", ["k"], lease_s=LONG, job_id=job.job_id) is None


def test_a_failure_is_tried_again_then_dead(queue: SqlQueue) -> None:
    job = queue.add("k", {}, max_attempts=2)
    first = queue.fail(claimed(queue).fence, "no luck", retry_s=LONG)
    assert (first.state, first.error) == (JobState.READY, "no luck")
    assert queue.claim("a", ["k"], lease_s=LONG) is None  # not before its time
    second = queue.fail(claimed(queue, job_id=job.job_id).fence, "none again", retry_s=0)
    assert (second.state, second.error, second.attempts) == (JobState.DEAD, "none again", 2)
    assert [dead.job_id for dead in queue.recent(state=JobState.DEAD)] == [job.job_id]
    again = queue.retry(job.job_id)
    assert (again.state, again.attempts) == (JobState.READY, 0)
    assert queue.fail(claimed(queue).fence, "for good", retry_s=None).state is JobState.DEAD


def test_a_worker_that_falls_silent_is_replaced_then_the_job_is_dead(queue: SqlQueue, database: Database) -> None:
    job = queue.add("k", {}, max_attempts=2)
    tokens = []
    for owner in ("a", "b"):
        tokens.append(claimed(queue, owner).token)
        lapse(database, job.job_id)
    assert tokens == [1, 2]
    assert queue.claim("c", ["k"], lease_s=LONG) is None
    dead = queue.get(job.job_id)
    assert dead is not None
    assert dead.state is JobState.DEAD
    assert "worker b fell silent" in dead.error
    for token in tokens:
        with pytest.raises(Conflict):
            queue.finish(replace(dead, token=token).fence, {})


def test_handing_back_costs_no_attempt(queue: SqlQueue) -> None:
    queue.add("k", {}, max_attempts=1)
    for n in range(3):
        mine = claimed(queue)
        assert (mine.attempts, mine.token) == (1, n + 1)
        queue.release(mine.fence)
    queue.finish(claimed(queue).fence, {})


def test_cancelling(queue: SqlQueue, database: Database) -> None:
    waiting = queue.add("k", {})
    assert queue.cancel(waiting.job_id).state is JobState.CANCELLED
    assert queue.claim("a", ["k"], lease_s=LONG) is None
    with pytest.raises(Conflict):
        queue.cancel(waiting.job_id)
    running = queue.add("k", {})
    mine = claimed(queue)
    queue.cancel(running.job_id)
    assert queue.heartbeat(mine.fence, lease_s=LONG) is JobState.CANCELLED
    with pytest.raises(Conflict):
        SqlDocuments(database).under(mine.fence).put([document("late")], NOW)
    with pytest.raises(Conflict):
        queue.finish(mine.fence, {})
    assert held(database) == set()
    queue.retry(running.job_id)
    with pytest.raises(Conflict):  # ready again, but not for the worker that was told to stop
        queue.heartbeat(mine.fence, lease_s=LONG)
    queue.finish(claimed(queue).fence, {})
    for wrong in ("job_nothing", "a\0b", "\ud800", ""):
        assert queue.get(wrong) is None
        with pytest.raises(NotFound):
            queue.cancel(wrong)
        with pytest.raises(NotFound):
            queue.retry(wrong)
    with pytest.raises(Conflict):
        queue.retry(running.job_id)  # done


def test_a_key_is_waiting_or_running_once(queue: SqlQueue) -> None:
    first = queue.add("k", {"n": 1}, key="same")
    assert queue.add("k", {"n": 2}, key="same") == first
    mine = claimed(queue)
    assert queue.add("k", {"n": 3}, key="same").job_id == first.job_id
    queue.fail(mine.fence, "no", retry_s=None)
    begun = queue.add("k", {"n": 4}, key="same")  # one dead letter at most
    assert (begun.job_id, begun.state, begun.payload, begun.attempts) == (first.job_id, "ready", {"n": 4}, 0)
    mine = claimed(queue)
    assert mine.token == 2
    queue.finish(mine.fence, {})
    assert queue.add("k", {}, key="same", again=True).job_id == first.job_id
    queue.finish(claimed(queue).fence, {})
    other = queue.add("k", {}, key="same")
    assert other.job_id != first.job_id
    queue.cancel(other.job_id)
    queue.add("k", {}, key="same")
    with pytest.raises(Conflict):
        queue.retry(other.job_id)
    assert queue.add("k", {}).job_id != queue.add("k", {}).job_id


def test_what_is_due_is_added_once(queue: SqlQueue, database: Database) -> None:
    def due(every_s: float = LONG, since: datetime | None = None) -> Job | None:
        return queue.add_due("k", {}, key="chore", every_s=every_s, since=since)

    assert due(since=CLOCK.now()) is None
    job = due(since=CLOCK.now() - timedelta(hours=2))
    assert job is not None
    assert due() is None
    queue.finish(claimed(queue).fence, {})
    assert due(since=None) is None
    with database.write() as connection:
        connection.execute(update(schema.job).values(updated=schema.job.c.updated - 3600 * 1_000_000 - 1))
    with ThreadPoolExecutor(8) as pool:
        added = [made for made in pool.map(lambda _: due(), range(32)) if made is not None]
    assert len(added) == 1
    queue.fail(claimed(queue).fence, "no", retry_s=None)
    assert due() is None  # not at once again
    with database.write() as connection:  # the clock was set back by a day: nobody waits for a day
        connection.execute(update(schema.job).values(updated=schema.job.c.updated + 86400 * 1_000_000))
    assert due() is not None


def test_forgetting(queue: SqlQueue) -> None:
    for how in ("done", "dead", "cancelled", "ready"):
        job = queue.add("k", {"how": how})
        if how == "done":
            queue.finish(claimed(queue).fence, {})
        elif how == "dead":
            queue.fail(claimed(queue).fence, "no", retry_s=None)
        elif how == "cancelled":
            queue.cancel(job.job_id)
    assert queue.prune(before=CLOCK.now() - timedelta(days=1)) == 0
    assert queue.prune(before=CLOCK.now() + timedelta(days=1)) == 2
    assert {job.payload["how"] for job in queue.recent()} == {"dead", "ready"}
    standing = queue.standing()
    assert {str(state): count for state, count in standing.jobs.items() if count} == {"dead": 1, "ready": 1}
    assert standing.oldest_due_s >= 0
    assert queue.recent(kind="a\0b") == []


def test_a_hint_wakes_every_waiter(queue: SqlQueue) -> None:
    """However many wait, and whether or not the hint comes through, none waits longer than it said."""
    with ThreadPoolExecutor(5) as pool:
        waits = [pool.submit(queue.wait, 0.5) for _ in range(4)]
        queue.add("k", {})
        for wait in waits:
            wait.result(timeout=30)


def test_a_new_job_wakes_who_waits(queue: SqlQueue, database: Database) -> None:
    """Another process's too, where the database passes it on. (The first hint may come before anybody listens.)"""
    other = database
    if database.dialect == "postgresql":
        other = open_database(Address(url=database._address.url))
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(queue.wait, 200.0)
        while not wait.done():
            SqlQueue(other, CLOCK).add("k", {})
            threading.Event().wait(0.1)
        wait.result()
    if other is not database:
        other.close()


# -- many at once ------------------------------------------------------------------------------------------------------
def test_eight_threads_never_take_one_job_twice(queue: SqlQueue) -> None:
    jobs = {queue.add("k", {"n": n}).job_id for n in range(60)}

    def work(name: int) -> list[str]:
        mine = []
        while (job := queue.claim(f"w{name}", ["k"], lease_s=LONG)) is not None:
            mine.append(job.job_id)
            queue.finish(job.fence, {})
        return mine

    with ThreadPoolExecutor(8) as pool:
        taken = Counter(itertools.chain.from_iterable(pool.map(work, range(8))))
    assert taken == Counter(jobs)


def _take_all(where: str, out: Any) -> None:
    database = open_database(Address(url=where))
    queue = SqlQueue(database, CLOCK)
    while (job := queue.claim("process", ["k"], lease_s=LONG)) is not None:
        queue.finish(job.fence, {})
        out.put(job.job_id)
    database.close()


def test_two_processes_never_take_one_job_twice(queue: SqlQueue, database: Database) -> None:
    # What ``where`` says leaves the password out.
    where = database.where if database.dialect == "sqlite" else database._address.url
    jobs = {queue.add("k", {"n": n}).job_id for n in range(40)}
    spawn = multiprocessing.get_context("spawn")
    out = spawn.Queue()
    processes = [spawn.Process(target=_take_all, args=(where, out)) for _ in range(2)]
    for process in processes:
        process.start()
    taken = Counter(out.get(timeout=60) for _ in jobs)
    for process in processes:
        process.join(timeout=60)
    assert taken == Counter(jobs)
    assert out.empty()


def test_one_key_added_by_many_is_one_job(queue: SqlQueue) -> None:
    with ThreadPoolExecutor(8) as pool:
        for n in range(5):
            added = list(pool.map(lambda _, n=n: queue.add("k", {}, key=f"key{n}").job_id, range(16)))
            assert len(set(added)) == 1
            queue.fail(claimed(queue).fence, "no", retry_s=None)
            begun = list(pool.map(lambda _, n=n: queue.add("k", {}, key=f"key{n}").job_id, range(16)))
            assert set(begun) == set(added)
            queue.finish(claimed(queue).fence, {})


# -- the fence ---------------------------------------------------------------------------------------------------------
def test_a_stale_worker_writes_nothing(queue: SqlQueue, database: Database) -> None:
    truth = SqlDocuments(database)
    job = queue.add("k", {})
    stale = claimed(queue, "slow")
    truth.under(stale.fence).put([document("before")], NOW)
    lapse(database, job.job_id)
    fresh = claimed(queue, "quick")
    assert fresh.token == stale.token + 1
    late = truth.under(stale.fence)
    with database.read() as connection:
        seqs = list(connection.scalars(select(schema.chunk.c.seq)))
    writes: dict[str, Callable[[], object]] = {
        "put": lambda: late.put([document("late")], NOW),
        "set_access": lambda: late.set_access(
            "doc_before", AccessRule(origin="acl:late", acl=Acl(("group:late",), ())), NOW
        ),
        "apply_access": lambda: late.apply_access("s", {"before": RULE}, NOW),
        "move": lambda: late.move("doc_before", path="elsewhere", uri="", rule=RULE, at=NOW),
        "remove": lambda: late.remove(["doc_before"], NOW),
        "put_vectors": lambda: late.put_vectors(MADE_BY, seqs, np.ones((len(seqs), 2), dtype=np.float32), NOW),
        "note_sync": lambda: late.note_sync("s", kind="folder", root="", state="complete", detail="", at=NOW),
        "set_fact": lambda: late.set_fact("late", "1"),
        "heartbeat": lambda: queue.heartbeat(stale.fence, lease_s=LONG),
        "finish": lambda: queue.finish(stale.fence, {}),
        "fail": lambda: queue.fail(stale.fence, "", retry_s=1),
        "release": lambda: queue.release(stale.fence),
    }
    for name, write in writes.items():
        with pytest.raises(Conflict):
            write()
        assert held(database) == {"before"}, name
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(schema.vector)) == 0
        assert connection.scalar(select(func.count()).select_from(schema.source)) == 0
    truth.under(fresh.fence).put([document("after")], NOW)
    queue.finish(fresh.fence, {})
    assert held(database) == {"before", "after"}


@pytest.mark.parametrize("end", ["claim", "cancel"])
def test_a_write_that_meets_the_end_of_its_lease_waits_and_is_refused(
    end: str, queue: SqlQueue, database: Database
) -> None:
    """The claim, or the cancelling, stopped before its commit: without a lock that conflicts with it the late write would land.

    (A claim locks its row ``FOR UPDATE``; cancelling updates it, and to that ``FOR KEY SHARE`` would be blind.)
    """
    job = queue.add("k", {})
    stale = claimed(queue, "slow")
    lapse(database, job.job_id)
    with ThreadPoolExecutor(1) as pool:
        with database.write(alone=False) as connection:
            if end == "claim":
                assert claim_within(connection, database, "quick", ["k"], lease_s=LONG, job_id=None) is not None
            else:
                connection.execute(update(schema.job).values(state=JobState.CANCELLED))
            late = pool.submit(SqlDocuments(database).under(stale.fence).put, [document("late")], NOW)
            with pytest.raises(TimeoutError):
                late.result(timeout=0.5)
            assert held(database) == set()
        with pytest.raises(Conflict):
            late.result(timeout=30)
    assert held(database) == set()


def test_a_claim_that_meets_a_write_leaves_the_job_to_it(queue: SqlQueue, database: Database) -> None:
    """The write stopped before its commit: nobody takes the job from under it, and afterwards somebody can."""
    job = queue.add("k", {})
    slow = claimed(queue, "slow")
    lapse(database, job.job_id)
    with ThreadPoolExecutor(1) as pool:
        with database.write(alone=False, fence=slow.fence):
            meanwhile = pool.submit(queue.claim, "quick", ["k"], lease_s=LONG)
            if database.dialect == "postgresql":
                assert meanwhile.result(timeout=30) is None  # passed over
            else:
                with pytest.raises(TimeoutError):
                    meanwhile.result(timeout=0.3)  # one writer at a time
        if database.dialect == "postgresql":
            meanwhile = pool.submit(queue.claim, "quick", ["k"], lease_s=LONG)
        taken = meanwhile.result(timeout=30)
    assert taken is not None
    assert taken.token == slow.token + 1


# -- any order of events, against a model ------------------------------------------------------------------------------
WORKERS = ("a", "b", "c")
EVENTS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(["", "x", "y"])),
    st.tuples(
        st.sampled_from(["claim", "heartbeat", "finish", "fail", "give up", "release"]), st.sampled_from(WORKERS)
    ),
    st.tuples(st.sampled_from(["lapse", "cancel", "retry"]), st.integers(0, 7)),
)


class Model:
    """What must hold of each job, in the plainest words."""

    def __init__(self) -> None:
        self.state: dict[str, str] = {}
        self.key: dict[str, str] = {}
        self.token: dict[str, int] = {}
        self.attempts: dict[str, int] = {}
        self.lapsed: set[str] = set()

    def live(self, key: str) -> str | None:
        return next((j for j in self.state if self.key[j] == key and self.state[j] in ("ready", "running")), None)

    def takeable(self) -> set[str]:
        return {j for j, state in self.state.items() if state == "ready" or (state == "running" and j in self.lapsed)}


@LAW
@given(st.lists(EVENTS, max_size=40))
def test_any_order_of_events(database: Database, events: list[tuple[str, Any]]) -> None:
    empty(database)
    queue, model = SqlQueue(database, CLOCK), Model()
    mine: dict[str, Job] = {}
    finished: Counter[str] = Counter()
    most = 2

    def ours(job: Job) -> bool:
        return model.state[job.job_id] == "running" and model.token[job.job_id] == job.token

    for what, who in events:
        if what == "add":
            live = model.live(who) if who else None
            dead = {j for j in model.state if who and model.key[j] == who and model.state[j] == "dead"}
            job = queue.add("k", {}, key=who, max_attempts=most)
            assert job.job_id == live if live else (job.job_id in dead if dead else job.job_id not in model.state)
            if not live:
                model.state[job.job_id], model.key[job.job_id] = "ready", who
                model.token.setdefault(job.job_id, 0)
                model.attempts[job.job_id] = 0
        elif what == "claim":
            before = model.takeable()
            job_ = queue.claim(who, ["k"], lease_s=LONG)
            used_up = {j for j in before if model.state[j] == "running" and model.attempts[j] >= most}
            if job_ is None:
                assert before == used_up
                given_up = before
            else:
                assert job_.job_id in before - used_up
                assert job_.token > model.token[job_.job_id]
                given_up = {j for j in used_up if (seen := queue.get(j)) is not None and seen.state is JobState.DEAD}
                model.state[job_.job_id], model.token[job_.job_id] = "running", job_.token
                model.attempts[job_.job_id] += 1
                model.lapsed.discard(job_.job_id)
                mine[who] = job_
            for j in given_up:
                model.state[j] = "dead"
                model.token[j] += 1
                model.lapsed.discard(j)
        elif what in ("heartbeat", "finish", "fail", "give up", "release") and who in mine:
            job = mine[who]
            calls: dict[str, Callable[[], object]] = {
                "heartbeat": lambda job=job: queue.heartbeat(job.fence, lease_s=LONG),
                "finish": lambda job=job: queue.finish(job.fence, {}),
                "fail": lambda job=job: queue.fail(job.fence, "no", retry_s=0),
                "give up": lambda job=job: queue.fail(job.fence, "no", retry_s=None),
                "release": lambda job=job: queue.release(job.fence),
            }
            if ours(job):
                calls[what]()
                model.lapsed.discard(job.job_id)
                if what == "finish":
                    finished[job.job_id] += 1
                if what == "release":
                    model.attempts[job.job_id] -= 1
                spent = model.attempts[job.job_id] >= most
                after = {"heartbeat": "running", "finish": "done", "give up": "dead", "release": "ready"}
                model.state[job.job_id] = after.get(what, "dead" if spent else "ready")
            elif what == "heartbeat" and (model.state[job.job_id], model.token[job.job_id]) == ("cancelled", job.token):
                assert calls[what]() is JobState.CANCELLED
            else:
                with pytest.raises(Conflict):
                    calls[what]()
        elif isinstance(who, int) and model.state:
            chosen = sorted(model.state)[who % len(model.state)]
            state, key = model.state[chosen], model.key[chosen]
            if what == "lapse" and state == "running":
                lapse(database, chosen)
                model.lapsed.add(chosen)
            elif what == "cancel":
                if state in ("ready", "running", "dead"):
                    queue.cancel(chosen)
                    model.state[chosen] = "cancelled"
                    model.lapsed.discard(chosen)
                else:
                    with pytest.raises(Conflict):
                        queue.cancel(chosen)
            elif what == "retry":
                if state in ("dead", "cancelled") and not (key and model.live(key)):
                    queue.retry(chosen)
                    model.state[chosen], model.attempts[chosen] = "ready", 0
                else:
                    with pytest.raises(Conflict):
                        queue.retry(chosen)
        stored = {job.job_id: str(job.state) for job in queue.recent(limit=1000)}
        assert stored == model.state, (what, who)
    assert all(count == 1 for count in finished.values())
    # Nothing is lost: a worker that goes on alone does all that is left.
    for j in [j for j, state in model.state.items() if state == "running"]:
        lapse(database, j)
    while (left := queue.claim("last", ["k"], lease_s=LONG)) is not None:
        queue.finish(left.fence, {})
    assert {str(job.state) for job in queue.recent(limit=1000)} <= {"done", "dead", "cancelled"}


# -- clocks that jump --------------------------------------------------------------------------------------------------
class Jumping:
    """The time of a machine whose clock is set by hand."""

    def __init__(self) -> None:
        self.ns = 1_800_000_000 * 10**9

    def __call__(self) -> int:
        self.ns += 1_000_000  # a millisecond a look
        return self.ns

    def jump(self, hours: float) -> None:
        self.ns += int(hours * 3600 * 10**9)


@pytest.mark.parametrize("seed", range(2))
def test_jumps_of_the_clock_lose_nothing_and_finish_nothing_twice(seed: int, tmp_path: Path) -> None:
    rng, clock = random.Random(seed), Jumping()
    database = SqliteDatabase(str(tmp_path / "mainstay.db"), time_ns=clock)
    queue = SqlQueue(database, CLOCK)
    jobs = {queue.add("k", {"n": n}, max_attempts=10_000, delay_s=rng.choice([0, 0, 30])).job_id for n in range(12)}
    mine: dict[str, Job] = {}
    finished: Counter[str] = Counter()
    for _ in range(300):
        if rng.random() < 0.2:
            clock.jump(rng.choice([-9, -1, -0.02, 0.02, 1, 9]))
        who = rng.choice("abc")
        if who not in mine:
            job = queue.claim(who, ["k"], lease_s=30)
            if job is not None:
                mine[who] = job
            continue
        job = mine[who]
        try:
            what = rng.choice(["heartbeat", "heartbeat", "finish", "fail", "vanish"])
            if what == "heartbeat":
                queue.heartbeat(job.fence, lease_s=30)
                continue
            if what == "finish":
                queue.finish(job.fence, {})
                finished[job.job_id] += 1
            elif what == "fail":
                queue.fail(job.fence, "no", retry_s=60)
        except Conflict:
            pass  # another took it: the jump made this lease look over
        del mine[who]
    # Whatever the clock shows now, what is left is done without waiting for hours: at most a lease, or a retry's pause.
    clock.jump(2 / 60)
    while (left := queue.claim("last", ["k"], lease_s=30)) is not None:
        queue.finish(left.fence, {})
        finished[left.job_id] += 1
    assert finished == Counter(jobs)
    database.close()


def test_a_clock_set_back_hides_no_job(tmp_path: Path) -> None:
    clock = Jumping()
    database = SqliteDatabase(str(tmp_path / "mainstay.db"), time_ns=clock)
    queue = SqlQueue(database, CLOCK)
    waiting, silent = queue.add("k", {"n": "waiting"}, delay_s=10), queue.add("k", {"n": "silent"})
    assert claimed(queue).job_id == silent.job_id
    clock.jump(-5)
    assert {claimed(queue).job_id, claimed(queue).job_id} == {waiting.job_id, silent.job_id}
    database.close()


def test_many_threads_under_a_jumping_clock(tmp_path: Path) -> None:
    clock = Jumping()
    database = SqliteDatabase(str(tmp_path / "mainstay.db"), time_ns=clock)
    queue = SqlQueue(database, CLOCK)
    jobs = {queue.add("k", {}, max_attempts=10_000).job_id for _ in range(40)}
    finished: list[str] = []
    stop = threading.Event()

    def jump() -> None:
        rng = random.Random(7)
        while not stop.wait(0.005):
            clock.jump(rng.choice([-3, 3]))

    def work(name: int) -> None:
        while (job := queue.claim(f"w{name}", ["k"], lease_s=30)) is not None:
            try:
                queue.heartbeat(job.fence, lease_s=30)
                queue.finish(job.fence, {})
            except Conflict:
                continue
            finished.append(job.job_id)

    jumper = threading.Thread(target=jump)
    jumper.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    stop.set()
    jumper.join()
    clock.jump(1)
    work(9)
    assert Counter(finished) == Counter(jobs)
    database.close()
