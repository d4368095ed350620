"""A worker: takes jobs, runs them under a lease that it keeps extending, and lets go the moment it may have lost one.

What a handler writes carries the job's fence, so a worker that was wrongly thought dead can do no harm; stopping early
only spares the work. A worker never dies of a database that is away: it tries again, and says so once.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mainstay.corpus.ingest import Progress
from mainstay.errors import Conflict, Invalid, MainstayError, NotFound
from mainstay.types import Clock
from mainstay.workflows.ports import Fence, Job, JobState, Queue

POLL_S = 1.0  # how long a hint may get lost before a job is found anyway
PULSE_S = 2.0  # progress is watched by people: a long lease is extended more often than it needs
LOOK_S = 1.0
_FIRST_RETRY_S, _RETRY_FACTOR, _LONGEST_RETRY_S = 5.0, 4.0, 900.0
_AWAY_S = (0.5, 1.0, 2.0, 5.0)  # pauses while the database is away; the last one repeats
_FINAL = (Invalid, Conflict, NotFound)  # trying again would end the same way


class Ended(StrEnum):
    """How a worker's turn at a job ended."""

    DONE = "done"
    RETRY = "retry"  # failed, to be tried again
    DEAD = "dead"  # failed, given up on
    CANCELLED = "cancelled"
    RELEASED = "released"  # handed back, because the worker goes home
    LOST = "lost"  # another worker has it, or may have it


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One turn at a job. ``error`` is what the handler raised."""

    job: Job
    ended: Ended
    seconds: float
    result: Mapping[str, Any] = field(default_factory=dict)
    error: Exception | None = None


class Interrupted(Exception):
    """Raised into a handler that must stop: nothing it writes from now on would be kept, or it is time to go home."""

    def __init__(self, ended: Ended) -> None:
        self.ended = ended
        super().__init__(f"stopped: {ended}")


class JobContext:
    """What a handler knows of its job, and how it is told to stop."""

    def __init__(
        self,
        job: Job,
        *,
        clock: Clock,
        claimed_at: float,
        lease_s: float,
        stop: threading.Event,
        watch: Progress | None,
    ) -> None:
        self.job = job
        self.counts: dict[str, int] = dict(job.progress)
        self._clock, self._stop, self._watch = clock, stop, watch
        # The lease began when the database said so, which was later than we asked: by our own clock we end it earlier.
        self._patience = lease_s - min(5.0, lease_s / 4)
        self._extended = claimed_at
        self._told: Ended | None = None

    @property
    def fence(self) -> Fence:
        return self.job.fence

    def check(self) -> None:
        """Raises Interrupted when the job was lost or cancelled, or the worker is to stop."""
        if self._told is not None:
            raise Interrupted(self._told)
        if self._stop.is_set():  # handing back what is no longer ours is refused, and does no harm
            raise Interrupted(Ended.RELEASED)
        if self._clock.monotonic() - self._extended > self._patience:
            raise Interrupted(Ended.LOST)

    def progress(self, done: int, total: int, what: str) -> None:
        """As ``corpus.ingest.Progress``; stops the handler when it must stop."""
        self.check()
        self.counts = {"done": done, "total": total}
        if self._watch is not None:
            self._watch(done, total, what)

    def extended(self, asked_at: float) -> None:
        self._extended = asked_at

    def tell(self, ended: Ended) -> None:
        self._told = ended


Handler = Callable[[JobContext], Mapping[str, Any]]
"""Does one job and returns its result as JSON. It calls ``progress`` or ``check`` often, and writes under the fence."""


def _nothing(*_: object) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Where others may look in, and where tests make a worker fail: each is called between two steps of its work."""

    claimed: Callable[[Job], object] = _nothing  # before the handler
    handled: Callable[[Job], object] = _nothing  # after it, before the end is written
    ended: Callable[[Outcome], object] = _nothing
    say: Callable[[str], object] = _nothing  # for whoever watches the machine


