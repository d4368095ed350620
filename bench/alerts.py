"""How soon alerts find an incident, and how often they call for nothing: simulated traffic, by target and traffic.

Each run is a service that keeps half of its error budget (a burn of 0.5) for days, then has an incident: its errors rise to a
burn of 1, 2 or 10, or everything fails. Requests come at random (Poisson), each fails at random. Our rules
(``agreement.burning``) stand beside the plain ones of the Site Reliability Workbook, the same windows and factors without
the cap for loose targets and without the guard for little traffic. Rules are looked at once a minute.

    python -m bench.alerts            # the whole table, some minutes
    python -m bench.alerts --quick    # a small part of it

A page in the days before the incident is a false one. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from mainstay.agreement.burning import (
    ENOUGH,
    LEAST_BAD,
    RULES,
    Burnt,
    Fitted,
    Severity,
    fitted,
    lower_share,
    read,
)
from mainstay.agreement.terms import Objective

TARGETS = (0.999, 0.99, 0.95, 0.9)
RATES = (5, 300, 20_000)  # requests an hour
INCIDENTS: tuple[float | str, ...] = (1, 2, 10, "all")
HEALTHY = 0.5  # the burn of a service on a usual day
QUIET_DAYS, FALSE_DAYS = 3, 28
INCIDENT_MINUTES = 3 * 24 * 60
MINUTE = timedelta(minutes=1)
SEED = 20260301


@dataclass(frozen=True)
class Traffic:
    """Events and bad ones by minute, summed up from the start."""

    events: Any
    bad: Any

    @classmethod
    def made(cls, rate: float, shares: Any, random: np.random.Generator) -> Traffic:
        events = random.poisson(rate / 60, len(shares))
        bad = random.binomial(events, shares)
        return cls(np.concatenate([[0], np.cumsum(events)]), np.concatenate([[0], np.cumsum(bad)]))

    def last(self, minutes: int) -> tuple[Any, Any]:
        """Events and bad ones of so many minutes up to each minute."""
        return tuple(_last(held, minutes) for held in (self.events, self.bad))  # type: ignore[return-value]  # two

    def looking(self, at: int) -> Any:
        """What ``burning.read`` asks, at one minute: for the test that both are the same rules."""

        def look(length: timedelta) -> Burnt:
            minutes = int(length / MINUTE)
            events, bad = (int(held[at] - held[max(0, at - minutes)]) for held in (self.events, self.bad))
            if not events:
                return Burnt()
            return Burnt(events=events, bad=bad, low=lower_share(bad, events), enough=bad >= LEAST_BAD)

        return look


def _last(held: Any, minutes: int) -> Any:
    before = np.concatenate([np.zeros(min(minutes, len(held)), held.dtype), held[:-minutes]])
    return (held - before)[1:]


def fires(one: Fitted, traffic: Traffic) -> Any:
    """At which minutes a rule of ours fires: ``burning.read`` for all minutes at once."""
    long = int(one.rule.long / MINUTE)
    events, bad = traffic.last(long)
    some = np.maximum(events, 1)
    sure = (bad >= LEAST_BAD) & (bad / some > one.share) & (lower_share(bad, some) > one.sure)
    short_events, short_bad = events, bad
    found = np.zeros(len(events), bool)
    width = int(one.rule.short / MINUTE)
    while width < long:
        seen, wrong = traffic.last(width)
        take = ~found & (seen >= ENOUGH)
        short_events, short_bad = np.where(take, seen, short_events), np.where(take, wrong, short_bad)
        found |= take
        width *= 2
    return sure & (short_bad / np.maximum(short_events, 1) > one.share)


def fires_plain(one: Fitted, traffic: Traffic) -> Any:
    """The same rule as the workbook has it: both windows above the factor, whatever is in them."""
    over = True
    for length in (one.rule.long, one.rule.short):
        events, bad = traffic.last(int(length / MINUTE))
        over = over & (bad / np.maximum(events, 1) > one.factor * one.allowed) & (events > 0)
    return over


def rules_of(target: float) -> list[Fitted]:
    return fitted(Objective(name="one", measure="availability", target=target, window="30d"))


def severity_fires(rules: Sequence[Fitted], traffic: Traffic, severity: Severity, *, plain: bool) -> Any:
    fire = fires_plain if plain else fires
    return np.any([fire(one, traffic) for one in rules if one.rule.severity is severity], axis=0)


@dataclass
class Result:
    """Of one target, traffic and incident, over all runs: how many found it by page and by ticket, and after how many minutes
    (median); None where fewer than half did."""

    target: float
    rate: int
    incident: float | str
    plain: bool
    runs: int
    paged: int = 0
    page_minutes: float | None = None
    ticketed: int = 0
    ticket_minutes: float | None = None


def incident(target: float, rate: int, burn: float | str, runs: int) -> list[Result]:
    """Ours, then the plain rules, over the same traffic."""
    allowed = 1 - target
    share = 1.0 if burn == "all" else min(1.0, float(burn) * allowed)
    rules = rules_of(target)
    quiet = QUIET_DAYS * 24 * 60
    shares = np.concatenate([np.full(quiet, HEALTHY * allowed), np.full(INCIDENT_MINUTES, share)])
    results = []
    for plain in (False, True):
        random = np.random.default_rng([SEED, round(target * 1e4), rate, 0 if burn == "all" else int(burn)])
        waits: dict[Severity, list[float]] = {severity: [] for severity in Severity}
        for _ in range(runs):
            traffic = Traffic.made(rate, shares, random)
            for severity in Severity:
                after = severity_fires(rules, traffic, severity, plain=plain)[quiet:]
                waits[severity].append(float(np.argmax(after)) + 1 if after.any() else np.inf)
        held = Result(target, rate, burn, plain, runs)
        for severity, found in waits.items():
            middle = float(np.median(found))
            count = int(np.isfinite(found).sum())
            if severity is Severity.PAGE:
                held.paged, held.page_minutes = count, middle if np.isfinite(middle) else None
            else:
                held.ticketed, held.ticket_minutes = count, middle if np.isfinite(middle) else None
        results.append(held)
    return results


def false_alarms(target: float, rate: int, runs: int, days: int = FALSE_DAYS) -> dict[bool, tuple[float, float]]:
    """Pages and tickets in 30 days of a healthy service, by plain. One that fires again after half an hour's quiet is another."""
    rules = rules_of(target)
    warm = QUIET_DAYS * 24 * 60
    shares = np.full(warm + days * 24 * 60, HEALTHY * (1 - target))
    counts = {plain: [0, 0] for plain in (False, True)}
    for plain, held in counts.items():
        random = np.random.default_rng([SEED, 7, round(target * 1e4), rate])
        for _ in range(runs):
            traffic = Traffic.made(rate, shares, random)
            for n, severity in enumerate(Severity):
                held[n] += episodes(severity_fires(rules, traffic, severity, plain=plain)[warm:])
    return {plain: (held[0] / runs * 30 / days, held[1] / runs * 30 / days) for plain, held in counts.items()}


