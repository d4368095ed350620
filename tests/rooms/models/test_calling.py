"""One call of a model with everything around it: money, breaker, limit, hedge; against a real server and a real ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support import upstream as up

from mainstay.agreement import Agreement
from mainstay.agreement.budgets import Payer
from mainstay.agreement.ledger import Purse, Spent
from mainstay.clock import SystemClock
from mainstay.models.calling import Switchboard
from mainstay.models.chat import ChatRequest, Delta, Done, Event, FailureKind, Message, ModelFailure
from mainstay.models.price_list import told_price
from mainstay.models.providers import build_model
from mainstay.models.providers.wire import Wire
from mainstay.settings import PriceSettings, ProviderSettings
from mainstay.storage.database import Address, open_database
from mainstay.storage.ledger import SqlLedger

CLOCK = SystemClock()
PRICE = PriceSettings(input="1", output="1")


class World:
    """A switchboard with one model, and a purse."""

    def __init__(self, ledger: SqlLedger, board: Switchboard) -> None:
        self.ledger, self.board = ledger, board

    def purse(self, cap_n: int = 10_000_000) -> Purse:
        payer = Payer(request_id=CLOCK.new_id("req"), principal="user:alice")
        return Purse(self.ledger, payer, Agreement(), cap_n, CLOCK, CLOCK.monotonic() + 10)

    def ask(self, purse: Purse, *, most: int = 256) -> Iterator[Event]:
        request = ChatRequest(
            messages=(Message(role="user", content="Hello"),), max_output_tokens=most, deadline=CLOCK.monotonic() + 10
        )
        return self.board.call("m", request, purse)

    def told(self, purse: Purse, *, most: int = 256) -> tuple[str, Done]:
        events = list(self.ask(purse, most=most))
        assert isinstance(events[-1], Done)
        return "".join(event.text for event in events if isinstance(event, Delta)), events[-1]


@contextmanager
def world(
    folder: Path, server: up.Upstream, *, hedge_share: float = 0.0, first_token_s: float = 5.0
) -> Iterator[World]:
    database = open_database(Address(url=str(folder / "ledger.db")))
    provider = ProviderSettings(base_url=server.base_url, model="m", price=PRICE, first_token_s=first_token_s)
    try:
        with Wire() as wire:
            board = Switchboard([build_model("m", provider, wire, told_price(PRICE))], CLOCK, hedge_share=hedge_share)
            held = World(SqlLedger(database, CLOCK), board)
            yield held
            assert held.ledger.check() == []
            until = time.monotonic() + 5
            while held.ledger.standing().open_n and time.monotonic() < until:
                time.sleep(0.02)  # a second copy that lost settles by itself
            assert held.ledger.standing().open_n == 0
    finally:
        database.close()


def test_a_call_is_held_for_and_settled_at_what_was_told(tmp_path: Path) -> None:
    with up.Upstream(up.good("Hello there.")) as server, world(tmp_path, server) as held:
        purse = held.purse()
        text, done = held.told(purse)
        assert text == "Hello there."
        assert done.usage is not None
        assert purse.spent_n == 1000 * (done.usage.input_tokens + done.usage.output_tokens)  # a dollar a million


def test_the_output_limit_is_what_the_cap_pays(tmp_path: Path) -> None:
    with up.Upstream(always=up.good("Yes.")) as server, world(tmp_path, server) as held:
        held.told(held.purse(cap_n=300_000), most=4000)
        asked = server.calls[0].body["max_tokens"]
        assert 32 <= asked < 300


def test_a_server_that_does_not_stop_is_stopped(tmp_path: Path) -> None:
    with up.Upstream(always=up.endless()) as server, world(tmp_path, server) as held:
        purse = held.purse()
        text, done = held.told(purse, most=40)
        assert done.reason == "length"
        assert len(text) < 40 * 16 + 100
        row = held.ledger.report(by="model")[0]
        assert (row.breaches, row.estimated) == (0, 1)


def test_no_money_no_call(tmp_path: Path) -> None:
    with up.Upstream() as server, world(tmp_path, server) as held:
        with pytest.raises(Spent):
            held.told(held.purse(cap_n=1000))
        assert server.calls == []


def test_who_leaves_in_the_middle_pays_for_what_was_said(tmp_path: Path) -> None:
    with (
        up.Upstream(always=up.slow("one two three four five six", gap=0.05)) as server,
        world(tmp_path, server) as held,
    ):
        purse = held.purse()
        events = held.ask(purse)
        next(events)
        events.close()  # type: ignore[attr-defined] # a generator
        assert purse.spent_n > 0
        assert held.board.breakers.states()["m"] == "closed"


def test_a_wrong_key_is_an_alarm_and_not_asked_again_at_once(tmp_path: Path) -> None:
    with up.Upstream(always=up.status(401, code="authentication_error")) as server, world(tmp_path, server) as held:
        purse = held.purse()
        with pytest.raises(ModelFailure) as caught:
            held.told(purse)
        assert caught.value.kind is FailureKind.AUTH
        assert held.board.alarms == ("m",)
        assert not held.board.candidates()[0].healthy
        assert purse.spent_n == 0
        assert held.board.breakers.states()["m"] == "closed", "the provider is not to blame"


def test_a_passing_failure_is_tried_once_more_before_anything_was_said(tmp_path: Path) -> None:
    script = (up.status(500), up.good("Hello."))
    with up.Upstream(*script) as server, world(tmp_path, server) as held:
        assert held.told(held.purse())[0] == "Hello."
        assert len(server.calls) == 2


def test_a_late_first_token_is_hedged_once_and_both_are_paid(tmp_path: Path) -> None:
    quick = [up.good("Hello.")] * 40
    with (
        up.Upstream(*quick, up.slow("Late.", first=3), always=up.good("Second.")) as server,
        world(tmp_path, server, hedge_share=0.2) as held,
    ):
        for _ in quick:
            held.told(held.purse())
        text, _ = held.told(held.purse())
        assert text == "Second."
        purposes = {row.name: row.calls for row in held.ledger.report(by="purpose")}
        assert purposes["hedge"] >= 1  # on a machine that stalls, more
        assert purposes["answer"] == len(quick) + 1
        assert len(server.calls) == purposes["hedge"] + purposes["answer"]


def test_without_a_hedge_budget_there_is_no_second_copy(tmp_path: Path) -> None:
    with (
        up.Upstream(*[up.good("Hello.")] * 30, up.slow("Late.", first=1)) as server,
        world(tmp_path, server) as held,
    ):
        for _ in range(30):
            held.told(held.purse())
        assert held.told(held.purse())[0] == "Late."
        assert len(server.calls) == 31


def test_three_failures_in_a_row_pause_a_lone_model(tmp_path: Path) -> None:
    with up.Upstream(always=up.status(503)) as server, world(tmp_path, server) as held:
        for _ in range(6):
            with pytest.raises(ModelFailure):
                held.told(held.purse())
        assert len(server.calls) == 3
        candidate = held.board.candidates()[0]
        assert not candidate.healthy
        assert 0 < candidate.opens_in_s <= 60
