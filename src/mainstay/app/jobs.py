"""Work that outlives a request: the kinds of jobs, who does them, and doing one now while somebody watches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from mainstay.app.alarming import ALERT, Alarming
from mainstay.app.embedding import Embedders
from mainstay.app.handing_over import HANDOVER, HandingOver
from mainstay.app.searching import INDEX, Searching
from mainstay.app.sources import SYNC, Sources, sync_of
from mainstay.app.upkeep import Upkeep
from mainstay.app.vectors import EMBED, Vectors
from mainstay.corpus.embedding import embed_waiting
from mainstay.corpus.ingest import Progress, Report, synchronise
from mainstay.corpus.parsing.sandbox import Sandbox
from mainstay.errors import Conflict, MainstayError, Unavailable
from mainstay.logs import tellable
from mainstay.records.audit import By, acting, whoever_acts
from mainstay.records.audit.events import SERVICE
from mainstay.records.spans import INGEST, STEP
from mainstay.records.traces import Journey, Traces
from mainstay.settings import Settings
from mainstay.storage.documents import SqlDocuments
from mainstay.storage.jobs import SqlQueue
from mainstay.types import Actor, Clock
from mainstay.workflows.ports import Job, JobState
from mainstay.workflows.worker import Handler, Hooks, JobContext, Worker

KINDS = (SYNC, EMBED, INDEX, HANDOVER, ALERT)


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """All kinds of jobs of one service. Its workers go home at ``stop``."""

    settings: Settings
    clock: Clock
    queue: SqlQueue
    documents: SqlDocuments
    sandbox: Callable[[], Sandbox]
    sources: Sources
    embedders: Embedders
    searching: Searching
    vectors: Vectors
    handing_over: HandingOver
    alarming: Alarming
    upkeep: Upkeep
    traces: Traces
    stop: threading.Event

    def worker(
        self, kinds: Sequence[str] = KINDS, *, hooks: Hooks | None = None, stop: threading.Event | None = None
    ) -> Worker:
        """One that does jobs of these kinds in the thread that runs it, until ``stop``, or until the App is closed."""
        handlers = {
            SYNC: self._sync,
            EMBED: self._embed,
            INDEX: self._index,
            HANDOVER: self.handing_over.deliver,
            ALERT: self.alarming.deliver,
        }
        return Worker(
            self.queue,
            {kind: _as_asked(handlers[kind]) for kind in kinds if kind != INDEX or self.searching.tables is not None},
            self.clock,
            lease_s=self.settings.service.worker.lease_s,
            stop=stop or self.stop,
            look_around=lambda: self.upkeep.look_around(kinds),
            hooks=hooks or Hooks(say=_to_stderr),
        )

    def ask_for_sync(self, name: str, *, delete_all: bool = False, requested_by: str = "") -> Job:
        """Have a source synchronised by whichever worker is free. Errors: NotFound."""
        self.sources.source(name)
        return self.queue.add(SYNC, sync_of(name, delete_all), key=f"{SYNC}:{name}", requested_by=requested_by)

    def sync_now(self, name: str, *, delete_all: bool = False, watch: Progress | None = None) -> Report:
        """Have a source synchronised now, here or by the worker that is at it. Errors: what it ran into."""
        self.sources.source(name)
        return Report(**self._do(SYNC, sync_of(name, delete_all), key=f"{SYNC}:{name}", watch=watch))

    def embed_now(self, *, watch: Progress | None = None) -> None:
        """Have every vector made that is missing, here or by the worker that is at it."""
        while self.vectors.missing():
            self._do(EMBED, {}, key=EMBED, watch=watch)

    def _do(self, kind: str, payload: dict[str, Any], *, key: str, watch: Progress | None) -> Mapping[str, Any]:
        worker = self.worker([kind])
        while True:
            # Put off by a lease, so that nobody else takes it before we do: the folder may be on this machine alone.
            delay_s = self.settings.service.worker.lease_s
            asked_by = "service:command-line"
            job = self.queue.add(kind, payload, key=key, delay_s=delay_s, requested_by=asked_by, again=kind == EMBED)
            try:
                result = self._ended(worker, job, watch)
            except MainstayError:
                if job.payload == payload:
                    raise
            else:
                if job.payload == payload:
                    return result

    def _ended(self, worker: Worker, job: Job, watch: Progress | None) -> Mapping[str, Any]:
        """The result of a job that is done here, or elsewhere; whoever has it, we take over if it falls silent."""
        followed = False
        while True:
            taken = worker.take(job.job_id)
            if taken is not None:
                outcome = worker.work(taken[0], asked_at=taken[1], watch=watch, once=True)
                if outcome.error is not None:
                    raise outcome.error
            held = self.queue.get(job.job_id)
            if held is None or held.state is JobState.CANCELLED:
                raise Conflict("the job was cancelled", where=job.job_id, fix="see: mainstay jobs show ID")
            if held.state is JobState.DONE:
                return held.result
            if held.state is JobState.DEAD:
                raise Conflict(f"the job failed: {held.error}", where=job.job_id, fix="see: mainstay jobs show ID")
            if not followed:
                _to_stderr(f"{job.key}: {held.owner or 'another worker'} is at it; waiting for it")
                followed = True
            if watch is not None:
                watch(int(held.progress.get("done", 0)), int(held.progress.get("total", 1)), "")
            self.queue.wait(0.5)

    def _sync(self, context: JobContext) -> Mapping[str, Any]:
        """Leaves a journey behind when it changed something, or failed."""
        journey = Journey(self.clock.new_id("run"), Actor(principal=SERVICE), INGEST, self.clock)
        journey.facts |= {"job": context.job.job_id, "source": str(context.job.payload["source"])}
        try:
            report = self._synchronised(context)
        except MainstayError as error:
            journey.failed = True
            journey.span(STEP, name="synchronise", error=type(error).__name__, failed=error.what)
            self._keep(journey, "failed")
            raise
        counts: dict[str, Any] = {name: value for name, value in asdict(report).items() if isinstance(value, int)}
        journey.span(
            STEP, name="synchronise", quarantined=len(report.quarantined), problems=len(report.problems), **counts
        )
        if report.quarantined or report.problems or any(counts[name] for name in counts if name != "unchanged"):
            self._keep(journey, "done")
        return asdict(report)

    def _keep(self, journey: Journey, status: str) -> None:
        with suppress(Unavailable):  # what was done stands, and what went wrong is told by the job
            self.traces.keep(journey.trace(status))

    def _synchronised(self, context: JobContext) -> Report:
        return synchronise(
            self.sources.source(str(context.job.payload["source"])),
            self.documents.under(context.fence),
            self.sandbox(),
            self.clock,
            progress=context.progress,
            delete_all=bool(context.job.payload.get("delete_all")),
        )

    def _embed(self, context: JobContext) -> Mapping[str, Any]:
        def stop() -> bool:
            context.check()
            return False

        feed = self.documents.under(context.fence)
        made = embed_waiting(feed, self.embedders.current(), self.clock, progress=context.progress, stop=stop)
        return {"made": made}

    def _index(self, context: JobContext) -> Mapping[str, Any]:
        tables = self.searching.tables
        assert tables is not None
        tables.fill(
            self.embedders.in_force(), progress=lambda filled: context.progress(filled.done, filled.of, filled.what)
        )
        return {"chunks": tables.chunks()}


def _as_asked(handler: Handler) -> Handler:
    """The same job, done in the name of who asked for it, as far as the audit log is concerned."""

    def run(context: JobContext) -> Mapping[str, Any]:
        asked_by, here = context.job.requested_by, whoever_acts()
        if here.principal == SERVICE and ":" in asked_by:
            here = By(principal=asked_by)
        with acting(replace(here, via=f"job:{context.job.job_id}")):
            return handler(context)

    return run


def _to_stderr(said: str) -> None:
    print(f"mainstay: {tellable(said)}", file=sys.stderr, flush=True)
