"""The second draft of a model, over a real server and a real ledger: what it tells, and what it costs when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support import upstream as up

from mainstay.agreement import Agreement
from mainstay.agreement.budgets import Payer
from mainstay.agreement.ledger import Purse
from mainstay.agreement.terms import Routing
from mainstay.answering.consistency import PURPOSE, Consistency, First, Second, said
from mainstay.clock import SystemClock
from mainstay.guard.citations import check_draft
from mainstay.models.calling import Facts, Switchboard
from mainstay.models.chat import ChatRequest, Message
from mainstay.models.price_list import told_price
from mainstay.models.providers import build_model
from mainstay.models.providers.wire import Wire
from mainstay.models.routing import MIN_SECONDS, Constraints, DraftLook, Router, Traits
from mainstay.records.traces import Attribute, Journey
from mainstay.settings import PriceSettings, ProviderSettings
from mainstay.storage.database import Address, open_database
from mainstay.storage.ledger import SqlLedger
from mainstay.types import Actor, Passage, Usage

CLOCK = SystemClock()
TEXT = "The gate in Rotterdam opens at seven. The gate in Rotterdam closes at nine."
PASSAGE = Passage(chunk="c", document="d", version="v", title="Gate", uri="u", text=TEXT, start=0, end=len(TEXT))
QUESTION = "When does the gate open on Mondays?"
DRAFT = "The gate in Rotterdam opens at seven [1]."
PRICES = {"small": PriceSettings(input="0.1", output="0.4"), "large": PriceSettings(input="2", output="8")}


class Fixed:
    """Qualities as told."""

    version = "fixed"

    def estimate(self, traits: Traits, model: str) -> float:
        return {"small": 0.6, "large": 0.9}[model]


@dataclass
class World:
    """Two models, a ledger, and a first draft of the small one that is in doubt."""

    ledger: SqlLedger
    board: Switchboard
    cap_n: int = 100_000_000
    left_s: float = 20.0

    def second(self, **look: float) -> tuple[Second | None, dict[str, Attribute]]:
        """What comes of it, and the step it left in the trace."""
        router = Router(Routing(value_usd="0.05"), Fixed())
        needs = Constraints(needs_tokens=500, max_output_tokens=300, cap_left_n=10**9)
        plan = router.plan(Traits(question=QUESTION), self.board.candidates(), needs)
        order = tuple(choice for name in ("small", "large") if (choice := plan.choice(name)))
        now = CLOCK.monotonic()
        first = First(
            model="small",
            request=ChatRequest(
                messages=(Message(role="user", content=QUESTION),), max_output_tokens=300, deadline=now + self.left_s
            ),
            passages=[PASSAGE],
            said=said(check_draft(DRAFT, {1: PASSAGE}, QUESTION)),
            usage=Usage(input_tokens=100, output_tokens=20),
            took_s=0.1,
        )
        doubt = DraftLook(
            supported_share=0.8,
            coverage=0.5,
            citations=1,
            finish="stop",
            spent_n=0,
            left_n=10**9,
            deadline_left_s=self.left_s,
            tried=("small",),
        )
        journey = Journey(CLOCK.new_id("req"), Actor(principal="user:alice"), "answer", CLOCK)
        payer = Payer(request_id=journey.request_id, principal="user:alice")
        purse = Purse(self.ledger, payer, Agreement(), self.cap_n, CLOCK, now + self.left_s)
        found = Consistency(self.board, CLOCK).of(
            first,
            replace(doubt, **look),  # type: ignore[arg-type]  # tests name fields
            replace(plan, order=order),
            router=router,
            question=QUESTION,
            purse=purse,
            journey=journey,
        )
        spans = [span for span in journey.trace("answered").spans if span.kind == "consistency"]
        assert len(spans) <= 1
        return found, dict(spans[0].attributes) if spans else {}


@contextmanager
def world(folder: Path, server: up.Upstream, *, takes_temperature: bool = True) -> Iterator[World]:
    database = open_database(Address(url=str(folder / "ledger.db")))
    try:
        with Wire() as wire:
            models = [
                build_model(
                    name,
                    ProviderSettings(
                        base_url=server.base_url, model=name, price=price, takes_temperature=takes_temperature
                    ),
                    wire,
                    told_price(price),
                )
                for name, price in PRICES.items()
            ]
            facts = {name: Facts(takes_temperature=takes_temperature) for name in PRICES}
            held = World(SqlLedger(database, CLOCK), Switchboard(models, CLOCK, facts=facts))
            yield held
            assert held.ledger.check() == []
            assert held.ledger.standing().open_n == 0
    finally:
        database.close()


def calls(held: World) -> dict[str, int]:
    return {row.name: row.calls for row in held.ledger.report(by="purpose")}


def test_the_same_said_again_agrees_and_is_booked_under_its_own_name(tmp_path: Path) -> None:
    with up.Upstream(up.good("At 7 the gate in Rotterdam opens [1].")) as server, world(tmp_path, server) as held:
        second, span = held.second()
        assert second is not None
        assert second.route == ("small:consistent",)
        assert second.agreement == span["agreement"]
        assert second.usage.output_tokens > 0
        assert calls(held) == {PURPOSE: 1}
        assert server.calls[0].body["temperature"] > 0
        assert server.calls[0].body["max_tokens"] <= 40, "a draft twice as long says something else"


def test_a_draft_without_a_source_does_not_agree(tmp_path: Path) -> None:
    with up.Upstream(up.good("The documents do not say [0].")) as server, world(tmp_path, server) as held:
        second, _ = held.second()
        assert second is not None
        assert (second.agreement, second.route) == (0.0, ("small:inconsistent",))


def test_alike_to_the_word_tells_nothing_where_nobody_can_ask_for_chance(tmp_path: Path) -> None:
    with (
        up.Upstream(up.good(DRAFT), up.good("At 7 the gate in Rotterdam opens [1].")) as server,
        world(tmp_path, server, takes_temperature=False) as held,
    ):
        second, span = held.second()
        assert second is not None
        assert (second.agreement, second.route, span["agreement"]) == (None, (), None)
        assert "temperature" not in server.calls[0].body
        other, _ = held.second()
        assert other is not None
        assert other.route == ("small:consistent",), "in other words it does"


def test_a_draft_that_was_cut_at_its_limit_tells_nothing_and_is_paid(tmp_path: Path) -> None:
    with up.Upstream(up.good(DRAFT, reason="length")) as server, world(tmp_path, server) as held:
        second, _ = held.second()
        assert second is not None
        assert (second.agreement, second.route) == (None, ())
        assert second.usage.output_tokens > 0


def test_a_model_that_falls_silent_is_not_waited_for_beyond_its_time(tmp_path: Path) -> None:
    with up.Upstream(always=up.silent()) as server, world(tmp_path, server) as held:
        held.left_s = MIN_SECONDS + 0.6
        second, span = held.second()
        assert second is None
        assert span["failed"] in ("deadline", "silent")
        assert len(server.calls) == 1


def test_what_is_left_elsewhere_is_looked_at_before_and_nothing_is_called(tmp_path: Path) -> None:
    with up.Upstream() as server, world(tmp_path, server) as held:
        held.cap_n = 100_000  # pays for the small model, not for the large one beside it
        second, span = held.second()
        assert second is None
        assert span["skipped"] == "a budget is nearly spent"
        second, span = held.second(supported_share=1.0, coverage=1.0)
        assert (second, span) == (None, {}), "a good draft leaves no trace of it"
        assert server.calls == []
        assert calls(held) == {}
