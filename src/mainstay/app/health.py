"""Whether the service can answer, as the readiness route reports it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from mainstay.errors import MainstayError
from mainstay.storage.database import Database
from mainstay.storage.jobs import SqlQueue
from mainstay.workflows.ports import JobState

MIN_FREE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether the service can answer now, and why not."""

    ready: bool
    checks: dict[str, str]


def health_of(database: Database, data: Path, queue: SqlQueue, *, background: str, audit: str = "") -> Health:
    """``data`` is the folder of files; ``background`` what the background work ran into, ``audit`` why heads of the audit log
    are not signed or do not reach their witnesses."""
    checks = {}
    try:
        database.ping()
        checks["database"] = "ok"
        # The folder is made when something is written there: with PostgreSQL, later.
        free = shutil.disk_usage(next(held for held in (data, *data.parents) if held.exists())).free
        checks["disk"] = "ok" if free > MIN_FREE_BYTES else f"{free // 1024} kB free: nothing can be written any more"
    except Exception as error:  # noqa: BLE001 - whatever is wrong, the probe says it instead of failing
        checks["database"] = error.what if isinstance(error, MainstayError) else type(error).__name__
    checks["background"] = background or "ok"
    checks["audit"] = audit or "ok"
    checks["jobs"] = _jobs_said(queue) if checks["database"] == "ok" else "unknown"
    return Health(ready=checks["database"] == "ok" and checks.get("disk") == "ok", checks=checks)


def _jobs_said(queue: SqlQueue) -> str:
    try:
        standing = queue.standing()
    except MainstayError as error:
        return error.what
    dead = standing.jobs[JobState.DEAD]
    said = [f"{dead} dead: see mainstay jobs list --state dead"] if dead else []
    if standing.oldest_due_s >= 1:
        said.append(f"the oldest has waited for {standing.oldest_due_s:.0f} s")
    return "; ".join(said) or "ok"
