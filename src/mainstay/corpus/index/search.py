"""Searching one snapshot inside one scope: BM25, exact vectors, metadata.

**Nothing forbidden has an influence.** Whatever the index holds besides, a scope gets the same numbers, scores and
order, bit for bit: row count, mean length and document frequencies are summed over the scope's rows only; sums run row
by row in an order given by the question; vector scores are exact; ties go to the lower ``seq``, and the order of two
visible ``seq`` numbers is the same whether or not forbidden rows took numbers between them. Metadata filters narrow the
results, not the statistics, so a word weighs the same under any filter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mainstay.corpus.index import analyzer
from mainstay.corpus.index.metadata import Scalar, Tagged, plain
from mainstay.corpus.index.part import FEWER, Mask, Part, View, having
from mainstay.corpus.index.vectors import Probe, Scan, near_nth, probe, scan
from mainstay.types import Filter

_SLACK: Final = 1e-9
_WORTH_A_LOOK: Final = 2000  # rows below which adding a term up is cheaper than asking whether that is needed


@dataclass(frozen=True, kw_only=True, eq=False)
class Hits:
    """Rows found, best first; equal scores by ascending ``seq``."""

    seqs: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.seqs)


NOTHING: Final = Hits(seqs=np.empty(0, np.int64), scores=np.empty(0, np.float64))


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """A scope's view of one part, and which of its rows the filters leave."""

    view: View
    rows: Mask

    @cached_property
    def at(self) -> NDArray[np.int32]:
        """The numbers of those rows, ascending."""
        return self.view.at if self.rows is self.view.rows else np.flatnonzero(self.rows).astype(np.int32)

    @cached_property
    def few(self) -> bool:
        """Whether so few rows are left that looking at each is cheaper than at all rows of the part."""
        return self.view.few and FEWER * len(self.at) < len(self.rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class Permitted:
    """The permitted set of one scope in one snapshot, narrowed by filters. Everything searched is searched in here."""

    sights: tuple[Sight, ...]
    filtered: bool
    held: int  # rows in the snapshot, whoever may read them
    weighed: dict[tuple[str, float, float], Weighing] = field(default_factory=dict)
    compared: dict[bytes, Compared] = field(default_factory=dict)

    @cached_property
    def scope_count(self) -> int:
        """Rows in the scope, before filters."""
        return sum(sight.view.count for sight in self.sights)

    @cached_property
    def count(self) -> int:
        """Rows in the scope that pass the filters."""
        if not self.filtered:
            return self.scope_count
        return sum(int(np.count_nonzero(sight.rows)) for sight in self.sights)

    @property
    def cut_off(self) -> int:
        """Rows the scope keeps out: for operators alone, since it counts what the asker may not read."""
        return self.held - self.scope_count

    @cached_property
    def without_vector(self) -> int:
        """Rows in here that are found by words only, because their vector has not arrived."""
        having = sum(layer.count(s.rows) for s in self.sights for layer in s.view.part.layers)
        return self.count - having

    @cached_property
    def mean_length(self) -> float:
        """Terms per row of the scope."""
        return sum(sight.view.length for sight in self.sights) / max(self.scope_count, 1)

    def frequency(self, term: int) -> int:
        """Rows of the scope with the term."""
        return sum(sight.view.frequency(term) for sight in self.sights)

    def seqs(self) -> NDArray[np.int64]:
        """The rows themselves, ascending."""
        found = [sight.view.part.segment.seqs[sight.rows] for sight in self.sights]
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)


def permitted(parts: Sequence[Part], classes: frozenset[int], filters: Sequence[Filter]) -> Permitted:
    """What these classes may read and the filters leave."""
    listed = np.fromiter(classes, np.int64, len(classes))
    sights = []
    for part in parts:
        view = part.view(classes, listed)
        if not view.documents.any():
            continue
        rows = _filtered(view, filters) if filters else view.rows
        sights.append(Sight(view=view, rows=rows))
    held = sum(part.alive_rows for part in parts)
    return Permitted(sights=tuple(sights), filtered=bool(filters), held=held)


