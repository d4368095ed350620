"""Which journeys are kept with all their steps. What a request came to, and what it is measured by, is always kept.

Whoever samples must not lose what will be asked about: what went wrong, what was limited, what was dear, what a person took
over. Of the rest a share stays, chosen by the trace's id, so that every process that sees a trace chooses alike.
"""

from __future__ import annotations

import threading

from mainstay.errors import Invalid
from mainstay.records.traces import PASSING, Trace

LOOKED_AT = 1000  # the latest costs, of which the dearest hundredth counts as expensive
ENOUGH = 100
_WORDS = 2**64


class Sampling:
    """Says why a journey's steps are kept: ``error``, ``degraded``, ``review``, ``expensive``, ``all`` or ``sampled``; else
    ``passing``: they stay for a short time, in which feedback may come."""

    def __init__(self, share: float = 1.0, *, expensive_n: int | None = None) -> None:
        """``share`` from 0 to 1. ``expensive_n`` is the cost in nano-dollars from which on a request counts as expensive; by
        default it is the 99th of a hundred of the latest thousand."""
        if not 0 <= share <= 1:
            raise Invalid(f"records.sample is {share}, not 0 to 1", fix="write 1.0 to keep every journey")
        self._share, self._stated = share, expensive_n
        self._costs: list[int] = []
        self._at = 0
        self._high: int | None = None
        self._lock = threading.Lock()

    def reason(self, trace: Trace) -> str:
        """Why its steps are kept. Safe from any thread."""
        if self._share >= 1 or trace.imported:
            return "all"
        expensive = self._expensive(trace.cost_nanodollars)
        if trace.failed or trace.facts.get("error"):
            return "error"
        if trace.mode not in ("", "full") or trace.facts.get("notices"):
            return "degraded"
        if trace.status == "handed_off" or any(span.kind == "review" for span in trace.spans):
            return "review"
        if expensive:
            return "expensive"
        return "sampled" if self._chosen(trace) else PASSING

    def _chosen(self, trace: Trace) -> bool:
        # The last 64 bits: those that W3C Trace Context asks to be random.
        return bool(trace.trace_id) and int(trace.trace_id[16:], 16) < self._share * _WORDS

    def _expensive(self, cost: int) -> bool:
        if self._stated is not None:
            return cost >= self._stated
        with self._lock:
            high = self._high
            if len(self._costs) < LOOKED_AT:
                self._costs.append(cost)
            else:
                self._costs[self._at % LOOKED_AT] = cost
            self._at += 1
            if self._at % ENOUGH == 0:
                self._high = sorted(self._costs)[len(self._costs) * 99 // 100]
        return high is not None and cost > high
