"""When likeness is enough: two bounds that are learnt from answers made anew beside kept ones.

Over all entries: of each kind of wording and each step of likeness, how often the answers disagreed. Where the questions
differ in more than trifles, a kept answer serves only when the upper 95 % limit of wrong answers in its step and all
above it is at most what the agreement allows (Clopper and Pearson 1934; 149 labels without a wrong one show 2 %).
Where the words are the same it serves until the labels show that more than that is wrong.

Per entry: an entry that was once found wrong serves again only as its own labels permit. After the idea of vCache (arXiv
2502.03771): P(right | s) is a sigmoid of likeness fitted to the entry's labels; the limit of its threshold at confidence
1 - e bounds P from below by a = (1 - e) sigmoid(g (s - t')); answering anew with probability 1 - delta / (1 - a), the
least over all e, keeps wrong answers below delta. That bounds wrong answers among all requests; the first bound is about
wrong ones among hits, which is what the agreement promises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mainstay.agreement.intervals import clopper_pearson_lower, clopper_pearson_upper
from mainstay.models.cache.ports import Label, Wording

LEAST = 0.9  # no less alike is ever served
STEPS = (0.9, 0.95, 0.98, 0.99)
CONFIDENCE = 0.95
HERE = 30  # so many labels of a step itself, before what is above it speaks for it
FEW = 6  # an entry with fewer labels tells nothing about itself
_SHARES = tuple(round(0.005 * i, 3) for i in range(1, 100))
_NORMAL = NormalDist()
# Two made-up labels and a weak prior keep the fit finite where the labels are all of one kind, or part without overlap.
_PRIOR = ((0.6, False), (1.0, True))
_RIDGE = 0.01
_SPREAD = 20.0  # likenesses that matter lie within a few hundredths of each other


def step(similarity: float) -> float:
    """The lower edge of the step that a likeness falls into; 0 below all of them."""
    return max((edge for edge in STEPS if similarity >= edge), default=0.0)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Labels of one kind of wording at or above one step, and of the step alone; ``upper`` and ``lower`` are one-sided."""

    wrong: int
    labels: int
    wrong_here: int
    labels_here: int

    @property
    def upper(self) -> float:
        return clopper_pearson_upper(self.wrong, self.labels, CONFIDENCE) if self.labels else 1.0

    @property
    def lower(self) -> float:
        return clopper_pearson_lower(self.wrong, self.labels, CONFIDENCE) if self.labels else 0.0


def counted(labels: Sequence[Label], wording: Wording, similarity: float) -> Counted:
    """What the labels say. One question asked of one entry counts once, as it was last seen; the newest come first."""
    edge, seen = step(similarity), set()
    wrong = total = wrong_here = total_here = 0
    for label in labels:
        if label.wording is not wording or label.similarity < edge or (label.entry_id, label.asked) in seen:
            continue
        seen.add((label.entry_id, label.asked))
        wrong += not label.agreed
        total += 1
        if step(label.similarity) == edge:
            wrong_here += not label.agreed
            total_here += 1
    return Counted(wrong=wrong, labels=total, wrong_here=wrong_here, labels_here=total_here)


def permits(labels: Sequence[Label], wording: Wording, similarity: float, limit: float) -> bool:
    """Whether answers may serve questions of this wording and likeness, going by all labels of the family."""
    if similarity < LEAST:
        return False
    told = counted(labels, wording, similarity)
    if wording in (Wording.EXACT, Wording.SAME):
        return told.lower <= limit
    # Clean steps above must not hide this one: it was looked at itself, and is no worse than it may be.
    seen_itself = told.labels_here >= HERE and told.wrong_here <= limit * told.labels_here
    return told.upper <= limit and seen_itself


def anew(labels: Sequence[Label], similarity: float, limit: float) -> float:
    """The probability with which an entry's question is to be answered anew, going by the entry's own labels.

    0 while it was never found wrong: then all entries together decide. 1 while there are too few labels.
    """
    if all(label.agreed for label in labels):
        return 0.0
    if len(labels) < FEW:
        return 1.0
    return explore([(label.similarity, label.agreed) for label in labels], similarity, limit)


def explore(labels: Sequence[tuple[float, bool]], similarity: float, delta: float) -> float:
    """The probability of answering anew that keeps wrong answers below ``delta`` of all requests to one entry."""
    gain, threshold, spread = _fit([*labels, *_PRIOR])
    if gain <= 0 or not math.isfinite(spread):
        return 1.0
    least = 1.0
    for share in _SHARES:
        limit = threshold + _NORMAL.inv_cdf(1 - share) * spread
        right = (1 - share) * _sigmoid(gain * (similarity - limit))
        least = min(least, 1 - delta / (1 - right))
    return max(0.0, least)


def _fit(labels: Sequence[tuple[float, bool]]) -> tuple[float, float, float]:
    """Gain, threshold and the standard error of the threshold (delta method), by Newton's method."""
    x = np.array([[1.0, (s - LEAST) * _SPREAD] for s, _ in labels])
    y = np.array([float(agreed) for _, agreed in labels])
    w = np.zeros(2)
    ridge = _RIDGE * np.eye(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge
        change = np.linalg.solve(hessian, x.T @ (y - p) - ridge @ w)
        w = w + np.clip(change, -5, 5)
        if float(np.abs(change).max()) < 1e-9:
            break
    if w[1] <= 1e-9:
        return 0.0, math.inf, math.inf
    p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
    covariance = np.linalg.inv((x * (p * (1 - p))[:, None]).T @ x + ridge)
    gradient = np.array([-1 / w[1], w[0] / w[1] ** 2])
    variance = float(gradient @ covariance @ gradient)
    return float(w[1]) * _SPREAD, LEAST - float(w[0] / w[1]) / _SPREAD, math.sqrt(max(variance, 0.0)) / _SPREAD


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))
