"""Fusion: what two lists come to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mainstay.corpus.index import NOTHING, Hits
from mainstay.retrieval.fusion import convex, reciprocal_ranks


def hits(scored: dict[int, float]) -> Hits:
    ordered = sorted(scored.items(), key=lambda item: (-item[1], item[0]))
    return Hits(
        seqs=np.array([seq for seq, _ in ordered], np.int64),
        scores=np.array([score for _, score in ordered], np.float64),
    )


def test_both_sides_are_scaled_and_weighed() -> None:
    """Cosines from -1 and word scores from 0, each to its best; a row unknown to one side counts as its lowest row."""
    fused = convex(hits({1: 0.9, 2: 0.5, 3: 0.1}), hits({2: 8.0, 3: 4.0, 4: 2.0}), 0.5)
    assert fused.seqs.tolist() == [2, 1, 3, 4]
    assert fused.scores == pytest.approx(
        [(1.5 / 1.9 + 1) / 2, (1 + 0.25) / 2, (1.1 / 1.9 + 0.5) / 2, (1.1 / 1.9 + 0.25) / 2]
    )
    assert fused.dense.tolist() == [0.5, 0.9, 0.1, 0.0]
    assert fused.lexical.tolist() == [8.0, 0.0, 4.0, 2.0]


def test_true_scores_are_asked_for_only_where_missing() -> None:
    asked: list[list[int]] = []

    def truth(seqs: NDArray[np.int64]) -> NDArray[np.float64]:
        asked.append(seqs.tolist())
        return np.where(seqs == 4, 0.7, np.nan)

    fused = convex(hits({1: 0.9, 2: 0.5}), hits({2: 8.0, 4: 2.0, 5: 1.0}), 1.0, dense_scores=truth)
    assert asked == [[4, 5]]
    assert fused.seqs.tolist() == [1, 4, 2, 5]
    assert fused.dense.tolist() == [0.9, 0.7, 0.5, 0.0]


def test_an_empty_list_leaves_the_other_alone() -> None:
    some = hits({3: 5.0, 1: 5.0, 2: 7.0})
    for weight in (0.0, 0.5, 1.0):
        for fused in (convex(NOTHING, some, weight), convex(some, NOTHING, weight)):
            assert fused.seqs.tolist() == [2, 1, 3]
            assert fused.scores[0] == 1.0
            assert fused.scores[1] == fused.scores[2] < 1.0
    assert len(convex(NOTHING, NOTHING, 0.5, 10)) == 0


def test_a_side_that_hardly_tells_its_rows_apart_has_hardly_a_say() -> None:
    fused = convex(hits({1: 0.31, 2: 0.30, 3: 0.29}), hits({3: 9.0, 2: 8.0, 1: 1.0}), 0.7)
    assert fused.seqs.tolist() == [3, 2, 1]


def test_one_candidate_counts_in_full() -> None:
    assert convex(hits({1: 0.3}), hits({1: 2.0}), 0.5).scores.tolist() == [1.0]


def test_reciprocal_ranks() -> None:
    lists = [np.array([5, 6, 7]), np.array([6, 9]), np.array([], np.int64)]
    fused = reciprocal_ranks(lists, 3, weights=[1.0, 2.0, 1.0], constant=10.0)
    assert fused.seqs.tolist() == [6, 9, 5]
    assert fused.scores == pytest.approx([1 / 12 + 2 / 11, 2 / 12, 1 / 11])
    assert len(reciprocal_ranks([], 3)) == 0
    assert reciprocal_ranks([np.array([4, 4, 2])], 9).seqs.tolist() == [4, 2]


scored = st.dictionaries(st.integers(1, 60), st.floats(-1, 1, width=32), max_size=25).map(hits)


@settings(max_examples=80, deadline=None)
@given(scored, scored, st.floats(0, 1), st.integers(0, 70))
def test_laws(dense: Hits, lexical: Hits, weight: float, k: int) -> None:
    """Every candidate once, scores in 0..1 and falling, ties by number, the first k of all."""
    whole, few = convex(dense, lexical, weight), convex(dense, lexical, weight, k)
    assert sorted(whole.seqs.tolist()) == sorted({*dense.seqs.tolist(), *lexical.seqs.tolist()})
    assert few.seqs.tolist() == whole.seqs.tolist()[:k]
    assert ((whole.scores >= 0) & (whole.scores <= 1 + 1e-12)).all()
    order = list(zip((-whole.scores).tolist(), whole.seqs.tolist(), strict=True))
    assert order == sorted(order)
