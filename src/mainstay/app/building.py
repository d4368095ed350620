"""settings + storage + rooms -> Building: everything an App works with, opened once and closed in the right order.

The only place that knows which implementation stands behind which port. Whoever is opened here is closed here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mainstay.access.directory import People
from mainstay.access.identity import Identity
from mainstay.access.keys import Keyring
from mainstay.access.oidc import Oidc
from mainstay.access.scope import Gate
from mainstay.access.sessions import Sessions
from mainstay.agreement.ledger import Backlog, Purse
from mainstay.answering import Answering, Limits, Meaning
from mainstay.answering.caching import Caching
from mainstay.answering.generating import Generating
from mainstay.answering.quoting import Quoting
from mainstay.app.agreement import Books, burning, service_purse
from mainstay.app.alarming import Alarming
from mainstay.app.auditing import Auditing
from mainstay.app.background import Background
from mainstay.app.embedding import IN_FORCE, REMOTE, Embedders
from mainstay.app.handing_over import HandingOver
from mainstay.app.jobs import Jobs
from mainstay.app.language_models import LearntRouter, Releases, build_switchboard
from mainstay.app.searching import Searching, forsaken, search_tables
from mainstay.app.sources import Sources
from mainstay.app.upkeep import Upkeep
from mainstay.app.vectors import Vectors
from mainstay.clock import SystemClock
from mainstay.corpus.parsing.limits import ParseLimits
from mainstay.corpus.parsing.sandbox import Sandbox
from mainstay.guard.redaction import clean, redact
from mainstay.models.cache import SemanticCache
from mainstay.models.calling import Switchboard
from mainstay.models.embedders import Embedder
from mainstay.models.prices import nanodollars_of
from mainstay.prompts.loader import Prompt, prompt_of
from mainstay.prompts.loader import load as load_prompts
from mainstay.records.audit.refusals import Refusals
from mainstay.records.measures import Measured
from mainstay.records.outcomes import FEEDBACK, Outcomes
from mainstay.records.recorder import Recorder
from mainstay.records.retention import Forgetting, Retention
from mainstay.resilience.admission import Admission
from mainstay.resilience.ladder import Ladder
from mainstay.retrieval.search import HybridSearch
from mainstay.settings import Settings
from mainstay.storage.access import AccessStore
from mainstay.storage.agreements import SqlAgreements
from mainstay.storage.alerts import SqlAlerts
from mainstay.storage.audit import SqlAudit, SqlDecisions
from mainstay.storage.cache import SqlCache
from mainstay.storage.console import SqlLookups
from mainstay.storage.database import address_of, open_database
from mainstay.storage.documents import SqlDocuments
from mainstay.storage.handovers import SqlHandOvers
from mainstay.storage.jobs import SqlQueue
from mainstay.storage.ledger import SqlLedger
from mainstay.storage.measures import SqlMeasures
from mainstay.storage.modes import SqlModes
from mainstay.storage.outcomes import SqlOutcomes, has_outcome
from mainstay.storage.sessions import SqlSessions
from mainstay.storage.settled import Settled
from mainstay.storage.traces import SqlTraces
from mainstay.telemetry import Exporter
from mainstay.types import Clock
from mainstay.watch import Watch

if TYPE_CHECKING:
    from mainstay.models.providers.wire import Wire
    from mainstay.records.metrics import Metrics


class Building:
    """The opened rooms of one service and what joins them. ``embedders`` are ready-made ones by name."""

    def __init__(self, settings: Settings, *, clock: Clock | None, embedders: Mapping[str, Embedder]) -> None:
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.database = open_database(address_of(settings))
        tables = search_tables(self.database, settings.service.search.engine)
        self.documents = SqlDocuments(self.database, index=tables or forsaken(self.database))
        self.queue = SqlQueue(self.database, self.clock)
        records = settings.service.records
        self.traces = Recorder(
            SqlTraces(self.database, decisions=SqlDecisions(self.database), outcome=has_outcome),
            clean=clean,
            settings=records,
            expensive_n=nanodollars_of(records.expensive_usd) if records.expensive_usd else None,
        )
        self.exporter = Exporter(settings.service.telemetry.otlp, service=settings.service.name, wire=lambda: self.wire)
        self.traces.finished = self.exporter.offer
        agreed = settings.agreement.governance.retention_days
        self.forgetting = Forgetting(self.traces, Retention.of(records, agreed), self.clock)
        settled = Settled(self.database, self.traces.settle)
        self.audit = SqlAudit(self.database, self.clock)
        self.decisions = SqlDecisions(self.database, settled=self.traces.settle)
        self.refusals = Refusals(self.audit.record, self.clock)
        self.auditing = Auditing(
            settings=settings,
            database=self.database,
            audit=self.audit,
            clock=self.clock,
            wire=lambda: self.wire,
            before=self.refusals.look,
        )
        self.agreements = SqlAgreements(self.database, self.clock)
        self.handovers = SqlHandOvers(self.database)
        self.ledger = SqlLedger(self.database, self.clock, settle=self.traces.settle)
        self.backlog = Backlog(self.ledger)
        self.measures = SqlMeasures(settled)
        self.modes = SqlModes(self.database)
        self.lookups = SqlLookups(self.database)
        self.outcomes = Outcomes(
            SqlOutcomes(settled),
            self.clock,
            redact=redact,
            noted=lambda request_id: self.traces.mark(request_id, FEEDBACK),
        )
        self.alarming = Alarming(
            settings=settings,
            store=SqlAlerts(self.database),
            measures=self.measures,
            queue=self.queue,
            clock=self.clock,
            wire=lambda: self.wire,
        )
        self.ladder = Ladder(settings.agreement.modes, self.clock, self.modes, database_mode=None)
        self.admission = Admission(settings.agreement.traffic, self.clock)
        self._access = AccessStore(self.database, self.clock, facts=self.documents.facts, along=(IN_FORCE,))
        self.people = People(self._access, self.clock)
        self.keyring = Keyring(self._access, self._access, self.clock)
        self.gate = Gate(self._access, self._access)
        self.sessions = Sessions(SqlSessions(self.database), self.clock)
        oidc = settings.service.identity.oidc
        self.identity = Identity(
            self._access,
            self.people,
            self.keyring,
            None if oidc is None else Oidc(oidc, _fetch, self.clock),
            anonymous=settings.service.identity.anonymous == "allow",
        )
        self._stopping = threading.Event()
        self._embedders = Embedders(
            embedders,
            settings=settings,
            documents=self.documents,
            wire=lambda: self.wire,
            purse=self.service_purse,
        )
        self._releases = Releases(settings, lambda: self.prompts)
        self._searching = Searching(
            database=self.database,
            tables=tables,
            documents=self.documents,
            embedders=self._embedders,
            clock=self.clock,
            folder=settings.data / "index",
        )
        self._sources = Sources(settings=settings, documents=self.documents, clock=self.clock)
        self._vectors = Vectors(
            settings=settings,
            documents=self.documents,
            embedders=self._embedders,
            searching=self._searching,
            queue=self.queue,
            clock=self.clock,
            stop=self._stopping,
        )
        self._handing_over = HandingOver(
            settings=settings,
            handovers=self.handovers,
            access=self._access,
            queue=self.queue,
            clock=self.clock,
            wire=lambda: self.wire,
        )
        self._books = Books(
            ledger=self.ledger,
            backlog=self.backlog,
            measures=self.measures,
            clock=self.clock,
            observe=self._observe,
        )
        upkeep = Upkeep(
            settings=settings,
            clock=self.clock,
            queue=self.queue,
            documents=self.documents,
            searching=self._searching,
            vectors=self._vectors,
            handing_over=self._handing_over,
            caching=lambda: self.caching,
            handovers=self.handovers,
            measures=self.measures,
            outcomes=self.outcomes.store,
            alerts=self.alarming.store,
            forgetting=self.forgetting,
            ledger=self.ledger,
            audit=self.audit,
        )
        self._jobs = Jobs(
            settings=settings,
            clock=self.clock,
            queue=self.queue,
            documents=self.documents,
            sandbox=lambda: self.sandbox,
            sources=self._sources,
            embedders=self._embedders,
            searching=self._searching,
            vectors=self._vectors,
            handing_over=self._handing_over,
            alarming=self.alarming,
            upkeep=upkeep,
            traces=self.traces,
            stop=self._stopping,
        )
        self._background = Background(
            jobs=self._jobs,
            vectors=self._vectors,
            searching=self._searching,
            books=self._books,
            auditing=self.auditing,
            alarming=self.alarming,
            watch=lambda: self.watch,
            stop=self._stopping,
        )

    def close(self) -> None:
        """End background work, write the index files, close the database."""
        self._stopping.set()
        self._background.join()
        if "caching" in self.__dict__:
            self.caching.close()
        if "sandbox" in self.__dict__:
            self.sandbox.close()
        self.exporter.close()
        if "wire" in self.__dict__:
            self.wire.close()
        self._searching.close()
        self.refusals.close()
        self.traces.close()
        self.database.close()

    def service_purse(self) -> Purse:
        """Money for what no request pays for; the service's budgets bound it."""
        return service_purse(self.settings.agreement, self.ledger, self.backlog, self.clock)

    @property
    def question_limits(self) -> Limits:
        return Limits(question_chars=self.settings.service.limits.question_chars)

    def _release_seen(self) -> str:
        """The release for a request, whose Scope was worked out from what was read with the embedder in force."""
        return self._releases.name(self._embedders.in_force(seen=True))

    def _meaning(self) -> Meaning:
        """A local embedder helps to choose among sentences; a paid or distant one is asked for the question alone."""
        embedder = self._embedders.current()
        local = embedder.identity.precision != REMOTE
        return Meaning(related=embedder.related, embed=embedder.embed_passages if local else None)

    # -- rooms that are costly to open, opened at first use ------------------------------------------------------------

    @cached_property
    def sandbox(self) -> Sandbox:
        return Sandbox(ParseLimits(max_bytes=self.settings.service.limits.document_mb * 1024 * 1024))

    @cached_property
    def wire(self) -> Wire:
        """The one HTTP client of all model providers."""
        from mainstay.models.providers.wire import Wire  # brings the HTTP client

        return Wire()

    @cached_property
    def prompts(self) -> dict[str, Prompt]:
        """The prompts in force: read once, so that a release answers with one set of them from start to end."""
        return load_prompts(self.settings.folder / "prompts")

    @cached_property
    def searcher(self) -> HybridSearch:
        return HybridSearch(self.documents, self._searching.searched, self.settings.service.search)

    @cached_property
    def switchboard(self) -> Switchboard:
        """The language models that may answer. Errors: Invalid when the price of one is unknown."""
        return build_switchboard(self.settings, self.clock, lambda: self.wire)

    @cached_property
    def generating(self) -> Generating:
        agreement = self.settings.agreement
        router = LearntRouter(
            agreement,
            documents=self.documents,
            embedders=self._embedders,
            switchboard=lambda: self.switchboard,
        )
        return Generating(
            switchboard=self.switchboard,
            router=router.current,
            searcher=self.searcher,
            agreement=agreement,
            prompt=prompt_of(self.prompts, "answer"),
            clock=self.clock,
        )

    @cached_property
    def caching(self) -> Caching:
        return Caching(
            SemanticCache(SqlCache(self.database, self.clock), self.settings.agreement.cache, self.clock),
            self.settings.agreement,
            self.clock,
            release=self._release_seen,
            embedder=lambda: self._embedders.in_force(seen=True).digest,
            anew=lambda work: self.answering.anew(work),
        )

    @cached_property
    def answering(self) -> Answering:
        return Answering(
            gate=self.gate,
            searcher=self.searcher,
            traces=self.traces,
            clock=self.clock,
            agreement=self.settings.agreement,
            limits=self.question_limits,
            quoting=Quoting(self._meaning),
            generating=self.generating,
            caching=self.caching,
            ladder=self.ladder,
            ledger=self.ledger,
            backlog=self.backlog,
            people=self._handing_over,
            release=self._release_seen,
            observe=self._observe,
        )

    @cached_property
    def metrics(self) -> Metrics:
        """What scrapers are told. Counted from when this is first asked for: the server does so before it serves."""
        from mainstay.app.counting import metrics_of  # brings the client library of Prometheus

        return metrics_of(self)

    def _observe(self, measured: Measured, **more: Any) -> None:
        if "metrics" in self.__dict__:
            self.metrics.observe(measured, **more)

    @cached_property
    def watch(self) -> Watch:
        return Watch(
            ladder=self.ladder,
            board=self.switchboard,
            ledger=self.ledger,
            agreement=self.settings.agreement,
            clock=self.clock,
            burning=lambda: burning(self.settings.agreement, self.measures, self.clock),
            alive=self.database.ping,
            pressure=lambda: self.admission.pressure,
        )


def _fetch(url: str) -> bytes:
    from mainstay.egress import fetch  # brings the HTTP client

    return fetch(url)
