"""Which budgets a request spends from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.agreement.budgets import MoneyScope, Payer, scopes_of, window
from mainstay.agreement.terms import Agreement, Budget
from mainstay.types import Mode

NOW = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
CAP_N = 10_000_000
ALICE = Payer(
    request_id="req_1", principal="user:alice", team=("group:finance", "group:staff"), key_id="key_7", release="rel_1"
)


def scopes(*budgets: Budget, payer: Payer = ALICE, now: datetime = NOW) -> dict[str, MoneyScope]:
    return {scope.scope_id: scope for scope in scopes_of(Agreement(budgets=budgets), payer, CAP_N, now)}


def test_the_request_is_a_scope_of_its_own() -> None:
    (only,) = scopes().values()
    assert (only.kind, only.name, only.limit_n, only.window_end) == ("request", "req_1", CAP_N, None)


def test_a_budget_for_each_kind_of_payer() -> None:
    found = scopes(
        Budget(of="service", per="month", usd="100"),
        Budget(of="team", per="day", usd="5"),
        Budget(of="user", per="day", usd="1"),
        Budget(of="key", per="total", usd="2", enter_mode=Mode.CACHED_ONLY),
    )
    assert sorted(found) == [
        "key/total:/key_7",
        "request//req_1",
        "service/month:2026-02-01/",
        "team/day:2026-02-28/group:finance",
        "team/day:2026-02-28/group:staff",
        "user/day:2026-02-28/user:alice",
    ]
    assert found["key/total:/key_7"].enter_mode is Mode.CACHED_ONLY
    assert found["user/day:2026-02-28/user:alice"].limit_n == 1_000_000_000


@pytest.mark.parametrize("name", ["alice", "user:alice"])
def test_a_name_narrows_down(name: str) -> None:
    one = Budget(of="user", per="day", usd="1", name=name)
    assert len(scopes(one)) == 2
    assert len(scopes(one, payer=Payer(request_id="r", principal="user:bob"))) == 1


def test_a_named_budget_does_not_lift_what_is_said_for_all() -> None:
    all_of_them, one = Budget(of="user", per="day", usd="1"), Budget(of="user", per="day", usd="5", name="alice")
    for given_ in ((all_of_them, one), (one, all_of_them)):
        assert scopes(*given_)["user/day:2026-02-28/user:alice"].limit_n == 1_000_000_000


def test_who_has_no_key_or_team_spends_from_none() -> None:
    anonymous = Payer(request_id="r", principal="anonymous")
    kinds = {
        scope.kind
        for scope in scopes(
            Budget(of="key", per="day", usd="1"),
            Budget(of="team", per="day", usd="1"),
            Budget(of="user", per="day", usd="1"),
            payer=anonymous,
        ).values()
    }
    assert kinds == {"request", "user"}


def test_windows_are_utc() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=9)))  # already March
    assert window("day", there) == window("day", NOW)
    assert window("month", there)[1] == datetime(2026, 3, 1, tzinfo=UTC)


@given(st.integers(0, 80_000 * 86_400))
def test_a_window_holds_its_moment_and_the_next_begins_at_its_end(second: int) -> None:
    now = datetime(1971, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    for per in ("day", "month"):
        start, end = window(per, now)
        assert end is not None
        assert start <= now < end
        assert window(per, end)[0] == end
        assert window(per, start)[0] == start


@given(st.lists(st.sampled_from(["service", "team", "user", "key"]), max_size=6), st.integers(0, 3))
def test_scopes_come_in_the_order_of_their_ids(kinds: list[str], limit: int) -> None:
    budgets = tuple(Budget(of=kind, per="day", usd=str(limit + n)) for n, kind in enumerate(kinds))  # type: ignore[arg-type]
    ids = [scope.scope_id for scope in scopes_of(Agreement(budgets=budgets), ALICE, CAP_N, NOW)]
    assert ids == sorted(set(ids))
