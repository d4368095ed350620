"""How often a sign-in may be tried at this process. Who is signed in is kept in ``mainstay.access.sessions``."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from mainstay.errors import Exhausted
from mainstay.types import Clock

TRIES_OF_ONE = 10
TRIES_OF_ALL = 100
TRIES_WITHIN_S = 900.0
MAX_WATCHED = 10_000


class Tries:
    """How often a sign-in may be wrong within a quarter of an hour: few times for one name from one address, more for a name or
    an address alone, so that nobody locks out a colleague or a whole office.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def allow(self, name: str, address: str) -> None:
        """Errors: Exhausted after too many failures."""
        now = self._clock.monotonic()
        with self._lock:
            for who, limit in _watched(name, address):
                recent = [at for at in self._wrong.get(who, ()) if now - at < TRIES_WITHIN_S]
                if len(recent) >= limit:
                    wait = TRIES_WITHIN_S - (now - recent[-limit])
                    raise Exhausted("too many tries to sign in", fix="wait a few minutes", retry_after_s=wait)

    def wrong(self, name: str, address: str) -> None:
        """Remember a failure."""
        now = self._clock.monotonic()
        with self._lock:
            for who, limit in _watched(name, address):
                recent = [at for at in self._wrong.pop(who, ()) if now - at < TRIES_WITHIN_S]
                self._wrong[who] = [*recent, now][-limit:]
            while len(self._wrong) > MAX_WATCHED:
                self._wrong.popitem(last=False)


def _watched(name: str, address: str) -> tuple[tuple[str, int], ...]:
    name = _hash(name.strip().casefold())
    return ((f"{address} {name}", TRIES_OF_ONE), (address, TRIES_OF_ALL), (name, TRIES_OF_ALL))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
