"""A segment: documents, their rows and the words in them, as immutable arrays.

Rows of one document lie together, documents ascend by number. Postings are one long list of (row, times) sorted by term
and row, found through the sorted numbers of the terms (see ``analyzer.keys``). What may change later (a document's ACL
class, whether it still stands, vectors that arrive) is kept beside the segment, in a ``Part``.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mainstay.corpus.index import analyzer, files, metadata
from mainstay.corpus.index.changes import PutDocument

_MOST_TIMES: Final = 0xFFFF
_POSTINGS_AT_ONCE: Final = 4_000_000  # merged at a time, which bounds the memory of a merge


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """See the module."""

    documents: NDArray[np.int64]
    starts: NDArray[np.int32]  # rows of document i: starts[i] to starts[i + 1]
    seqs: NDArray[np.int64]
    lengths: NDArray[np.int32]  # terms in each row
    terms: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int32]
    times: NDArray[np.uint8] | NDArray[np.uint16]
    columns: Mapping[str, metadata.Column]
    file: files.Stored | None = None

    def __len__(self) -> int:
        return len(self.seqs)

    @cached_property
    def counts(self) -> NDArray[np.int32]:
        """Rows of each document."""
        return np.diff(self.starts)

    def postings(self, term: int) -> slice | None:
        """Where the postings of a term lie."""
        i = int(self.terms.searchsorted(np.uint64(term)))
        if i == len(self.terms) or int(self.terms[i]) != term:
            return None
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))

    def place(self, document: int) -> int | None:
        """The place of a document."""
        i = int(np.searchsorted(self.documents, document))
        return i if i < len(self.documents) and self.documents[i] == document else None

    @cached_property
    def _by_seq(self) -> tuple[NDArray[np.int64], NDArray[np.int32] | None]:
        """The numbers ascending, and the row of each; None where they ascend by themselves, as they mostly do."""
        if not len(self.seqs) or bool((self.seqs[1:] > self.seqs[:-1]).all()):
            return self.seqs, None
        order = np.argsort(self.seqs, kind="stable").astype(np.int32)
        return self.seqs[order], order

    def locate(self, seqs: NDArray[np.int64]) -> NDArray[np.intp]:
        """The row of each number, -1 where there is none."""
        ascending, order = self._by_seq
        if not len(ascending):
            return np.full(len(seqs), -1, np.intp)
        at = ascending.searchsorted(seqs)
        missing = ascending.take(at, mode="clip") != seqs
        rows = at if order is None else order.take(at, mode="clip").astype(np.intp)
        rows[missing] = -1
        return rows


def build(puts: Sequence[PutDocument]) -> Segment:
    """The segment of these documents (ascending by number, each once)."""
    terms, lengths = array("Q"), array("i")
    for put in puts:
        for row in put.rows:
            before = len(terms)
            terms.extend(analyzer.keys(row.text))
            lengths.append(len(terms) - before)
    sizes = np.frombuffer(lengths, np.int32) if lengths else np.empty(0, np.int32)
    every = np.frombuffer(terms, np.uint64) if terms else np.empty(0, np.uint64)
    distinct, numbers = np.unique(every, return_inverse=True)
    bits = len(sizes).bit_length()
    pairs = (numbers.astype(np.int64) << bits) | np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    pairs.sort()
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    times = np.diff(np.append(first, len(pairs)))
    owners, rows = pairs[first] >> bits, pairs[first] & ((1 << bits) - 1)
    return Segment(
        documents=np.array([put.document for put in puts], np.int64),
        starts=np.cumsum([0, *(len(put.rows) for put in puts)], dtype=np.int32),
        seqs=np.array([row.seq for put in puts for row in put.rows], np.int64),
        lengths=sizes.copy(),
        terms=distinct,
        offsets=_offsets(owners, len(distinct)),
        rows=rows.astype(np.int32),
        times=_narrow(times),
        columns=metadata.columns([put.metadata for put in puts]),
    )


def _offsets(owners: NDArray[np.int64], terms: int) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(np.bincount(owners, minlength=terms)))).astype(np.int64)


def _narrow(times: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Times a term stands in a row: one byte if that is enough, at most 65,535."""
    if times.max(initial=0) <= 0xFF:
        return np.asarray(times, np.uint8)
    return np.asarray(np.minimum(times, _MOST_TIMES), np.uint16)


@dataclass(frozen=True, kw_only=True, eq=False)
class Merged:
    """A merge, and where everything went: below zero means dropped."""

    segment: Segment
    documents: list[NDArray[np.int32]]  # new place of each old document, per source
    rows: list[NDArray[np.int32]]  # new row of each old row, per source


