"""One decision before a model is asked, and one after each draft."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.agreement.terms import Routing
from mainstay.models.prices import Price
from mainstay.models.routing import (
    Calibration,
    Candidate,
    Constraints,
    DraftLook,
    Plan,
    Router,
    Rules,
    Traits,
)
from mainstay.types import Usage

PRICES = {
    "small": Price.from_usd(input_per_million="0.1", output_per_million="0.4"),
    "middle": Price.from_usd(input_per_million="0.4", output_per_million="1.6"),
    "large": Price.from_usd(input_per_million="2.5", output_per_million="10"),
}
SMALL, MIDDLE, LARGE = (Candidate(name=name, price=price, context_tokens=32_000) for name, price in PRICES.items())
NEEDS = Constraints(needs_tokens=3000, max_output_tokens=300, cap_left_n=10**9)
EASY = Traits(question="What is the dress code?")
HARD = Traits(
    question="Compare the travel policies of 2023 and 2025 and explain why the hotel limit changed; then calculate the"
    " difference for two people who stay three nights in Paris and one in Lyon, as well as the total in percent."
)
RICH = Routing(value_usd="1.00")
LOOK = DraftLook(
    supported_share=0.9,
    coverage=0.9,
    citations=2,
    finish="stop",
    spent_n=100_000,
    left_n=10**8,
    deadline_left_s=20.0,
    tried=("small",),
)
POOR = replace(LOOK, supported_share=0.3, coverage=0.2, citations=1)


class Fixed:
    """Qualities as told."""

    version = "fixed"

    def __init__(self, **told: float) -> None:
        self._told = told

    def estimate(self, traits: Traits, model: str) -> float:
        return self._told[model]


def names(plan: Plan) -> list[str]:
    return [choice.name for choice in plan.order]


def test_easy_questions_go_to_the_cheap_and_hard_ones_to_the_dear_model() -> None:
    router = Router(Routing(), Rules(prices=PRICES))
    easy, hard = (router.plan(traits, (LARGE, MIDDLE, SMALL), NEEDS) for traits in (EASY, HARD))
    assert easy.first is not None
    assert hard.first is not None
    assert easy.first.name == "small"
    assert hard.first.name in ("middle", "large")


def test_worth_less_cost_decides_and_value_moves_it() -> None:
    quality = Fixed(small=0.6, middle=0.7, large=0.9)
    firsts = [
        names(Router(Routing(value_usd=value), quality).plan(EASY, (SMALL, MIDDLE, LARGE), NEEDS))[0]
        for value in ("0.000001", "0.01", "1.00")
    ]
    assert firsts == ["small", "middle", "large"]


def test_the_order_is_first_then_better_then_the_rest() -> None:
    plan = Router(Routing(value_usd="0.005"), Fixed(small=0.6, middle=0.5, large=0.9)).plan(
        EASY, (SMALL, MIDDLE, LARGE), NEEDS
    )
    assert [(choice.name, choice.role) for choice in plan.order] == [
        ("small", "first"),
        ("large", "escalation"),
        ("middle", "fall-back"),
    ]
    failed = plan.after_failure(("small",))
    assert failed is not None
    assert failed.name == "middle"
    assert [choice.name for choice in plan.better_than(("small",))] == ["large"]
    assert plan.after_failure(("small", "middle", "large")) is None


def test_ties_go_to_the_cheaper_then_to_the_name() -> None:
    twin = replace(SMALL, name="another")
    plan = Router(RICH, Fixed(small=0.6, another=0.6)).plan(EASY, (SMALL, twin), NEEDS)
    assert names(plan) == ["another", "small"]


@pytest.mark.parametrize(
    ("candidate", "needs", "why"),
    [
        (SMALL, replace(NEEDS, allowed_models=frozenset()), "not allowed"),
        (
            SMALL,
            replace(NEEDS, allowed_models=frozenset({"large"}), why_not={"small": "confidential passages"}),
            "confidential",
        ),
        (replace(SMALL, region="us"), replace(NEEDS, regions=("eu",)), "runs in us"),
        (SMALL, replace(NEEDS, regions=("eu",)), "a region nobody named"),
        (replace(SMALL, json=False), replace(NEEDS, json=True), "JSON"),
        (SMALL, replace(NEEDS, tools=True), "tools"),
        (replace(SMALL, context_tokens=3010), NEEDS, "reads 3010 tokens"),
        (LARGE, replace(NEEDS, cap_left_n=1_000_000), "cap"),
        (replace(SMALL, healthy=False, opens_in_s=12.0), NEEDS, "cut off for 12 s"),
    ],
)
def test_who_may_or_can_not_answer_is_left_out_with_the_reason(
    candidate: Candidate, needs: Constraints, why: str
) -> None:
    plan = Router(RICH, Rules(prices=PRICES)).plan(EASY, (candidate,), needs)
    assert plan.order == ()
    assert plan.first is None
    assert why in plan.excluded[candidate.name]


def test_a_model_about_to_be_probed_comes_last() -> None:
    shaky = replace(LARGE, healthy=False, opens_in_s=0.0)
    plan = Router(RICH, Fixed(small=0.3, large=0.9)).plan(EASY, (shaky, SMALL), NEEDS)
    assert names(plan) == ["small", "large"]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    qualities=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    allowed=st.sets(st.sampled_from("abcd")),
    value=st.sampled_from(["0.000001", "0.001", "0.1", "10"]),
    order=st.permutations("abcd"),
    cap=st.integers(0, 10**8),
)
def test_a_plan_is_the_same_however_models_are_listed_and_never_breaks_a_rule(
    qualities: list[float], allowed: set[str], value: str, order: list[str], cap: int
) -> None:
    prices = {"a": PRICES["small"], "b": PRICES["small"], "c": PRICES["middle"], "d": PRICES["large"]}
    held = {name: Candidate(name=name, price=price, context_tokens=9000) for name, price in prices.items()}
    router = Router(Routing(value_usd=value), Fixed(**dict(zip("abcd", qualities, strict=True))))
    needs = replace(NEEDS, allowed_models=frozenset(allowed), cap_left_n=cap)
    plan = router.plan(EASY, [held[name] for name in order], needs)
    assert plan.order == router.plan(EASY, [held[name] for name in "abcd"], needs).order
    assert set(names(plan)) | set(plan.excluded) == set("abcd")
    assert set(names(plan)) <= allowed
    assert all(prices[c.name].cost(Usage(input_tokens=needs.needs_tokens)) <= cap for c in plan.order)
    if plan.first is not None:
        assert plan.first.utility == max(choice.utility for choice in plan.order)
        rising = [plan.first.quality, *(c.quality for c in plan.order if c.role == "escalation")]
        assert rising == sorted(set(rising))


def planned(router: Router) -> Plan:
    return router.plan(HARD, (SMALL, MIDDLE, LARGE), NEEDS)


def rules(**more: object) -> Routing:
    return replace(Routing(value_usd="0.02"), **more)  # type: ignore[arg-type]  # tests name fields


QUALITY = Fixed(small=0.6, middle=0.62, large=0.95)


def decide(look: DraftLook, **more: object) -> tuple[str, str | None, str]:
    router = Router(rules(**more), QUALITY)
    decision = router.after(planned(router), look)
    assert 0 <= decision.confidence <= 1
    return decision.kind, decision.model, decision.why


def test_a_good_draft_is_accepted() -> None:
    assert decide(LOOK)[0] == "accept"


def test_a_poor_draft_goes_to_a_better_model() -> None:
    kind, model, why = decide(POOR)
    assert (kind, model) == ("escalate", "large")
    assert "under 0.60" in why


@pytest.mark.parametrize(
    ("look", "more", "why"),
    [
        (POOR, {"escalations": 0}, "used up"),
        (replace(POOR, tried=("small", "large")), {}, "used up"),
        (replace(POOR, tried=("small", "large")), {"escalations": 3}, "no better model"),
        (replace(POOR, deadline_left_s=1.0), {}, "1.0 s are left"),
        (replace(POOR, left_n=1000), {}, "costs more than is left"),
        (POOR, {"value_usd": "0.0005"}, "than its answer is worth"),
    ],
)
def test_what_stands_in_the_way_of_a_better_model_is_said(look: DraftLook, more: dict[str, object], why: str) -> None:
    assert decide(look, **more)[0] == "show"
    assert why in decide(look, **more)[2]
    assert decide(look, below="person", **more)[0] == "person"
    assert decide(replace(look, ambiguous=True), below="person", **more)[0] == "clarify"
    assert decide(replace(look, ambiguous=True), clarify=False, **more)[0] == "show"


def test_what_was_declined_is_not_taken_elsewhere_unless_the_agreement_says_so() -> None:
    look = replace(POOR, citations=0, finish="content_filter")
    assert decide(look)[0] == "show"
    router = Router(rules(), QUALITY, route_around=True)
    assert router.after(planned(router), look).kind == "escalate"


def test_a_draft_without_a_citation_is_never_accepted() -> None:
    sure = Calibration(scores=(0.0, 1.0), shares=(0.99, 1.0), examples=100)
    router = Router(rules(escalations=0), QUALITY, confidence=sure)
    assert router.after(planned(router), replace(LOOK, citations=0)).kind == "show"


def test_better_looks_make_more_confidence() -> None:
    router = Router(rules(), QUALITY)
    plan = planned(router)

    def sure(look: DraftLook) -> float:
        return router.after(plan, look).confidence

    assert sure(POOR) < sure(LOOK)
    assert sure(replace(LOOK, finish="length")) < sure(LOOK)
    assert sure(replace(LOOK, self_agreement=0.2)) < sure(LOOK) < sure(replace(LOOK, self_agreement=1.0))
    assert sure(replace(LOOK, coverage=0.1)) < sure(LOOK)
