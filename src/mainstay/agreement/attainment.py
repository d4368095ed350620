"""How the agreement is kept: each clause with its target, where it stands and how sure that is, and what is left of its
error budget.

An error budget is what an objective permits to go wrong in its window: of 1,000 answers with 95 % within 8 s, 50 may take
longer. The burn rate says how fast it goes: at 1 it is spent exactly when the window ends. Both, and the windows they are
looked at over, as in the Site Reliability Workbook (Beyer et al., 2018), chapter 5. Intervals are 95 %: Wilson's for shares;
for quantiles the ranks between which the quantile lies (David and Nagaraja, *Order Statistics*, 7.1); the normal one for
mean costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Literal

from mainstay.agreement.intervals import clopper_pearson_upper, incomplete_beta, wilson
from mainstay.agreement.ports import Counts, Limit, Measures, Shares, Slice, Spending, Timing
from mainstay.agreement.terms import Agreement, Budget, Objective, seconds
from mainstay.agreement.wording import TIMES, UPPER, dollars, length, milliseconds, number, promise, purse, target

Standing = Literal["met", "missed", "too_little_data", "informative"]

LEAST_EVENTS = 30
"""With fewer events nothing is said to be met or missed: by the usual rule for the normal approximation."""
BURN_WINDOWS = {"1h": timedelta(hours=1), "6h": timedelta(hours=6), "3d": timedelta(days=3)}
NOW = timedelta(minutes=5)
LOOKED_BACK = timedelta(days=28)
_Z95 = 1.959963984540054
_QUANTILES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "first_token_p95_ms": 0.95}


@dataclass(frozen=True, kw_only=True)
class ClauseStanding:
    """Where one clause stands. ``value``, ``low``, ``high`` and ``target`` are in ``unit`` (ms, share, usd, requests); the
    texts say the same for people. ``sure``: the whole interval lies on the same side of the target. ``budget_left`` is the
    share of the error budget (or of the money) that is left, below 0 when overspent, None where there is none. ``burn`` holds
    how many times as fast as permitted the error budget goes, by window; None where nothing was measured."""

    clause: str
    words: str
    state: Standing
    unit: str = ""
    target: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    sure: bool = False
    events: int = 0
    bad: float = 0.0
    budget_left: float | None = None
    burn: Mapping[str, float | None] = field(default_factory=dict)
    target_text: str = ""
    value_text: str = "nothing measured"
    interval_text: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Budgeted:
    """Events of one slice, how much of them was bad, and the share that may be."""

    events: int
    bad: float
    allowed: float

    @property
    def left(self) -> float | None:
        """The share of the error budget that is left; None where nothing happened."""
        if self.events == 0:
            return None
        if self.allowed <= 0:
            return 1.0 if self.bad <= 0 else -math.inf
        return 1.0 - self.bad / (self.allowed * self.events)

    @property
    def burn(self) -> float | None:
        left = self.left
        return None if left is None else 1.0 - left


def standing(
    agreement: Agreement, measures: Measures, spending: Spending, now: datetime, *, since: timedelta | None = None
) -> list[ClauseStanding]:
    """Every clause, in the order of the file. ``since`` looks at another window than each objective's own, or the 28 days of
    the clauses that state none."""
    window = since or LOOKED_BACK
    held = Slice(since=now - window, until=now)
    measures = _Once(measures, _counted(agreement, held, now, since))  # clauses share windows: each is read once
    counts = measures.counts(held)
    return [
        *_request(agreement, measures, held, counts),
        *(objective_standing(one, measures, now, since=since) for one in agreement.objectives),
        _traffic(agreement, measures, counts, now),
        *(_money(budget, spending, now) for budget in agreement.budgets),
        _citations(agreement, counts),
        *_cache(agreement, measures, held, counts),
    ]


def _counted(
    agreement: Agreement, held: Slice, now: datetime, since: timedelta | None
) -> dict[Slice, tuple[Limit, ...]]:
    """The slices that are counted whole, and the limits that are looked at in the same pass."""
    found: dict[Slice, tuple[Limit, ...]] = {held: (_deadline(agreement),)}
    for one in agreement.objectives:
        if one.measure not in _QUANTILES and one.measure != "wrong_cache_rate":
            for asked in _slices(one, now, since):
                found.setdefault(asked, ())
    for one in agreement.objectives:
        if one.measure in _QUANTILES:
            for asked in _slices(one, now, since):
                if asked in found:
                    found[asked] = (*found[asked], (_timing(one), one.target))
    return {asked: tuple(dict.fromkeys(limits)) for asked, limits in found.items()}


class _Once:
    """Measures that remember what they were asked, for one look at all clauses. ``limits`` belong to slices that are counted
    anyway, and cost no pass of their own."""

    def __init__(self, measures: Measures, limits: Mapping[Slice, tuple[Limit, ...]]) -> None:
        self._measures, self._limits = measures, limits
        self._whole = cache(lambda held: measures.read(held, limits.get(held, ())))
        self._slower = cache(measures.slower)
        self.audits = cache(measures.audits)

    def counts(self, held: Slice) -> Counts:
        return self._whole(held)[0]

    def slower(self, held: Slice, timing: Timing, than_ms: float) -> tuple[int, int]:
        if (timing, than_ms) in self._limits.get(held, ()):
            return self._whole(held)[1][timing, than_ms]
        return self._slower(held, timing, than_ms)

    def read(self, held: Slice, limits: Sequence[Limit]) -> tuple[Counts, Mapping[Limit, tuple[int, int]]]:
        return self.counts(held), {limit: self.slower(held, *limit) for limit in limits}

    def ranked(self, held: Slice, timing: Timing, ranks: Sequence[int], *, of: int | None = None) -> list[float]:
        return self._measures.ranked(held, timing, ranks, of=of)


def objective_standing(
    held: Objective, measures: Measures, now: datetime, *, since: timedelta | None = None
) -> ClauseStanding:
    """One objective over its window. Its error budget is burnt up when ``budget_left`` is 0 or less."""
    window = since or _window(held)
    asked, *lately = _slices(held, now, since)
    found = _found(held, measures, asked)
    burn = {name: budgeted(held, measures, part).burn for name, part in zip(BURN_WINDOWS, lately, strict=True)}
    spoken = replace(
        held, window=f"{window.total_seconds():.0f}s", enter_mode=None, alert="auto", blocks_promotion=False
    )
    return replace(
        found,
        clause=f"objectives.{held.name}",
        words=f"{held.name}: {promise(spoken)}",
        target=held.target,
        target_text=f"{'at most' if held.measure in UPPER else 'at least'} {target(held.measure, held.target)}",
        burn=burn,
    )


def used_up(held: Objective, measures: Measures, now: datetime, *, least_events: int) -> bool:
    """Whether the error budget is gone and still going: one that went last week is no reason to do anything today. With
    fewer events than ``least_events`` nothing is said.

    The last hour is looked at first: as long as it is good, the whole window need not be read.
    """
    asked, hour, *_ = _slices(held, now, None)
    burn = budgeted(held, measures, hour).burn
    if burn is None or burn <= 1:
        return False
    whole = budgeted(held, measures, asked)
    return whole.events >= least_events and whole.left is not None and whole.left <= 0


def _slices(held: Objective, now: datetime, since: timedelta | None) -> list[Slice]:
    """An objective's whole window, and those its burn rates are about."""
    lengths = (since or _window(held), *BURN_WINDOWS.values())
    return [Slice(since=now - length_, until=now, team=held.team, door=held.door) for length_ in lengths]


