"""The router: one decision before a model is asked, and one after each draft.

Before: whoever may not or can not answer is left out, with the reason; of the rest the one with the best of worth less
cost is first, ``argmax quality * value - cost``. After: the draft itself says more than any forecast. Its confidence,
calibrated, is held against ``routing.accept``; below that a better model is asked if it is worth its price and there is
money, time and an escalation left, then the asker, then what ``routing.below`` names.

Everything here is a plain function of its arguments: the same question, candidates and estimates give the same plan.
Source of the cascade rule: Dekoninck et al., "A Unified Approach to Routing and Cascading for LLMs" (arXiv 2410.10347).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mainstay.agreement.terms import Routing
from mainstay.models.prices import NANO_PER_USD, Price
from mainstay.models.routing.calibration import Calibration
from mainstay.models.routing.features import Traits
from mainstay.models.routing.quality import QualityModel, all_estimates
from mainstay.types import Usage

MIN_OUTPUT_TOKENS = 32
"""Less than this is no answer: a model whose call leaves room for fewer is left out."""
LIKELY_SHARE_IN, LIKELY_SHARE_OUT = 0.3, 0.5
"""Of the byte bound of what goes in, and of the most that may come out: what a call takes, when nobody says better."""
MIN_SECONDS = 2.0
"""Time without which no further model is asked."""
CLEARLY_ALIKE, CLEARLY_APART = 0.85, 0.3
"""Agreements of two drafts that leave no doubt, either way."""
AGREES = 0.6
"""The agreement of two drafts from which it speaks for them."""
SECOND_SHARE = 0.5
"""A second draft must cost less than this share of the better model's: it pays for itself if every other one agrees."""

