"""Money: held before a paid call is made, settled once after it, on every budget it counts against at the same time.

A call may cost what was held for it and no more, because its output limit is made from the hold: so what is settled and
what is held together never exceed a limit, however many calls run at once in however many processes. The one way over a
limit is a call that cost more than its hold (a breach): the truth is booked and counted.

The life of a hold::

    reserve -> open -> settled      the call ended; what it cost is booked (more than the hold: a breach)
                    -> cancelled    the call was not made, or ended early; what it cost meanwhile is booked
                    -> expired      nobody settled it in time (its process died): the money is free again
                                    -> late    it is settled after all: booked, never dropped

An expired hold is released and not booked as spent, since nobody knows whether the call was made; a process that lives
settles late. Windows: a hold stays in the window in which it was made.

The design follows two-phase reservations of payment systems; all amounts are integers, nano-dollars.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from mainstay.agreement.budgets import MoneyScope, Payer, scopes_of
from mainstay.agreement.terms import Agreement
from mainstay.errors import Exhausted, Invalid, Unavailable
from mainstay.types import Clock, Usage

GRACE_S = 60.0
"""How long after its request's deadline a hold expires: the call is aborted at the deadline, so it can not be running; and
machines' clocks differ a little."""
NEVER_AGAIN_S = 86_400.0
"""What is said to who asks when a limit without an end will have room: look again tomorrow."""
BACKLOG = 100_000
AUDIT = "audit"
"""The purpose of calls that answer a question anew beside, to know whether the cache was right."""

HoldState = Literal["open", "settled", "cancelled", "expired", "late"]
Axis = Literal["day", "user", "team", "key", "model", "release", "purpose", "outcome"]
AXES: tuple[Axis, ...] = ("day", "user", "team", "key", "model", "release", "purpose", "outcome")
_WHOSE = {
    "request": "what this request may cost is spent",
    "service": "the service's budget is spent",
    "team": "your team's budget is spent",
    "user": "your budget is spent",
    "key": "this key's budget is spent",
}


