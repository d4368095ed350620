"""When an error budget burns so fast that somebody must hear of it.

An objective counts events, some of which are bad; its target says which share may be. How many times as fast as that the
budget goes is the burn. A rule says: this much of the whole budget gone within one window means a page, or a ticket; its
factor follows from the objective's own window. It fires while the burn is above the factor over that long window, and over
a short one too, so that it ends soon after the trouble does (Beyer et al., *The Site Reliability Workbook*, 2018, chapter 5:
multiwindow, multi-burn-rate alerts).

Two traps of those rules are closed here:

* **Loose targets.** At 95 % a factor of 14.4 asks for 72 % bad, at 90 % for 144 %: it could never fire. A threshold is never
  above a quarter of all events or three times what is permitted, whichever is more, and always below everything.
* **Little traffic.** One failure in a quiet hour is a burn of hundreds. A rule fires only when at least ``LEAST_BAD`` events
  were bad, and the lower confidence bound of the burn (Wilson's, two standard errors below) is above half of its threshold and
  above three times what is permitted. A short window is widened until it holds ``ENOUGH`` events. (``bench/alerts.py``: asking
  for the whole threshold finds slow burns of a few hundred requests an hour twice as late; half of it alone, without the
  second, calls for nothing three times a month at 90 % and five requests an hour.)

What models judge, or only samples show (groundedness, coverage, wrong answers from the cache), and what is only dear, wakes
nobody: it raises tickets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache

from mainstay.agreement.attainment import budgeted, used_up
from mainstay.agreement.ports import Counts, Limit, Measures, Slice, Timing
from mainstay.agreement.terms import Agreement, Objective, seconds

LEAST_BAD = 3.0
ENOUGH = 10
SURE, SURE_TIMES = 0.5, 3.0
"""The lower bound of a burn must be above this share of its threshold and above so many times what is permitted; never above
more than the threshold itself."""
LOOSE_SHARE, LOOSE_TIMES = 0.25, 3.0
"""The highest threshold: this share of events, or so many times what is permitted."""
LEAST_FACTOR = {"page": 2.0, "ticket": 1.0}
"""Below it a rule of a short objective's window would fire while all is as promised."""
STAYS = 0.8
"""An alert stays while the burn is above this share of its threshold: what opened it does not flap around one line."""
QUIET = {"page": timedelta(minutes=5), "ticket": timedelta(minutes=30)}
"""How long it must be quiet before it is over."""
ENOUGH_COSTS = 30
"""Requests without which nothing is said about what one costs on average."""
ENOUGH_SPENT = 20
"""Below so many events a spent error budget is chance."""
JUDGED = frozenset({"groundedness", "citation_coverage", "wrong_cache_rate"})
"""Judged by models, or seen in samples alone."""
COST = "cost_per_request_usd"
TICKETS_ONLY = JUDGED | {COST}
_LATE = {"latency_p50_ms": 1 - 0.5, "latency_p95_ms": 1 - 0.95, "first_token_p95_ms": 1 - 0.95}
_AT_MOST = frozenset({"error_rate", "wrong_cache_rate", COST})


class Severity(StrEnum):
    """``page``: somebody acts now. ``ticket``: within days."""

    PAGE = "page"
    TICKET = "ticket"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """So much of the error budget gone within ``long`` is worth an alert, while ``short`` shows that it goes on."""

    severity: Severity
    budget: float
    long: timedelta
    short: timedelta


