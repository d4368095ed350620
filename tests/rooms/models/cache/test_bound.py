"""The two learnt bounds: what they promise holds in the long run, on made-up streams with known truth."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime

import pytest

from mainstay.agreement.intervals import clopper_pearson_lower, clopper_pearson_upper
from mainstay.models.cache.bound import FEW, LEAST, anew, counted, explore, permits, step
from mainstay.models.cache.ports import Label, Wording

AT = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = 0.02


def labels(
    agreed: int, wrong: int = 0, *, similarity: float = 0.97, wording: Wording = Wording.FORMS, entry: str = "e"
) -> list[Label]:
    return [
        Label(
            entry_id=entry,
            family="f",
            asked=f"{entry} {similarity} {n}",
            wording=wording,
            similarity=similarity,
            agreed=n < agreed,
            served=False,
            at=AT,
        )
        for n in range(agreed + wrong)
    ]


@pytest.mark.parametrize(("k", "n", "upper"), [(0, 59, 0.05), (0, 149, 0.02), (0, 299, 0.01)])
def test_the_known_sample_sizes(k: int, n: int, upper: float) -> None:
    assert clopper_pearson_upper(k, n) <= upper < clopper_pearson_upper(k, n - 1)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 2), (3, 40), (17, 20), (40, 2000)])
def test_the_limits_are_those_of_the_binomial(k: int, n: int) -> None:
    """At the upper limit, so few or fewer come up in one of twenty samples; that is its definition."""

    def at_most(count: int, share: float) -> float:
        return math.fsum(math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(count + 1))

    assert at_most(k, clopper_pearson_upper(k, n)) == pytest.approx(0.05, rel=1e-6)
    if k:
        assert 1 - at_most(k - 1, clopper_pearson_lower(k, n)) == pytest.approx(0.05, rel=1e-6)
    assert clopper_pearson_upper(n, n) == 1.0
    assert clopper_pearson_lower(0, n) == 0.0


def test_nothing_similar_serves_before_it_was_shown_to_be_right() -> None:
    assert not permits([], Wording.FORMS, 0.97, LIMIT)
    assert not permits(labels(148), Wording.FORMS, 0.97, LIMIT)
    assert permits(labels(149), Wording.FORMS, 0.97, LIMIT)
    assert not permits(labels(149), Wording.LICENCE, 0.97, LIMIT)  # each kind of wording for itself
    assert not permits(labels(149), Wording.FORMS, 0.93, LIMIT)  # what is less alike was not looked at
    assert permits(labels(149), Wording.FORMS, 0.97, LIMIT)
    assert not permits(labels(149, similarity=0.995), Wording.FORMS, LEAST - 0.001, LIMIT)


def test_clean_steps_above_do_not_hide_a_bad_one() -> None:
    held = labels(2000, similarity=0.995) + labels(15, 5, similarity=0.92)
    assert counted(held, Wording.FORMS, 0.92).upper < LIMIT
    assert not permits(held, Wording.FORMS, 0.92, LIMIT)
    assert permits(held, Wording.FORMS, 0.995, LIMIT)
    assert not permits(labels(2000, similarity=0.995) + labels(29), Wording.FORMS, 0.97, LIMIT)
    assert permits(labels(2000, similarity=0.995) + labels(30), Wording.FORMS, 0.97, LIMIT)


def test_the_same_words_serve_until_they_are_shown_to_be_wrong() -> None:
    for wording in (Wording.EXACT, Wording.SAME):
        assert permits([], wording, 0.97, LIMIT)
        assert permits(labels(60, 1, wording=wording), wording, 0.97, LIMIT)
        assert not permits(labels(6, 4, wording=wording), wording, 0.97, LIMIT)
    assert not permits([], Wording.SAME, LEAST - 0.001, LIMIT)


def test_a_question_counts_once_as_it_was_last_seen() -> None:
    once = labels(1)
    assert counted(once * 200, Wording.FORMS, 0.97).labels == 1
    newer = [Label(**{**vars(once[0]), "agreed": False})]
    assert counted(newer + once, Wording.FORMS, 0.97).wrong == 1
    assert counted(once + newer, Wording.FORMS, 0.97).wrong == 0


def test_steps() -> None:
    assert [step(s) for s in (0.5, 0.9, 0.949, 0.95, 0.985, 1.0)] == [0.0, 0.9, 0.9, 0.95, 0.98, 0.99]


@pytest.mark.parametrize("truth", [0.0, 0.005, 0.05, 0.2])
def test_few_wrong_hits_in_a_long_stream(truth: float) -> None:
    """Served answers are audited one in ten, others explored. Asked every 25 questions, as if it were news each time."""
    hits = wrong_hits = requests = 0
    for seed in range(6):
        draw = random.Random(seed)
        held: list[Label] = []
        serves = False
        for n in range(1200):
            wrong = draw.random() < truth
            serves = permits(held, Wording.FORMS, 0.97, LIMIT) if n % 25 == 0 else serves
            requests += 1
            hits += serves
            wrong_hits += serves and wrong
            if not serves or draw.random() < 0.1:
                held.insert(0, labels(int(not wrong), int(wrong), entry=f"{n}")[0])
    if truth <= LIMIT / 4:
        assert hits > requests / 3
    if truth <= LIMIT:
        assert wrong_hits <= LIMIT * hits
    else:
        assert hits < 0.05 * requests


def test_an_entry_never_found_wrong_leaves_it_to_all() -> None:
    assert anew([], 0.97, LIMIT) == 0.0
    assert anew(labels(3), 0.97, LIMIT) == 0.0


def test_an_entry_once_found_wrong_is_explored() -> None:
    assert anew(labels(FEW - 2, 1), 0.99, LIMIT) == 1.0
    assert anew(labels(FEW, 1), 0.97, LIMIT) > 0.5
    assert anew(labels(0, 10), 0.97, LIMIT) > 0.97  # who is always wrong may serve two times in a hundred


def test_an_entry_learns_where_its_answer_ends() -> None:
    """Wrong below 0.95, right above: far above it serves again, near it and below it does not."""
    draw = random.Random(0)
    held = [(s, s > 0.95) for s in (draw.uniform(0.9, 1.0) for _ in range(400))]
    assert explore(held, 1.0, LIMIT) < 0.05
    assert explore(held, 0.951, LIMIT) > 0.5
    assert explore(held, 0.9, LIMIT) > 0.95


def test_entries_err_less_often_than_their_bound() -> None:
    """The promise of the per-entry bound: wrong answers among all requests, whatever the truth of each entry is."""
    draw = random.Random(0)
    wrong = requests = 0
    for _ in range(8):
        threshold, gain = draw.uniform(0.92, 0.97), draw.uniform(60, 200)
        held: list[tuple[float, bool]] = []
        for n in range(150):
            s = draw.uniform(0.9, 1.0)
            right = draw.random() < 1 / (1 + math.exp(-gain * (s - threshold)))
            requests += 1
            if n < FEW or draw.random() < explore(held, s, 0.05):
                held.append((s, right))
            else:
                wrong += not right
    assert wrong <= 0.05 * requests


def test_the_fit_is_finite_for_any_labels() -> None:
    for held in ([(0.95, True)] * 50, [(0.95, False)] * 50, [(1.0, False), (0.9, True)] * 20, [(0.95, True)], []):
        assert 0.0 <= explore(held, 0.97, LIMIT) <= 1.0
