"""Writes journeys beside the requests they belong to: nobody who asks waits for a disk.

One thread takes what has come, every tenth of a second at the latest, and writes it in one transaction. What can not be
written waits and is tried again; when too much waits, the next request writes for itself and hears the error. Whoever
reads in the same process reads what was kept before.

Every text passes ``clean`` before it goes anywhere.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from mainstay.errors import MainstayError, Unavailable
from mainstay.records.content import RecordSettings, permitted
from mainstay.records.measures import Measured
from mainstay.records.sampling import Sampling
from mainstay.records.spans import ImportedSpan, Ingested, Span
from mainstay.records.traces import Kept, Order, Page, Pruned, Reading, Search, Texts, Trace

CAPACITY = 10_000
BATCH = 500
EVERY_S = 0.1
AGAIN_S = 1.0
CLOSE_S = 10.0
SAFE = frozenset(
    {
        *(
            "passages",
            "documents",
            "versions",
            "reasons",
            "sources",
            "citations",
            "scope",
            "model",
            "models",
            "release",
        ),
        *("mode", "status", "route", "finish", "kind", "decision", "prompt", "price_version", "purpose"),
        *("door", "rules", "verdict", "estimated_by", "handed_over", "order", "excluded"),
        *("scores", "lexical", "dense", "prompt_version", "language", "price_version", "excluded"),
    }
)
"""Attributes that hold ids and words of ours alone. Whatever has another name passes ``clean``."""

_TEXTS = (str, list, tuple, dict)

_log = logging.getLogger(__name__)


class Store(Reading, Protocol):
    """Where it is written."""

    def keep_all(self, batch: Sequence[Kept]) -> None: ...

    def prune(
        self,
        before: datetime,
        *,
        content_before: datetime | None = None,
        passing_before: datetime | None = None,
        dry_run: bool = False,
    ) -> Pruned: ...


_SAID = ("name", "service", "error_class", "model", "release", "attributes", "content")
"""The fields of another program's span that hold words of its own."""