def _window(held: Objective) -> timedelta:
    return timedelta(seconds=seconds(held.window, f"objectives.{held.name}.window"))


def budgeted(held: Objective, measures: Measures, asked: Slice) -> Budgeted:
    """What of a slice counts against the objective's error budget."""
    if held.measure in _QUANTILES:
        events, bad = measures.slower(asked, _timing(held), held.target)
        return Budgeted(events=events, bad=bad, allowed=1 - _QUANTILES[held.measure])
    if held.measure == "wrong_cache_rate":
        events, bad = measures.audits(asked.since, asked.until)
        return Budgeted(events=events, bad=bad, allowed=held.target)
    return _budgeted(held, measures.counts(asked))


def _budgeted(held: Objective, counts: Counts) -> Budgeted:
    if held.measure == "cost_per_request_usd":
        return Budgeted(events=counts.requests, bad=counts.cost / 1e9, allowed=held.target)
    if held.measure in ("availability", "error_rate"):
        allowed = held.target if held.measure == "error_rate" else 1 - held.target
        return Budgeted(events=counts.requests, bad=counts.failed, allowed=allowed)
    shares = _shares(held, counts)
    return Budgeted(events=shares.events, bad=max(0.0, shares.events - shares.total), allowed=1 - held.target)


def _timing(held: Objective) -> Timing:
    return "first_ms" if held.measure == "first_token_p95_ms" else "total_ms"


