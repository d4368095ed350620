"""Making a score mean what it says: 0.8 is right four times in five.

``fitted`` learns a rising map from scores to shares that were right; ``calibration_error`` and ``brier`` say how far off a
score is; ``risk_threshold`` chooses where to stop trusting it so that a promise about the mean loss holds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mainstay.errors import Invalid

MOST_KNOTS = 50


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A rising map from a score to a probability: straight lines between knots, flat outside. Without knots it changes
    nothing but keeps the score within 0 to 1."""

    scores: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    examples: int = 0

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.scores, self.scores[1:], strict=False))
        if len(self.scores) != len(self.shares) or not rising or list(self.shares) != sorted(self.shares):
            raise Invalid("a calibration needs rising scores and shares, one for one", where="calibration")

    def __call__(self, score: float) -> float:
        if not self.scores:
            return min(max(score, 0.0), 1.0)
        at = bisect_right(self.scores, score)
        if at in (0, len(self.scores)):
            return self.shares[max(at - 1, 0)]
        low, high = self.scores[at - 1], self.scores[at]
        part = (score - low) / (high - low)
        return self.shares[at - 1] + part * (self.shares[at] - self.shares[at - 1])


def fitted(scores: Sequence[float], outcomes: Sequence[float]) -> Calibration:
    """Isotonic regression by pooling neighbours that fall (Ayer et al., 1955): the rising map with the least squared error.

    Ends are drawn in by one imagined example each way, so that few examples never make certainty.
    """
    if len(scores) != len(outcomes):
        raise Invalid("as many outcomes as scores are needed", where="calibration")
    if not scores:
        return Calibration()
    order = np.argsort(np.asarray(scores, np.float64), kind="stable")
    at = np.asarray(scores, np.float64)[order]
    right = np.asarray(outcomes, np.float64)[order]
    places, first = np.unique(at, return_index=True)
    counts = np.diff(np.append(first, len(at))).astype(np.float64)
    blocks: list[list[float]] = []  # sum of outcomes, examples, sum of scores
    for total, count, place in zip(np.add.reduceat(right, first), counts, places, strict=True):
        blocks.append([float(total), float(count), float(place * count)])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    blocks = _fewer(blocks)
    mean = float(right.mean())
    shares = [(total + mean) / (count + 1.0) for total, count, _ in blocks]
    return Calibration(
        scores=tuple(place / count for _, count, place in blocks),
        shares=tuple(float(share) for share in np.maximum.accumulate(shares)),
        examples=len(scores),
    )


def _fewer(blocks: list[list[float]]) -> list[list[float]]:
    """At most MOST_KNOTS blocks: the smallest joins its smaller neighbour."""
    while len(blocks) > MOST_KNOTS:
        small = min(range(len(blocks)), key=lambda n: blocks[n][1])
        beside = [n for n in (small - 1, small + 1) if 0 <= n < len(blocks)]
        into = min(beside, key=lambda n: blocks[n][1])
        low, high = sorted((small, into))
        blocks[low : high + 1] = [[a + b for a, b in zip(blocks[low], blocks[high], strict=True)]]
    return blocks


def brier(scores: Sequence[float], outcomes: Sequence[float]) -> float:
    """The mean squared difference of a probability and what came (Brier, 1950); 0 is perfect."""
    return float(np.mean((np.asarray(scores, np.float64) - np.asarray(outcomes, np.float64)) ** 2)) if scores else 0.0


def calibration_error(scores: Sequence[float], outcomes: Sequence[float], bins: int = 10) -> float:
    """The expected calibration error: how far the mean score is from the share right, over bins of equal width, weighed by
    how many fall in (Naeini et al., AAAI 2015)."""
    if not scores:
        return 0.0
    given, came = np.asarray(scores, np.float64), np.asarray(outcomes, np.float64)
    bin_of: npt.NDArray[np.int64] = np.minimum((given * bins).astype(np.int64), bins - 1)
    off = np.abs(np.bincount(bin_of, given - came, bins))
    return float(off.sum() / len(given))


def risk_threshold(
    scores: Sequence[float], losses: Sequence[float], alpha: float, *, bound: float = 1.0
) -> float | None:
    """The lowest threshold such that accepting only scores at or above it keeps the mean loss over *all* requests at or below
    ``alpha``, for new examples like these; None when not even accepting nothing is proven to.

    ``losses`` is what accepting costs each (0 to ``bound``); not accepting costs nothing. Conformal risk control: the
    condition is ``n/(n+1) * R + bound/(n+1) <= alpha`` (Angelopoulos et al., arXiv 2208.02814).
    """
    if len(scores) != len(losses):
        raise Invalid("as many losses as scores are needed", where="calibration")
    n = len(scores)
    if bound / (n + 1) > alpha:
        return None
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranked = np.asarray(scores, np.float64)[order]
    risks = np.cumsum(np.asarray(losses, np.float64)[order]) / n if n else np.empty(0)
    best: float | None = float("inf")
    for at, risk in enumerate(risks):
        if at + 1 < n and ranked[at + 1] == ranked[at]:
            continue  # equal scores are accepted together
        if (n * risk + bound) / (n + 1) > alpha:
            break
        best = float(ranked[at])
    return best
