"""One request's money, over a real ledger; and the ways in which others lost count, each by its name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mainstay.agreement.budgets import MoneyScope, Payer, scopes_of
from mainstay.agreement.ledger import Backlog, Booked, Hold, Purse, Spent
from mainstay.agreement.terms import Agreement, Budget
from mainstay.clock import FixedClock
from mainstay.errors import Invalid, Unavailable
from mainstay.storage.database import Address, open_database
from mainstay.storage.ledger import SqlLedger
from mainstay.types import Usage

CAP_N = 1000
USAGE = Usage(input_tokens=100, cached_input_tokens=60, output_tokens=20)
FREE = Agreement()


class SometimesAway:
    """A ledger that can be out of reach."""

    def __init__(self, ledger: SqlLedger) -> None:
        self._ledger = ledger
        self.away = False

    def __getattr__(self, name: str) -> Any:
        def asked(*given: Any, **more: Any) -> Any:
            if self.away:
                raise Unavailable("the database does not answer")
            return getattr(self._ledger, name)(*given, **more)

        return asked


class World:
    """A ledger in a file, and a clock that stands."""

    def __init__(self, folder: Path) -> None:
        self.clock = FixedClock()
        self.database = open_database(Address(url=str(folder / "mainstay.db")))
        self.sql = SqlLedger(self.database, self.clock)
        self.ledger: Any = SometimesAway(self.sql)

    def purse(
        self,
        agreement: Agreement = FREE,
        *,
        request: str = "req_1",
        user: str = "user:alice",
        cap_n: int = CAP_N,
        backlog: Backlog | None = None,
    ) -> Purse:
        payer = Payer(request_id=request, principal=user, team=("group:staff",), key_id="key_1", release="rel_1")
        deadline = self.clock.monotonic() + 30
        return Purse(self.ledger, payer, agreement, cap_n, self.clock, deadline, backlog=backlog)

    def booked(self, kind: str) -> Booked:
        found = [booked for scope_id, booked in self.sql.totals().items() if scope_id.startswith(f"{kind}/")]
        return Booked(settled_n=sum(b.settled_n for b in found), held_n=sum(b.held_n for b in found))

    def audit(self) -> None:
        assert self.sql.check() == []
        assert self.sql.totals() == self.sql.replayed()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.audit()
    made.database.close()


def hold(purse: Purse, least_n: int, most_n: int, purpose: str = "answer") -> Hold:
    return purse.hold(least_n, most_n, purpose, "small", "p1")


def budget(of: Any, amount_n: int, per: Any = "day", **more: Any) -> Agreement:
    return Agreement(budgets=(Budget(of=of, per=per, usd=f"{amount_n / 1e9:.9f}", **more),))


def together(count: int, do: Callable[[int], object]) -> list[object]:
    """What each of so many threads got, or the error it met, when all begin at once."""
    gate = threading.Barrier(count)

    def one(n: int) -> object:
        gate.wait()
        try:
            return do(n)
        except (Spent, Unavailable) as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def granted(results: list[object]) -> list[Hold]:
    return [result for result in results if isinstance(result, Hold)]


# -- one request's money -----------------------------------------------------------------------------------------------
def test_a_hold_is_what_is_left_at_most(world: World) -> None:
    purse = world.purse()
    first = hold(purse, 1, 700)
    assert (first.amount_n, purse.left()) == (700, 300)
    assert hold(purse, 1, 700).amount_n == 300
    with pytest.raises(Spent) as refused:
        hold(purse, 1, 700)
    assert (refused.value.scope.kind, refused.value.left_n) == ("request", 0)


def test_what_was_not_spent_is_there_again(world: World) -> None:
    purse = world.purse()
    purse.settle(hold(purse, 1, 700), actual_n=150, usage=USAGE)
    assert (purse.spent_n, purse.left()) == (150, 850)
    purse.cancel(hold(purse, 850, 850), charged_n=50)
    assert (purse.spent_n, purse.left(), world.booked("request")) == (200, 800, Booked(settled_n=200))


def test_less_than_the_least_is_refused_before_the_ledger_is_asked(world: World) -> None:
    purse = world.purse()
    hold(purse, 1, 900)
    world.ledger.away = True
    with pytest.raises(Spent):
        hold(purse, 101, 500)


def test_a_stream_is_to_be_stopped_when_its_hold_is_spent(world: World) -> None:
    held = hold(world.purse(), 1, 700)
    assert held.pays(700)
    assert not held.pays(701)


def test_a_hold_lasts_as_long_as_its_request_may(world: World) -> None:
    held = hold(world.purse(), 1, 1)
    assert held.expires - world.clock.now() == timedelta(seconds=90)


@pytest.mark.parametrize(("least_n", "most_n"), [(-1, 5), (6, 5)])
def test_an_amount_that_can_not_be(world: World, least_n: int, most_n: int) -> None:
    with pytest.raises(Invalid):
        hold(world.purse(), least_n, most_n)


def test_no_call_can_have_cost_less_than_nothing(world: World) -> None:
    purse = world.purse()
    held = hold(purse, 1, 5)
    with pytest.raises(Invalid):
        purse.settle(held, actual_n=-1, usage=USAGE)
    purse.cancel(held)


def test_without_the_ledger_no_call_is_made(world: World) -> None:
    purse = world.purse()
    world.ledger.away = True
    with pytest.raises(Unavailable):
        hold(purse, 1, 700)
    world.ledger.away = False
    assert hold(purse, 1000, 1000).amount_n == 1000  # nothing stayed held on this side


def test_what_can_not_be_booked_now_is_booked_later(world: World) -> None:
    backlog = Backlog(world.ledger)
    purse = world.purse(backlog=backlog)
    paid, broken_off = hold(purse, 1, 400), hold(purse, 1, 400)
    world.ledger.away = True
    purse.settle(paid, actual_n=300, usage=USAGE)
    purse.cancel(broken_off, charged_n=7)
    assert (len(backlog), backlog.flush(), purse.spent_n) == (2, 0, 307)
    world.ledger.away = False
    assert (backlog.flush(), len(backlog), backlog.flush()) == (2, 0, 0)
    assert world.booked("request") == Booked(settled_n=307)


def test_a_backlog_is_bounded(world: World) -> None:
    backlog = Backlog(world.ledger, most=2)
    purse = world.purse(backlog=backlog)
    held = [hold(purse, 1, 10) for _ in range(3)]
    world.ledger.away = True
    for one in held:
        purse.settle(one, actual_n=1, usage=USAGE)
    assert (len(backlog), backlog.dropped) == (2, 1)


def test_without_a_backlog_who_could_not_settle_settles_again(world: World) -> None:
    purse = world.purse()
    held = hold(purse, 1, 400)
    world.ledger.away = True
    with pytest.raises(Unavailable):
        purse.settle(held, actual_n=300, usage=USAGE)
    world.ledger.away = False
    purse.settle(held, actual_n=300, usage=USAGE)
    assert (purse.spent_n, world.booked("request")) == (300, Booked(settled_n=300))


class Generous:
    """A ledger that gives whatever it is asked for, once all have asked."""

    def __init__(self, clock: FixedClock, asking: int) -> None:
        self._clock, self._gate = clock, threading.Barrier(asking)

    def reserve(self, payer: Payer, scopes: tuple[MoneyScope, ...], **asked: Any) -> Hold:
        self._gate.wait(timeout=10)
        now = self._clock.now()
        return Hold(
            hold_id=self._clock.new_id("hold"),
            amount_n=asked["most_n"],
            expires=now,
            scopes=scopes,
            payer=payer,
            purpose=asked["purpose"],
            model=asked["model"],
            price_version=asked["price_version"],
            created=now,
        )


def test_the_cap_holds_whatever_the_ledger_says(world: World) -> None:
    """The purse counts what its calls are asking for at this moment, too."""
    world.ledger = Generous(world.clock, 4)
    purse = world.purse()
    held = granted(together(8, lambda _: hold(purse, 50, 300)))
    assert sorted(one.amount_n for one in held) == [100, 300, 300, 300]


# -- where others lost count -------------------------------------------------------------------------------------------
def test_session_cap_bypassed_by_concurrency(world: World) -> None:
    """Hedges and judges of one request at once, in one process and in several: the cap pays for three."""
    purses = [world.purse(), world.purse()]  # the second is another process that resumed the same request
    held = granted(together(12, lambda n: hold(purses[n % 2], 300, 300)))
    assert len(held) == 3
    assert world.booked("request").held_n == 900
    one = world.purse(request="req_2")
    assert len(granted(together(12, lambda _: hold(one, 300, 300)))) == 3


def test_counter_doubled_under_load(world: World) -> None:
    """Every settlement sent twice, and by two threads at once: it counts once."""
    agreement = budget("service", 10_000_000)
    purses = [world.purse(agreement, request=f"req_{n}") for n in range(8)]
    held = [hold(purse, 100, 100) for purse in purses]
    together(16, lambda n: world.sql.settle(held[n % 8], actual_n=70, usage=USAGE, estimated=False))
    assert world.booked("service") == Booked(settled_n=560)
    assert world.sql.standing().holds == {"settled": 8}


def test_leaked_reservation(world: World) -> None:
    """A process dies with everything held: when the time is over the money is there, though nobody swept."""
    agreement = budget("user", 1000)
    hold(world.purse(agreement), 1000, 1000)
    with pytest.raises(Spent) as refused:
        hold(world.purse(agreement, request="req_2"), 1, 500)
    assert refused.value.scope.kind == "user"
    world.clock.advance(timedelta(seconds=91))
    assert world.purse(agreement, request="req_3").left() == 1000
    assert hold(world.purse(agreement, request="req_4"), 1000, 1000).amount_n == 1000


def test_tier_prices_ignored(world: World) -> None:
    """A price tier made the call dearer than was thought: the truth is booked, counted, and felt by the next call."""
    agreement = budget("user", 1000)
    purse = world.purse(agreement)
    purse.settle(hold(purse, 1, 450), actual_n=600, usage=USAGE)
    assert world.booked("user") == Booked(settled_n=600)
    standing = world.sql.standing()
    assert (standing.breaches, standing.breached_n) == (1, 150)
    assert hold(world.purse(agreement, request="req_2"), 1, 1000).amount_n == 400


def test_cached_tokens_mispriced(world: World) -> None:
    """What the price says is booked as it is; cached tokens are told apart, and never added to what went in."""
    purse = world.purse()
    purse.settle(hold(purse, 1, 450), actual_n=123, usage=USAGE)
    (row,) = world.sql.report(by="model")
    assert (row.input_tokens, row.cached_tokens, row.output_tokens, row.cost_n) == (100, 60, 20, 123)


def test_stream_usage_replaced_by_estimate(world: World) -> None:
    """The provider's own count came first; an estimate that follows, from a cut-off stream, changes nothing."""
    purse = world.purse()
    held = hold(purse, 1, 450)
    world.sql.settle(held, actual_n=123, usage=USAGE, estimated=False)
    world.sql.settle(held, actual_n=450, usage=Usage(output_tokens=999), estimated=True)
    world.sql.cancel(held, charged_n=450)
    (row,) = world.sql.report(by="model")
    assert (row.cost_n, row.output_tokens, row.estimated) == (123, 20, 0)
    other = hold(purse, 1, 100)
    purse.settle(other, actual_n=100, usage=Usage(), estimated=True)
    assert world.sql.report(by="model")[0].estimated == 1