class Recorder:
    """``records.traces.Traces`` that returns before it has written. One per process; its thread begins with the first
    journey. ``lost`` counts those that could not be written in the end."""

    def __init__(
        self,
        store: Store,
        *,
        clean: Callable[[Any], Any],
        settings: RecordSettings | None = None,
        expensive_n: int | None = None,
        capacity: int = CAPACITY,
        every_s: float = EVERY_S,
    ) -> None:
        """``clean`` takes secrets and personal data out of what JSON can hold, and gives back the same object where there are
        none: there is no recording without one. ``expensive_n`` is ``records.expensive_usd`` in nano-dollars."""
        self._store, self._clean = store, clean
        self._settings = settings or RecordSettings()
        self._sampling = Sampling(self._settings.sample, expensive_n=expensive_n)
        self._capacity, self._every_s = capacity, every_s
        self._waiting: deque[Kept] = deque()
        self._queue = threading.Lock()  # guards what waits
        self._writing = threading.Lock()  # held by whoever writes
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = 0
        self.finished: Callable[[Trace], object] | None = None  # told of each journey, redacted; returns at once

    def keep(
        self,
        trace: Trace,
        measured: Measured | None = None,
        *,
        decision: object | None = None,
        texts: Texts | None = None,
    ) -> None:
        wanted = permitted(self._settings, texts) if texts is not None else {}
        content = {name: str(self._clean(text)) for name, text in wanted.items()}
        one = Kept(trace=self._prepared(trace), measured=measured, decision=decision, content=content)
        with self._queue:
            full = self._ending.is_set() or len(self._waiting) >= self._capacity
            if not full:
                self._waiting.append(one)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
                    self._thread.start()
                ring = len(self._waiting) >= BATCH
        if full:  # nobody waits for a disk but whoever comes when too much waits for it already
            self._store.keep_all([one])
        elif ring:
            self._wake.set()
        if self.finished is not None:
            self.finished(one.trace)

    def flush(self) -> None:
        """Write what waits, now. Errors: Unavailable, and everything waits on."""
        while self._waiting:
            self._write()

    def close(self) -> None:
        """Write what waits and end. What can not be written is counted and said in the log."""
        with self._queue:
            self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=CLOSE_S)
        try:
            self.flush()
        except MainstayError as error:
            self.lost += len(self._waiting)
            _log.error("%s journeys are lost: %s", len(self._waiting), error.what)
            self._waiting.clear()

    @property
    def waiting(self) -> int:
        """How many journeys are not written yet."""
        return len(self._waiting)

    def _run(self) -> None:
        pause = self._every_s
        while not self._ending.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            pause = self._every_s
            try:
                self.flush()
            except MainstayError as error:
                _log.warning("%s journeys wait to be written: %s", len(self._waiting), error.what)
                pause = AGAIN_S
            except Exception:  # noqa: BLE001 - its thread may not die of one bad journey
                _log.exception("journeys could not be written")
                pause = AGAIN_S

    def _write(self) -> None:
        """One batch. What fails for a reason of its own is lost alone: the others are written one by one."""
        with self._writing:
            batch = [self._waiting[n] for n in range(min(BATCH, len(self._waiting)))]  # only ever added to by others
            if not batch:
                return
            try:
                self._store.keep_all(batch)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one bad journey may not cost the others
                if len(batch) == 1:
                    self.lost += 1
                    _log.exception("the journey of %s is lost", batch[0].trace.request_id)
                else:
                    _log.warning("a batch of journeys is written one by one after %r", error)
                    self._one_by_one(batch)
            with self._queue:
                for _ in batch:
                    self._waiting.popleft()

    def _one_by_one(self, batch: Sequence[Kept]) -> None:
        for one in batch:
            try:
                self._store.keep_all([one])
            except Unavailable:
                raise  # the whole batch waits: what was written already stays as it is when it comes again
            except Exception:  # noqa: BLE001 - as above
                self.lost += 1
                _log.exception("the journey of %s is lost", one.trace.request_id)

    # -- no text goes anywhere as it is --------------------------------------------------------------------------------

    def _prepared(self, trace: Trace) -> Trace:
        spans = tuple([self._cleaned(span) for span in trace.spans])
        facts = self._without_texts(trace.facts)
        return replace(trace, spans=spans, facts=facts, kept=self._sampling.reason(trace))

    def _cleaned(self, span: Span) -> Span:
        attributes = self._without_texts(span.attributes)
        return span if attributes is span.attributes else replace(span, attributes=attributes)

    def _without_texts(self, held: Mapping[str, Any]) -> Mapping[str, Any]:
        said = {name: value for name, value in held.items() if name not in SAFE and value and isinstance(value, _TEXTS)}
        clean = self._clean(said) if said else said
        if clean is said:
            return held
        return {**{name: value for name, value in held.items() if name not in said}, **clean}

    def ingest(self, batch: Sequence[ImportedSpan]) -> Ingested:
        """Redacted here as well, whoever mapped them, their texts kept where all are; durable when this returns."""
        whole = self._settings.content == "all"
        return self._store.ingest([self._imported(one, whole=whole) for one in batch])

    def _imported(self, one: ImportedSpan, *, whole: bool) -> ImportedSpan:
        said = (
            one.name,
            one.service,
            one.error_class,
            one.model,
            one.release,
            one.attributes,
            one.content if whole else {},
        )
        clean = self._clean(said)
        if clean is said and (whole or not one.content):
            return one
        return replace(one, **dict(zip(_SAID, clean, strict=True)))

    # -- the rest of the port ------------------------------------------------------------------------------------------

    def get(self, request_id: str) -> Trace | None:
        self.settle()
        return self._store.get(request_id)

    def skeleton(self, request_id: str) -> Trace | None:
        self.settle()
        return self._store.skeleton(request_id)

    def span(self, request_id: str, span_id: str) -> Span | None:
        self.settle()
        return self._store.span(request_id, span_id)

    def recent(self, *, asker: str | None, limit: int, before: datetime | None = None) -> list[Trace]:
        self.settle()
        return self._store.recent(asker=asker, limit=limit, before=before)

    def search(self, wanted: Search) -> Page:
        self.settle()
        return self._store.search(wanted)

    def ranked(self, wanted: Search, by: Order) -> Sequence[Trace]:
        self.settle()
        return self._store.ranked(wanted, by)

    def content(self, request_id: str) -> Mapping[str, str] | None:
        self.settle()
        return self._store.content(request_id)

    def mark(self, request_id: str, kept: str) -> bool:
        self.settle()
        return self._store.mark(request_id, kept)

    def hold(self, request_id: str, case: str, *, at: datetime, why: str = "") -> bool:
        self.settle()
        return self._store.hold(request_id, str(self._clean(case)), at=at, why=str(self._clean(why)))

    def prune(
        self,
        before: datetime,
        *,
        content_before: datetime | None = None,
        passing_before: datetime | None = None,
        dry_run: bool = False,
    ) -> Pruned:
        self.settle()
        return self._store.prune(before, content_before=content_before, passing_before=passing_before, dry_run=dry_run)

    def settle(self) -> None:
        """What was kept before is read. A disk that takes nothing may still be read from."""
        try:
            self.flush()
        except Unavailable as error:
            _log.warning("%s journeys wait to be written: %s", len(self._waiting), error.what)
