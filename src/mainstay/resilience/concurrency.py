"""How many calls one model can take at once, found out while it works.

Measured on the time to the first token, never on the whole call, which depends on the length of what is written. The
limit follows the gradient between the time without a queue and what is seen now, ``L' = L * clamp(1.5 * base / now, 0.5, 1) +
sqrt(L)``, smoothed (Netflix concurrency-limits), and is cut to nine tenths when the other side says that it is too much
(multiplicative decrease: Chiu and Jain, 1989). The base is the least that is seen, as in TCP Vegas (Brakmo and Peterson,
1995); an average would take a lasting queue for normal and grow it. A base not seen again for five minutes is measured
anew at half the limit, as BBR does (Cardwell et al., 2016), so that a model that became slower for good is believed.
"""

from __future__ import annotations

import math
import statistics
import threading
from collections import deque

from mainstay.errors import Invalid
from mainstay.types import Clock

_TOLERANCE = 1.5
_SMOOTHING = 0.2
_SAMPLES = 10  # first tokens in one step of the limit
_NEAR = 1.1  # of the base: seen again
_TRUST_S = 300.0
_MEASURE = 2  # steps at half the limit: the first still has calls of before
_CUT = 0.9
_CUT_S = 1.0  # one burst of refusals is one sign, not thirty
_LOOK_S = 0.25  # a forgotten slot is seen by those who wait after at most this


class Slot:
    """One call that is under way. The first ``done`` counts; a slot that is forgotten gives its place back."""

    __slots__ = ("__weakref__", "_done", "_limit")

    def __init__(self, limit: AdaptiveLimit) -> None:
        self._limit, self._done = limit, False

    def done(self, first_token_s: float | None, ok: bool, overloaded: bool) -> None:
        """``first_token_s``: seconds to the first token, None when there was none; ``overloaded``: refused for load (429,
        503, time-out), whatever else.
        """
        self._limit._done(self, first_token_s if ok else None, overloaded)

    def __del__(self) -> None:
        if not self._done:
            self._limit._forgotten.append(1)  # no lock: this may run anywhere


class AdaptiveLimit:
    """The limit of one model: between ``least`` and ``most`` calls at once, beginning with ``start``."""

    def __init__(self, clock: Clock, least: int = 1, most: int = 64, start: int = 8) -> None:
        if not 1 <= least <= start <= most:
            raise Invalid("a limit of calls must have 1 <= least <= start <= most")
        self._clock, self._least, self._most = clock, least, most
        self._changed = threading.Condition(threading.Lock())
        self._forgotten: deque[int] = deque()
        self._limit = float(start)
        self._in_flight = 0
        self._base: float | None = None
        self._base_at = 0.0
        self._measure = 0  # steps left of measuring the base anew
        self._samples: list[float] = []
        self._peak = 0
        self._cut_at: float | None = None

    def take(self, wait_s: float = 0.0) -> Slot | None:
        """A slot, waiting for at most ``wait_s`` seconds; None when there was none."""
        until = self._clock.monotonic() + wait_s
        left = wait_s
        with self._changed:
            while True:
                self._collect()
                if self._in_flight < int(self._limit):
                    self._in_flight += 1
                    self._peak = max(self._peak, self._in_flight)
                    return Slot(self)
                left = min(left, until - self._clock.monotonic())
                if left <= 0:
                    return None
                pause = min(left, _LOOK_S)
                if not self._changed.wait(pause):
                    left -= pause  # the machine's own time bounds the wait, whatever the clock says

    @property
    def limit(self) -> int:
        with self._changed:
            return int(self._limit)

    @property
    def in_flight(self) -> int:
        with self._changed:
            self._collect()
            return self._in_flight

    def _done(self, slot: Slot, first_token_s: float | None, overloaded: bool) -> None:
        with self._changed:
            if slot._done:
                return
            slot._done = True
            self._collect()
            self._in_flight -= 1
            if overloaded:
                self._cut()
            elif first_token_s is not None and first_token_s >= 0:
                self._sample(first_token_s)
            self._changed.notify_all()

    def _collect(self) -> None:
        while self._forgotten:
            self._forgotten.popleft()
            self._in_flight -= 1

    def _cut(self) -> None:
        now = self._clock.monotonic()
        if self._cut_at is None or now - self._cut_at >= _CUT_S:
            self._cut_at = now
            self._limit = max(self._least, self._limit * _CUT)
            self._begin_step()

    def _sample(self, seconds: float) -> None:
        self._samples.append(max(seconds, 1e-6))
        if len(self._samples) < _SAMPLES:
            return
        seen = statistics.median(self._samples)
        gradient = min(1.0, max(0.5, _TOLERANCE * self._based(seen) / seen))
        # A limit that nobody comes near says nothing, and does not grow.
        if not self._measure and (gradient < 1.0 or self._peak * 2 >= self._limit):
            wanted = self._limit * gradient + math.sqrt(self._limit)
            self._limit += _SMOOTHING * (wanted - self._limit)
        self._limit = min(float(self._most), max(float(self._least), self._limit))
        self._begin_step()

    def _begin_step(self) -> None:
        self._samples.clear()
        self._peak = self._in_flight

    def _based(self, seen: float) -> float:
        """The base after one more step in which this was seen; begins to measure it anew when it is old."""
        now = self._clock.monotonic()
        if self._measure:
            self._measure -= 1
            if not self._measure:
                self._base, self._base_at = seen, now
        elif self._base is None or seen <= self._base * _NEAR:
            self._base, self._base_at = seen if self._base is None else min(seen, self._base), now
        elif now - self._base_at >= _TRUST_S:
            self._measure = _MEASURE
            self._limit /= 2
        assert self._base is not None
        return self._base