class Spent(Exhausted):
    """A limit has no room for the call. ``scope`` says which, ``left_n`` what is left of it (nano-dollars).

    The message names the kind of the scope and nobody: it may be shown to the asker.
    """

    def __init__(self, scope: MoneyScope, left_n: int, now: datetime) -> None:
        if scope.kind == "request":
            after, fix = 1.0, "ask something shorter, or raise request.cap_usd in agreement.yaml"
        elif scope.window_end is None:
            after, fix = NEVER_AGAIN_S, "raise it under budgets in agreement.yaml"
        else:
            after = max(1.0, (scope.window_end - now).total_seconds())
            fix = f"it begins anew at {scope.window_end:%Y-%m-%d %H:%M} UTC"
        super().__init__(_WHOSE[scope.kind], where="money", fix=fix, retry_after_s=after)
        self.scope, self.left_n = scope, left_n


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Money set aside for one call: the call may cost ``amount_n`` at most. Zero: a call that is free."""

    hold_id: str
    amount_n: int
    expires: datetime
    scopes: tuple[MoneyScope, ...]
    payer: Payer
    purpose: str
    model: str
    price_version: str
    created: datetime

    def pays(self, cost_n: int) -> bool:
        """Whether a call that has cost this much so far may go on."""
        return cost_n <= self.amount_n


@dataclass(frozen=True, kw_only=True)
class Booked:
    """What stands on one scope: spent, and set aside for calls that run."""

    settled_n: int = 0
    held_n: int = 0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How the ledger stands, in counts of holds and nano-dollars: for metrics.

    ``breaches`` cost more than was held, by ``breached_n`` together; ``overdue`` are open past their time: nobody swept.
    """

    holds: Mapping[HoldState, int]
    open_n: int
    overdue: int
    breaches: int
    breached_n: int
    late_n: int


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """What one day, user, ... cost. ``requests`` counts those that called a model, ``answered`` those of them that ended
    with an answer; ``cached_tokens`` are among ``input_tokens``; ``held_n`` is set aside still; ``lost`` calls were never
    settled; ``estimated`` ones were settled without the provider's own count."""

    name: str
    requests: int
    answered: int
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_n: int
    held_n: int = 0
    estimated: int = 0
    breaches: int = 0
    late: int = 0
    lost: int = 0

    @property
    def per_answered_n(self) -> int | None:
        """What one solved case cost, rounded up; None when none was."""
        return -(-self.cost_n // self.answered) if self.answered else None


@dataclass(frozen=True, kw_only=True)
class LedgerLine:
    """One call as the ledger has it: what was set aside for it and what it cost (nano-dollars). ``state`` is that
    of its hold."""

    hold_id: str
    purpose: str
    model: str
    state: str
    held_n: int
    settled_n: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    estimated: bool
    prices: str
    at: datetime
    closed: datetime | None


@dataclass(frozen=True, kw_only=True)
class PurseLine:
    """One budget of somebody in the window that runs now, in nano-dollars. ``until`` is None where nothing begins anew."""

    kind: str
    name: str
    since: datetime
    until: datetime | None
    limit_n: int
    settled_n: int
    held_n: int

    @property
    def left_n(self) -> int:
        return self.limit_n - self.settled_n - self.held_n

    @property
    def left(self) -> float:
        """The share that is left; below 0 when overspent."""
        return self.left_n / self.limit_n if self.limit_n else 0.0


class Ledger(Protocol):
    """Where money is booked. Errors: Unavailable when it is out of reach: then no paid call is made."""

    def reserve(
        self,
        payer: Payer,
        scopes: Sequence[MoneyScope],
        *,
        least_n: int,
        most_n: int,
        purpose: str,
        model: str,
        price_version: str,
        ttl_s: float,
    ) -> Hold:
        """Set aside as much as every scope has left, ``most_n`` at most, in one transaction over all of them.

        The limits in force are those passed in. A call that is free (``most_n`` 0) is never refused and books nothing
        until it is settled. Errors: Spent when less than ``least_n`` is left somewhere.
        """

    def settle(self, hold: Hold, *, actual_n: int, usage: Usage, estimated: bool) -> None:
        """Book what the call cost and give back the rest. The first time counts, a second does nothing."""

    def cancel(self, hold: Hold, *, charged_n: int = 0) -> None:
        """The call was not made, or was broken off: book what it cost meanwhile and give back the rest."""

    def left(self, scopes: Sequence[MoneyScope]) -> int:
        """The least that is left over these scopes; never below zero."""

    def sweep(self, now: datetime) -> int:
        """Release every hold that nobody settled in its time; how many."""

    def totals(self) -> dict[str, Booked]:
        """What stands on each scope."""

    def replayed(self) -> dict[str, Booked]:
        """The same, added up from the entries."""

    def check(self) -> list[str]:
        """What is wrong with the books, in plain words; empty when they are right."""

    def standing(self, since: datetime | None = None) -> Standing:
        """How the holds stand that were made since then, or all."""

    def report(self, *, by: Axis, since: datetime | None = None, until: datetime | None = None) -> list[ReportRow]:
        """What calls cost that were begun in ``[since, until)``, by one axis."""

    def prune(self, before: datetime) -> int:
        """Forget closed calls made before; what they cost stays in every total that still counts. How many."""


def wanted(least_n: int, most_n: int, ttl_s: float) -> int:
    """The least a paid call needs: at least a nano-dollar. Errors: Invalid for what is no amount or time."""
    if not 0 <= least_n <= most_n or ttl_s <= 0:
        raise Invalid(f"a hold of {least_n} to {most_n} nano-dollars for {ttl_s} s is not possible", where="money")
    return max(least_n, 1)


def granted(lefts: Sequence[tuple[MoneyScope, int]], least_n: int, most_n: int, now: datetime) -> int:
    """How much is held for a call when so much is left of each scope. Errors: Spent, for the tightest."""
    scope, left = min(lefts, key=lambda held: held[1])
    if left < least_n:
        raise Spent(scope, max(left, 0), now)
    return min(most_n, left)


def cost(actual_n: int) -> int:
    """Errors: Invalid for what no call can have cost."""
    if actual_n < 0:
        raise Invalid(f"a call can not have cost {actual_n} nano-dollars", where="money")
    return actual_n


@dataclass(frozen=True, kw_only=True)
class _Closing:
    """A settlement, or a cancellation when there is no ``usage``."""

    hold: Hold
    actual_n: int
    usage: Usage | None
    estimated: bool

    def book(self, ledger: Ledger) -> None:
        if self.usage is None:
            ledger.cancel(self.hold, charged_n=self.actual_n)
        else:
            ledger.settle(self.hold, actual_n=self.actual_n, usage=self.usage, estimated=self.estimated)


class Backlog:
    """What could not be booked because the ledger was out of reach, kept in this process until it is back.

    Settling twice does nothing, so nothing is booked twice; if the process ends before, the holds expire. Bounded: the
    oldest goes first, and is counted in ``dropped``.
    """

    def __init__(self, ledger: Ledger, most: int = BACKLOG) -> None:
        self._ledger, self._most = ledger, most
        self._waiting: deque[_Closing] = deque()
        self._lock = threading.Lock()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, closing: _Closing) -> None:
        with self._lock:
            if len(self._waiting) >= self._most:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(closing)

    def flush(self) -> int:
        """Book what waits; how many were. Stops at the first that the ledger does not take now."""
        done = 0
        while True:
            with self._lock:
                if not self._waiting:
                    return done
                first = self._waiting.popleft()
            try:
                first.book(self._ledger)
            except Unavailable:
                with self._lock:
                    self._waiting.appendleft(first)
                return done
            done += 1


