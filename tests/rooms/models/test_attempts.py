"""A journey is told of each attempt of a call: what failed, what was tried again, what ran beside, and what each cost."""

from __future__ import annotations

import time
from pathlib import Path

from tests.rooms.models.test_calling import CLOCK, World, world
from tests.support import upstream as up

from mainstay.models.chat import ChatRequest, Message
from mainstay.records.traces import Journey, Span
from mainstay.types import Actor


def attempts(held: World, *, calls: int = 1) -> tuple[list[Span], int]:
    """The attempts of the last of these calls, and what its purse paid."""
    for _ in range(calls):
        purse = held.purse()
        journey = Journey(CLOCK.new_id("req"), Actor(principal="user:alice"), "answer", CLOCK)
        request = ChatRequest(
            messages=(Message(role="user", content="Hello"),), max_output_tokens=64, deadline=CLOCK.monotonic() + 10
        )
        list(held.board.call("m", request, purse, journey=journey))
    until = time.monotonic() + 5
    while held.ledger.standing().open_n and time.monotonic() < until:
        time.sleep(0.02)  # a second copy that lost tells of itself once it has settled
    time.sleep(0.05)
    journey.span("generate")
    generate, *parts = journey.trace("answered").spans
    assert all(part.parent_id == generate.span_id and part.kind == "generate" for part in parts)
    return parts, purse.spent_n


def test_what_was_tried_again(tmp_path: Path) -> None:
    with up.Upstream(up.status(500), up.good("Hello.")) as server, world(tmp_path, server) as held:
        (first, second), spent = attempts(held)
        assert (first.name, first.status, bool(first.error_class)) == ("answer", "error", True)
        assert (second.name, second.status) == ("retry", "ok")
        assert second.attributes["first_ms"] > 0
        assert second.attributes["cost_nanodollars"] > 0
        assert spent == sum(part.attributes["cost_nanodollars"] for part in (first, second))
        assert second.start_ms >= first.end_ms


def test_what_ran_beside(tmp_path: Path) -> None:
    quick = [up.good("Hello.")] * 40
    with (
        up.Upstream(*quick, up.slow("Late.", first=3), always=up.good("Second.")) as server,
        world(tmp_path, server, hedge_share=0.2) as held,
    ):
        parts, _ = attempts(held, calls=len(quick) + 1)
        hedge = next(part for part in parts if part.name == "hedge")
        assert hedge.attributes["whole"] is True
        late = [part for part in parts if part.name == "answer"]
        assert all(not part.attributes["whole"] for part in late)
        assert all(part.start_ms < hedge.start_ms for part in late)
