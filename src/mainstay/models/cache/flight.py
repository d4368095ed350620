"""One answer for identical questions in the air: who comes first works, the others wait.

Only what is the very same flies together: the key holds the place, the words, what search brought and the asker's Scope. When
the leader fails one follower takes over, so that a failure costs one more try and not as many as are waiting.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Generic, TypeVar

from mainstay.models.cache.gates import normalised
from mainstay.models.cache.ports import Asked, digest
from mainstay.types import Clock

T = TypeVar("T")


def flight_key(asked: Asked, *, scope_digest: str) -> str:
    """What must be equal for one answer to serve two askers at once. ``asked.read`` must be given."""
    return digest(asked.place, normalised(asked.question), asked.read_digest, scope_digest)


class _Flight(Generic[T]):
    def __init__(self, until: float) -> None:
        self.until = until
        self.waiting = 0
        self.led = True
        self.landed: list[T] = []


class Leader(Generic[T]):
    """Works for all: ``land`` in the end. Leaving the ``with`` block otherwise hands the lead to one who waits."""

    def __init__(self, flights: Flights[T], key: str, flight: _Flight[T]) -> None:
        self._flights, self._key, self._flight = flights, key, flight
        self._done = False

    def land(self, value: T) -> None:
        """The answer, for everybody on board."""
        if not self._done:
            self._done = True
            self._flights._land(self._key, self._flight, value)

    def fail(self) -> None:
        """No answer: somebody else goes on. Without effect after ``land``."""
        if not self._done:
            self._done = True
            self._flights._fail(self._key, self._flight)

    def __enter__(self) -> Leader[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.fail()


class Follower(Generic[T]):
    """Waits for the leader."""

    def __init__(self, flights: Flights[T], key: str, flight: _Flight[T]) -> None:
        self._flights, self._key, self._flight = flights, key, flight

    def wait(self, timeout_s: float) -> Landed[T] | Leader[T] | None:
        """What landed; or the lead, when the leader failed; or None when the time is over: then go on alone."""
        return self._flights._wait(self._key, self._flight, timeout_s)


class Landed(Generic[T]):
    """An answer that another thread made for the same question."""

    def __init__(self, value: T) -> None:
        self.value = value


class Flights(Generic[T]):
    """The questions in the air in this process."""

    def __init__(self, clock: Clock, *, longest_s: float = 60.0) -> None:
        """A leader silent for ``longest_s`` is no longer joined."""
        self._clock, self._longest = clock, longest_s
        self._changed = threading.Condition()
        self._air: dict[str, _Flight[T]] = {}
        self.shared = 0

    def join(self, key: str) -> Leader[T] | Follower[T]:
        """The lead of a new flight, or a seat in the one that is in the air."""
        with self._changed:
            now = self._clock.monotonic()
            flight = self._air.get(key)
            if flight is not None and now < flight.until:
                flight.waiting += 1
                return Follower(self, key, flight)
            flight = _Flight(now + self._longest)
            self._air[key] = flight
            return Leader(self, key, flight)

    def in_the_air(self) -> int:
        with self._changed:
            return len(self._air)

    def _land(self, key: str, flight: _Flight[T], value: T) -> None:
        with self._changed:
            flight.landed.append(value)
            self._gone(key, flight)
            self._changed.notify_all()

    def _fail(self, key: str, flight: _Flight[T]) -> None:
        with self._changed:
            flight.led = False
            if not flight.waiting:
                self._gone(key, flight)
            self._changed.notify_all()

    def _wait(self, key: str, flight: _Flight[T], timeout_s: float) -> Landed[T] | Leader[T] | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(flight.landed) or not flight.led, max(0.0, timeout_s))
            flight.waiting -= 1
            if flight.landed:
                self.shared += 1
                return Landed(flight.landed[0])
            if not flight.led:
                flight.led = True
                flight.until = self._clock.monotonic() + self._longest
                return Leader(self, key, flight)
            return None

    def _gone(self, key: str, flight: _Flight[T]) -> None:
        if self._air.get(key) is flight:
            del self._air[key]
