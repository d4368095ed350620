"""A second copy of a call whose first token is late (J. Dean and L. Barroso, "The Tail at Scale", 2013), under a budget.

The copy goes out after the 95th percentile of the time to the first token, so few calls come into question; the budget
makes sure that a slow hour does not double the load.
"""

from __future__ import annotations

import threading
from collections import deque

from mainstay.errors import Invalid

_WHOLE = 1_000_000  # tokens are counted in millionths, so that no fraction is lost
_LEAST_SAMPLES = 20


class HedgeBudget:
    """Extra calls as a share of calls: 0.05 allows one in twenty, and saves up at most ``burst`` of them."""

    def __init__(self, share: float, *, burst: int = 5, begin: int = 0) -> None:
        """``begin`` extra calls may be made before any was earned: a quiet service may try again as well."""
        if not 0 <= share <= 1 or burst < 1:
            raise Invalid("a budget for second calls needs a share of 0 to 1 and a burst of at least 1")
        self._each, self._most = round(share * _WHOLE), burst * _WHOLE
        self._lock = threading.Lock()
        self._held = min(begin, burst) * _WHOLE

    def earn(self) -> None:
        """One call was made."""
        with self._lock:
            self._held = min(self._held + self._each, self._most)

    def take(self) -> bool:
        """Whether one more call may be made now; it is counted at once."""
        with self._lock:
            if self._held < _WHOLE:
                return False
            self._held -= _WHOLE
            return True


class FirstTokens:
    """The newest times to the first token of one model."""

    def __init__(self, *, newest: int = 200) -> None:
        self._lock = threading.Lock()
        self._seen: deque[float] = deque(maxlen=max(newest, _LEAST_SAMPLES))
        self._p95: float | None = None

    def seen(self, seconds: float) -> None:
        with self._lock:
            self._seen.append(seconds)
            self._p95 = None

    def p95(self) -> float | None:
        """Seconds after which 95 of 100 had their first token (nearest rank); None below 20 samples."""
        with self._lock:
            if len(self._seen) < _LEAST_SAMPLES:
                return None
            if self._p95 is None:
                self._p95 = sorted(self._seen)[-(-len(self._seen) * 95 // 100) - 1]
            return self._p95