def episodes(over: Any, quiet: int = 30) -> int:
    """How often it begins to fire, taking pauses of less than ``quiet`` minutes for none."""
    at = np.flatnonzero(over)
    return 0 if not len(at) else 1 + int((np.diff(at) > quiet).sum())


def same_rules(target: float, rate: int, samples: int) -> int:
    """At how many of so many minutes the simulation and ``burning.read`` disagree."""
    random = np.random.default_rng([SEED, 9, round(target * 1e4), rate])
    allowed = 1 - target
    shares = np.concatenate(
        [np.full(4320, HEALTHY * allowed), np.full(1440, min(1.0, 20 * allowed)), np.full(720, 0.0)]
    )
    traffic = Traffic.made(rate, shares, random)
    wrong = 0
    for one in rules_of(target):
        over = fires(one, traffic)
        for at in random.integers(0, len(shares), samples):
            wrong += bool(over[at]) != read(one, traffic.looking(int(at) + 1)).over
    return wrong


def said(minutes: float | None) -> str:
    if minutes is None:
        return "-"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def found(one: Result) -> str:
    """When half of the runs were paged for; else when half had a ticket."""
    if one.page_minutes is not None or one.ticket_minutes is None:
        return said(one.page_minutes)
    return f"ticket {said(one.ticket_minutes)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two targets, two levels of traffic, few runs")
    parser.add_argument("--runs", type=int, default=40)
    arguments = parser.parse_args()
    targets, rates = ((0.999, 0.95), (5, 300)) if arguments.quick else (TARGETS, RATES)
    runs = 8 if arguments.quick else arguments.runs
    began = time.perf_counter()
    print(f"seed {SEED}, {runs} incidents and {runs} quiet months each, rules {len(RULES)}", file=sys.stderr)
    print("| target | requests/h | false pages a month: ours, plain | false tickets | 1x | 2x | 10x | all fail |")
    print("|---|---|---|---|---|---|---|---|")
    rows: list[dict[str, Any]] = []
    for target in targets:
        for rate in rates:
            alarms = false_alarms(target, rate, max(2, runs // 4))
            cells = []
            for burn in INCIDENTS:
                ours, plain = incident(target, rate, burn, runs)
                rows.extend(vars(one) for one in (ours, plain))
                shown = [found(one) for one in (ours, plain)]
                cells.append(", ".join(shown))
            rows.append({"target": target, "rate": rate, "false": {"ours": alarms[False], "plain": alarms[True]}})
            (pages, tickets), (plain_pages, plain_tickets) = alarms[False], alarms[True]
            print(
                f"| {target * 100:g} % | {rate:,} | {pages:.1f}, {plain_pages:.1f} | {tickets:.1f}, {plain_tickets:.1f} | "
                + " | ".join(cells)
                + " |",
                flush=True,
            )
    print(json.dumps({"seed": SEED, "runs": runs, "seconds": round(time.perf_counter() - began, 1), "rows": rows}))


if __name__ == "__main__":
    main()
