"""What the workers ask to be kept: a queue of jobs with leases and fencing tokens.

A job is claimed for a lease. Each claim raises the job's token; every write made for the job carries the token
(``Fence``) and is refused once a later claim has raised it, so that a worker that was thought dead can do no harm
(M. Kleppmann, "How to do distributed locking", 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


class JobState(StrEnum):
    """``ready`` (waiting, perhaps for its time), ``running``, then ``done``, ``cancelled``, or ``dead``: given up on."""

    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    DEAD = "dead"


@dataclass(frozen=True, kw_only=True)
class Fence:
    """The right to write for a job: void as soon as another worker has claimed it."""

    job_id: str
    token: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How the queue stands: jobs by state, and for how long the one that has been due longest has waited."""

    jobs: Mapping[JobState, int]
    oldest_due_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work. ``payload`` and ``result`` are JSON; ``key`` names what may be waiting or running only once."""

    job_id: str
    kind: str
    key: str
    payload: Mapping[str, Any]
    state: JobState
    priority: int = 100  # lower is sooner
    attempts: int = 0
    max_attempts: int = 5
    token: int = 0
    owner: str = ""
    run_at: datetime
    lease_until: datetime | None = None
    heartbeat_at: datetime | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    requested_by: str = ""
    created: datetime
    updated: datetime

    @property
    def fence(self) -> Fence:
        return Fence(job_id=self.job_id, token=self.token)


class Queue(Protocol):
    """Jobs over a database. Leases run by the database's clock, so that the clocks of the machines need not agree.

    Should that clock be set back, what carries a later time than it shows is due, and its lease over: nothing waits for
    hours, and the fence sees to it that a worker who is alive after all does no harm.
    """

    def add(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        key: str = "",
        priority: int = 100,
        delay_s: float = 0.0,
        max_attempts: int = 5,
        requested_by: str = "",
        again: bool = False,
    ) -> Job:
        """A new job, or the one with this ``key`` that is waiting or running already.

        A dead one with this ``key`` is begun anew, so that one chore leaves one dead letter at most. ``again`` begins
        the one that is done anew as well: for chores that come back all day and whose history is of no use."""

    def add_due(
        self, kind: str, payload: Mapping[str, Any], *, key: str, every_s: float, since: datetime | None
    ) -> Job | None:
        """``add``, if none with this ``key`` is waiting or running and the last one ended ``every_s`` ago; else None.

        ``since`` counts as the end of the last one where none is known. Of many who call this at once one adds."""

    def claim(self, owner: str, kinds: Sequence[str], *, lease_s: float, job_id: str | None = None) -> Job | None:
        """Take the most urgent job that is due, or whose worker let its lease run out; None when there is none.

        With ``job_id`` that one alone, due or not. A job whose attempts are used up is set ``dead`` instead."""

    def heartbeat(self, fence: Fence, *, lease_s: float, progress: Mapping[str, Any] | None = None) -> JobState:
        """Extend the lease. ``cancelled`` tells the worker to stop. Raises Conflict when the job is another's now."""

    def finish(self, fence: Fence, result: Mapping[str, Any]) -> None:
        """Done. Raises Conflict when the job is another's now."""

    def fail(self, fence: Fence, error: str, *, retry_s: float | None) -> Job:
        """Not done: ready again after ``retry_s`` while attempts are left, else (or with None) dead."""

    def release(self, fence: Fence) -> None:
        """Hand a job back unfinished, without counting the attempt: the worker is going home."""

    def retry(self, job_id: str) -> Job:
        """Make a dead or cancelled job ready again, with all its attempts. Errors: NotFound, Conflict."""

    def cancel(self, job_id: str) -> Job:
        """End a waiting job, put a dead one away; a running one writes nothing from now on, and its worker is told.
        Errors: NotFound, Conflict."""

    def get(self, job_id: str) -> Job | None: ...

    def recent(self, *, state: JobState | None = None, kind: str | None = None, limit: int = 100) -> list[Job]:
        """The newest first."""

    def standing(self) -> Standing: ...

    def wait(self, timeout_s: float) -> None:
        """Return when a job may have come, or the time is over."""

    def prune(self, *, before: datetime) -> int:
        """Forget finished and cancelled jobs last touched before; dead ones stay until somebody looks."""
