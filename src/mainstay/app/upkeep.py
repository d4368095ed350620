"""What has become due: sources with ``every``, what search lacks, jobs and rows whose time to be kept is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from mainstay.answering.caching import Caching
from mainstay.app.handing_over import HANDOVER, HandingOver
from mainstay.app.searching import INDEX, Searching
from mainstay.app.sources import SYNC, sync_of
from mainstay.app.vectors import EMBED, Vectors
from mainstay.corpus.sources import every_seconds
from mainstay.records.alerts import Store as AlertStore
from mainstay.records.outcomes import Store as OutcomeStore
from mainstay.records.retention import Forgetting
from mainstay.settings import Settings
from mainstay.storage.audit import SqlAudit
from mainstay.storage.documents import SqlDocuments
from mainstay.storage.handovers import SqlHandOvers
from mainstay.storage.jobs import SqlQueue
from mainstay.storage.ledger import SqlLedger
from mainstay.storage.measures import SqlMeasures
from mainstay.types import Clock

JOBS_KEPT = timedelta(days=31)  # longer than any ``every``
PRUNE_EVERY_S = 3600.0


class Upkeep:
    """Done by whichever worker looks around; it asks for jobs and does none but the forgetting."""

    def __init__(
        self,
        *,
        settings: Settings,
        clock: Clock,
        queue: SqlQueue,
        documents: SqlDocuments,
        searching: Searching,
        vectors: Vectors,
        handing_over: HandingOver,
        caching: Callable[[], Caching],
        handovers: SqlHandOvers,
        measures: SqlMeasures,
        outcomes: OutcomeStore,
        alerts: AlertStore,
        forgetting: Forgetting,
        ledger: SqlLedger,
        audit: SqlAudit,
    ) -> None:
        self._settings, self._clock, self._queue, self._documents = settings, clock, queue, documents
        self._searching, self._vectors, self._handing_over = searching, vectors, handing_over
        self._caching, self._handovers = caching, handovers
        self._measures, self._forgetting, self._ledger = measures, forgetting, ledger
        self._audit = audit
        self._outcomes, self._alerts = outcomes, alerts
        self._pruned: float | None = None

    def look_around(self, kinds: Sequence[str]) -> None:
        """What has become due: sources with ``every``, vectors that are missing, jobs that nobody will ask about."""
        if SYNC in kinds:
            self._ask_for_syncs()
        self._measures.keep_up()
        if self._pruned is None or self._clock.monotonic() - self._pruned > PRUNE_EVERY_S:
            self._pruned = self._clock.monotonic()
            self._queue.prune(before=self._clock.now() - JOBS_KEPT)
            self._forget_old()
            tables = self._searching.tables
            if tables is not None and self._searching.tables_whole() and not tables.lacks():
                tables.tidy()
        if HANDOVER in kinds:
            self._handing_over.mend()
        if EMBED in kinds:
            self._vectors.ask_for()
        if INDEX in kinds and self._searching.tables is not None and not self._searching.tables_whole():
            self._queue.add(INDEX, {}, key=INDEX, requested_by="schedule")

    def _ask_for_syncs(self) -> None:
        due = {held.name: every for held in self._settings.service.sources if (every := every_seconds(held))}
        if not due:
            return
        synced = {str(held["name"]): held["synced_at"] for held in self._documents.sources()}
        for name, every in due.items():
            since = synced.get(name)
            self._queue.add_due(
                SYNC,
                sync_of(name, False),
                key=f"{SYNC}:{name}",
                every_s=every,
                since=since if isinstance(since, datetime) else None,
            )

    def _forget_old(self) -> None:
        """What the agreement keeps for a time only, and answers that may no longer serve."""
        now = self._clock.now()
        self._caching().prune()
        self._audit.expire(now - timedelta(days=self._forgetting.retention.decisions))
        self._forgetting.run()
        if days := self._settings.agreement.governance.retention_days:
            before = now - timedelta(days=days)
            self._handovers.prune(before=before)
            self._measures.prune(before)
            self._outcomes.prune(before)
            self._alerts.prune(before)
            self._ledger.prune(before)
