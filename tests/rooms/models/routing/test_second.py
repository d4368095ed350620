"""When the model of a draft is asked once more: only where that decides, and costs clearly less than a better model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.agreement.terms import Routing
from mainstay.models.prices import Price
from mainstay.models.routing import Calibration, Candidate, Constraints, DraftLook, Plan, Router, Traits
from mainstay.models.routing.router import CLEARLY_ALIKE, CLEARLY_APART

PRICES = {"small": ("0.1", "0.4"), "twin": ("0.08", "0.3"), "large": ("2.5", "10"), "free": ("0", "0")}
MODELS = {
    name: Candidate(
        name=name, price=Price.from_usd(input_per_million=told[0], output_per_million=told[1]), context_tokens=32_000
    )
    for name, told in PRICES.items()
}
NEEDS = Constraints(needs_tokens=3000, max_output_tokens=300, cap_left_n=10**9)
TRAITS = Traits(question="What is the dress code?")
DOUBT = DraftLook(
    supported_share=0.8,
    coverage=0.5,
    citations=1,
    finish="stop",
    spent_n=100_000,
    left_n=10**8,
    deadline_left_s=20.0,
    tried=("small",),
)
GOOD = replace(DOUBT, supported_share=1.0, coverage=1.0, citations=3)
POOR = replace(DOUBT, supported_share=0.2, coverage=0.2)


class Fixed:
    """Qualities as told."""

    version = "fixed"

    def __init__(self, **told: float) -> None:
        self._told = told

    def estimate(self, traits: Traits, model: str) -> float:
        return self._told[model]


def router(**rules: object) -> Router:
    return Router(Routing(value_usd="0.02", **rules), Fixed(small=0.6, twin=0.5, free=0.55, large=0.9))  # type: ignore[arg-type]  # tests name fields


def planned(*names: str) -> Plan:
    """A plan that asks in this order."""
    plan = router().plan(TRAITS, [MODELS[name] for name in names], NEEDS)
    held = {choice.name: choice for choice in plan.order}
    return replace(plan, order=tuple(held[name] for name in names))


PLAN = planned("small", "large")


def test_a_draft_in_doubt_is_worth_a_second_one() -> None:
    asked = router().second(PLAN, DOUBT, ceiling_n=300_000, took_s=1.0)
    assert asked is not None
    assert asked.obstacle == ""
    large = PLAN.choice("large")
    assert large is not None
    assert asked.needs_n == 300_000 + large.ceiling_n


@pytest.mark.parametrize(
    "look",
    [
        GOOD,
        POOR,
        replace(DOUBT, citations=0),
        replace(DOUBT, finish="length"),
        replace(DOUBT, finish="content_filter"),
        replace(DOUBT, finish="broke_off"),
        replace(DOUBT, self_agreement=0.7),
        replace(DOUBT, tried=("small", "large")),
        replace(DOUBT, left_n=10),
        replace(DOUBT, deadline_left_s=1.0),
        replace(DOUBT, tried=()),
    ],
)
def test_a_draft_that_is_decided_is_not(look: DraftLook) -> None:
    assert router().second(PLAN, look, ceiling_n=1, took_s=0.1) is None


def test_the_agreement_may_forbid_it() -> None:
    assert router(consistency=False).second(PLAN, DOUBT, ceiling_n=1, took_s=0.1) is None
    assert router(escalations=0).second(PLAN, DOUBT, ceiling_n=1, took_s=0.1) is None


def test_no_money_or_time_for_both_stands_in_its_way() -> None:
    large = PLAN.choice("large")
    assert large is not None
    poor = replace(DOUBT, left_n=large.ceiling_n + 10)  # the better model alone can be paid
    asked = router().second(PLAN, poor, ceiling_n=11, took_s=0.5)
    assert asked is not None
    assert "no money" in asked.obstacle
    late = replace(DOUBT, deadline_left_s=8.0)
    asked = router().second(PLAN, late, ceiling_n=11, took_s=3.5)
    assert asked is not None
    assert "no time" in asked.obstacle


@pytest.mark.parametrize(
    ("first", "better", "obstacle"),
    [
        ("small", "large", ""),
        ("free", "large", ""),
        ("twin", "small", "it does not cost clearly less than small"),  # it is hardly dearer: it is asked at once
    ],
)
def test_it_must_cost_clearly_less_than_the_better_model(first: str, better: str, obstacle: str) -> None:
    asked = router().second(planned(first, better), replace(DOUBT, tried=(first,)), ceiling_n=1, took_s=0.1)
    assert asked is not None
    assert asked.obstacle == obstacle


def test_two_free_models_cost_the_same() -> None:
    plan = planned("free", "large")
    gratis = replace(plan, order=tuple(replace(choice, expected_cost_n=0) for choice in plan.order))
    asked = router().second(gratis, replace(DOUBT, tried=("free",)), ceiling_n=0, took_s=0.1)
    assert asked is not None
    assert "clearly less" in asked.obstacle


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    supported=st.floats(0, 1),
    coverage=st.floats(0, 1),
    citations=st.integers(0, 4),
    accept=st.floats(0, 1),
    knots=st.sampled_from([(), (0.2, 0.5, 0.8)]),
)
def test_wherever_it_is_asked_it_decides(
    supported: float, coverage: float, citations: int, accept: float, knots: tuple[float, ...]
) -> None:
    learnt = Calibration(scores=knots, shares=knots and (0.1, 0.6, 0.95))
    judge = Router(Routing(value_usd="0.02", accept=accept), Fixed(small=0.6, large=0.9), confidence=learnt)
    look = replace(DOUBT, supported_share=supported, coverage=coverage, citations=citations)
    if judge.second(PLAN, look, ceiling_n=1, took_s=0.1) is None:
        return
    assert judge.after(PLAN, replace(look, self_agreement=CLEARLY_ALIKE)).kind == "accept"
    assert judge.after(PLAN, replace(look, self_agreement=1.0)).kind == "accept"
    assert judge.after(PLAN, replace(look, self_agreement=CLEARLY_APART)).kind == "escalate"
    assert judge.after(PLAN, replace(look, self_agreement=0.0)).kind == "escalate"
