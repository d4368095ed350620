"""Circuit breakers: stop calling what does not answer, and find out gently when it does again.

After M. Nygard, "Release It!" (2007), with what calls of language models need besides: calls that are answered too slowly
count, a Retry-After is obeyed, and a few failures in a row are enough, so that a quiet service with a single model does
not try a dead one with each request.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mainstay.errors import Invalid
from mainstay.types import Clock

State = Literal["closed", "open", "half_open"]
_BUCKETS = 10  # the window moves in tenths


@dataclass(frozen=True, kw_only=True)
class BreakerRule:
    """When a breaker opens and for how long; times in seconds, shares of 1.

    It opens at ``failures`` or ``slow`` of at least ``least_calls`` calls within ``window_s``, or after ``in_a_row`` failures
    without a success between; for ``open_s``, doubled each time the probes fail, up to ``longest_s``. Then ``probes`` calls
    may go; all of them must come back to close it. A probe nobody reports gives its place back after ``probe_s``.
    A Retry-After opens it at once for as long as it says, ``longest_retry_after_s`` at most.
    """

    window_s: float = 30.0
    failures: float = 0.5
    slow: float = 0.5
    least_calls: int = 5
    in_a_row: int = 3
    open_s: float = 5.0
    longest_s: float = 60.0
    probes: int = 2
    probe_s: float = 60.0
    longest_retry_after_s: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 < self.failures <= 1 or not 0 < self.slow <= 1:
            raise Invalid("a breaker's shares must be more than 0 and at most 1")
        if min(self.least_calls, self.in_a_row, self.probes) < 1 or self.window_s <= 0:
            raise Invalid("a breaker needs a window, calls, failures in a row and probes of at least 1")
        if not 0 < self.open_s <= self.longest_s or self.probe_s <= 0:
            raise Invalid("a breaker's times must be more than 0, and the longest no shorter than the first")


class Permit:
    """The right to make one call. The first thing said about it counts; whatever is said later is ignored, so that
    ``neutral`` may stand in a ``finally``.
    """

    __slots__ = ("_breaker", "_number", "_term", "_used")

    def __init__(self, breaker: Breaker, number: int, term: int) -> None:
        self._breaker, self._number, self._term, self._used = breaker, number, term, False

    def succeeded(self, slow: bool) -> None:
        """It was answered; ``slow``: later than it may."""
        self._breaker._report(self, "slow" if slow else "good", 0.0)

    def failed(self, retry_after_s: float | None = None) -> None:
        """It was not answered, or with an error that is not the caller's; ``retry_after_s`` is what the other side asked for."""
        self._breaker._report(self, "bad", retry_after_s or 0.0)

    def neutral(self) -> None:
        """It says nothing about the other side: the caller's own error, or it was never made."""
        self._breaker._report(self, "neutral", 0.0)