class Purse:
    """The money of one request: whatever it pays for is held here first, so all of it together stays within ``cap_n``.

    It counts by itself beside the ledger, which has the last word: if the ledger is out of reach no call is made.
    ``deadline`` is a moment of ``clock.monotonic()``. Used by many threads at once: hedges and judges run in parallel.
    With a ``backlog``, a settlement that the ledger does not take now is booked when it is back. A ``purpose`` stands in the
    books in place of what each call says of itself.
    """

    def __init__(
        self,
        ledger: Ledger,
        payer: Payer,
        agreement: Agreement,
        cap_n: int,
        clock: Clock,
        deadline: float,
        *,
        backlog: Backlog | None = None,
        grace_s: float = GRACE_S,
        purpose: str = "",
    ) -> None:
        self.cap_n = cap_n
        self._purpose = purpose
        self._ledger, self._payer, self._agreement = ledger, payer, agreement
        self._clock, self._deadline, self._grace_s, self._backlog = clock, deadline, grace_s, backlog
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}
        self._asking = 0  # what calls are asking the ledger for at this moment
        self._spent = 0

    @property
    def spent_n(self) -> int:
        """What was settled so far."""
        return self._spent

    def scopes(self) -> tuple[MoneyScope, ...]:
        """What the next call counts against."""
        return scopes_of(self._agreement, self._payer, self.cap_n, self._clock.now())

    def left(self) -> int:
        """What the next call can have at most: of the cap, and of every budget."""
        with self._lock:
            mine = self._mine()
        return max(0, min(mine, self._ledger.left(self.scopes()))) if mine > 0 else 0

    def hold(self, least_n: int, most_n: int, purpose: str, model: str, price_version: str) -> Hold:
        """Set money aside for one call: make its output limit from ``amount_n``.

        Errors: Spent when there is less than ``least_n``; Unavailable when the ledger is out of reach. Either way the
        call must not be made.
        """
        least = wanted(least_n, most_n, GRACE_S)
        now = self._clock.now()
        scopes = scopes_of(self._agreement, self._payer, self.cap_n, now)
        asked = 0
        if most_n > 0:
            with self._lock:
                request = next(scope for scope in scopes if scope.kind == "request")
                asked = granted([(request, self._mine())], least, most_n, now)
                self._asking += asked
        try:
            held = self._ledger.reserve(
                self._payer,
                scopes,
                least_n=min(least_n, asked),
                most_n=asked,
                purpose=self._purpose or purpose,
                model=model,
                price_version=price_version,
                ttl_s=max(0.0, self._deadline - self._clock.monotonic()) + self._grace_s,
            )
        except BaseException:
            with self._lock:
                self._asking -= asked
            raise
        with self._lock:
            self._asking -= asked
            self._open[held.hold_id] = held.amount_n
        return held

    def settle(self, hold: Hold, *, actual_n: int, usage: Usage, estimated: bool = False) -> None:
        """The call ended and cost ``actual_n``; a second time does nothing."""
        self._close(_Closing(hold=hold, actual_n=actual_n, usage=usage, estimated=estimated))

    def cancel(self, hold: Hold, *, charged_n: int = 0) -> None:
        """The call was not made, or was broken off after it cost ``charged_n``."""
        self._close(_Closing(hold=hold, actual_n=charged_n, usage=None, estimated=False))

    def _close(self, closing: _Closing) -> None:
        """Errors: Unavailable without a backlog: then the hold is open still, to be closed again."""
        actual_n = cost(closing.actual_n)
        with self._lock:
            amount_n = self._open.pop(closing.hold.hold_id, None)
            if amount_n is None:
                return
            self._spent += actual_n
        try:
            closing.book(self._ledger)
        except Unavailable:
            if self._backlog is not None:
                self._backlog.add(closing)
                return
            with self._lock:
                self._open[closing.hold.hold_id] = amount_n
                self._spent -= actual_n
            raise

    def _mine(self) -> int:
        return self.cap_n - self._spent - self._asking - sum(self._open.values())
