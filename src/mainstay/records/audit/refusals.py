"""Sign-ins that failed, as events of the audit log that nobody can flood it with.

Whoever fails is counted, and the counts are written by a thread of the service: so failing takes the same time whether a name is
known here or not. One name gets one event a minute at most, with how many tries it stands for. All names together get 30 at once
and then one every two minutes; what is beyond, and tries with names that nobody has, stand as numbers in one event every ten
minutes. So a process writes fewer than 900 of these events a day, whatever happens at its door. A name that nobody has is not
kept: people type their password there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mainstay.errors import MainstayError
from mainstay.records.audit.events import SERVICE, AuditEntry, By
from mainstay.types import Clock

REFUSED = "session.refused"
OTHERS = "sign-in:others"
"""The subject of what is counted together."""
OF_ONE, OF_OTHERS = timedelta(minutes=1), timedelta(minutes=10)
AT_ONCE, ONE_MORE_EVERY = 30, timedelta(minutes=2)
MOST_NAMES = 1000
"""So many names are counted each for itself between two writings."""

_log = logging.getLogger(__name__)


@dataclass
class _Count:
    """Tries since the last event, which was at ``told``."""

    told: datetime | None = None
    since: datetime | None = None
    tries: int = 0
    limited: int = 0
    unknown: int = 0
    ways: set[str] = field(default_factory=set)

    def add(self, at: datetime, way: str, *, limited: bool = False, unknown: bool = False) -> None:
        self.since = self.since or at
        self.tries += 1
        self.limited += limited
        self.unknown += unknown
        self.ways.add(way)

    def take(self, other: _Count) -> None:
        """Count what another has counted, too."""
        self.since = min((at for at in (self.since, other.since) if at is not None), default=None)
        self.tries += other.tries
        self.limited += other.limited
        self.unknown += other.unknown
        self.ways |= other.ways

    def due(self, at: datetime, every: timedelta) -> bool:
        return self.tries > 0 and (self.told is None or at - self.told >= every)


class Refusals:
    """One per process; safe from any thread. ``record`` appends events to the log."""

    def __init__(self, record: Callable[..., object], clock: Clock) -> None:
        self._record, self._clock = record, clock
        self._names: dict[str, _Count] = {}
        self._others = _Count()
        self._allowed, self._counted = float(AT_ONCE), clock.now()
        self._lock = threading.Lock()

    def failed(self, who: str, way: str, *, limited: bool = False) -> None:
        """Somebody failed to sign in. ``who`` is the principal whose name was given, empty for a name that nobody has; ``way``
        what was shown: ``password``, ``key``, ``token``, ``provider``. ``limited``: it was not looked at, after too many."""
        now = self._clock.now()
        with self._lock:
            count = self._names.get(who) if who else self._others
            if count is None:
                count = self._names[who] = _Count() if len(self._names) < MOST_NAMES else self._others
            count.add(now, way, limited=limited, unknown=not who)

    def look(self, *, last: bool = False) -> None:
        """Write what is due; with ``last`` everything, before the process ends. Errors: Unavailable, and it is due still."""
        now = self._clock.now()
        with self._lock:
            due = self._due(now, last=last)
        if not due:
            return
        try:
            self._record(*(_entry(who, count, now) for who, count in due))
        except BaseException:
            with self._lock:
                for who, count in due:
                    held = self._others if who == OTHERS else self._names.setdefault(who, _Count())
                    held.take(count)
                    held.told = count.told
            raise

    def close(self) -> None:
        """Write everything. What can not be written is counted in the program's log."""
        try:
            self.look(last=True)
        except MainstayError as error:
            with self._lock:
                lost = self._others.tries + sum(count.tries for count in self._names.values())
            _log.error("%s failed sign-ins are not in the audit log: %s", lost, error.what)

    def _due(self, now: datetime, *, last: bool) -> list[tuple[str, _Count]]:
        self._allowed = min(AT_ONCE, self._allowed + (now - self._counted) / ONE_MORE_EVERY)
        self._counted = now
        due: list[tuple[str, _Count]] = []
        for who, count in list(self._names.items()):
            if not count.tries and count.told is not None and now - count.told >= OF_ONE:
                del self._names[who]
            elif count.due(now, OF_ONE) or (last and count.tries):
                if self._allowed >= 1:
                    self._allowed -= 1
                    due.append((who, count))
                    self._names[who] = _Count(told=now)
                else:
                    self._others.take(count)
                    del self._names[who]
        if self._others.due(now, OF_OTHERS) or (last and self._others.tries):
            due.append((OTHERS, self._others))
            self._others = _Count(told=now)
        return due


def _entry(who: str, count: _Count, at: datetime) -> AuditEntry:
    details: dict[str, object] = {"tries": count.tries, "with": sorted(count.ways)}
    if count.since is not None and count.tries > 1:
        details["since"] = count.since.isoformat()
    if count.limited:
        details["limited"] = count.limited
    if count.unknown:
        details["unknown"] = count.unknown
    return AuditEntry(action=REFUSED, subject=who, at=at, details=details, by=By(principal=SERVICE))