def _shares(held: Objective, counts: Counts) -> Shares:
    return counts.grounded if held.measure == "groundedness" else counts.covered


def _found(held: Objective, measures: Measures, asked: Slice) -> ClauseStanding:
    """Value, interval, state and error budget, without the words."""
    if held.measure in _QUANTILES:
        return _quantile(held, measures, asked)
    counts = Counts() if held.measure == "wrong_cache_rate" else measures.counts(asked)
    budget = (
        budgeted(held, measures, asked) if held.measure == "wrong_cache_rate" else _budgeted(held, counts)
    )  # one reading, so that value and budget agree
    empty = ClauseStanding(clause="", words="", state="too_little_data", unit="share")
    if budget.events == 0:
        return replace(empty, unit="usd" if held.measure == "cost_per_request_usd" else "share")
    share = budget.bad / budget.events
    if held.measure == "cost_per_request_usd":
        value = share
        low, high = _mean(counts.cost, counts.cost_squares, counts.requests)
        low, high = max(0.0, low / 1e9), high / 1e9
    else:
        low, high = wilson(budget.bad, budget.events)
        value = share
        if held.measure not in UPPER:
            value, low, high = 1 - share, 1 - high, 1 - low
    unit = "usd" if held.measure == "cost_per_request_usd" else "share"
    return _judged(held, budget, value, low, high, unit)


def _quantile(held: Objective, measures: Measures, asked: Slice) -> ClauseStanding:
    share = _QUANTILES[held.measure]
    events, bad = measures.slower(asked, _timing(held), held.target)
    budget = Budgeted(events=events, bad=bad, allowed=1 - share)
    if events == 0:
        return ClauseStanding(clause="", words="", state="too_little_data", unit="ms")
    low_rank, high_rank = quantile_ranks(events, share)
    middle = math.ceil(events * share)
    ranks = [rank for rank in (low_rank, middle, high_rank) if 1 <= rank <= events]
    values = dict(zip(ranks, measures.ranked(asked, _timing(held), ranks, of=events), strict=False))
    if middle not in values:  # rows left between two readings
        return ClauseStanding(clause="", words="", state="too_little_data", unit="ms")
    return _judged(held, budget, values[middle], values.get(low_rank), values.get(high_rank), "ms")


def _judged(
    held: Objective, budget: Budgeted, value: float, low: float | None, high: float | None, unit: str
) -> ClauseStanding:
    upper = held.measure in UPPER
    kept = value <= held.target if upper else value >= held.target
    far = high if upper == kept else low  # the end of the interval that would speak against it
    sure = far is not None and ((far <= held.target) if upper else (far >= held.target)) == kept
    return ClauseStanding(
        clause="",
        words="",
        state="too_little_data" if budget.events < LEAST_EVENTS else "met" if kept else "missed",
        unit=unit,
        value=value,
        low=low,
        high=high,
        sure=sure,
        events=budget.events,
        bad=budget.bad,
        budget_left=budget.left,
        value_text=_shown(held.measure, value),
        interval_text=f"{_shown(held.measure, low)} to {_shown(held.measure, high)}",
    )


