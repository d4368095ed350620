"""Answers that serve again, on the road: asked for before a model is, kept after one has answered.

Retrieval comes first, always: an answer serves an asker only when their own search, now, brings the documents it was
made from, in the same versions. Identical questions in the air wait for the first of them. A share of what the cache
serves is answered anew beside, so that the share of wrong hits is known and not believed.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from mainstay.agreement import Agreement
from mainstay.answering.events import Draft
from mainstay.answering.generating import DATA_CLASS, Work
from mainstay.guard.redaction import findings
from mainstay.models.cache import (
    Asked,
    CachedAnswer,
    Candidate,
    Counts,
    Flights,
    Follower,
    Hit,
    Landed,
    Leader,
    Partition,
    SemanticCache,
    Source,
    flight_key,
    read_set,
)
from mainstay.types import Clock, Mode, Scope, Status

AUDITS_WAITING = 16
LABELS_KEPT = timedelta(days=365)
Anew = Callable[[Work], Draft | None]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """An answer that serves again."""

    draft: Draft


class Looked:
    """No answer that serves; ``said`` goes into the route, ``keep`` takes what is answered instead."""

    def __init__(self, said: str, keep: Callable[[Draft], None] | None = None) -> None:
        self.said, self._keep = said, keep

    def keep(self, draft: Draft) -> None:
        if self._keep is not None:
            self._keep(draft)


class Caching:
    """The semantic cache under the agreement's rules. ``anew`` answers a question again, at the service's expense."""

    def __init__(
        self,
        cache: SemanticCache,
        agreement: Agreement,
        clock: Clock,
        *,
        release: Callable[[], str],
        embedder: Callable[[], str],
        anew: Anew,
    ) -> None:
        self._cache, self._agreement, self._clock = cache, agreement, clock
        self._release, self._embedder, self._anew = release, embedder, anew
        self._flights: Flights[_Made] = Flights(clock)
        self._auditor = ThreadPoolExecutor(1, thread_name_prefix="cache-audit")
        self._audits = threading.BoundedSemaphore(AUDITS_WAITING)

    @property
    def counts(self) -> Counts:
        """What the cache did in this process."""
        return self._cache.counts

    def close(self) -> None:
        self._auditor.shutdown(cancel_futures=True)

    def prune(self) -> int:
        """Forget what has expired, and what was learnt too long ago; how many answers."""
        now = self._clock.now()
        return self._cache.store.prune(at=now, labels_before=now - LABELS_KEPT)

    @contextmanager
    def look(self, work: Work, scope_now: Callable[[], Scope]) -> Iterator[Taken | Looked]:
        """An answer that serves, or what to do without; whoever asks the same meanwhile waits until this is left.

        ``scope_now`` resolves the asker's Scope again: rules may have changed while they waited.
        """
        if not self._permitted(work):
            yield Looked("cache:off")
            return
        asked = self._asked(work)
        taken, said, explore = self._taken(work, asked)
        if taken is not None or work.mode not in (Mode.FULL, Mode.ECONOMY):
            yield taken or Looked(said)
            return
        flight = self._flights.join(flight_key(asked, scope_digest=work.scope.digest))
        landed: Leader[_Made] | Follower[_Made] | Landed[_Made] | None = flight
        if isinstance(flight, Follower):
            landed = flight.wait(work.deadline - self._clock.monotonic())
            same = isinstance(landed, Landed) and scope_now().digest == work.scope.digest
            if same and isinstance(landed, Landed) and self._cache.allowed(landed.value.sources, scope=work.scope):
                yield Taken(draft=_draft(landed.value.answer, "cache:shared"))
                return
        if not isinstance(landed, Leader):
            yield Looked(said, lambda draft: self._keep(work, asked, draft, explore, None))
            return
        with landed as leader:
            yield Looked(said, lambda draft: self._keep(work, asked, draft, explore, leader))

    def _permitted(self, work: Work) -> bool:
        if not (self._agreement.cache.enabled and work.question.cache):
            return False
        closed = {rule.name for rule in self._agreement.governance.data_classes if not rule.cache}
        return not closed or not any(
            closed & set(map(str, named if isinstance(named, tuple) else (named,)))
            for passage in work.found.passages
            if (named := passage.metadata.get(DATA_CLASS)) is not None
        )

    def _asked(self, work: Work) -> Asked:
        history = "\n".join(f"{role}: {text}" for role, text in work.question.history)
        return Asked(
            question=work.question.text,
            partition=Partition(
                release=self._release(),
                agreement="",  # part of what a release names
                language=work.spoken,
                embedder=self._embedder(),
                model_class="",
            ),
            history_digest=hashlib.sha256(history.encode()).hexdigest() if history else "",
            filters=tuple(sorted(map(repr, work.question.filters))),
            top_k=work.question.top_k,
            vector=work.found.vector,
            read=read_set(work.found.passages),
        )

    def _taken(self, work: Work, asked: Asked) -> tuple[Taken | None, str, Candidate | None]:
        looked = self._cache.look(asked, scope=work.scope)
        work.journey.span(
            "cache",
            hit=isinstance(looked, Hit),
            similarity=round(looked.similarity, 4),
            why="" if isinstance(looked, Hit) else looked.why,
        )
        if not isinstance(looked, Hit):
            return None, "cache:miss", looked.explore
        if looked.audit:
            self._audit(work, looked)
        return Taken(draft=_draft(looked.answer, "cache:hit" if looked.exact else "cache:similar")), "", None

    def _keep(
        self, work: Work, asked: Asked, draft: Draft, explore: Candidate | None, leader: Leader[_Made] | None
    ) -> None:
        whole = draft.status is Status.ANSWERED and draft.mode is Mode.FULL and work.mode is Mode.FULL
        whole = whole and bool(draft.citations)
        if explore is not None and draft.mode is Mode.FULL and (whole or draft.status is Status.REFUSED):
            self._cache.compared(explore, _cached(draft) if whole else None, served=False)
        if not whole:
            return
        if _telling(work, draft):
            return  # nor does it fly: whoever waits asks for themselves
        made = _Made(_cached(draft), tuple(Source(document=d, version=v) for d, v in sorted(_read(work, draft))))
        self._cache.keep(asked, made.answer, made.sources)
        if leader is not None:
            leader.land(made)

    def _audit(self, work: Work, hit: Hit) -> None:
        """Answer it anew, later and beside: the asker does not wait for it and does not pay."""
        if not self._audits.acquire(blocking=False):
            return

        def compare() -> None:
            try:
                fresh = self._anew(work)
                if fresh is not None and fresh.mode is Mode.FULL:
                    whole = fresh.status is Status.ANSWERED
                    self._cache.compared(hit.candidate, _cached(fresh) if whole else None, served=True)
            finally:
                self._audits.release()

        self._auditor.submit(compare)


@dataclass(frozen=True)
class _Made:
    """An answer in the air, for whoever asked the same."""

    answer: CachedAnswer
    sources: tuple[Source, ...]


def _telling(work: Work, draft: Draft) -> bool:
    """Whether question, answer or quotations hold a secret or personal data: such an answer is not kept."""
    texts = (work.question.text, draft.text, *draft.notices, *(citation.quote for citation in draft.citations))
    return any(findings(text) for text in texts)


def _read(work: Work, draft: Draft) -> set[tuple[str, str]]:
    """Everything the answer was made from: what was found, what was read and what is cited."""
    cited = {(citation.document, citation.version) for citation in draft.citations}
    return {(held.document, held.version) for held in (*work.found.passages, *draft.read)} | cited


def _cached(draft: Draft) -> CachedAnswer:
    return CachedAnswer(
        text=draft.text,
        citations=draft.citations,
        confidence=draft.confidence,
        model=draft.model,
        notice=" ".join(draft.notices) or None,
    )


def _draft(answer: CachedAnswer, said: str) -> Draft:
    return Draft(
        status=Status.ANSWERED,
        text=answer.text,
        citations=answer.citations,
        confidence=answer.confidence,
        model=answer.model,
        route=(said,),
        notices=(answer.notice,) if answer.notice else (),
        grounded=1.0,  # only answers are kept whose every shown sentence has a source
        covered=1.0,
        cached=True,
    )
