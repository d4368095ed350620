"""Answers that serve again: the same question, and one that asks the same in other words.

What keeps it safe is not likeness. An answer is found only under the very place it was made in (release, agreement,
language, filters, conversation, person) and only where today's search brought this asker the very passages' documents that it
was made from; and at that moment every source must be there unchanged and inside the asker's Scope. So a revoke, an edit
and a document that is new count at once, and nobody is shown what their own search could not have led to. Gates and two
learnt bounds then decide whether a question that only resembles another may share its answer.

A store that fails or is slow makes a miss, never an error.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from mainstay.agreement.terms import CacheRules, seconds
from mainstay.errors import MainstayError
from mainstay.models.cache.answers import same_answer
from mainstay.models.cache.bound import LEAST, anew, permits
from mainstay.models.cache.gates import Gate, compare, normalised, read
from mainstay.models.cache.ports import Asked, CachedAnswer, CacheStore, Entry, Label, Source, Wording, digest
from mainstay.types import Clock, Scope

T = TypeVar("T")
LOOK_S = 1.0  # a look that takes longer than this is not worth waiting for: the store is left alone for a while
REST_S = 5.0
CANDIDATES = 8
LABELS = 4000
LABELS_AGE_S = 2.0  # for so long what other processes learnt may go unseen
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A kept answer beside the question at hand: what a comparison is about. Its text has been authorised for this asker."""

    entry_id: str
    answer: CachedAnswer
    similarity: float
    wording: Wording
    family: str
    asked: str


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An answer that serves. With ``audit`` it is also to be made anew beside, and given to ``compared``."""

    candidate: Candidate
    audit: bool

    @property
    def entry_id(self) -> str:
        return self.candidate.entry_id

    @property
    def answer(self) -> CachedAnswer:
        return self.candidate.answer

    @property
    def similarity(self) -> float:
        return self.candidate.similarity

    @property
    def exact(self) -> bool:
        return self.candidate.wording is Wording.EXACT


@dataclass(frozen=True, kw_only=True)
class Miss:
    """No answer serves. With ``explore`` there is one that might have: the new answer is to be given to ``compared``.

    ``why`` is off, store, new, unlike, gate:NAME or unproven; ``similarity`` that of the nearest question, if any.
    """

    why: str
    explore: Candidate | None = None
    similarity: float = 0.0


@dataclass
class Counts:
    """Of this process since it began."""

    looks: int = 0
    hits: int = 0
    similar_hits: int = 0
    kept: int = 0
    store_failures: int = 0


class SemanticCache:
    """The cache of one process over a shared store. Safe for many threads."""

    def __init__(
        self,
        store: CacheStore,
        rules: CacheRules,
        clock: Clock,
        *,
        draw: Callable[[], float] | None = None,
    ) -> None:
        """``draw`` gives random numbers in [0, 1): which hits are audited, which entries explored."""
        self.store, self.rules, self._clock = store, rules, clock
        self._draw = draw or random.SystemRandom().random
        self._lock = threading.Lock()
        self._rest_until = 0.0
        self._labels: dict[str, tuple[float, list[Label]]] = {}
        self.counts = Counts()

    # -- looking -------------------------------------------------------------------------------------------------------

    def look(self, asked: Asked, *, scope: Scope) -> Hit | Miss:
        """An answer that may serve this asker now, or why there is none."""
        if not self.rules.enabled:
            return Miss(why="off")
        with self._lock:
            self.counts.looks += 1
        found = self._tried(lambda: self._looked(asked, scope))
        if found is None:
            return Miss(why="store")
        if isinstance(found, Hit):
            with self._lock:
                self.counts.hits += 1
                self.counts.similar_hits += not found.exact
            self._tried(lambda: self.store.used(found.entry_id))
        return found

    def _looked(self, asked: Asked, scope: Scope) -> Hit | Miss:
        now, exact = self._clock.now(), _exact(asked)
        same = self.store.exact(asked.place, exact, at=now, scope=scope)
        if same is not None:
            candidate = self._candidate(asked, same, 1.0, Wording.EXACT)
            return Hit(candidate=candidate, audit=self._draw() < self.rules.audit)
        if asked.vector is None or asked.history_digest or not self.rules.similar or not asked.vector.any():
            return Miss(why="new")
        near = self.store.near(asked.place, asked.read_digest, asked.vector, least=LEAST, limit=CANDIDATES, at=now)
        if not near:
            return Miss(why="unlike")
        asked_for = read(asked.question, asked.partition.language)
        between = [(compare(asked_for, read(other.question, asked.partition.language)), other) for other in near]
        unproven: Candidate | None = None
        for wording in (Wording.EXACT, Wording.SAME, Wording.FORMS, Wording.LICENCE):  # the likest words first
            for other in (other for found, other in between if found is wording):
                entry = self.store.open(other.entry_id, at=now, scope=scope)
                if entry is None:
                    continue
                candidate = self._candidate(asked, entry, other.similarity, wording)
                if self._permitted(candidate):
                    return Hit(candidate=candidate, audit=self._draw() < self.rules.audit)
                unproven = unproven or candidate
        if unproven is not None:
            return Miss(why="unproven", explore=unproven, similarity=unproven.similarity)
        shut = next((found for found, _ in between if isinstance(found, Gate)), None)
        return Miss(why="unlike" if shut is None else f"gate:{shut}", similarity=near[0].similarity)

    def _permitted(self, candidate: Candidate) -> bool:
        limit = self.rules.wrong_hits
        labels = self._family(candidate.family)
        if not permits(labels, candidate.wording, candidate.similarity, limit):
            return False
        chance = anew(self.store.labels_of(candidate.entry_id), candidate.similarity, limit)
        return chance <= 0.0 or self._draw() >= chance

    def _candidate(self, asked: Asked, entry: Entry, similarity: float, wording: Wording) -> Candidate:
        return Candidate(
            entry_id=entry.entry_id,
            answer=entry.answer,
            similarity=similarity,
            wording=wording,
            family=asked.partition.family,
            asked=digest(normalised(asked.question)),
        )

    def _family(self, family: str) -> Sequence[Label]:
        """The labels of a family, as they were at most two seconds ago."""
        now = self._clock.monotonic()
        with self._lock:
            held = self._labels.get(family)
        if held is not None and now - held[0] < LABELS_AGE_S:
            return held[1]
        labels = self.store.labels(family, limit=LABELS)
        with self._lock:
            self._labels[family] = (now, labels)
        return labels

    # -- keeping and learning ------------------------------------------------------------------------------------------

    def keep(self, asked: Asked, answer: CachedAnswer, sources: Sequence[Source]) -> bool:
        """Keep an answer, which is whole, cited and of the full service; whether it was kept.

        ``sources`` are all that was read and cited. When one of them has changed meanwhile nothing is kept.
        """
        if not self.rules.enabled or not sources:
            return False
        now = self._clock.now()
        entry = Entry(
            entry_id=self._clock.new_id("cac"),
            place=asked.place,
            exact=_exact(asked),
            read_set=asked.read_digest,
            question=asked.question,
            vector=None if asked.history_digest else asked.vector,
            answer=answer,
            owner=asked.personal or "",
            created=now,
            expires=now + timedelta(seconds=seconds(self.rules.keep, "cache.keep")),
        )
        kept = bool(self._tried(lambda: self.store.put(entry, sources, most=self.rules.entries), slow=None))
        with self._lock:
            self.counts.kept += kept
        return kept

    def compared(self, candidate: Candidate, anew: CachedAnswer | None, *, served: bool) -> bool:
        """Tell the bounds whether a new answer agrees with the kept one; returns whether it does.

        ``anew`` is None when the question, answered anew, has no answer that may be kept (refused, unsupported): they disagree.
        Give nothing when it could not be answered for reasons of ours (a failure, a limited mode).
        """
        agreed = anew is not None and same_answer(candidate.answer, anew)
        self.judged(candidate, agreed=agreed, served=served)
        return agreed

    def judged(self, candidate: Candidate, *, agreed: bool, served: bool) -> None:
        """Record a label that was found some other way."""
        label = Label(
            entry_id=candidate.entry_id,
            family=candidate.family,
            asked=candidate.asked,
            wording=candidate.wording,
            similarity=candidate.similarity,
            agreed=agreed,
            served=served,
            at=self._clock.now(),
        )
        self._tried(lambda: self.store.add_label(label), slow=None)
        with self._lock:
            self._labels.pop(candidate.family, None)

    def allowed(self, sources: Sequence[Source], *, scope: Scope) -> bool:
        """Whether an answer that another thread made from these may be shown now. A store that fails says no."""
        return bool(self._tried(lambda: self.store.current(sources, scope=scope)))

    # -- the store may fail --------------------------------------------------------------------------------------------

    def _tried(self, call: Callable[[], T], *, slow: float | None = LOOK_S) -> T | None:
        """What the call returns; None when it fails, or while the store is left alone after it was slow or failed."""
        began = self._clock.monotonic()
        with self._lock:
            if began < self._rest_until:
                return None
        try:
            result = call()
        except (
            MainstayError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:  # a row that can not be read is a miss as well
            log.warning("the answer cache is left alone for %.0f s: %s", REST_S, type(error).__name__)
            self._rest(began, failed=True)
            return None
        if slow is not None and self._clock.monotonic() - began > slow:
            self._rest(began, failed=False)
        return result

    def _rest(self, began: float, *, failed: bool) -> None:
        with self._lock:
            self.counts.store_failures += failed
            self._rest_until = max(self._rest_until, began + REST_S)


def _exact(asked: Asked) -> str:
    return digest(normalised(asked.question), asked.read_digest)
