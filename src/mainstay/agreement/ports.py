"""What the agreement's rules want to know of what happened and what was spent. ``storage/measures.py`` answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from mainstay.agreement.terms import Payer, Period

Timing = Literal["total_ms", "first_ms"]
Limit = tuple[Timing, float]
"""A time, and how many milliseconds of it are too many."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Which answers are looked at: from ``since`` (inclusive) to ``until`` (exclusive), of one team or door, or of all."""

    since: datetime
    until: datetime
    team: str = ""
    door: str = ""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Numbers between 0 and 1, one an answer: how many, and their sum; ``some``: how many are above 0."""

    events: int = 0
    total: float = 0.0
    some: int = 0


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What one slice holds. ``requests`` were worked on or shed through our fault; ``turned_away`` were over a limit of
    their own and count nowhere else. Costs in nano-dollars; ``cost_squares`` is the sum of their squares."""

    requests: int = 0
    turned_away: int = 0
    failed: int = 0
    cached: int = 0
    cost: int = 0
    cost_squares: float = 0.0
    dearest: int = 0
    grounded: Shares = Shares()
    covered: Shares = Shares()


class Measures(Protocol):
    """What was measured, as sums and ranks: never row by row, so that a month of traffic is quickly read."""

    def counts(self, held: Slice) -> Counts: ...

    def slower(self, held: Slice, timing: Timing, than_ms: float) -> tuple[int, int]:
        """How many answers that did not fail have this time, and how many of them took longer."""
        ...

    def read(self, held: Slice, limits: Sequence[Limit]) -> tuple[Counts, Mapping[Limit, tuple[int, int]]]:
        """``counts``, and what is ``slower`` than each limit, in one pass."""
        ...

    def ranked(self, held: Slice, timing: Timing, ranks: Sequence[int], *, of: int | None = None) -> list[float]:
        """The times at these ranks; 1 is the shortest. Ranks that do not exist are left out. ``of``: how many times there
        are, for who knows it from ``slower``."""
        ...

    def audits(self, since: datetime, until: datetime) -> tuple[int, int]:
        """Of the answers served from the cache: how many were checked by answering anew, how many of them were wrong."""
        ...


@dataclass(frozen=True, kw_only=True)
class Spent:
    """How one clause of the budgets stands: of the ``purses`` that it gives out, how many are ``empty``, and the one with
    the least left (amounts in nano-dollars)."""

    purses: int = 0
    empty: int = 0
    name: str = ""
    limit: int = 0
    settled: int = 0
    held: int = 0


class Spending(Protocol):
    """The ledger, as far as the agreement's standing needs it."""

    def spent(self, of: Payer, per: Period, name: str, at: datetime) -> Spent:
        """The purses of this clause in the window around ``at``; ``name`` empty: everybody's."""
        ...