def _shown(measure: str, value: float | None) -> str:
    """A measured value with as many digits as mean something."""
    if value is None:
        return "?"
    if measure in TIMES:
        return milliseconds(_rounded(value))
    if measure == "cost_per_request_usd":
        return f"${value:.6f}"
    return f"{_share(value)} %"


def _share(value: float) -> str:
    """A share in per cent, with the digits that tell it from 0 and from 100."""
    value = round(value, 6)  # what is shown of it: an upper bound of one, less what floats lose, is one
    return f"{value * 100:.2f}" if 0.0005 <= value <= 0.9995 or value in (0.0, 1.0) else f"{value * 100:.4f}"


def _rounded(value: float) -> float:
    return float(f"{value:.3g}") if value < 1000 else float(f"{value:.4g}")


# -- intervals ---------------------------------------------------------------------------------------------------------


def quantile_ranks(events: int, quantile: float, confidence: float = 0.95) -> tuple[int, int]:
    """The ranks (1 is the smallest value) between whose values the quantile lies with this confidence, however the values
    are distributed: how many of them lie below it is binomial. Rank 0 or ``events`` + 1: too few values for that bound."""
    tail = (1 - confidence) / 2

    def first(chance: float) -> int:
        """The least rank r with P(fewer than r values lie below the quantile) above ``chance``."""
        low, high = 0, events + 1
        while low < high:
            middle = (low + high) // 2
            if _at_most(middle - 1, events, quantile) > chance:
                high = middle
            else:
                low = middle + 1
        return low

    lowest = max(0, first(tail) - 1)
    return lowest, min(events + 1, first(1 - tail))


def _at_most(most: int, events: int, share: float) -> float:
    """P(X <= ``most``) of ``events`` tries with this chance each (Abramowitz and Stegun 26.5.24)."""
    if most < 0:
        return 0.0
    return 1.0 if most >= events else incomplete_beta(events - most, most + 1, 1 - share)


def _mean(total: float, squares: float, events: int) -> tuple[float, float]:
    """The 95 % interval of a mean by the normal approximation, for the unit that ``total`` is in."""
    middle = total / events
    variance = max(0.0, (squares - total * middle) / (events - 1)) if events > 1 else 0.0
    spread = _Z95 * math.sqrt(variance / events)
    return middle - spread, middle + spread


# -- the other clauses -------------------------------------------------------------------------------------------------


def _request(agreement: Agreement, measures: Measures, held: Slice, counts: Counts) -> Iterator[ClauseStanding]:
    cap, deadline = agreement.request.cap_nanodollars, agreement.request.deadline_s
    over = counts.dearest > cap
    yield ClauseStanding(
        clause="request.cap_usd",
        words="the dearest request stays within the cap",
        state="missed" if over else "met" if counts.requests else "too_little_data",
        unit="usd",
        target=cap / 1e9,
        value=counts.dearest / 1e9 if counts.requests else None,
        sure=bool(counts.requests),
        events=counts.requests,
        target_text=f"at most {dollars(cap)}",
        value_text=dollars(counts.dearest) if counts.requests else "nothing measured",
        note="the cap was higher when it ran, or was broken" if over else "",
    )
    events, late = measures.slower(held, *_deadline(agreement))
    yield ClauseStanding(
        clause="request.deadline_s",
        words="requests end at the deadline",
        state="informative" if events else "too_little_data",
        unit="requests",
        target=0.0,
        value=float(late) if events else None,
        events=events,
        bad=late,
        target_text=f"within {length(deadline)}",
        value_text=f"{late} of {events} took longer" if events else "nothing measured",
    )