Role = Literal["first", "escalation", "fall-back"]
Kind = Literal["accept", "escalate", "clarify", "person", "show"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that might be asked. ``healthy`` is its breaker's word; ``opens_in_s`` how long it stays cut off."""

    name: str
    price: Price
    context_tokens: int
    region: str = ""
    json: bool = True
    tools: bool = False
    healthy: bool = True
    opens_in_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What the request demands. ``needs_tokens`` bounds what goes in. ``allowed_models`` are those that data classes, the
    mode and the agreement leave over (None: all); ``regions`` empty: all. ``why_not`` may say of a model that is not
    allowed which rule forbids it. The two ``likely`` numbers forecast a call (0: taken from the bounds)."""

    needs_tokens: int
    max_output_tokens: int
    cap_left_n: int
    allowed_models: frozenset[str] | None = None
    regions: tuple[str, ...] = ()
    json: bool = False
    tools: bool = False
    why_not: Mapping[str, str] = field(default_factory=dict)
    likely_input_tokens: int = 0
    likely_output_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A model that may be asked: its estimated quality (0 to 1), what it will likely cost and can cost at most
    (nano-dollars), what that is worth together (nano-dollars), and why it stands where it stands."""

    name: str
    quality: float
    expected_cost_n: int
    ceiling_n: int
    utility: int
    role: Role
    why: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Whom to ask, in order: the first, then escalations (each strictly better), then those that help when one fails.

    ``order`` is empty when nothing fits; ``excluded`` says of each model why.
    """

    order: tuple[Choice, ...]
    excluded: Mapping[str, str]
    estimated_by: str = ""

    @property
    def first(self) -> Choice | None:
        return self.order[0] if self.order else None

    def choice(self, name: str) -> Choice | None:
        return next((choice for choice in self.order if choice.name == name), None)

    def after_failure(self, tried: Sequence[str]) -> Choice | None:
        """Whom to ask when those tried did not answer: the best of the rest by worth less cost."""
        left = [(n, choice) for n, choice in enumerate(self.order) if choice.name not in tried]
        return min(left, key=lambda held: (-held[1].utility, held[0]))[1] if left else None

    def better_than(self, tried: Sequence[str]) -> tuple[Choice, ...]:
        """Those with a strictly better estimate than all tried, the most worthwhile first."""
        reached = max((choice.quality for choice in self.order if choice.name in tried), default=-1.0)
        left = [choice for choice in self.order if choice.name not in tried and choice.quality > reached]
        return tuple(sorted(left, key=lambda choice: (-choice.utility, -choice.quality, choice.name)))


@dataclass(frozen=True, kw_only=True)
class DraftLook:
    """What a draft shows once its citations were checked. Shares are 0 to 1; ``finish`` is how the model ended
    (``stop``, ``length``, ``content_filter``, ``tool``, ``broke_off``); ``self_agreement`` how much several drafts of one
    model say the same, where they were affordable; money in nano-dollars. ``ambiguous``: a question back is ready."""

    supported_share: float
    coverage: float
    citations: int
    finish: str
    spent_n: int
    left_n: int
    deadline_left_s: float
    tried: tuple[str, ...]
    self_agreement: float | None = None
    ambiguous: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What happens with a draft. ``model`` is whom to ask next when ``kind`` is escalate."""

    kind: Kind
    confidence: float
    model: str | None
    why: str


@dataclass(frozen=True, kw_only=True)
class Second:
    """A draft that its own model could decide by a second one. ``obstacle`` is why it is not asked (empty: it is worth it);
    ``needs_n`` what must be left for the second draft and the better model together (nano-dollars)."""

    obstacle: str
    needs_n: int


class Router:
    """Plans whom to ask and judges drafts. Holds no state; safe to use from several threads."""

    def __init__(
        self,
        rules: Routing,
        quality: QualityModel,
        *,
        confidence: Calibration | None = None,
        route_around: bool = False,
    ) -> None:
        """``confidence`` maps a draft's score to the share that was right (none: the score as it is). ``route_around``
        lets another model be asked when one declined for content: ``governance.route_around_content_filter``."""
        self._rules, self._quality = rules, quality
        self._confidence = confidence or Calibration()
        self._route_around = route_around

    @property
    def quality(self) -> QualityModel:
        return self._quality

    def plan(self, traits: Traits, candidates: Sequence[Candidate], constraints: Constraints) -> Plan:
        """Whom to ask for this question, in order; and who may not be asked, and why."""
        excluded: dict[str, str] = {}
        fit = []
        for candidate in candidates:
            why = _unfit(candidate, constraints)
            if why:
                excluded[candidate.name] = why
            else:
                fit.append(candidate)
        estimates = all_estimates(self._quality, traits, [candidate.name for candidate in fit])
        ranked = sorted(
            (self._weighed(candidate, estimates[candidate.name], constraints) for candidate in fit),
            key=lambda held: (not held[0].healthy, -held[1].utility, held[1].expected_cost_n, held[1].name),
        )
        return Plan(order=tuple(_in_order(ranked)), excluded=excluded, estimated_by=self._quality.version)

    def after(self, plan: Plan, draft: DraftLook) -> Decision:
        """What to do with a draft of the last model tried."""
        made_by = plan.choice(draft.tried[-1]) if draft.tried else None
        confidence = round(self._confidence(draft_score(draft, made_by.quality if made_by else 0.5)), 4)
        if draft.finish == "content_filter" and not self._route_around:
            return Decision(kind="show", confidence=confidence, model=None, why="declined for its content")
        if draft.citations and confidence >= self._rules.accept:
            why = f"confidence {confidence:.2f} reaches {self._rules.accept:.2f}"
            return Decision(kind="accept", confidence=confidence, model=None, why=why)
        short = (
            "no citation" if not draft.citations else f"confidence {confidence:.2f} is under {self._rules.accept:.2f}"
        )
        better, obstacle = self._better(plan, draft, confidence)
        if better is not None:
            why = f"{short}; {better.name} is estimated at {better.quality:.2f}"
            return Decision(kind="escalate", confidence=confidence, model=better.name, why=why)
        if draft.ambiguous and self._rules.clarify:
            why = f"{short}; {obstacle}; the question has several meanings"
            return Decision(kind="clarify", confidence=confidence, model=None, why=why)
        return Decision(kind=self._rules.below, confidence=confidence, model=None, why=f"{short}; {obstacle}")

    def second(self, plan: Plan, draft: DraftLook, *, ceiling_n: int, took_s: float) -> Second | None:
        """Whether the model of this draft is asked once more, to see whether it says the same: THE rule for it.

        None where that would change nothing. It may where two drafts that agree are accepted and two that do not are
        escalated. ``ceiling_n`` is the most the second draft can cost; ``took_s`` how long the first one took.
        """
        if not self._rules.consistency or draft.finish != "stop" or draft.self_agreement is not None:
            return None
        alike = self.after(plan, replace(draft, self_agreement=CLEARLY_ALIKE))
        apart = self.after(plan, replace(draft, self_agreement=CLEARLY_APART))
        same, better = plan.choice(draft.tried[-1]) if draft.tried else None, plan.choice(apart.model or "")
        if alike.kind != "accept" or apart.kind != "escalate" or same is None or better is None:
            return None
        needs_n, needs_s = ceiling_n + better.ceiling_n, 2 * took_s + MIN_SECONDS
        obstacle = ""
        if same.expected_cost_n >= SECOND_SHARE * better.expected_cost_n:
            obstacle = f"it does not cost clearly less than {better.name}"
        elif needs_n > draft.left_n:
            obstacle = f"no money is left for it and {better.name}"
        elif needs_s > draft.deadline_left_s:
            obstacle = f"no time is left for it and {better.name}"
        return Second(obstacle=obstacle, needs_n=needs_n)

    def _better(self, plan: Plan, draft: DraftLook, confidence: float) -> tuple[Choice | None, str]:
        """A model worth asking after this draft, or what stands in the way."""
        if len(draft.tried) > self._rules.escalations:
            return None, f"{self._rules.escalations} escalation(s) are used up"
        if draft.deadline_left_s < MIN_SECONDS:
            return None, f"{max(draft.deadline_left_s, 0.0):.1f} s are left"
        better = plan.better_than(draft.tried)
        if not better:
            return None, "no better model may be asked"
        paid = [choice for choice in better if choice.ceiling_n <= draft.left_n]
        if not paid:
            return None, "a better model costs more than is left"
        for choice in paid:
            # Right where this draft is wrong: what the better model adds, at most.
            gain = (1.0 - (confidence if draft.citations else 0.0)) * choice.quality
            if gain * self._rules.value_nanodollars > choice.expected_cost_n:
                return choice, ""
        return None, "a better model costs more than its answer is worth"

    def _weighed(self, candidate: Candidate, quality: float, constraints: Constraints) -> tuple[Candidate, Choice]:
        expected = candidate.price.cost(_likely(constraints))
        most = Usage(
            input_tokens=constraints.needs_tokens, output_tokens=min(MIN_OUTPUT_TOKENS, constraints.max_output_tokens)
        )
        ceiling = max(expected, candidate.price.cost(most))
        utility = round(quality * self._rules.value_nanodollars) - expected
        choice = Choice(
            name=candidate.name,
            quality=quality,
            expected_cost_n=expected,
            ceiling_n=ceiling,
            utility=utility,
            role="fall-back",
            why=f"quality {quality:.2f}, likely cost ${expected / NANO_PER_USD:.6f}",
        )
        return candidate, choice


def draft_score(draft: DraftLook, expected: float = 0.5) -> float:
    """How much a draft can be trusted before calibration, 0 to 1: sentences its sources carry, what of the question they
    cover, how it ended, agreement with itself, and a little of what was expected of its model."""
    if not draft.citations:
        return 0.02
    score = -3.0 + 3.2 * draft.supported_share + 1.8 * draft.coverage + 1.6 * (expected - 0.5)
    score += 0.2 * min(draft.citations - 1, 2)
    if draft.self_agreement is not None:
        score += 2.4 * (draft.self_agreement - AGREES)
    if draft.finish != "stop":
        score -= 1.0
    return 1.0 / (1.0 + math.exp(-score))


def _likely(constraints: Constraints) -> Usage:
    return Usage(
        input_tokens=constraints.likely_input_tokens or math.ceil(LIKELY_SHARE_IN * constraints.needs_tokens),
        output_tokens=constraints.likely_output_tokens or math.ceil(LIKELY_SHARE_OUT * constraints.max_output_tokens),
    )


def _unfit(candidate: Candidate, constraints: Constraints) -> str:
    """Why this model can or may not answer; empty when it may."""
    if constraints.allowed_models is not None and candidate.name not in constraints.allowed_models:
        return constraints.why_not.get(candidate.name, "not allowed for this request")
    if constraints.regions and candidate.region not in constraints.regions:
        return (
            f"runs in {candidate.region or 'a region nobody named'}, only {', '.join(constraints.regions)} may be used"
        )
    if constraints.json and not candidate.json:
        return "gives no JSON by a schema"
    if constraints.tools and not candidate.tools:
        return "calls no tools"
    room = candidate.context_tokens - constraints.needs_tokens
    if room < min(MIN_OUTPUT_TOKENS, constraints.max_output_tokens):
        return f"reads {candidate.context_tokens} tokens, {constraints.needs_tokens} and an answer are needed"
    least = Usage(
        input_tokens=constraints.needs_tokens, output_tokens=min(MIN_OUTPUT_TOKENS, constraints.max_output_tokens)
    )
    if candidate.price.cost(least) > constraints.cap_left_n:
        return "costs more than is left of the cap"
    if not candidate.healthy and candidate.opens_in_s > 0:
        return f"cut off for {candidate.opens_in_s:.0f} s more"
    return ""


def _in_order(ranked: Sequence[tuple[Candidate, Choice]]) -> list[Choice]:
    """First the best by worth less cost, then who is strictly better than the one before, then the rest."""
    if not ranked:
        return []
    first, reached = ranked[0][1], ranked[0][1].quality
    escalations: list[Choice] = []
    rest: list[Choice] = []
    for candidate, choice in ranked[1:]:
        if candidate.healthy and choice.quality > reached:
            escalations.append(choice)
            reached = choice.quality
        else:
            rest.append(choice)
    return [_as(first, "first"), *(_as(choice, "escalation") for choice in escalations), *rest]


def _as(choice: Choice, role: Role) -> Choice:
    return Choice(
        name=choice.name,
        quality=choice.quality,
        expected_cost_n=choice.expected_cost_n,
        ceiling_n=choice.ceiling_n,
        utility=choice.utility,
        role=role,
        why=choice.why,
    )