def test_post_paid_burst(world: World) -> None:
    """Fifty at once, before any of them has cost anything: only as many go as the budget pays for."""
    agreement = budget("team", 500)
    held = granted(together(50, lambda n: hold(world.purse(agreement, request=f"req_{n}"), 100, 100)))
    assert len(held) == 5
    assert world.booked("team").held_n == 500


def test_budget_split_over_replicas(world: World) -> None:
    """Each replica keeps no count of its own: what one spends is gone for the other at once."""
    agreement = budget("user", 1000)
    other = SqlLedger(world.database, world.clock)
    purse = world.purse(agreement)
    purse.settle(hold(purse, 1, 900), actual_n=900, usage=USAGE)
    payer = Payer(request_id="req_2", principal="user:alice")
    assert other.left(scopes_of(agreement, payer, CAP_N, world.clock.now())) == 100


def test_zero_cost_models_blocked_by_a_spent_budget(world: World) -> None:
    agreement = budget("user", 100)
    purse = world.purse(agreement)
    purse.settle(hold(purse, 100, 100), actual_n=100, usage=USAGE)
    free = hold(purse, 0, 0)
    assert (free.amount_n, purse.left()) == (0, 0)
    purse.settle(free, actual_n=0, usage=USAGE)
    (row,) = world.sql.report(by="user")
    assert (row.calls, row.cost_n) == (2, 100)


