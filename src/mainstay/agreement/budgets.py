"""Which budgets a request spends from: each is a scope of money, a name, a window and the most that may be spent in it.

Windows are calendar days and months in UTC. Every budget that applies holds: a named one narrows down, it does not lift
what is said for all. The request itself is a scope too, with its cap as the limit, so that every attempt, retry, hedge
and judge call of one request together stays within it by construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from mainstay.agreement.terms import Agreement, Budget, Period
from mainstay.types import Mode

ScopeKind = Literal["request", "service", "team", "user", "key"]
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Payer:
    """On whose behalf one request spends. ``team`` holds every group it counts for (``group:NAME``); ``key_id`` the API
    key it came through, if any."""

    request_id: str
    principal: str
    team: tuple[str, ...] = ()
    key_id: str | None = None
    release: str = ""


SERVICE = "service:mainstay"
"""Who pays for what no question asked for: vectors of documents and of the cache."""


@dataclass(frozen=True, kw_only=True)
class MoneyScope:
    """What may be spent by somebody in one window, in nano-dollars. ``name`` is empty for the service; ``window_end`` is
    None where nothing begins anew. ``enter_mode`` is what happens when it is spent (None: the request's own cap)."""

    scope_id: str
    kind: ScopeKind
    name: str
    window_start: datetime
    window_end: datetime | None
    limit_n: int
    enter_mode: Mode | None = None


def scopes_of(agreement: Agreement, payer: Payer, cap_n: int, now: datetime) -> tuple[MoneyScope, ...]:
    """Every scope the payer's next call counts against, sorted by id: all who lock them do so in one order.

    Two budgets of the same payer and period are one scope with the smaller limit: both count the same money.
    """
    request = MoneyScope(
        scope_id=f"request//{payer.request_id}",
        kind="request",
        name=payer.request_id,
        window_start=now,
        window_end=None,
        limit_n=cap_n,
    )
    found = {request.scope_id: request}
    for budget in agreement.budgets:
        start, end = window(budget.per, now)
        for name in _payers(budget, payer):
            scope = MoneyScope(
                scope_id=f"{budget.of}/{budget.per}:{start.date() if end else ''}/{name}",
                kind=budget.of,
                name=name,
                window_start=start,
                window_end=end,
                limit_n=budget.limit_nanodollars,
                enter_mode=budget.enter_mode,
            )
            held = found.get(scope.scope_id)
            if held is None or scope.limit_n < held.limit_n:
                found[scope.scope_id] = scope
    return tuple(found[scope_id] for scope_id in sorted(found))


def window(per: Period, now: datetime) -> tuple[datetime, datetime | None]:
    """The calendar window (UTC) that ``now`` lies in; the end is the first moment after it, None for ``total``."""
    if per == "total":
        return _EVER, None
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return midnight, midnight + timedelta(days=1)
    first = midnight.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def _payers(budget: Budget, payer: Payer) -> Iterator[str]:
    """Whose money of this request a budget limits, by name."""
    if budget.of == "service":
        yield ""
        return
    mine: tuple[str, ...] = payer.team
    if budget.of == "user":
        mine = (payer.principal,)
    elif budget.of == "key":
        mine = () if payer.key_id is None else (payer.key_id,)
    # In the agreement people are named with or without what they are: "alice" or "user:alice".
    yield from (name for name in mine if budget.name in ("", name, name.partition(":")[2]))
