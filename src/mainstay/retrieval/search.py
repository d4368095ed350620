"""Hybrid search inside a Scope.

The kernel answers three questions (who may see what, which words, which meaning), fusion joins the two lists, and whatever came out
is read again from the truth under the same Scope before anybody sees it: a stale index is a gap, never a leak.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mainstay.corpus.following import IndexFollower
from mainstay.corpus.index import Permitted, SearchIndex
from mainstay.corpus.ports import Documents
from mainstay.errors import Unavailable
from mainstay.models.chat import ModelFailure
from mainstay.models.embedders import Embedder
from mainstay.retrieval import fusion
from mainstay.retrieval.filters import NamedYear, value_filters, year_filter
from mainstay.retrieval.ports import Index, Inside, Lists
from mainstay.types import Filter, MetaValue, Passage, Question, Scope

MAX_VALUES_PER_KEY = 2000
SAME_TEXT_JACCARD = 0.8
SHINGLE_WORDS = 5
WIDENED = 3
MAX_WIDE_CHARS = 3000
POORER = 0.6  # of the best word score without the filter: below that the filter was a misreading
# Keys that describe how a document came in, not what it is about: never found in a question.
NOT_IN_QUESTIONS = frozenset({"source", "author", "creator", "producer", "version", "title", "subject", "description"})


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How to search. ``weight`` is the share of meaning against words (0 words only, 1 meaning only), tuned per corpus; None is
    the embedder's own;
    ``candidates`` how many each list brings to fusion; ``per_document`` how many chunks one document may show. ``engine``
    is ``exact`` (the embedded kernel), ``database`` (PostgreSQL itself), or what suits the database."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, which wants a plain dict

    engine: Literal["auto", "exact", "database"] = "auto"
    weight: float | None = None
    candidates: int = 60
    per_document: int = 6
    filters_from_question: bool = True


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one search brought, best first. ``waiting`` counts readable chunks without a vector yet; ``cut_off`` is how many chunks
    the Scope kept out of the search: for operators alone."""

    passages: tuple[Passage, ...]
    filters: tuple[Filter, ...] = ()
    dropped: tuple[Filter, ...] = ()
    missing_year: NamedYear | None = None
    known_years: tuple[int, ...] = ()
    readable: int = 0
    waiting: int = 0
    by_words: int = 0
    by_meaning: int = 0
    cut_off: int = 0
    stale: int = 0
    meaning_down: bool = False
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)


class Searcher(Protocol):
    def search(self, question: Question, *, scope: Scope) -> Found: ...

    def widened(self, passages: Sequence[Passage], *, scope: Scope) -> tuple[Passage, ...]: ...


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """The embedded index as search asks for one."""

    index: SearchIndex

    def permitted(self, scope: Scope, filters: Sequence[Filter] = ()) -> Inside:
        return _InKernel(self.index, self.index.permitted(scope, filters))

    def metadata_keys(self, scope: Scope) -> Sequence[str]:
        return self.index.metadata_keys(scope)

    def metadata_values(
        self, scope: Scope, key: str, *, limit: int | None = None
    ) -> Mapping[str | int | float | bool | date, int]:
        return self.index.metadata_values(scope, key, limit=limit)


class _InKernel:
    """A permitted set of the embedded index."""

    def __init__(self, index: SearchIndex, permitted: Permitted) -> None:
        self._index, self._permitted = index, permitted

    @property
    def count(self) -> int:
        return self._permitted.count

    @property
    def without_vector(self) -> int:
        return self._permitted.without_vector

    @property
    def cut_off(self) -> int:
        return self._permitted.cut_off

    def lists(self, text: str, vector: NDArray[np.float32] | None, k: int) -> Lists:
        index, permitted = self._index, self._permitted

        def meaning_scores(seqs: NDArray[np.int64]) -> NDArray[np.float64]:
            return np.full(len(seqs), np.nan) if vector is None else index.dense_scores(seqs, vector, permitted)

        return Lists(
            words=index.lexical(text, permitted, k),
            meaning=index.no_hits() if vector is None else index.dense(vector, permitted, k),
            word_scores=lambda seqs: index.lexical_scores(seqs, text, permitted),
            meaning_scores=meaning_scores,
        )


