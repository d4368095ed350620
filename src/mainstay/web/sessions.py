"""Who is signed in at the page. Kept in this process: a restart signs everybody out, a revoke is in force at the next click.

A session holds what was shown at sign-in, never a decision made from it: each request authenticates anew.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from mainstay.errors import Exhausted
from mainstay.types import Clock

LIFETIME_S = 12 * 3600.0
IDLE_S = 2 * 3600.0
MAX_SESSIONS = 10_000
TRIES_OF_ONE = 10
TRIES_OF_ALL = 100
TRIES_WITHIN_S = 900.0
MAX_WATCHED = 10_000


@dataclass(kw_only=True)
class Session:
    """``authorization`` is the header a key or token was given for; ``principal`` a user who gave a password."""

    authorization: str = field(default="", repr=False)
    principal: str = ""
    began: float = 0.0
    seen: float = 0.0


class Sessions:
    """Sessions by the hash of their token; the oldest go first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, session: Session) -> str:
        """Keep it; returns the token for the cookie."""
        token = secrets.token_urlsafe(32)
        session.began = session.seen = self._clock.monotonic()
        with self._lock:
            self._held[_hash(token)] = session
            while len(self._held) > MAX_SESSIONS:
                self._held.popitem(last=False)
        return token

    def of(self, token: str) -> Session | None:
        """The session of this token, unless it is over."""
        now = self._clock.monotonic()
        with self._lock:
            session = self._held.get(_hash(token))
            if session is None:
                return None
            if now - session.began > LIFETIME_S or now - session.seen > IDLE_S:
                del self._held[_hash(token)]
                return None
            session.seen = now
            return session

    def end(self, token: str) -> None:
        with self._lock:
            self._held.pop(_hash(token), None)


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