def owner_id() -> str:
    """A name that no other worker has or had: host and process help people, the rest makes it unique."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"


class Worker:
    """Runs jobs in the thread that calls ``run`` or ``work``; a second thread keeps the lease."""

    def __init__(
        self,
        queue: Queue,
        handlers: Mapping[str, Handler],
        clock: Clock,
        *,
        lease_s: float,
        owner: str = "",
        stop: threading.Event | None = None,
        look_around: Callable[[], object] = _nothing,
        hooks: Hooks | None = None,
    ) -> None:
        """``look_around`` is called now and then between jobs: it adds what has become due."""
        self._queue, self._handlers, self._clock, self._lease_s = queue, handlers, clock, lease_s
        self.owner = owner or owner_id()
        self._stop = stop or threading.Event()
        self._look_around = look_around
        self._hooks = hooks or Hooks()
        self._away = 0
        self._looked: float | None = None
        self._unlooked = ""

    def run(self, *, until_idle: bool = False) -> None:
        """Take job after job until told to stop; with ``until_idle`` until nothing is due, and errors are the caller's."""
        while not self._stop.is_set():
            asked = self._clock.monotonic()
            try:
                self._look()
                job = self._queue.claim(self.owner, list(self._handlers), lease_s=self._lease_s)
                self._back()
            except Exception as error:
                if until_idle:
                    raise
                self._gone(error)
                continue
            if job is not None:
                self.work(job, asked_at=asked)
            elif until_idle:
                return
            else:
                self._queue.wait(POLL_S)

    def run_next(self, *, reraise: bool = False) -> Outcome | None:
        """Do the next job that is due, if there is one. ``reraise``: what it raised is the caller's, too."""
        asked = self._clock.monotonic()
        job = self._queue.claim(self.owner, list(self._handlers), lease_s=self._lease_s)
        outcome = None if job is None else self.work(job, asked_at=asked)
        if reraise and outcome is not None and outcome.error is not None:
            raise outcome.error
        return outcome

    def take(self, job_id: str) -> tuple[Job, float] | None:
        """Claim this job, due or not, and when it was asked for; None when another worker has it, or it has ended."""
        asked = self._clock.monotonic()
        job = self._queue.claim(self.owner, list(self._handlers), lease_s=self._lease_s, job_id=job_id)
        return None if job is None else (job, asked)

    def work(self, job: Job, *, asked_at: float, watch: Progress | None = None, once: bool = False) -> Outcome:
        """Do a claimed job to its end. ``once``: whoever waits for it hears of a failure at once, and it is not tried again."""
        began = self._clock.monotonic()
        context = JobContext(
            job, clock=self._clock, claimed_at=asked_at, lease_s=self._lease_s, stop=self._stop, watch=watch
        )
        over = threading.Event()
        pulse = threading.Thread(target=self._beat, args=(context, over), name="mainstay-heartbeat", daemon=True)
        pulse.start()
        result: Mapping[str, Any] = {}
        raised: Exception | None = None
        try:
            try:
                self._hooks.claimed(job)
                context.check()
                result = self._handlers[job.kind](context)
                self._hooks.handled(job)
            except Exception as error:  # noqa: BLE001 - the worker loop: it may not die of what a job does
                raised = error
            ended = self._settle(context, result, raised, once=once)
        except BaseException:
            self._abandon(job, once=once)
            raise
        finally:
            over.set()
            pulse.join()
        if isinstance(raised, Interrupted):
            raised = None
        seconds = self._clock.monotonic() - began
        outcome = Outcome(job=job, ended=ended, seconds=seconds, result=result, error=raised)
        self._hooks.ended(outcome)
        return outcome

    def _settle(self, context: JobContext, result: Mapping[str, Any], raised: Exception | None, *, once: bool) -> Ended:
        """Write how it ended, however long the database is away: nobody else can have begun it meanwhile."""
        while True:
            try:
                ended = self._ended(context.job, result, raised, once=once)
                self._back()
                return ended
            except Exception as error:
                if once:
                    raise  # who waits for it hears of this at once as well; the lease runs out
                if self._stop.is_set():
                    return Ended.LOST
                self._gone(error)

    def _ended(self, job: Job, result: Mapping[str, Any], raised: Exception | None, *, once: bool) -> Ended:
        try:
            if raised is None:
                self._queue.finish(job.fence, result)
                return Ended.DONE
            if isinstance(raised, Interrupted):
                if raised.ended is Ended.RELEASED:
                    self._queue.release(job.fence)
                return raised.ended
            retry_s = None if once or isinstance(raised, _FINAL) else _pause(job.attempts)
            kept = self._queue.fail(job.fence, _said(raised), retry_s=retry_s)
            return Ended.RETRY if kept.state is JobState.READY else Ended.DEAD
        except Conflict:
            held = self._queue.get(job.job_id)
            cancelled = held is not None and (held.state, held.token) == (JobState.CANCELLED, job.token)
            return Ended.CANCELLED if cancelled else Ended.LOST

    def _abandon(self, job: Job, *, once: bool) -> None:
        """The process is being ended by hand. What one person asked for is not done behind their back."""
        try:
            if once:
                self._queue.heartbeat(job.fence, lease_s=self._lease_s)  # only while it is ours
                self._queue.cancel(job.job_id)
            else:
                self._queue.release(job.fence)
        except Exception:  # noqa: BLE001 - the reason why we end is on its way up
            return  # it has ended, or nobody can be told: then its lease runs out

    def _beat(self, context: JobContext, over: threading.Event) -> None:
        pause = min(self._lease_s / 3, PULSE_S)
        while not over.wait(pause):
            asked = self._clock.monotonic()
            try:
                state = self._queue.heartbeat(context.fence, lease_s=self._lease_s, progress=context.counts)
            except Conflict:
                if not over.is_set():  # else it was us who ended it a moment ago
                    context.tell(Ended.LOST)
                return
            except Exception:  # noqa: BLE001 - check() sees for itself when the lease may be over
                pause = min(self._lease_s / 10, PULSE_S)
                continue
            context.extended(asked)
            pause = min(self._lease_s / 3, PULSE_S)
            if state is JobState.CANCELLED:
                context.tell(Ended.CANCELLED)
                return

    def _look(self) -> None:
        now = self._clock.monotonic()
        if self._looked is None or now - self._looked >= LOOK_S:
            self._looked = now
            try:
                self._look_around()
                self._unlooked = ""
            except Exception as error:  # noqa: BLE001 - what can not become due must not keep what is due from being done
                said = _said(error)
                if said != self._unlooked:
                    self._hooks.say(f"can not look what is due: {said}")
                self._unlooked = said

    def _gone(self, error: Exception) -> None:
        """Wait a little longer each time, and say what is wrong the first time."""
        if self._away == 0:
            self._hooks.say(f"worker waits: {_said(error)}")
        self._stop.wait(_AWAY_S[min(self._away, len(_AWAY_S) - 1)])
        self._away += 1

    def _back(self) -> None:
        if self._away:
            self._away = 0
            self._hooks.say("worker goes on")


def _pause(attempts: int) -> float:
    """Seconds until the next attempt: longer after each."""
    return float(min(_FIRST_RETRY_S * _RETRY_FACTOR ** max(attempts - 1, 0), _LONGEST_RETRY_S))


def _said(error: Exception) -> str:
    said = error.line() if isinstance(error, MainstayError) else f"{type(error).__name__}: {error}"
    return " ".join(said.split())[:1000]