def _filtered(view: View, filters: Sequence[Filter]) -> Mask:
    documents = view.documents.copy()
    for wanted in filters:
        column = view.part.segment.columns.get(wanted.key)
        if column is None:
            documents[:] = False
        else:
            documents &= column.matching(wanted, len(documents))
    return np.repeat(documents, view.part.segment.counts)


# --- words -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Term:
    """A term of the question with what it can add: ``weight`` times a value below one.

    ``spans`` says where its postings lie in each part of the permitted set.
    """

    number: int
    frequency: int
    weight: float
    spans: tuple[slice | None, ...]


@dataclass(kw_only=True, eq=False)
class Weighing:
    """BM25 for one question in one scope: the terms, heaviest first, and the length norm ``flat + slope * length``.

    ``tallies`` holds what a search has added up so far for every row that may count, from the first ``done`` terms.
    """

    terms: tuple[Term, ...]
    flat: float
    slope: float
    tallies: Sequence[Tally] = ()
    done: int = 0

    def norms(self, lengths: NDArray[np.int32]) -> NDArray[np.float64]:
        """The length norm of rows."""
        return np.asarray(self.flat + self.slope * lengths)

    @staticmethod
    def add(term: Term, times: NDArray[Any], norms: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the term adds to rows that have it so many times. Element by element: no row depends on another."""
        return np.asarray(term.weight * (times / (times + norms)))


def weigh(text: str, inside: Permitted, k1: float, b: float) -> Weighing:
    """The question's terms weighed by the scope's own statistics; the latest question is remembered.

    The order of the terms, and with it the rounding of every sum, follows from the question and the scope alone.
    """
    known = inside.weighed.get((text, k1, b))
    if known is not None:
        return known
    n = inside.scope_count
    terms = []
    for number, asked in analyzer.distinct(analyzer.keys(text)).items():
        frequency = inside.frequency(number) if n else 0
        if frequency:
            rarity = math.log1p((n - frequency + 0.5) / (frequency + 0.5))
            spans = tuple(sight.view.part.segment.postings(number) for sight in inside.sights)
            weight = asked * rarity * (k1 + 1.0)
            terms.append(Term(number=number, frequency=frequency, weight=weight, spans=spans))
    terms.sort(key=lambda term: -term.weight)
    slope = k1 * b / inside.mean_length if terms else 0.0
    made = Weighing(terms=tuple(terms), flat=k1 * (1.0 - b), slope=slope)
    inside.weighed.clear()
    inside.weighed[text, k1, b] = made
    return made


@dataclass(eq=False)
class Tally:
    """Scores of one part's rows while the terms are added one after the other.

    ``rows`` are the rows that count, ascending, each with its score beside it; None means every row of the part, which
    is better when many are visible.
    """

    sight: Sight
    number: int  # of the sight among the permitted set's
    rows: NDArray[np.int32] | None
    scores: NDArray[np.float64]
    norms: NDArray[np.float64] | None = None  # of every visible row, when these are the rows that count

    @classmethod
    def start(cls, number: int, sight: Sight, weighing: Weighing) -> Tally:
        view = sight.view
        if view.few and sight.rows is view.rows:
            norms = weighing.norms(view.lengths)
            return cls(sight=sight, number=number, rows=view.at, scores=np.zeros(len(view.at)), norms=norms)
        few = FEWER * len(sight.at) < len(sight.rows)
        rows = sight.at if few else None
        return cls(sight=sight, number=number, rows=rows, scores=np.zeros(len(sight.at if few else sight.rows)))

    def add(self, weighing: Weighing, term: Term) -> None:
        """Adds a term to every row that has it."""
        segment, span = self.sight.view.part.segment, term.spans[self.number]
        if span is None or not len(self.scores):
            return
        if self.norms is not None:
            which, times = self.sight.view.matches(term.number, span)
            self.scores[which] += weighing.add(term, times, self.norms.take(which))
        elif self.rows is None:
            listed = segment.rows[span]
            at = np.flatnonzero(self.sight.rows.take(listed))
            rows = listed.take(at)
            norms = weighing.norms(segment.lengths.take(rows))
            self.scores[rows] += weighing.add(term, segment.times[span].take(at), norms)
        else:
            which, at = having(segment.rows[span], self.rows)
            norms = weighing.norms(segment.lengths.take(self.rows.take(which)))
            self.scores[which] += weighing.add(term, segment.times[span].take(at), norms)

    def of(self, rows: NDArray[np.int32]) -> Tally:
        """The scores so far of some of the rows, ascending."""
        at = rows if self.rows is None else self.rows.searchsorted(rows)
        return Tally(sight=self.sight, number=self.number, rows=rows, scores=self.scores.take(at))

    def above(self, least: float) -> Tally:
        """The rows that have any score and at least this one."""
        which = np.flatnonzero(self.scores >= least if least > 0.0 else self.scores > 0.0)
        rows = which.astype(np.int32) if self.rows is None else self.rows.take(which)
        return Tally(sight=self.sight, number=self.number, rows=rows, scores=self.scores.take(which))

    def found(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers and scores of the rows that count."""
        seqs = self.sight.view.part.segment.seqs
        return seqs if self.rows is None else seqs.take(self.rows), self.scores


def lexical(text: str, inside: Permitted, k: int, *, k1: float, b: float) -> Hits:
    """The k best rows by BM25.

    Heavy (rare) terms come first. As soon as what is left to add cannot lift a new row over the k-th best, only the
    rows still in reach are looked up for the rest (MaxScore): frequent words then cost next to nothing, and the result
    is the same, since every row's sum is made of the same numbers in the same order.
    """
    weighing = weigh(text, inside, k1, b)
    if not weighing.terms or k < 1:
        return NOTHING
    tallies = [Tally.start(i, sight, weighing) for i, sight in enumerate(inside.sights)]
    bar, done = 0.0, len(weighing.terms)
    added, left = 0.0, sum(term.weight for term in weighing.terms)
    for i, term in enumerate(weighing.terms):
        if left < added and term.frequency > _WORTH_A_LOOK:  # no row has more than ``added`` yet
            bar = near_nth([tally.scores for tally in tallies], k)
            if left + _SLACK < bar:
                done = i
                break
        for tally in tallies:
            tally.add(weighing, term)
        added, left = added + term.weight, left - term.weight
    weighing.tallies, weighing.done = tallies, done
    rest = weighing.terms[done:]
    reach = left + _SLACK if rest else 0.0
    bar = bar if rest else near_nth([tally.scores for tally in tallies], k)
    chosen = [tally.above(bar - reach) for tally in tallies]
    for term in rest:
        for few in chosen:
            few.add(weighing, term)
    return _best([few.found() for few in chosen], k)


def lexical_scores(
    seqs: NDArray[np.int64], text: str, inside: Permitted, *, k1: float, b: float
) -> NDArray[np.float64]:
    """The BM25 scores of given rows, with the bits ``lexical`` gives; zero where nothing fits or may be read."""
    weighing = weigh(text, inside, k1, b)
    tallies, done = weighing.tallies, weighing.done
    out = np.zeros(len(seqs), np.float64)
    for i, sight in enumerate(inside.sights):
        found, rows = _located(sight, seqs)
        if not len(found):
            continue
        ascending, places = rows.astype(np.int32), None
        if not (rows[1:] > rows[:-1]).all():
            ascending, places = np.unique(ascending, return_inverse=True)
        if tallies:
            few = tallies[i].of(ascending)
        else:
            few = Tally(sight=sight, number=i, rows=ascending, scores=np.zeros(len(ascending)))
        for term in weighing.terms[done:]:
            few.add(weighing, term)
        out[found] = few.scores if places is None else few.scores[places]
    return out


def _located(sight: Sight, seqs: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which of the numbers are permitted rows of this part, and their rows."""
    if not len(sight.rows):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    rows = sight.view.part.segment.locate(seqs)
    found = ((rows >= 0) & sight.rows.take(rows)).nonzero()[0]
    return found, rows.take(found)


# --- vectors ---------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class Compared:
    """A query vector, ready to compare, and the exact scores found so far: ``seqs`` ascending."""

    asked: Probe
    seqs: NDArray[np.int64] = field(default_factory=lambda: NOTHING.seqs)
    scores: NDArray[np.float64] = field(default_factory=lambda: NOTHING.scores)


def compared(vector: NDArray[np.float32], inside: Permitted) -> Compared | None:
    """The vector ready to compare; the latest one is remembered. None when there is nothing to compare."""
    name = vector.tobytes()
    known = inside.compared.get(name)
    if known is None:
        asked = probe(vector)
        if asked is None:
            return None
        known = Compared(asked=asked)
        inside.compared.clear()
        inside.compared[name] = known
    return known


def dense(vector: NDArray[np.float32], inside: Permitted, k: int) -> Hits:
    """The k best rows by dot product, exactly: see ``vectors`` for the bound that proves it."""
    known = compared(vector, inside)
    if known is None or k < 1:
        return NOTHING
    scans: list[tuple[Sight, Scan]] = []
    for sight in inside.sights:
        for layer in sight.view.part.layers:
            one = scan(layer, sight.rows, sight.at if sight.few else None, known.asked)
            if one is not None:
                scans.append((sight, one))
    if not scans:
        return NOTHING
    first = near_nth([one.estimates for _, one in scans], k + k // 4)
    found = [_scored(sight, one, first, np.inf) for sight, one in scans]
    scores = np.concatenate([values for _, values in found])
    if first > -np.inf:
        bar = np.partition(scores, len(scores) - k)[len(scores) - k]
        found += [_scored(sight, one, float(bar), first) for sight, one in scans]
    numbers, scores = np.concatenate([n for n, _ in found]), np.concatenate([values for _, values in found])
    ascending = numbers.argsort()
    known.seqs, known.scores = numbers.take(ascending), scores.take(ascending)
    return _best(found, k)


def _scored(sight: Sight, one: Scan, bar: float, done: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows, scores = one.above(bar, done)
    return sight.view.part.segment.seqs.take(rows), scores


def dense_scores(seqs: NDArray[np.int64], vector: NDArray[np.float32], inside: Permitted) -> NDArray[np.float64]:
    """The exact dot products of given rows, with the bits ``dense`` gives; NaN without a vector or permission."""
    out = np.full(len(seqs), np.nan)
    known = compared(vector, inside)
    if known is None or not len(seqs):
        return out
    rest = np.arange(len(seqs))
    if len(known.seqs):
        at = known.seqs.searchsorted(seqs)
        there = known.seqs.take(at, mode="clip") == seqs
        out[there] = known.scores.take(at[there])
        rest = (~there).nonzero()[0]
    for sight in inside.sights:
        if not len(rest):
            break
        found, rows = _located(sight, seqs.take(rest))
        for layer in sight.view.part.layers if len(rows) else ():
            at = layer.block.rows.searchsorted(rows.astype(np.int32))
            held = layer.block.rows.take(at, mode="clip") == rows
            if layer.holds is not None:
                held &= layer.holds.take(at, mode="clip")
            if held.any():
                out[rest[found[held]]] = layer.block.scores(known.asked, at[held])
    return out


def _best(found: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]], k: int) -> Hits:
    seqs = np.concatenate([numbers for numbers, _ in found])
    scores = np.concatenate([values for _, values in found])
    order = np.lexsort((seqs, -scores))[:k]
    return Hits(seqs=seqs[order], scores=scores[order])


# --- metadata --------------------------------------------------------------------------------------------------------


def metadata_values(inside: Permitted, key: str, limit: int | None = None) -> dict[Scalar, int]:
    """The distinct values of a key in the scope, with how many of its documents have each; most frequent first.

    Values Python holds equal (1, 1.0, True) stand under the most frequent of them.
    """
    total: dict[Tagged, int] = {}
    for sight in inside.sights:
        column = sight.view.part.segment.columns.get(key)
        for value, count in column.counts(sight.view.documents).items() if column is not None else ():
            total[value] = total.get(value, 0) + count
    ordered = sorted(total.items(), key=lambda item: (-item[1], item[0][0], item[0][1]))
    out: dict[Scalar, int] = {}
    for value, count in ordered[:limit]:
        out[plain(value)] = out.get(plain(value), 0) + count
    return out


def metadata_keys(inside: Permitted) -> list[str]:
    """The metadata keys any document of the scope has."""
    found: set[str] = set()
    for sight in inside.sights:
        columns = sight.view.part.segment.columns
        found |= {name for name, column in columns.items() if name not in found and column.any(sight.view.documents)}
    return sorted(found)
