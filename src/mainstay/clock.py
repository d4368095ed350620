"""Where times and ids come from: the machine's clock, and one that a test holds still.

An id is ``PREFIX_`` and 26 characters of Crockford's base 32: 48 bits of milliseconds, then 80 random bits, so that
ids sort by the time they were made (to the millisecond) and can be neither guessed nor counted.
"""

from __future__ import annotations

import secrets
import threading
import time
from datetime import UTC, datetime, timedelta

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_START = datetime(2026, 1, 1, tzinfo=UTC)


class SystemClock:
    """The machine's own clock, UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only grow: for deadlines and durations, never for dates."""
        return time.monotonic()

    def new_id(self, prefix: str) -> str:
        return _id(prefix, time.time_ns() // 1_000_000 << 80 | secrets.randbits(80))


class FixedClock:
    """A clock that moves only when told, or by ``step`` at each look; its ids count 1, 2, 3: the same run gives the
    same bytes.
    """

    def __init__(self, start: datetime = _START, step: timedelta = timedelta(0)) -> None:
        self._start = self._now = start.astimezone(UTC)
        self._step = step
        self._count = 0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            seen = self._now
            self._now += self._step
            return seen

    def monotonic(self) -> float:
        """Seconds since ``start``; looking does not move the clock."""
        with self._lock:
            return (self._now - self._start).total_seconds()

    def new_id(self, prefix: str) -> str:
        with self._lock:
            self._count += 1
            return _id(prefix, self._count)

    def advance(self, by: timedelta) -> None:
        with self._lock:
            self._now += by


def _id(prefix: str, number: int) -> str:
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