RULES = (
    Rule(severity=Severity.PAGE, budget=0.02, long=timedelta(hours=1), short=timedelta(minutes=5)),
    Rule(severity=Severity.PAGE, budget=0.05, long=timedelta(hours=6), short=timedelta(minutes=30)),
    Rule(severity=Severity.TICKET, budget=0.10, long=timedelta(days=1), short=timedelta(hours=2)),
    Rule(severity=Severity.TICKET, budget=0.10, long=timedelta(days=3), short=timedelta(hours=6)),
)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A rule for one objective: ``factor`` is the burn at which it fires, ``share`` the share of bad events that this is, after
    the cap for loose targets. For a cost both are about dollars a request."""

    rule: Rule
    allowed: float
    factor: float
    share: float

    @property
    def sure(self) -> float:
        """The share that the lower bound must be above."""
        return min(self.share, max(SURE * self.share, SURE_TIMES * self.allowed))

    @property
    def burn(self) -> float:
        """The burn at which it fires in the end."""
        return self.share / self.allowed if self.allowed > 0 else math.inf


@dataclass(frozen=True, kw_only=True)
class Burnt:
    """What happened in one window: events, how much was bad (of a cost: dollars), the least that the true share may be
    (``low``), and whether that is enough to say anything."""

    events: int = 0
    bad: float = 0.0
    low: float = 0.0
    enough: bool = False

    @property
    def share(self) -> float:
        return self.bad / self.events if self.events else 0.0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a rule stands: ``over``: it fires; ``quiet``: an alert that it opened may end. Burns are shares over what is
    permitted; ``low`` is the lower bound of the long one; ``short`` is the window that was looked at in the end."""

    fitted: Fitted
    over: bool
    quiet: bool
    events: int
    bad: float
    long_burn: float
    low_burn: float
    short_burn: float
    short: timedelta


Look = Callable[[timedelta], Burnt]
"""What happened in the last so long."""


# -- the arithmetic, also for arrays -----------------------------------------------------------------------------------


def lower_share(bad: float, events: float) -> float:
    """The share that is behind ``bad`` of ``events`` is hardly less: Wilson's bound, two standard errors below (97.7 %,
    one-sided). ``events`` is more than 0. Works on arrays of numbers alike; the same formula stands in the rules for
    Prometheus."""
    share = bad / events
    middle = share + 2 / events
    # A sum of shares may exceed the count by rounding; nothing below 0 goes into a root.
    reach: float = 2 * (abs(share * (1 - share) / events) + 1 / (events * events)) ** 0.5
    return (middle - reach) / (1 + 4 / events)


def highest_share(allowed: float) -> float:
    """The highest threshold of an objective that permits this share: what is above it would be found too late, or never."""
    return min(max(LOOSE_SHARE, LOOSE_TIMES * allowed), allowed + (1 - allowed) / 2)


# -- rules for objectives ----------------------------------------------------------------------------------------------


def severities(held: Objective) -> tuple[Severity, ...]:
    """What this objective may raise."""
    if held.alert == "none":
        return ()
    if held.alert == "ticket" or held.measure in TICKETS_ONLY:
        return (Severity.TICKET,)
    return (Severity.PAGE, Severity.TICKET)


def fitted(held: Objective, rules: Sequence[Rule] = RULES) -> list[Fitted]:
    """The rules of one objective. Those that look further back than its own window are left out; with ``alert: ticket``
    those that would page write tickets."""
    window = seconds(held.window, f"objectives.{held.name}.window")
    allowed = permitted(held)
    chosen = severities(held)
    found = []
    for rule in rules:
        if not chosen or rule.long.total_seconds() > window:
            continue
        own = rule if rule.severity in chosen else replace(rule, severity=chosen[0])
        factor = max(own.budget * window / own.long.total_seconds(), LEAST_FACTOR[own.severity])
        share = factor * allowed
        if held.measure != COST:
            share = min(share, highest_share(allowed))
        found.append(Fitted(rule=own, allowed=allowed, factor=factor, share=share))
    return found


def permitted(held: Objective) -> float:
    """The share of bad events that the target permits; of a cost, dollars a request."""
    if held.measure in _LATE:
        return _LATE[held.measure]
    return held.target if held.measure in _AT_MOST else 1 - held.target


def read(one: Fitted, look: Look) -> Reading:
    """How a rule stands now. The short window is looked at only when the long one speaks."""
    long = look(one.rule.long)
    sure = long.enough and long.share > one.share and long.low > one.sure
    stays = long.events > 0 and long.share > STAYS * one.share
    short, width = long, one.rule.long
    if sure or stays:
        short, width = _widened(one.rule, look, long)
    return Reading(
        fitted=one,
        over=sure and short.share > one.share,
        quiet=not (stays and short.share > STAYS * one.share),
        events=long.events,
        bad=long.bad,
        long_burn=_burn(long.share, one.allowed),
        low_burn=_burn(max(0.0, long.low), one.allowed),
        short_burn=_burn(short.share, one.allowed),
        short=width,
    )


