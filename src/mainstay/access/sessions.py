"""Who is signed in at the console: what was shown at sign-in, kept where every process sees it.

A session holds no right and no credential: who somebody is was proved once, what they may do is worked out anew at each
request. Of the cookie's token only a hash is kept, of an API key only its id, and that key has to be in force each time.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, Protocol

from mainstay.errors import Unavailable
from mainstay.types import Clock

LIFETIME = timedelta(hours=12)
IDLE = timedelta(hours=2)
SEEN_EVERY = timedelta(minutes=1)
"""So old may the note of a session's last use be: not every click writes."""
MOST_OF_ONE = 50
"""So many sessions of one person are kept, the newest."""

Credential = Literal["password", "key", "token", "provider"]
End = Literal[
    "signed_out",
    "signed_in_anew",
    "expired",
    "unused",
    "too_many",
    "not_valid",
    "password",
    "disabled",
    "removed",
    "key_revoked",
    "ended_for_them",
]
"""Why a session ended: by its person (in this browser, here or anew), by time, by number, because what was shown holds no
more, because of a change of the account or key, or because somebody ended all of a person's."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """``groups`` are those an identity provider asserted, None when none was asked; ``key_id`` names the key shown.
    ``expires`` is the latest end, whatever is done."""

    principal: str
    credential: Credential
    display: str = ""
    groups: tuple[str, ...] | None = None
    key_id: str = ""
    created: datetime
    seen: datetime
    expires: datetime


class SessionStore(Protocol):
    """Sessions by the hash of their token. The audit log hears of each beginning and end in the same transaction."""

    def add(self, token_hash: str, session: Session, *, most: int) -> None:
        """Keep it, of the same principal the newest ``most``; forget what has expired."""
        ...

    def get(self, token_hash: str) -> Session | None: ...

    def touch(self, token_hash: str, at: datetime) -> None: ...

    def remove(self, token_hash: str, because: End, at: datetime) -> None:
        """Nothing, if there is none."""
        ...

    def remove_of(self, principal: str, because: End, at: datetime) -> int: ...


class Sessions:
    """Begins, finds and ends sessions; all processes of a service share them."""

    def __init__(self, store: SessionStore, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def begin(
        self,
        principal: str,
        credential: Credential,
        *,
        display: str = "",
        groups: tuple[str, ...] | None = None,
        key_id: str = "",
        until: datetime | None = None,
    ) -> str:
        """A session that has just been proved, for 12 hours or ``until``, whichever is earlier; returns the cookie's token."""
        token, now = secrets.token_urlsafe(32), self._clock.now()
        session = Session(
            principal=principal,
            credential=credential,
            display=display,
            groups=groups,
            key_id=key_id,
            created=now,
            seen=now,
            expires=min(until or now + LIFETIME, now + LIFETIME),
        )
        self._store.add(_hash(token), session, most=MOST_OF_ONE)
        return token

    def of(self, token: str, *, used: bool = True) -> Session | None:
        """The session of this token, unless it is over. ``used``: somebody is there; else a page looks by itself, which
        keeps no session alive."""
        hashed = _hash(token)
        session = self._store.get(hashed)
        if session is None:
            return None
        now = self._clock.now()
        if now >= session.expires or now - session.seen > IDLE:
            self._store.remove(hashed, "expired" if now >= session.expires else "unused", now)
            return None
        if used and now - session.seen >= SEEN_EVERY:
            try:
                self._store.touch(hashed, now)
            except Unavailable:
                return session  # a busy database must not sign anybody out; the next click tells it
            session = replace(session, seen=now)
        return session

    def end(self, token: str, because: End = "signed_out") -> None:
        if token:
            self._store.remove(_hash(token), because, self._clock.now())

    def end_all(self, principal: str, because: End = "ended_for_them") -> int:
        """Sign somebody out everywhere; returns out of how many sessions."""
        return self._store.remove_of(principal, because, self._clock.now())


def _hash(token: str) -> str:
    """The token has 256 random bits: nobody can guess it however fast the hash is."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
