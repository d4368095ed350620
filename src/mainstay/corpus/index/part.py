"""A part of a snapshot: one segment together with what may change beside it.

Parts are immutable like segments: a change makes a new part that shares every array it did not touch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mainstay.corpus.index.segment import Merged, Segment, merge
from mainstay.corpus.index.vectors import Layer, code, join

Mask = NDArray[np.bool_]
_VIEW_BYTES: Final = 32 << 20  # remembered scopes of one part
_TERMS_KEPT: Final = 4096
_MATCHES_KEPT: Final = 10_000  # rows in remembered lists of one scope: some ninety kilobytes
SHORT: Final = 256  # rows up to which neighbours are merged whatever their sizes: some five CPU milliseconds
_JOINED_AT_ONCE: Final = 16_000  # vectors up to which layers are joined at once when vectors arrive
FEWER: Final = 16  # a list this many times longer than the rows asked about is searched instead of walked


@dataclass(eq=False)
class View:
    """What one scope sees of a part: the documents, their rows, and the sums BM25 needs, over nothing else."""

    part: Part
    documents: Mask
    _frequencies: dict[int, int] = field(default_factory=dict)
    _matches: dict[int, tuple[NDArray[np.intp], NDArray[Any]]] = field(default_factory=dict)
    _matched: int = 0

    @cached_property
    def rows(self) -> Mask:
        return np.repeat(self.documents, self.part.segment.counts)

    @cached_property
    def at(self) -> NDArray[np.int32]:
        """The visible rows' numbers, ascending."""
        return np.flatnonzero(self.rows).astype(np.int32)

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """The terms in each visible row."""
        return self.part.segment.lengths.take(self.at)

    @cached_property
    def count(self) -> int:
        """Visible rows."""
        return int(self.part.segment.counts[self.documents].sum(dtype=np.int64))

    @cached_property
    def length(self) -> int:
        """Terms in the visible rows."""
        return int(self.part.segment.lengths[self.rows].sum(dtype=np.int64))

    @cached_property
    def few(self) -> bool:
        """Whether so few rows are visible that they are looked up in lists of rows, rather than lists walked."""
        return FEWER * self.count < len(self.part)

    def frequency(self, term: int) -> int:
        """Visible rows that have the term."""
        known = self._frequencies.get(term)
        if known is None:
            span = self.part.segment.postings(term)
            known = self._counted(term, span) if span and self.count else 0
            if len(self._frequencies) >= _TERMS_KEPT:
                self._frequencies.clear()
            self._frequencies[term] = known
        return known

    def _counted(self, term: int, span: slice) -> int:
        """How many visible rows have the term, by the cheaper of two ways."""
        if self.few:
            return len(self.matches(term, span)[0])
        return int(np.count_nonzero(self.rows.take(self.part.segment.rows[span])))

    def matches(self, term: int, span: slice) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Which of the rows ``at`` have the term, and how many times. Remembered, as frequent words come again."""
        known = self._matches.get(term)
        if known is None:
            segment = self.part.segment
            which, at = having(segment.rows[span], self.at)
            known = which, segment.times[span].take(at)
            self._matched += len(which) + 16
            if self._matched > _MATCHES_KEPT:
                self._matches.clear()
                self._matched = len(which)
            self._matches[term] = known
        return known


def having(listed: NDArray[np.int32], rows: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which of the rows stand in a list, and where. Both ascend strictly and neither is empty.

    The shorter one is looked up in the longer.
    """
    if len(listed) < len(rows):
        found, where = having(rows, listed)
        return where, found
    at = listed.searchsorted(rows)
    which = (listed.take(at, mode="clip") == rows).nonzero()[0]
    return which, at.take(which)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """See the module. ``classes`` and ``alive`` go by the place of the document in the segment."""

    segment: Segment
    classes: NDArray[np.int64]
    alive: Mask
    layers: tuple[Layer, ...] = ()

    def __len__(self) -> int:
        return len(self.segment)

    @cached_property
    def alive_rows(self) -> int:
        return int(self.segment.counts[self.alive].sum(dtype=np.int64))

    @cached_property
    def vectors(self) -> int:
        """Standing rows that have a vector."""
        rows = np.repeat(self.alive, self.segment.counts)
        return sum(layer.count(rows) for layer in self.layers)

    @cached_property
    def _views(self) -> dict[frozenset[int], View]:
        return {}

    @cached_property
    def _lock(self) -> threading.Lock:
        return threading.Lock()

    def view(self, classes: frozenset[int], listed: NDArray[np.int64]) -> View:
        """What these classes see (``listed`` is the same set as an array); the latest scopes are remembered."""
        with self._lock:
            known = self._views.pop(classes, None)
            if known is None:
                known = View(part=self, documents=np.isin(self.classes, listed) & self.alive)
                most = max(4, min(256, _VIEW_BYTES // max(len(self), 1)))
                while len(self._views) >= most:
                    del self._views[next(iter(self._views))]
            self._views[classes] = known  # last in the dict: used last
        return known

    def without(self, places: Sequence[int]) -> Part:
        """The part after these documents are gone."""
        if not places:
            return self
        alive = self.alive.copy()
        alive[list(places)] = False
        return replace(self, alive=alive)

    def moved(self, classes: dict[int, int]) -> Part:
        """The part after the documents at these places moved to these classes."""
        if not classes:
            return self
        changed = self.classes.copy()
        changed[list(classes)] = list(classes.values())
        return replace(self, classes=changed)

    def with_vectors(self, rows: NDArray[np.intp], vectors: NDArray[np.float32]) -> Part:
        """The part after vectors arrived for these (distinct) rows; earlier ones of the same rows no longer hold."""
        if not len(rows):
            return self
        order = np.argsort(rows)
        ascending = rows[order].astype(np.int32)
        kept = [_without(layer, ascending) for layer in self.layers]
        layers = (*kept, Layer(block=code(ascending, vectors[order])))
        return replace(self, layers=_tidy(layers, vectors.shape[1], _JOINED_AT_ONCE))

    def layered(self) -> bool:
        """Whether there are layers that should be one."""
        return any(_alike(len(a.block), len(b.block)) for a, b in pairwise(self.layers))

    def wasteful(self) -> bool:
        """Whether most of it is gone, so that it should be written anew."""
        return 2 * self.alive_rows < len(self) or bool(len(self.alive) > 64 and 2 * self.alive.sum() < len(self.alive))


def _without(layer: Layer, rows: NDArray[np.int32]) -> Layer:
    again = np.isin(layer.block.rows, rows)
    if not again.any():
        return layer
    return replace(layer, holds=~again if layer.holds is None else layer.holds & ~again)


def _alike(longer: int, shorter: int) -> bool:
    """Whether two neighbours of these lengths should be one: lengths shrink to a third at least, or both are short."""
    return longer < 3 * shorter or longer + shorter <= SHORT


def _tidy(layers: tuple[Layer, ...], dims: int, most: float) -> tuple[Layer, ...]:
    """Layers in shrinking sizes, older first; a join that would be longer than ``most`` is left for later."""
    kept = [layer for layer in layers if layer.holds is None or layer.holds.any()]
    while len(kept) > 1 and _alike(a := len(kept[-2].block), b := len(kept[-1].block)) and a + b <= most:
        kept[-2:] = _joined(kept[-2:], dims)
    return tuple(kept)


def _joined(layers: Sequence[Layer], dims: int) -> list[Layer]:
    pieces = []
    for layer in layers:
        at = _holding(layer)
        pieces.append((layer.block, at, layer.block.rows[at]))
    block = join(pieces, dims)
    return [Layer(block=block)] if len(block) else []


def _holding(layer: Layer) -> NDArray[np.intp]:
    """The places in the block that still hold."""
    return np.arange(len(layer.block)) if layer.holds is None else np.flatnonzero(layer.holds)


def grouped(parts: Iterable[Part], most: float = math.inf) -> list[list[Part]]:
    """Neighbours that should be one part; empty parts left out. No group of several is longer than ``most`` rows."""
    groups: list[list[Part]] = []
    for part in parts:
        if not part.alive.any():
            continue
        groups.append([part])
        while len(groups) > 1:
            longer, shorter = (sum(map(len, group)) for group in groups[-2:])
            if not _alike(longer, shorter) or longer + shorter > most:
                break
            groups[-2:] = [groups[-2] + groups[-1]]
    return groups


@dataclass(frozen=True, kw_only=True, eq=False)
class Renewal:
    """A part made out of others, and where their documents and rows are in it (below zero: left out)."""

    old: tuple[Part, ...]
    part: Part
    documents: Sequence[NDArray[np.int32]]
    rows: Sequence[NDArray[np.int32]]

    def brought_up(self, now: Sequence[Part]) -> Part:
        """The new part after what was done to the old ones since: they are ``now`` these (same segments, in order)."""
        part = self.part
        for old, new, places, rows in zip(self.old, now, self.documents, self.rows, strict=True):
            if new is old:
                continue
            part = part.without(places[old.alive & ~new.alive].tolist())
            moved = np.flatnonzero(new.alive & (new.classes != old.classes))
            part = part.moved(dict(zip(places[moved].tolist(), new.classes[moved].tolist(), strict=True)))
            known = {id(layer.block) for layer in old.layers}
            for layer in new.layers:
                if id(layer.block) not in known:
                    at = _holding(layer)
                    to = rows[layer.block.rows[at]]
                    part = part.with_vectors(to[to >= 0].astype(np.intp), layer.block.exact[at[to >= 0]])
        return part


def unchanged(part: Part) -> Renewal:
    """The part itself, as a renewal that only its arrays' places may differ in."""
    documents, rows = np.arange(len(part.alive), dtype=np.int32), np.arange(len(part), dtype=np.int32)
    return Renewal(old=(part,), part=part, documents=[documents], rows=[rows])


def joined(part: Part, dims: int) -> Renewal:
    """The part with layers of similar size joined."""
    return replace(unchanged(part), part=replace(part, layers=_tidy(part.layers, dims, math.inf)))


def one(parts: Sequence[Part], dims: int) -> Renewal:
    """The parts merged into one; what is gone is left out."""
    merged = merge([(part.segment, part.alive) for part in parts])
    n = len(merged.segment.documents)
    classes = np.empty(n, np.int64)
    for part, places in zip(parts, merged.documents, strict=True):
        classes[places[part.alive]] = part.classes[part.alive]
    layers = _merged_layers(parts, merged, dims)
    part = Part(segment=merged.segment, classes=classes, alive=np.ones(n, np.bool_), layers=layers)
    return Renewal(old=tuple(parts), part=part, documents=merged.documents, rows=merged.rows)


def _merged_layers(parts: Sequence[Part], merged: Merged, dims: int) -> tuple[Layer, ...]:
    pieces = []
    for part, rows in zip(parts, merged.rows, strict=True):
        for layer in part.layers:
            new = rows[layer.block.rows]
            at = np.flatnonzero(new >= 0 if layer.holds is None else (new >= 0) & layer.holds)
            pieces.append((layer.block, at, new[at]))
    block = join(pieces, dims)
    return (Layer(block=block),) if len(block) else ()