class Breaker:
    """One breaker, for one model at one provider."""

    def __init__(self, clock: Clock, rule: BreakerRule | None = None) -> None:
        self._clock = clock
        self._rule = rule or BreakerRule()
        self._lock = threading.Lock()
        self._term = 0  # counts changes of state: what was begun in an earlier one is no evidence in this
        self._state: State = "closed"
        self._window: deque[list[float]] = deque()  # [begin, calls, failed, slow] of each tenth
        self._in_a_row = 0
        self._until = 0.0
        self._open_s = self._rule.open_s
        self._closed_at: float | None = None
        self._permits = 0
        self._probes: dict[int, float] = {}  # by number of the permit: until when it keeps its place
        self._passed = self._passed_slowly = 0

    def permit(self) -> Permit | None:
        """A permit for one call, to be reported on; None while it is open or enough probes are on their way."""
        with self._lock:
            now = self._clock.monotonic()
            self._look(now)
            if self._state == "open":
                return None
            self._permits += 1
            permit = Permit(self, self._permits, self._term)
            if self._state == "half_open":
                if self._free(now) < 1:
                    return None
                self._probes[permit._number] = now + self._rule.probe_s
            return permit

    @property
    def state(self) -> State:
        with self._lock:
            self._look(self._clock.monotonic())
            return self._state

    def opens_in_s(self) -> float:
        """Seconds until a call may go: 0 when it may now. While probes are on their way, the longest it can still take."""
        with self._lock:
            now = self._clock.monotonic()
            self._look(now)
            if self._state == "open":
                return max(0.0, self._until - now)
            if self._state == "half_open" and self._free(now) < 1:
                return max(0.0, min(self._probes.values()) - now) if self._probes else 0.0
            return 0.0

    def _look(self, now: float) -> None:
        if self._state == "open" and now >= self._until:
            self._change("half_open")

    def _change(self, state: State) -> None:
        self._state = state
        self._term += 1
        self._probes.clear()
        self._window.clear()
        self._in_a_row = self._passed = self._passed_slowly = 0

    def _free(self, now: float) -> int:
        """Places for probes; those that were forgotten do not count, those that came back do: no more are needed."""
        for probe in [probe for probe, until in self._probes.items() if until <= now]:
            del self._probes[probe]
        return self._rule.probes - len(self._probes) - self._passed - self._passed_slowly

    def _report(self, permit: Permit, said: Literal["good", "slow", "bad", "neutral"], retry_after_s: float) -> None:
        with self._lock:
            if permit._used:
                return
            permit._used = True
            now = self._clock.monotonic()
            self._look(now)
            self._probes.pop(permit._number, None)
            if permit._term == self._term and said != "neutral":
                if self._state == "half_open":
                    self._probed(said, now)
                elif self._state == "closed":
                    self._counted(said, now)
            if retry_after_s > 0:
                # Said about the future, so it counts from whichever call it comes; it is no reason to wait longer next time.
                until = now + min(retry_after_s, self._rule.longest_retry_after_s)
                if self._state != "open":
                    self._change("open")
                    self._until = until
                self._until = max(self._until, until)

    def _probed(self, said: str, now: float) -> None:
        if said == "bad":
            self._open(now)
            return
        self._passed += said == "good"
        self._passed_slowly += said == "slow"
        if self._passed + self._passed_slowly >= self._rule.probes:
            if self._passed_slowly >= self._rule.slow * self._rule.probes:
                self._open(now)
            else:
                self._change("closed")
                self._closed_at = now

    def _counted(self, said: str, now: float) -> None:
        rule = self._rule
        while self._window and self._window[0][0] <= now - rule.window_s:
            self._window.popleft()
        if not self._window or now - self._window[-1][0] >= rule.window_s / _BUCKETS:
            self._window.append([now, 0, 0, 0])
        newest = self._window[-1]
        newest[1] += 1
        newest[2] += said == "bad"
        newest[3] += said == "slow"
        self._in_a_row = self._in_a_row + 1 if said == "bad" else 0
        calls, failed, slow = (sum(bucket[n] for bucket in self._window) for n in (1, 2, 3))
        shares = calls >= rule.least_calls and (failed >= rule.failures * calls or slow >= rule.slow * calls)
        if self._in_a_row >= rule.in_a_row or (shares and said != "good"):
            if self._closed_at is None or now - self._closed_at >= rule.window_s:
                self._open_s = rule.open_s  # it had been well for a while; else it goes on doubling
            self._open(now)

    def _open(self, now: float) -> None:
        self._change("open")
        self._until = now + self._open_s
        self._open_s = min(self._open_s * 2, self._rule.longest_s)


class Breakers:
    """A breaker for each key: ``provider/model``, made at first use."""

    def __init__(self, clock: Clock, rule: BreakerRule | None = None) -> None:
        self._clock, self._rule = clock, rule or BreakerRule()
        self._lock = threading.Lock()
        self._held: dict[str, Breaker] = {}

    def of(self, key: str) -> Breaker:
        with self._lock:
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = Breaker(self._clock, self._rule)
            return held

    def states(self) -> Mapping[str, str]:
        """closed, open or half_open, by key."""
        with self._lock:
            held = dict(self._held)
        return {key: breaker.state for key, breaker in sorted(held.items())}