def _deadline(agreement: Agreement) -> Limit:
    return "total_ms", agreement.request.deadline_s * 1000


def _traffic(agreement: Agreement, measures: Measures, counts: Counts, now: datetime) -> ClauseStanding:
    lately = measures.counts(Slice(since=now - NOW, until=now))
    rate = (lately.requests + lately.turned_away) / (NOW.total_seconds() / 60)
    limit = agreement.traffic.service_per_minute
    came = counts.requests + counts.turned_away
    return ClauseStanding(
        clause="traffic",
        words="requests a minute, in the last five",
        state="informative",
        unit="requests",
        target=limit or None,
        value=rate,
        events=came,
        bad=counts.turned_away,
        target_text=f"at most {number(limit)}" if limit else "no limit",
        value_text=f"{rate:.1f} a minute",
        note=f"{counts.turned_away} of {came} were turned away" if came else "",
    )


def _money(held: Budget, spending: Spending, now: datetime) -> ClauseStanding:
    limit = held.limit_nanodollars
    spent = spending.spent(held.of, held.per, held.name, now)
    used = spent.settled + spent.held
    left = 1.0 if limit else 0.0
    if spent.purses and limit:
        left = 1.0 - used / limit
    each = held.of != "service" and not held.name
    notes = []
    if spent.held:
        notes.append(f"{dollars(spent.held)} of it held for calls that run")
    if each and spent.purses:
        notes.append(f"most: {spent.name}; spent up: {spent.empty} of {spent.purses}")
    return ClauseStanding(
        clause=f"budgets.{purse(held)}",
        words=f"budget of {purse(held)}",
        state="met" if used <= limit else "missed",
        unit="usd",
        target=limit / 1e9,
        value=used / 1e9,
        sure=True,
        events=spent.purses,
        budget_left=left,
        target_text=f"at most {dollars(limit)}",
        value_text=dollars(used),
        note="; ".join(notes),
    )


def _citations(agreement: Agreement, counts: Counts) -> ClauseStanding:
    cited, events = counts.covered.some, counts.covered.events
    required = agreement.governance.citations_required
    base = ClauseStanding(
        clause="governance.citations_required",
        words="answers carry a citation",
        state="too_little_data" if required else "informative",
        unit="share",
        target=1.0 if required else None,
        target_text="all" if required else "not required",
        events=events,
        bad=events - cited,
    )
    if not events:
        return base
    low, high = wilson(cited, events)
    kept: Standing = "met" if cited == events else "missed"
    return replace(
        base,
        state=kept if required else "informative",
        value=cited / events,
        low=low,
        high=high,
        sure=required and kept == "missed",
        value_text=f"{_share(cited / events)} %",
        interval_text=f"{_share(low)} % to {_share(high)} %",
    )


def _cache(agreement: Agreement, measures: Measures, held: Slice, counts: Counts) -> Iterator[ClauseStanding]:
    if not agreement.cache.enabled:
        return
    events, wrong = measures.audits(held.since, held.until)
    bound, most = (clopper_pearson_upper(wrong, events) if events else 1.0), agreement.cache.wrong_hits
    budget = Budgeted(events=events, bad=wrong, allowed=most)
    state: Standing = "too_little_data"
    if events and wrong / events > most:
        state = "missed"
    elif events and bound <= most:
        state = "met"
    yield ClauseStanding(
        clause="cache.wrong_hits",
        words="answers from the cache are right",
        state=state,
        unit="share",
        target=most,
        value=wrong / events if events else None,
        low=None,
        high=bound if events else None,
        sure=state == "met",
        events=events,
        bad=wrong,
        budget_left=budget.left,
        target_text=f"at most {target('wrong_cache_rate', most)} wrong",
        value_text=f"{wrong} wrong of {events} checked" if events else "nothing checked",
        interval_text=f"at most {_share(bound)} %" if events else "",
        note=f"{counts.cached} of {counts.requests} answers came from the cache" if counts.requests else "",
    )
