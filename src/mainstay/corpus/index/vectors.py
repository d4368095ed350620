"""Vectors of a segment's rows: int8 codes to scan, float32 rows to decide.

**The codes.** Every row has a scale of its own, ``s = max|v| / 127``, and codes ``c = rint(v / s)``: nothing is clipped
and nothing depends on any other row. The query is coded the same way. A code sum is an integer, so it is exact whatever
the processor, the position of the row or the number of rows.

**The bound.** With ``v = s*c + e`` and ``q = t*p + f``: ``v.q - st(c.p) = e.q + (s*c).f``, hence by Cauchy-Schwarz
``|v.q - estimate| <= |e||q| + |s*c||f|``. ``|e|`` and ``|s*c|`` are stored per row (rounded up), ``|q|`` and ``|f|``
are known at query time. A row is dropped only if its estimate plus the bound is below the k-th best *exact* score found
so far, so the result is the exact top k, ties included, and forbidden rows cannot move it.

**The decision.** Exact scores are float64 sums of float32 products, one row at a time by numpy's pairwise rule: the
same bits wherever the row lies. (A BLAS product would round by position.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numkong
import numpy as np
from numpy.typing import NDArray

from mainstay.corpus.index import files

Mask = NDArray[np.bool_]
_AT_ONCE: Final = 4096  # rows scored in float64 at a time
_SPARSE: Final = 0.14  # below this share of visible rows gathering their codes is cheaper than scanning all of them
_SLACK: Final = 1e-9  # far above the rounding of float64 sums, far below any meaning
_LOWEST: Final = float(np.finfo(np.float64).min)


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """A query vector, coded."""

    exact: NDArray[np.float64]
    codes: NDArray[np.int8]
    scale: float
    norm: float
    residual: float


def probe(vector: NDArray[np.float32]) -> Probe | None:
    """The query ready to scan with; None when there is nothing to compare (zero or not finite)."""
    exact = np.asarray(vector, np.float32).astype(np.float64)
    top = float(np.abs(exact).max(initial=0.0))
    if not np.isfinite(exact).all() or top == 0.0:
        return None
    scale = top / 127.0
    codes = np.rint(exact / scale)
    return Probe(
        exact=exact,
        codes=codes.astype(np.int8).reshape(1, -1),
        scale=scale,
        norm=float(np.sqrt((exact * exact).sum())) * (1 + 1e-9),
        residual=float(np.sqrt(((exact - scale * codes) ** 2).sum())) * (1 + 1e-9),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Vectors of some rows of one segment, ascending by row; immutable."""

    rows: NDArray[np.int32]
    codes: NDArray[np.int8]
    scale: NDArray[np.float64]
    error: NDArray[np.float32]  # |e|, rounded up
    norm: NDArray[np.float32]  # |s*c|, rounded up
    exact: NDArray[np.float32]
    file: files.Stored | None = None
    handle: tuple[files.Handle, int] | None = None  # the open file, and where in it ``exact`` begins

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def worst(self) -> tuple[float, float]:
        """The largest error and norm of any row."""
        return float(self.error.max(initial=0.0)), float(self.norm.max(initial=0.0))

    def estimates(self, asked: Probe, at: NDArray[np.intp] | None) -> NDArray[np.float64]:
        """Scores from the codes: of the given places, or of all."""
        if at is None:
            return self._estimated(asked, self.codes, self.scale)
        lots = [at[start : start + _AT_ONCE] for start in range(0, len(at), _AT_ONCE)]  # each fits a near cache
        found = [self._estimated(asked, self.codes.take(lot, axis=0), self.scale.take(lot)) for lot in lots]
        return found[0] if len(found) == 1 else np.concatenate(found) if found else np.empty(0)

    @staticmethod
    def _estimated(asked: Probe, codes: NDArray[np.int8], scale: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.asarray(numkong.cdist(asked.codes, codes, metric="dot"), np.float64).reshape(-1)
        return sums * (scale * asked.scale)

    def scores(self, asked: Probe, at: NDArray[np.intp]) -> NDArray[np.float64]:
        """Exact scores of the rows at the given places."""
        out = np.empty(len(at), np.float64)
        for start in range(0, len(at), _AT_ONCE):
            rows = self._read(at[start : start + _AT_ONCE]).astype(np.float64)
            rows *= asked.exact
            out[start : start + _AT_ONCE] = rows.sum(axis=1)
        return out

    def _read(self, at: NDArray[np.intp]) -> NDArray[np.float32]:
        """Float32 rows. From a file they are read one by one: touching one mapped row may map two megabytes around it
        (large folios), so that a hundred rows would hold the whole file in this process and cost more."""
        if self.handle is None:
            return self.exact.take(at, axis=0)
        handle, start = self.handle
        size = self.exact.shape[1] * 4
        breaks = ((at[1:] - at[:-1] != 1).nonzero()[0] + 1).tolist()  # rows of one document stand side by side
        first, last = [0, *breaks], [*breaks, len(at)]
        offsets = (at.take(first) * size + start).tolist()
        read = handle.pieces(offsets, [(b - a) * size for a, b in zip(first, last, strict=True)])
        return np.frombuffer(read, np.float32).reshape(len(at), -1)


def code(rows: NDArray[np.int32], vectors: NDArray[np.float32]) -> Block:
    """A block of these vectors (finite, one per row, rows ascending)."""
    n, dims = vectors.shape
    codes = np.empty((n, dims), np.int8)
    scale, error, norm = np.empty(n, np.float64), np.empty(n, np.float32), np.empty(n, np.float32)
    for start in range(0, n, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        exact = vectors[part].astype(np.float64)
        steps = np.abs(exact).max(axis=1, initial=0.0, keepdims=True) / 127.0
        steps[steps == 0.0] = 1.0
        coded = np.rint(exact / steps)
        codes[part], scale[part] = coded.astype(np.int8), steps[:, 0]
        coded *= steps
        norm[part] = np.sqrt((coded * coded).sum(axis=1)) * (1 + 1e-6) + 1e-12
        exact -= coded
        error[part] = np.sqrt((exact * exact).sum(axis=1)) * (1 + 1e-6) + 1e-12
    return Block(rows=rows, codes=codes, scale=scale, error=error, norm=norm, exact=np.ascontiguousarray(vectors))


def join(pieces: list[tuple[Block, NDArray[np.intp], NDArray[np.int32]]], dims: int) -> Block:
    """One block out of (block, places in it, their new rows)."""
    rows = np.concatenate([new for _, _, new in pieces]) if pieces else np.empty(0, np.int32)
    order = np.argsort(rows, kind="stable")
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    out = Block(
        rows=rows[order],
        codes=np.empty((len(rows), dims), np.int8),
        scale=np.empty(len(rows), np.float64),
        error=np.empty(len(rows), np.float32),
        norm=np.empty(len(rows), np.float32),
        exact=np.empty((len(rows), dims), np.float32),
    )
    start = 0
    for block, at, _ in pieces:
        target = place[start : start + len(at)]
        start += len(at)
        for new, old in zip(_arrays(out).values(), _arrays(block).values(), strict=True):
            if new is not out.rows:
                new[target] = old[at]
    return out


def _arrays(block: Block) -> dict[str, NDArray[Any]]:
    return {
        "rows": block.rows,
        "codes": block.codes,
        "scale": block.scale,
        "error": block.error,
        "norm": block.norm,
        "exact": block.exact,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A block and which of its vectors still hold (None: all); the rest were replaced by a later layer."""

    block: Block
    holds: Mask | None = None

    def visible(self, rows: Mask) -> Mask:
        """Which vectors belong to the given rows of the segment."""
        seen = rows if len(self.block) == len(rows) else rows.take(self.block.rows)
        return seen if self.holds is None else seen & self.holds

    def count(self, rows: Mask) -> int:
        """How many of the given rows have their vector here."""
        return int(np.count_nonzero(self.visible(rows)))


@dataclass(eq=False)
class Scan:
    """One layer scanned for one query: places in the block, their estimates, and which were rescored."""

    layer: Layer
    at: NDArray[np.intp] | None
    estimates: NDArray[np.float64]
    asked: Probe

    def above(self, bar: float, done: float) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Rows, with exact scores, whose estimate lies below ``done`` and that may reach the bar.

        With no estimate looked at yet (``done`` infinite) only those whose estimate itself reaches it.
        """
        block, asked = self.layer.block, self.asked
        if done == np.inf:
            found = (self.estimates >= max(bar, _LOWEST)).nonzero()[0]  # forbidden places hold minus infinity
            at = found if self.at is None else self.at.take(found)
            return block.rows.take(at), block.scores(asked, at)
        error, norm = block.worst
        least = max(bar - (error * asked.norm + norm * asked.residual + _SLACK), _LOWEST)
        found = ((self.estimates >= least) & (self.estimates < done)).nonzero()[0]
        at = found if self.at is None else self.at.take(found)
        reach = block.error.take(at) * asked.norm + block.norm.take(at) * asked.residual + _SLACK  # each its own
        at = at[self.estimates.take(found) + reach >= bar]
        return block.rows.take(at), block.scores(asked, at)


def scan(layer: Layer, rows: Mask, few: NDArray[np.int32] | None, asked: Probe) -> Scan | None:
    """The estimates of the visible vectors of a layer; forbidden ones are minus infinity or not there at all.

    ``rows`` are the visible rows of the segment, ``few`` the same as a list where that is at hand. None: no vector.
    """
    block = layer.block
    if few is not None and layer.holds is None and len(block) == len(rows):
        at: NDArray[np.intp] | None = few.astype(np.intp)
    else:
        visible = layer.visible(rows)
        count = int(np.count_nonzero(visible))
        at = visible.nonzero()[0] if count < _SPARSE * len(block) else None
        if not count:
            return None
    if at is not None:
        return Scan(layer=layer, at=at, estimates=block.estimates(asked, at), asked=asked) if len(at) else None
    estimates = block.estimates(asked, None)
    if count < len(block):
        np.copyto(estimates, -np.inf, where=~visible)
    return Scan(layer=layer, at=None, estimates=estimates, asked=asked)


def near_nth(arrays: Sequence[NDArray[np.float64]], n: int) -> float:
    """A value that at least ``n`` of the numbers reach, at or little below the n-th best; minus infinity if too few.

    Long arrays are first reduced to the maxima of about ``16 n`` groups, which is far cheaper than partitioning them.
    """
    best = []
    for values in arrays:
        if len(values) > 64 * n:
            width = len(values) // (16 * n)
            even = len(values) // width * width
            best += [values[:even].reshape(width, -1).max(axis=0), values[even:]]
        else:
            best.append(values)
    every = np.concatenate(best) if best else np.empty(0)
    return float(np.partition(every, len(every) - n)[len(every) - n]) if len(every) >= n else -np.inf


def save(folder: Path, block: Block) -> Block:
    """The block written to a file and mapped from it."""
    return load(folder, files.write(folder, "vectors", _arrays(block)))


def load(folder: Path, stored: files.Stored) -> Block:
    """The block of a file."""
    opened = files.read(folder, stored)
    handle = (files.Handle(folder / stored.name), opened.offsets["exact"])
    return Block(**opened.arrays, file=stored, handle=handle)