class HybridSearch:
    """The search port over an index."""

    def __init__(
        self,
        documents: Documents,
        serving: Callable[[], tuple[Index | IndexFollower, Embedder]],
        settings: SearchSettings,
    ) -> None:
        """``serving`` gives the index in force and the embedder that made its vectors, as one pair: never mixed."""
        self._documents, self._serving, self._settings = documents, serving, settings

    def search(self, question: Question, *, scope: Scope) -> Found:
        """Passages for the question inside the scope, at most ``question.top_k``."""
        served, embedder = self._serving()
        index = Kernel(index=served.current()) if isinstance(served, IndexFollower) else served
        weight = embedder.weight if self._settings.weight is None else self._settings.weight
        vector = _vector(embedder, question.text)
        asked = _Asked(index=index, question=question, vector=vector, weight=weight, scope=scope)
        found = self._search(asked, question.filters)
        if not self._settings.filters_from_question or not found.passages:
            return found
        stated, missing = self._filters_in(question, index, scope, found)
        if missing is not None:
            years = {
                passage.metadata["year"] for passage in found.passages if isinstance(passage.metadata.get("year"), int)
            }
            return replace(found, missing_year=missing, known_years=tuple(sorted(int(str(year)) for year in years)))
        return self._with_stated(asked, stated, found)

    def widened(self, passages: Sequence[Passage], *, scope: Scope) -> tuple[Passage, ...]:
        """The same, the best ones together with what stands beside them in their section; no text twice.

        For a language model, which reads better in context. Each is still the exact slice of its document's text.
        """
        first = [passage.chunk for passage in passages[:WIDENED]]
        around = self._documents.around(first, 1, most_chars=MAX_WIDE_CHARS, scope=scope) if first else {}
        wider: list[Passage] = []
        for n, passage in enumerate(passages):
            if any(held.document == passage.document and held.start <= passage.start < held.end for held in wider):
                continue
            found = around.get(passage.chunk) if n < WIDENED else None
            if found is None or found.version != passage.version:
                wider.append(passage)
            else:
                wider.append(replace(passage, start=found.start, end=found.end, text=found.text))
        return tuple(wider)

    def _filters_in(
        self, question: Question, index: Index, scope: Scope, found: Found
    ) -> tuple[list[Filter], NamedYear | None]:
        given = {condition.key for condition in question.filters}
        values: dict[str, Sequence[MetaValue]] = {}
        for key in index.metadata_keys(scope):
            if key not in NOT_IN_QUESTIONS | given | {"year"}:
                known = index.metadata_values(scope, key, limit=MAX_VALUES_PER_KEY)
                if 1 < len(known) < MAX_VALUES_PER_KEY:
                    values[key] = list(known)
        stated = value_filters(question.text, values)
        by_year, missing = (None, None) if "year" in given else year_filter(question.text, found.passages)
        return ([by_year, *stated] if by_year else stated), missing

    def _with_stated(self, asked: _Asked, stated: list[Filter], unfiltered: Found) -> Found:
        """Search under the stated filters; where that is empty or clearly poorer in words, drop the last stated first."""
        dropped: list[Filter] = []
        best = max((passage.lexical for passage in unfiltered.passages), default=0.0)
        while stated:
            found = self._search(asked, (*asked.question.filters, *stated))
            if found.passages and max(passage.lexical for passage in found.passages) >= POORER * best:
                return replace(found, dropped=tuple(dropped))
            dropped.append(stated.pop())
        return replace(unfiltered, dropped=tuple(dropped))

    def _search(self, asked: _Asked, filters: tuple[Filter, ...]) -> Found:
        question, scope, vector = asked.question, asked.scope, asked.vector
        permitted = asked.index.permitted(scope, filters)
        wanted = max(self._settings.candidates, 2 * question.top_k)
        usable = vector if vector is not None and vector.any() else None
        found = permitted.lists(question.text, usable, wanted)
        words, meaning = found.words, found.meaning
        if usable is None:
            fused = fusion.convex(meaning, words, weight=0.0)
        else:
            fused = fusion.convex(
                meaning,
                words,
                weight=asked.weight,
                dense_scores=found.meaning_scores,
                lexical_scores=found.word_scores,
            )
        seqs = [int(seq) for seq in fused.seqs[: max(4 * question.top_k, 40)]]
        truth = self._documents.passages(seqs, scope=scope)
        ranked = (  # taken one after the other until there are enough: the rest is never put together
            replace(truth[seq], score=float(score), dense=float(dense), lexical=float(lexical))
            for seq, score, dense, lexical in zip(seqs, fused.scores, fused.dense, fused.lexical, strict=False)
            if seq in truth
        )
        return Found(
            passages=tuple(varied(ranked, question.top_k, self._settings.per_document)),
            filters=filters,
            readable=permitted.count,
            waiting=permitted.without_vector,
            by_words=len(words.seqs),
            by_meaning=len(meaning.seqs),
            cut_off=permitted.cut_off,
            stale=len(seqs) - len(truth),
            meaning_down=vector is None,
            vector=vector,
        )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One question with what answers it: an index and the question's vector from the embedder that made the index's."""

    index: Index
    question: Question
    vector: NDArray[np.float32] | None
    weight: float
    scope: Scope


def _vector(embedder: Embedder, text: str) -> NDArray[np.float32] | None:
    """The question's vector, or None when the embedder does not answer: then words alone must do."""
    try:
        return embedder.embed_query(text)
    except (Unavailable, ModelFailure):
        return None


def varied(ranked: Iterable[Passage], k: int, per_document: int) -> list[Passage]:
    """The first ``k`` with near-identical texts shown once and no document crowding out the rest.

    Copies are recognised here, inside the scope, and never at ingestion: which copy an asker sees depends only on
    what they may read.
    """
    chosen: list[Passage] = []
    shingles: list[frozenset[tuple[str, ...]]] = []
    held_back: list[Passage] = []
    counts: dict[str, int] = {}
    for passage in ranked:
        mine = _shingles(passage.text)
        if any(_same_text(mine, other) for other in shingles):
            continue
        if counts.get(passage.document, 0) >= per_document:
            held_back.append(passage)
            continue
        counts[passage.document] = counts.get(passage.document, 0) + 1
        chosen.append(passage)
        if len(chosen) == k:
            break
        shingles.append(mine)
    return chosen + held_back[: k - len(chosen)]


_WORD = re.compile(r"[^\W_]+")


@lru_cache(maxsize=512)
def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    if len(words) <= SHINGLE_WORDS:
        return frozenset([tuple(words)])
    return frozenset(zip(*(words[i:] for i in range(SHINGLE_WORDS)), strict=False))


def _same_text(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> bool:
    """Whether the Jaccard likeness reaches SAME_TEXT_JACCARD."""
    smaller, larger = sorted((len(a), len(b)))
    if smaller / larger < SAME_TEXT_JACCARD:
        return False
    shared = len(a & b)
    return shared / (smaller + larger - shared) >= SAME_TEXT_JACCARD