def test_missing_output_limit_reserved_everything(world: World) -> None:
    """A call that says no limit of its own holds its request's cap, and leaves the user's budget to the others."""
    agreement = budget("user", 3 * CAP_N)
    assert hold(world.purse(agreement), 1, 10**15).amount_n == CAP_N
    assert hold(world.purse(agreement, request="req_2"), 1, 10**15).amount_n == CAP_N


def test_a_rule_fires_before_the_budget_is_spent(world: World) -> None:
    """The last nano-dollar of a budget can be spent, and not one more."""
    agreement = budget("service", 1000)
    purse = world.purse(agreement)
    purse.settle(hold(purse, 999, 999), actual_n=999, usage=USAGE)
    assert hold(world.purse(agreement, request="req_2"), 1, 1).amount_n == 1
    with pytest.raises(Spent):
        hold(world.purse(agreement, request="req_3"), 1, 1)


def test_a_hold_stays_in_the_window_it_was_made_in(world: World) -> None:
    agreement = budget("user", 1000)
    world.clock.advance(timedelta(hours=23, minutes=59, seconds=50))
    purse = world.purse(agreement)
    held = hold(purse, 1000, 1000)
    world.clock.advance(timedelta(seconds=20))
    assert hold(world.purse(agreement, request="req_2"), 1000, 1000).amount_n == 1000  # a new day
    purse.settle(held, actual_n=1000, usage=USAGE)
    days = {scope_id: booked for scope_id, booked in world.sql.totals().items() if scope_id.startswith("user/")}
    assert days == {
        "user/day:2026-01-01/user:alice": Booked(settled_n=1000),
        "user/day:2026-01-02/user:alice": Booked(held_n=1000),
    }


# -- what is said ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("of", "per", "after_s"), [("user", "day", 86_400), ("team", "month", 31 * 86_400), ("key", "total", 86_400)]
)
def test_who_is_refused_hears_when_to_come_back_and_no_name(world: World, of: Any, per: Any, after_s: float) -> None:
    agreement = budget(of, 100, per)
    hold(world.purse(agreement), 100, 100)
    with pytest.raises(Spent) as refused:
        hold(world.purse(agreement, request="req_2"), 1, 1)
    said = refused.value.line()
    assert of in said or of == "user"
    assert not any(name in said for name in ("alice", "staff", "key_1", "req_"))
    assert refused.value.retry_after_s == after_s
    assert refused.value.http_status == 429
