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
    """Jobs over a database. Leases run by the database's clock, so that the clocks of the machines need not agree."""

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
    ) -> Job:
        """A new job, or the one with this ``key`` that is waiting or running already."""

    def claim(self, owner: str, kinds: Sequence[str], *, lease_s: float, job_id: str | None = None) -> Job | None:
        """Take the most urgent job that is due, or whose worker let its lease run out; None when there is none.

        A job whose attempts are used up is set ``dead`` instead, with its last error."""

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
        """End a waiting job; tell the worker of a running one. Errors: NotFound, Conflict."""

    def get(self, job_id: str) -> Job | None: ...

    def recent(self, *, state: JobState | None = None, kind: str | None = None, limit: int = 100) -> list[Job]:
        """The newest first."""

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""

    def wait(self, timeout_s: float) -> None:
        """Return when a job may have come, or the time is over."""

    def prune(self, *, before: datetime) -> int:
        """Forget finished and cancelled jobs last touched before; dead ones stay until somebody looks."""
