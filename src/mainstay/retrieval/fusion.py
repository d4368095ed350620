"""One list out of several: convex combination of true scores, and reciprocal ranks where there are none.

Pure functions on arrays. Every result depends only on what is passed in, which is permitted rows, so it says nothing
about others; equal scores go to the lower ``seq``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mainstay.corpus.index import Hits

RANK_CONSTANT: Final = 10.0
NO_LIKENESS: Final = -1.0  # the lowest cosine there is
NO_WORD: Final = 0.0  # the lowest BM25 score there is


@dataclass(frozen=True, kw_only=True, eq=False)
class Fused:
    """Rows best first, with the fused score and both parts it came from (0 where a side knows nothing of the row)."""

    seqs: NDArray[np.int64]
    scores: NDArray[np.float64]
    dense: NDArray[np.float64]
    lexical: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.seqs)


def convex(
    dense: Hits,
    lexical: Hits,
    weight: float,
    k: int | None = None,
    *,
    dense_scores: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None = None,
    lexical_scores: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None = None,
) -> Fused:
    """``weight * norm(dense) + (1 - weight) * norm(lexical)`` over the rows of both lists, the ``k`` best (None: all).

    ``norm`` puts the best of one side at 1 and the lowest score *there can be* (not the lowest found) at 0: a side that
    tells its candidates hardly apart then has hardly a say, where stretching what was found would blow noise up to full
    size (Bruch et al., arXiv 2210.11934). A row missing from one list is asked for by ``dense_scores`` and
    ``lexical_scores``, so that both scores of every candidate are true; without them, or where they give NaN, it counts
    as the lowest row does. When one list is empty the other stands alone, whatever the weight.
    """
    seqs = np.union1d(dense.seqs, lexical.seqs)
    by_dense = _spread(seqs, dense, dense_scores)
    by_lexical = _spread(seqs, lexical, lexical_scores)
    share = weight if len(dense) and len(lexical) else float(len(dense) > 0)
    scores = share * _scaled(by_dense, NO_LIKENESS) + (1.0 - share) * _scaled(by_lexical, NO_WORD)
    order = np.lexsort((seqs, -scores))[:k]
    return Fused(
        seqs=seqs[order],
        scores=scores[order],
        dense=np.nan_to_num(by_dense[order]),
        lexical=np.nan_to_num(by_lexical[order]),
    )


def reciprocal_ranks(
    lists: Sequence[NDArray[np.int64]], k: int, *, weights: Sequence[float] = (), constant: float = RANK_CONSTANT
) -> Hits:
    """``sum of weight / (constant + rank)`` over the lists that have the row: for lists without comparable scores."""
    seqs = np.unique(np.concatenate([np.empty(0, np.int64), *lists]))
    scores = np.zeros(len(seqs), np.float64)
    for i, ranked in enumerate(lists):
        _, first = np.unique(ranked, return_index=True)
        once = ranked[np.sort(first)]
        share = weights[i] if weights else 1.0
        scores[np.searchsorted(seqs, once)] += share / (constant + np.arange(1, len(once) + 1))
    order = np.lexsort((seqs, -scores))[: max(k, 0)]
    return Hits(seqs=seqs[order], scores=scores[order])


def _spread(
    seqs: NDArray[np.int64], hits: Hits, missing: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None
) -> NDArray[np.float64]:
    """The scores of one side laid out over all candidates; NaN where unknown."""
    out = np.full(len(seqs), np.nan)
    out[np.searchsorted(seqs, hits.seqs)] = hits.scores
    rest = np.flatnonzero(np.isnan(out))
    if missing is not None and len(hits) and len(rest):
        out[rest] = missing(seqs[rest])
    return out


def _scaled(scores: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """Scores between ``floor`` (0) and the best (1); unknown is as the lowest known, and 0 when none is known."""
    known = ~np.isnan(scores)
    if not known.any():
        return np.zeros(len(scores))
    low, best = float(scores[known].min()), float(scores[known].max())
    floor = min(floor, low)  # a provider's vectors need not have unit length
    return (np.where(known, scores, low) - floor) / (best - floor) if best > floor else known.astype(np.float64)