def _widened(rule: Rule, look: Look, long: Burnt) -> tuple[Burnt, timedelta]:
    """The shortest window, from ``short`` on and always twice the last, that holds enough events to speak of."""
    width = rule.short
    while width < rule.long:
        found = look(width)
        if found.events >= ENOUGH:
            return found, width
        width *= 2
    return long, rule.long


def _burn(share: float, allowed: float) -> float:
    if allowed <= 0:
        return math.inf if share > 0 else 0.0
    return share / allowed


def looking(held: Objective, measures: Measures, now: datetime) -> Look:
    """Looks at what was measured of one objective."""

    def look(length: timedelta) -> Burnt:
        asked = Slice(since=now - length, until=now, team=held.team, door=held.door)
        found = budgeted(held, measures, asked)
        if found.events == 0:
            return Burnt()
        if held.measure == COST:
            return _dear(measures.counts(asked))
        return Burnt(
            events=found.events,
            bad=found.bad,
            low=lower_share(found.bad, found.events),
            enough=found.bad >= LEAST_BAD,
        )

    return look


def _dear(counts: Counts) -> Burnt:
    """Of costs the mean speaks, with its own standard error; of few requests it does not."""
    if counts.requests < 2:
        return Burnt(events=counts.requests, bad=counts.cost / 1e9)
    mean = counts.cost / counts.requests
    variance = max(0.0, (counts.cost_squares - counts.cost * mean) / (counts.requests - 1))
    low = (mean - 2 * math.sqrt(variance / counts.requests)) / 1e9
    return Burnt(events=counts.requests, bad=counts.cost / 1e9, low=low, enough=counts.requests >= ENOUGH_COSTS)


def readings(held: Objective, measures: Measures, now: datetime, only: Collection[Severity]) -> list[Reading]:
    """How the rules of one objective stand, of these severities."""
    look = looking(held, measures, now)
    return [read(one, look) for one in fitted(held) if one.rule.severity in only]


class Once:
    """Measures that remember what they were asked, for one look at all objectives."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self.counts, self.slower, self.audits = cache(measures.counts), cache(measures.slower), cache(measures.audits)

    def read(self, held: Slice, limits: Sequence[Limit]) -> tuple[Counts, dict[Limit, tuple[int, int]]]:
        return self.counts(held), {limit: self.slower(held, *limit) for limit in limits}

    def ranked(self, held: Slice, timing: Timing, ranks: Sequence[int], *, of: int | None = None) -> list[float]:
        return self._measures.ranked(held, timing, ranks, of=of)


# -- what follows from it ----------------------------------------------------------------------------------------------


def burns_fast(held: Objective, measures: Measures, now: datetime) -> bool:
    """Whether a rule that pages fires for this objective, however its alerts are set."""
    paging = [one for one in fitted(replace(held, alert="auto")) if one.rule.severity is Severity.PAGE]
    look = looking(held, measures, now)
    return any(read(one, look).over for one in paging)


def enters(held: Objective, measures: Measures, now: datetime) -> bool:
    """Whether the mode that this objective asks for is to be entered: its budget is spent and goes on going, or goes so fast
    that it pages."""
    return used_up(held, measures, now, least_events=ENOUGH_SPENT) or burns_fast(held, measures, now)


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """Why nothing new may go into service."""

    objective: str
    why: str


def promotion_blocked(agreement: Agreement, measures: Measures, now: datetime) -> list[Blocked]:
    """Objectives with ``blocks_promotion`` whose error budget is spent, or burns so fast that it pages. Empty: go on."""
    return list(_blocked(agreement, Once(measures), now))


def _blocked(agreement: Agreement, measures: Measures, now: datetime) -> Iterator[Blocked]:
    for held in agreement.objectives:
        if not held.blocks_promotion:
            continue
        window = timedelta(seconds=seconds(held.window, f"objectives.{held.name}.window"))
        whole = budgeted(held, measures, Slice(since=now - window, until=now, team=held.team, door=held.door))
        if whole.events >= ENOUGH_SPENT and whole.left is not None and whole.left <= 0:
            yield Blocked(
                objective=held.name,
                why=f"its error budget is spent: {whole.bad:g} of {whole.events} were bad"
                if held.measure != COST
                else f"it costs ${whole.bad / whole.events:.6f} a request, more than promised",
            )
        elif burns_fast(held, measures, now):
            yield Blocked(objective=held.name, why="its error budget burns so fast that it pages")