def merge(sources: Sequence[tuple[Segment, NDArray[np.bool_]]]) -> Merged:
    """One segment of the documents that still stand."""
    order = np.argsort(np.concatenate([s.documents[alive] for s, alive in sources]), kind="stable")
    sizes = np.concatenate([s.counts[alive] for s, alive in sources])[order]
    starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)
    new_place = np.empty(len(order), np.int32)
    new_place[order] = np.arange(len(order), dtype=np.int32)
    places, rows, taken = [], [], 0
    for source, alive in sources:
        place = np.full(len(source.documents), -1, np.int32)
        n = int(np.count_nonzero(alive))
        place[alive] = new_place[taken : taken + n]
        taken += n
        shift = np.where(alive, starts[place] - source.starts[:-1], 0).astype(np.int32)
        moved = np.arange(len(source), dtype=np.int32) + np.repeat(shift, source.counts)
        moved[np.repeat(~alive, source.counts)] = -1
        places.append(place)
        rows.append(moved)
    total = int(starts[-1])
    seqs, lengths, documents = np.empty(total, np.int64), np.empty(total, np.int32), np.empty(len(order), np.int64)
    for (source, alive), place, moved in zip(sources, places, rows, strict=True):
        kept = moved >= 0
        seqs[moved[kept]], lengths[moved[kept]] = source.seqs[kept], source.lengths[kept]
        documents[place[alive]] = source.documents[alive]
    terms, offsets, at, times = _merge_postings([s for s, _ in sources], rows, total)
    segment = Segment(
        documents=documents,
        starts=starts,
        seqs=seqs,
        lengths=lengths,
        terms=terms,
        offsets=offsets,
        rows=at,
        times=times,
        columns=metadata.joined([(s.columns, place) for (s, _), place in zip(sources, places, strict=True)]),
    )
    return Merged(segment=segment, documents=places, rows=rows)


def _merge_postings(
    sources: Sequence[Segment], moved: Sequence[NDArray[np.int32]], total: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8] | NDArray[np.uint16]]:
    """The postings of all, by term and new row, made a range of terms at a time.

    A posting is one 64-bit number, (term, row, times) from high to low, so that one sort does it all.
    """
    every = np.unique(np.concatenate([s.terms for s in sources]))
    bits = total.bit_length()
    owners, at, times = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.uint16)]
    for first, last in _ranges(sources, every):
        keys = [_postings(s, rows, every, first, last, bits) for s, rows in zip(sources, moved, strict=True)]
        packed = np.concatenate(keys)
        packed.sort()
        times.append((packed & _MOST_TIMES).astype(np.uint16))
        packed >>= 16
        owners.append(packed >> bits)
        at.append((packed & ((1 << bits) - 1)).astype(np.int32))
    used, numbers = np.unique(np.concatenate(owners), return_inverse=True)
    return every[used], _offsets(numbers, len(used)), np.concatenate(at), _narrow(np.concatenate(times))


def _ranges(sources: Sequence[Segment], every: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Ranges of terms with a bounded number of postings (or a single term)."""
    held = np.zeros(len(every) + 1, np.int64)
    for source in sources:
        held[np.searchsorted(every, source.terms) + 1] += np.diff(source.offsets)
    upto = np.cumsum(held)
    first = 0
    while first < len(every):
        last = int(np.searchsorted(upto, upto[first] + _POSTINGS_AT_ONCE, side="right")) - 1
        last = max(first + 1, last)
        yield first, last
        first = last


def _postings(
    source: Segment, moved: NDArray[np.int32], every: NDArray[np.uint64], first: int, last: int, bits: int
) -> NDArray[np.int64]:
    low = int(np.searchsorted(source.terms, every[first]))
    high = int(np.searchsorted(source.terms, every[last - 1], side="right"))
    span = slice(int(source.offsets[low]), int(source.offsets[high]))
    numbers = np.searchsorted(every, source.terms[low:high]).astype(np.int64)
    owner = np.repeat(numbers, np.diff(source.offsets[low : high + 1]))
    row = moved[source.rows[span]].astype(np.int64)
    kept = row >= 0
    return (((owner[kept] << bits) | row[kept]) << 16) | source.times[span][kept].astype(np.int64)


def save(folder: Path, segment: Segment) -> Segment:
    """The segment written to a file and mapped from it."""
    arrays: dict[str, NDArray[Any]] = {name: getattr(segment, name) for name in _ARRAYS}
    for i, held in enumerate(segment.columns.values()):
        arrays |= {f"{i}.documents": held.documents, f"{i}.codes": held.codes, f"{i}.spelled": held.spelled}
    return load(folder, files.write(folder, "segment", arrays, {"columns": list(segment.columns)}))


def load(folder: Path, stored: files.Stored) -> Segment:
    """The segment of a file."""
    opened = files.read(folder, stored)
    arrays = opened.arrays
    columns = {
        name: metadata.Column(
            documents=arrays[f"{i}.documents"], codes=arrays[f"{i}.codes"], spelled=arrays[f"{i}.spelled"]
        )
        for i, name in enumerate(opened.facts["columns"])
    }
    return Segment(**{name: arrays[name] for name in _ARRAYS}, columns=columns, file=stored)


_ARRAYS: Final = ("documents", "starts", "seqs", "lengths", "terms", "offsets", "rows", "times")
