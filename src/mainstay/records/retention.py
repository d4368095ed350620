"""How long each class of what is recorded is kept, and who deletes it: one job, from the first day, with a dry run.

Records of decisions are kept longest, texts shortest. A legal hold beats every class. The times come from the service's
``records:``; an agreement that promises to keep less (``governance.retention_days``) shortens all but the records of
decisions, which have a floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from mainstay.records.content import RecordSettings
from mainstay.records.traces import Pruned
from mainstay.types import Clock

PASSING_FOR = timedelta(days=1)
"""How long the steps of a journey that sampling leaves out stay, in which feedback may save them."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Days by class."""

    traces: int
    content: int
    decisions: int

    @classmethod
    def of(cls, settings: RecordSettings, agreed_days: int = 0) -> Retention:
        """``agreed_days`` of 0: the agreement says nothing."""
        most = agreed_days or settings.traces_days
        traces = min(settings.traces_days, most)
        return cls(traces=traces, content=min(settings.content_days, traces), decisions=settings.decisions_days)


class Prunable(Protocol):
    """What journeys are deleted from."""

    def prune(
        self,
        before: datetime,
        *,
        content_before: datetime | None = None,
        passing_before: datetime | None = None,
        dry_run: bool = False,
    ) -> Pruned: ...


class Forgetting:
    """Deletes journeys, steps and texts whose time is over. Records of decisions have their own, by the same times."""

    def __init__(self, store: Prunable, retention: Retention, clock: Clock) -> None:
        self._store, self.retention, self._clock = store, retention, clock

    def run(self, *, dry_run: bool = False) -> Pruned:
        now = self._clock.now()
        return self._store.prune(
            _before(now, self.retention.traces),
            content_before=_before(now, self.retention.content),
            passing_before=now - PASSING_FOR,
            dry_run=dry_run,
        )


def _before(now: datetime, days: int) -> datetime:
    return now - timedelta(days=days)
