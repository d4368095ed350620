"""The worker's manners: it lets go of what it may have lost, goes home when told, and outlives its database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mainstay.clock import SystemClock
from mainstay.errors import Conflict, Invalid, NotFound, Unavailable
from mainstay.storage.database import Address, Database, open_database
from mainstay.storage.jobs import SqlQueue
from mainstay.workflows.ports import Fence, Job, JobState
from mainstay.workflows.worker import Ended, Hooks, JobContext, Outcome, Worker, owner_id

CLOCK = SystemClock()


class Mine(SystemClock):
    """A clock whose monotonic part a test moves."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Faulty(SqlQueue):
    """A queue whose database is away while ``away`` is set, for as many calls as ``away_for`` says."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, CLOCK)
        self.away_for = 0
        self.silent = False  # heartbeats get lost

    def _maybe(self) -> None:
        if self.away_for > 0:
            self.away_for -= 1
            raise Unavailable("the database does not answer", fix="start it")

    def claim(self, *args: Any, **more: Any) -> Job | None:
        self._maybe()
        return super().claim(*args, **more)

    def finish(self, fence: Fence, result: Mapping[str, Any]) -> None:
        self._maybe()
        super().finish(fence, result)

    def heartbeat(self, *args: Any, **more: Any) -> JobState:
        if self.silent:
            raise Unavailable("the database does not answer")
        return super().heartbeat(*args, **more)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Faulty]:
    database = open_database(Address(url=str(tmp_path / "mainstay.db")))
    yield Faulty(database)
    database.close()


Does = Callable[[JobContext], Mapping[str, Any]]


def turns(
    queue: SqlQueue, does: Does, *, lease_s: float = 30.0, **more: Any
) -> tuple[Worker, list[Outcome], list[str]]:
    outcomes: list[Outcome] = []
    said: list[str] = []
    hooks = Hooks(ended=outcomes.append, say=said.append, **more.pop("hooks", {}))
    clock = more.pop("clock", CLOCK)
    return Worker(queue, {"k": does}, clock, lease_s=lease_s, hooks=hooks, **more), outcomes, said


def fails(error: Exception) -> Does:
    def does(_context: JobContext) -> Mapping[str, Any]:
        raise error

    return does


def test_a_job_done(queue: Faulty) -> None:
    def does(context: JobContext) -> Mapping[str, Any]:
        context.progress(1, 2, "half")
        return {"made": context.job.payload["n"]}

    job = queue.add("k", {"n": 3})
    worker, outcomes, _ = turns(queue, does)
    worker.run(until_idle=True)
    assert [(one.ended, one.result) for one in outcomes] == [(Ended.DONE, {"made": 3})]
    held = queue.get(job.job_id)
    assert held is not None
    assert (held.state, held.result, held.owner) == (JobState.DONE, {"made": 3}, worker.owner)


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (Unavailable("the disk is not mounted"), Ended.RETRY),
        (ValueError("a surprise"), Ended.RETRY),
        (Invalid("the rule can not be read"), Ended.DEAD),
        (Conflict("the folder is empty"), Ended.DEAD),
        (NotFound("no such source"), Ended.DEAD),
    ],
)
def test_what_is_worth_another_try(queue: Faulty, error: Exception, ended: Ended) -> None:
    job = queue.add("k", {})
    worker, outcomes, _ = turns(queue, fails(error))
    worker.run(until_idle=True)
    assert [one.ended for one in outcomes] == [ended]
    assert outcomes[0].error is error
    held = queue.get(job.job_id)
    assert held is not None
    assert str(error) in held.error
    assert (held.run_at > held.updated) == (ended is Ended.RETRY)


def test_attempts_are_counted_and_end(queue: Faulty) -> None:
    job = queue.add("k", {}, max_attempts=3)
    worker, outcomes, _ = turns(queue, fails(Unavailable("away")))
    while (taken := worker.take(job.job_id)) is not None:
        worker.work(taken[0], asked_at=taken[1])
    assert [one.ended for one in outcomes] == [Ended.RETRY, Ended.RETRY, Ended.DEAD]


def test_who_waits_for_it_hears_at_once(queue: Faulty) -> None:
    job = queue.add("k", {})
    worker, _, _ = turns(queue, fails(Unavailable("away")))
    taken = worker.take(job.job_id)
    assert taken is not None
    assert worker.work(taken[0], asked_at=taken[1], once=True).ended is Ended.DEAD


def test_going_home_hands_the_job_back(queue: Faulty) -> None:
    stop = threading.Event()

    def does(context: JobContext) -> Mapping[str, Any]:
        stop.set()
        context.progress(1, 2, "")
        raise AssertionError("unreachable")

    job = queue.add("k", {}, max_attempts=1)
    worker, outcomes, _ = turns(queue, does, stop=stop)
    worker.run()
    assert [one.ended for one in outcomes] == [Ended.RELEASED]
    held = queue.get(job.job_id)
    assert held is not None
    assert (held.state, held.attempts) == (JobState.READY, 0)
    other, done, _ = turns(queue, lambda _context: {})
    other.run(until_idle=True)
    assert [one.ended for one in done] == [Ended.DONE]


def test_a_worker_that_hears_nothing_stops_before_its_lease_is_over(queue: Faulty) -> None:
    clock = Mine()

    def does(context: JobContext) -> Mapping[str, Any]:
        context.check()
        clock.ahead += 26.0  # of thirty seconds
        context.check()
        raise AssertionError("unreachable")

    queue.silent = True
    job = queue.add("k", {})
    worker, outcomes, _ = turns(queue, does, clock=clock)
    worker.run_next()
    assert [one.ended for one in outcomes] == [Ended.LOST]
    held = queue.get(job.job_id)
    assert held is not None
    assert held.state is JobState.RUNNING  # until its lease is over: then another takes it


def test_a_cancelled_job_is_told_by_the_heartbeat(queue: Faulty) -> None:
    def does(context: JobContext) -> Mapping[str, Any]:
        queue.cancel(context.job.job_id)
        while True:
            threading.Event().wait(0.02)
            context.check()

    queue.add("k", {})
    worker, outcomes, _ = turns(queue, does, lease_s=6.0)
    worker.run_next()
    assert [one.ended for one in outcomes] == [Ended.CANCELLED]


def test_a_job_that_another_took_is_left_to_it(queue: Faulty) -> None:
    def does(context: JobContext) -> Mapping[str, Any]:
        queue.release(context.fence)  # as a lapsed lease: nobody's any more
        assert queue.claim("another", ["k"], lease_s=30) is not None
        return {"made": "twice"}

    job = queue.add("k", {})
    worker, outcomes, _ = turns(queue, does)
    worker.run_next()
    assert [one.ended for one in outcomes] == [Ended.LOST]
    held = queue.get(job.job_id)
    assert held is not None
    assert (held.state, held.owner, held.result) == (JobState.RUNNING, "another", {})


def test_a_database_that_is_away_is_waited_for_and_told_once(queue: Faulty) -> None:
    stop = threading.Event()

    def handled(_job: Job) -> None:
        queue.away_for = 2  # again, when the end is to be written

    queue.add("k", {})
    queue.away_for = 2
    worker, outcomes, said = turns(queue, lambda _context: {}, stop=stop, hooks={"handled": handled})
    runs = threading.Thread(target=worker.run)
    runs.start()
    try:
        for _ in range(600):
            if outcomes or not runs.is_alive():
                break
            threading.Event().wait(0.05)
    finally:
        stop.set()
        runs.join(timeout=30)
    assert [one.ended for one in outcomes] == [Ended.DONE]
    assert [line.partition(":")[0] for line in said] == ["worker waits", "worker goes on"] * 2


def test_looking_around_that_fails_keeps_no_job_waiting(queue: Faulty) -> None:
    queue.add("k", {})
    worker, outcomes, said = turns(queue, lambda _context: {}, look_around=lambda: 1 / 0)
    worker.run(until_idle=True)
    assert [one.ended for one in outcomes] == [Ended.DONE]
    assert len(said) == 1


@pytest.mark.parametrize(("once", "state"), [(True, JobState.CANCELLED), (False, JobState.READY)])
def test_ended_by_hand(once: bool, state: JobState, queue: Faulty) -> None:
    """A person who gives up ends what they asked for; a worker leaves its job to the next one."""

    def does(_context: JobContext) -> Mapping[str, Any]:
        raise KeyboardInterrupt

    job = queue.add("k", {})
    worker, _, _ = turns(queue, does)
    taken = worker.take(job.job_id)
    assert taken is not None
    with pytest.raises(KeyboardInterrupt):
        worker.work(taken[0], asked_at=taken[1], once=once)
    held = queue.get(job.job_id)
    assert held is not None
    assert held.state is state


def test_no_two_workers_have_one_name() -> None:
    assert len({owner_id() for _ in range(1000)}) == 1000
