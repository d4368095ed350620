"""A score that means what it says, and a promise about the mean loss that holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.errors import Invalid
from mainstay.models.routing.calibration import Calibration, brier, calibration_error, fitted, risk_threshold

pairs = st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 1)), min_size=1, max_size=60)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(pairs=pairs, asked=st.lists(st.floats(-10, 10), max_size=20))
def test_a_calibration_rises_and_stays_within_what_came(pairs: list[tuple[float, float]], asked: list[float]) -> None:
    made = fitted([score for score, _ in pairs], [came for _, came in pairs])
    told = [made(score) for score in sorted(asked)]
    assert told == sorted(told)
    came = [came for _, came in pairs]
    assert all(min(came) - 1e-9 <= share <= max(came) + 1e-9 for share in made.shares)
    assert len(made.scores) <= 50


def test_an_over_confident_score_is_mended() -> None:
    print("seed 1")
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 1, 4000)
    came = (rng.uniform(0, 1, 4000) < truth).astype(float)
    boast = truth**0.3
    made = fitted(boast[:2000].tolist(), came[:2000].tolist())
    mended = [made(float(score)) for score in boast[2000:]]
    before = calibration_error(boast[2000:].tolist(), came[2000:].tolist())
    after = calibration_error(mended, came[2000:].tolist())
    assert before > 0.2
    assert after < 0.04
    assert brier(mended, came[2000:].tolist()) < brier(boast[2000:].tolist(), came[2000:].tolist())


def test_without_examples_the_score_stands() -> None:
    assert fitted([], []) == Calibration()
    assert [Calibration()(score) for score in (-1.0, 0.3, 2.0)] == [0.0, 0.3, 1.0]


def test_few_right_examples_are_not_certainty() -> None:
    assert fitted([0.1, 0.9], [0.0, 1.0])(0.9) < 0.8


@pytest.mark.parametrize(("scores", "shares"), [((0.5,), ()), ((0.5, 0.4), (0.1, 0.2)), ((0.1, 0.2), (0.9, 0.1))])
def test_what_does_not_rise_is_refused(scores: tuple[float, ...], shares: tuple[float, ...]) -> None:
    with pytest.raises(Invalid):
        Calibration(scores=scores, shares=shares)


def test_the_promised_mean_loss_holds_for_new_examples() -> None:
    print("seed 2")
    rng = np.random.default_rng(2)
    alpha, losses = 0.1, []
    for _ in range(300):
        truth = rng.uniform(0, 1, 201)
        wrong = (rng.uniform(0, 1, 201) > truth).astype(float)
        bar = risk_threshold(truth[:200].tolist(), wrong[:200].tolist(), alpha)
        assert bar is not None
        losses.append(float(wrong[200] * (truth[200] >= bar)))
    assert np.mean(losses) <= alpha + 0.03  # the mean of 300 draws is known to about 0.017


def test_too_few_examples_prove_nothing() -> None:
    assert risk_threshold([0.9] * 5, [0.0] * 5, 0.1) is None
    assert risk_threshold([0.9] * 50, [0.0] * 50, 0.1) == 0.9
    assert risk_threshold([0.9] * 50, [1.0] * 50, 0.1) == float("inf")


def test_one_outcome_for_each_score() -> None:
    with pytest.raises(Invalid):
        fitted([0.1], [])
    with pytest.raises(Invalid):
        risk_threshold([0.1], [], 0.1)
