"""A second draft by the same model, where that is cheaper than asking a better one: does it say the same again?

It is wanted only where it decides (``Router.second``), pays from the request's own purse, and is never shown. When it
fails, or there is no money or time for it, the first draft is judged as if nobody had thought of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mainstay.agreement.ledger import Purse, Spent
from mainstay.errors import Unavailable
from mainstay.guard.citations import CheckedDraft, check_draft
from mainstay.guard.rendering import plain
from mainstay.models.calling import MIN_OUTPUT_TOKENS, Switchboard
from mainstay.models.chat import ChatRequest, ModelFailure, collected
from mainstay.models.routing import AGREES, MIN_SECONDS, DraftLook, Plan, Router, Said, agreement
from mainstay.records.traces import Journey
from mainstay.types import Clock, Passage, Usage

PURPOSE = "consistency"
TEMPERATURE = 0.7
"""Warm enough that a guess comes out differently; a server that takes none samples as it always does."""
LONGER = 2
"""A second draft may be so many times as long as the first, and take so many times as long: more is not the same again."""
LEAST_S = 5.0  # what it may take in any case, if there is time


@dataclass(frozen=True, kw_only=True)
class First:
    """The draft in question: who wrote it from what, what was kept of it, what it took (seconds)."""

    model: str
    request: ChatRequest
    passages: Sequence[Passage]
    said: Said
    usage: Usage
    took_s: float


@dataclass(frozen=True, kw_only=True)
class Second:
    """How much the second draft says the same (0 to 1; None: it tells nothing), a word for the route, and its tokens."""

    agreement: float | None
    route: tuple[str, ...]
    usage: Usage


class Consistency:
    """Asks the same model once more. Safe to use from several threads."""

    def __init__(self, switchboard: Switchboard, clock: Clock) -> None:
        self._board, self._clock = switchboard, clock

    def of(
        self,
        first: First,
        look: DraftLook,
        plan: Plan,
        *,
        router: Router,
        question: str,
        purse: Purse,
        journey: Journey,
    ) -> Second | None:
        """The second draft compared with the first; None when there is none. Errors: none of a model's, of money or the ledger."""
        name, model = first.model, self._board.model(first.model)
        request = self._request(first)
        wanted = router.second(plan, look, ceiling_n=model.price.ceiling(request), took_s=first.took_s)
        if wanted is None:
            return None
        obstacle = wanted.obstacle or self._short(purse, wanted.needs_n)
        if obstacle:
            journey.span(PURPOSE, model=name, skipped=obstacle)
            return None
        try:
            call = self._board.call(name, request, purse, purpose=PURPOSE, journey=journey)
            came = collected(call, where=f"model {name}")
        except (ModelFailure, Spent, Unavailable) as error:
            failed = str(error.kind) if isinstance(error, ModelFailure) else type(error).__name__
            journey.span(PURPOSE, error=failed, model=name, failed=failed)
            return None
        checked = check_draft(plain(came.text), dict(enumerate(first.passages, 1)), question)
        again = said(checked)
        found = agreement(first.said, again, question) if came.reason == "stop" else None
        if again.text == first.said.text and not self._board.takes_temperature(name):
            found = None  # perhaps it always says the same: that proves nothing
        bound = Usage(input_tokens=request.input_token_bound, output_tokens=request.max_output_tokens)
        usage = came.usage or bound
        journey.span(
            PURPOSE,
            model=name,
            agreement=found,
            finish=came.reason,
            citations=len(again.citations),
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            estimated=came.usage is None,
        )
        word = "consistent" if found is not None and found >= AGREES else "inconsistent"
        return Second(agreement=found, route=() if found is None else (f"{name}:{word}",), usage=usage)

    def _request(self, first: First) -> ChatRequest:
        """The same once more, warmer, no longer than makes sense, and over while a better model can still be asked."""
        asked, now = first.request, self._clock.monotonic()
        return replace(
            asked,
            temperature=TEMPERATURE,
            max_output_tokens=min(asked.max_output_tokens, max(MIN_OUTPUT_TOKENS, LONGER * first.usage.output_tokens)),
            deadline=min(asked.deadline - max(MIN_SECONDS, first.took_s), now + max(LEAST_S, LONGER * first.took_s)),
        )

    def _short(self, purse: Purse, needs_n: int) -> str:
        """Why the budgets beyond the request's own cap do not pay for it; empty when they do."""
        try:
            return "" if purse.left() >= needs_n else "a budget is nearly spent"
        except Unavailable:
            return "the ledger is out of reach"


def said(checked: CheckedDraft) -> Said:
    """What is kept of a draft, for comparison."""
    kept = " ".join(sentence.text for sentence in checked.sentences if sentence.kept)
    return Said(text=kept, citations=checked.citations)
