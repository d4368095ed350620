"""Objectives that raise alarm: when an alert opens and ends, who is told, and who does not want to hear of it.

One alert stands for one objective and severity, however many of its rules fire (``agreement.burning``). It opens at once, and
ends after it has been quiet for a while. People are told of what fires together in one message, again while nobody has
acknowledged it, and when it is over. A silence keeps messages back and changes nothing else; what was silenced from start to
end is never told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from mainstay.agreement.burning import QUIET, Once, Reading, Severity, readings, severities
from mainstay.agreement.ports import Measures
from mainstay.agreement.terms import Agreement, Objective, seconds
from mainstay.agreement.wording import length, promise
from mainstay.errors import Invalid, NotFound
from mainstay.types import Clock

_FORBID: Any = {"extra": "forbid"}
LOOK_EVERY = timedelta(seconds=45)
TICKETS_EVERY = timedelta(minutes=10)
"""Windows of days change slowly and are long to read: so often they are looked at."""
LONGEST_SILENCE = timedelta(days=90)
SHOWN_AFTER = timedelta(days=7)
GONE_AFTER = timedelta(minutes=30)
"""For so long an alert that is over is told to alert managers, which take what is told no more for over as well."""
MAX_NOTE = 500
WEBHOOK, EMAIL, ALERTMANAGER = "webhook", "email:", "alertmanager"
TEST = "test"
RUNBOOK = "docs/howto/alerts.md"

Kind = Literal["firing", "resolved", "test"]


@dataclass(frozen=True, kw_only=True)
class AlertSettings:
    """Who is told. ``webhook`` gets signed JSON documents (the key is ``handover.secret``), ``email`` messages through
    ``smtp``, ``alertmanager`` (the address of one, like http://alertmanager:9093) what it knows as alerts. What fires within
    ``group_wait`` is one message; it is repeated every ``repeat`` until somebody acknowledges it."""

    __pydantic_config__ = _FORBID

    webhook: str = field(default="", repr=False)
    email: tuple[str, ...] = ()
    alertmanager: str = field(default="", repr=False)
    group_wait: str = "30s"
    repeat: str = "4h"

    def __post_init__(self) -> None:
        if seconds(self.group_wait, "alerts.group_wait") > 3600:
            raise Invalid(f"alerts.group_wait is {self.group_wait}, it must be at most 1h")
        if seconds(self.repeat, "alerts.repeat") < 300:
            raise Invalid(f"alerts.repeat is {self.repeat}, it must be at least 5m")

    @property
    def waits(self) -> timedelta:
        return timedelta(seconds=seconds(self.group_wait, "alerts.group_wait"))

    @property
    def repeats(self) -> timedelta:
        return timedelta(seconds=seconds(self.repeat, "alerts.repeat"))

    @property
    def ways(self) -> tuple[str, ...]:
        """By which ways a message leaves: ``webhook``, and ``email:ADDRESS`` for each address once."""
        return (*((WEBHOOK,) if self.webhook else ()), *dict.fromkeys(f"{EMAIL}{address}" for address in self.email))


@dataclass(frozen=True, kw_only=True)
class Burn:
    """One rule that fires: how many times as fast as permitted the error budget goes in its windows, and from which burn on
    the rule fires. Windows in seconds; ``bad`` of ``events`` in the long one (of a cost: dollars)."""

    long_s: float
    short_s: float
    threshold: float
    long_burn: float
    short_burn: float
    low_burn: float
    events: int
    bad: float


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An objective in trouble. ``burns`` are the rules that fire, or fired last. ``told``: when people were told last."""

    id: str
    objective: str
    severity: Severity
    opened: datetime
    looked: datetime
    burns: tuple[Burn, ...] = ()
    quiet_since: datetime | None = None
    acknowledged: datetime | None = None
    acknowledged_by: str = ""
    note: str = ""
    told: datetime | None = None
    notices: int = 0
    resolved: datetime | None = None
    resolved_told: bool = False

    @property
    def open(self) -> bool:
        return self.resolved is None


@dataclass(frozen=True, kw_only=True)
class Silence:
    """Until then nobody is told of alerts of this objective and severity; empty is any."""

    id: str
    objective: str
    severity: str
    since: datetime
    until: datetime
    by: str
    note: str = ""

    def covers(self, alert: Alert, at: datetime) -> bool:
        return (
            self.since <= at < self.until
            and self.objective in ("", alert.objective)
            and self.severity in ("", str(alert.severity))
        )


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One message. Its id is the same however often it is made of the same alerts at the same stage."""

    id: str
    kind: Kind
    at: datetime
    alerts: tuple[Alert, ...]


class Store(Protocol):
    """Alerts and silences over a database. Changes by people name who they are."""

    def claim(self, at: datetime, every: timedelta) -> datetime | None:
        """The right to look now, for one of all processes: when the last look was; None when it was less than ``every`` ago."""
        ...

    def open_alerts(self) -> Sequence[Alert]: ...

    def list(self, *, since: datetime | None = None, limit: int = 100) -> Sequence[Alert]:
        """Open ones first, then the newest; of those that are over what ended ``since``."""
        ...

    def get(self, alert_id: str) -> Alert | None: ...

    def begin(self, alert: Alert) -> bool:
        """Whether this objective had no such alert open, and so has this one now."""
        ...

    def looked(self, alert: Alert) -> None:
        """Keep what was seen of an open alert, and whether it is over (``resolved``)."""
        ...

    def to_tell_over(self) -> Sequence[Alert]:
        """Those that are over, that people were told of, and whose end they do not know."""
        ...

    def told(self, alerts: Sequence[Alert], at: datetime, kind: Kind) -> None: ...

    def acknowledge(self, alert_id: str, *, by: str, note: str, at: datetime) -> Alert | None: ...

    def silence(self, silence: Silence) -> None: ...

    def silences(self, at: datetime) -> Sequence[Silence]:
        """Those that are not over."""
        ...

    def unsilence(self, silence_id: str, *, by: str, at: datetime) -> Silence | None: ...

    def prune(self, before: datetime) -> int: ...


class Alerts:
    """What raises alarm in one service. ``send`` has a message delivered by each way, without waiting for it; ``refresh`` has
    the alert manager told how things stand."""

    def __init__(
        self,
        store: Store,
        measures: Measures,
        agreement: Agreement,
        settings: AlertSettings,
        clock: Clock,
        *,
        send: Callable[[Notice], object],
        refresh: Callable[[], object],
    ) -> None:
        self.store, self._measures, self._agreement = store, measures, agreement
        self._settings, self._clock = settings, clock
        self._send, self._refresh = send, refresh

    def look(self, *, force: bool = False) -> bool:
        """Evaluate what is due, unless another process did a moment ago; whether we did. ``force``: whoever did.

        Errors: Unavailable; nothing is lost by that, the next look sees the same.
        """
        now = self._clock.now()
        last = self.store.claim(now, timedelta(0) if force else LOOK_EVERY)
        if last is None:
            return False
        due = {Severity.PAGE}
        if force or _piece(last) != _piece(now):
            due.add(Severity.TICKET)
        self._evaluate(now, due)
        self._tell(now)
        return True

    def _evaluate(self, now: datetime, due: set[Severity]) -> None:
        measures = Once(self._measures)
        held = {(alert.objective, alert.severity): alert for alert in self.store.open_alerts()}
        seen: set[tuple[str, Severity]] = set()
        for objective in self._agreement.objectives:
            wanted = due & set(severities(objective))
            found = readings(objective, measures, now, wanted) if wanted else []
            for severity in severities(objective):
                key = (objective.name, severity)
                seen.add(key)
                if severity in wanted:
                    own = [one for one in found if one.fitted.rule.severity is severity]
                    self._follow(objective, severity, held.get(key), own, now)
        for key, alert in held.items():
            if key not in seen:  # the agreement promises it no more, or says that nobody is to hear
                self.store.looked(replace(alert, looked=now, resolved=now))

    def _follow(
        self,
        objective: Objective,
        severity: Severity,
        alert: Alert | None,
        found: Sequence[Reading],
        now: datetime,
    ) -> None:
        burns = tuple(_burn(one) for one in found if one.over)
        if alert is None:
            if burns:
                self.store.begin(
                    Alert(
                        id=self._clock.new_id("alr"),
                        objective=objective.name,
                        severity=severity,
                        opened=now,
                        looked=now,
                        burns=burns,
                    )
                )
            return
        if burns or not all(one.quiet for one in found):
            self.store.looked(replace(alert, looked=now, burns=burns or alert.burns, quiet_since=None))
            return
        since = alert.quiet_since or now
        over = now - since >= QUIET[severity]
        self.store.looked(replace(alert, looked=now, quiet_since=since, resolved=now if over else None))

    # -- telling -------------------------------------------------------------------------------------------------------

    def _tell(self, now: datetime) -> None:
        silences = self.store.silences(now)
        heard = [alert for alert in self.store.open_alerts() if not _silenced(alert, silences, now)]
        fresh = [alert for alert in heard if alert.told is None and alert.acknowledged is None]
        again = [
            alert
            for alert in heard
            if alert.told is not None and alert.acknowledged is None and now - alert.told >= self._settings.repeats
        ]
        # What fires together is told together: the first one waits a little for the others.
        ripe = bool(fresh) and now - min(alert.opened for alert in fresh) >= self._settings.waits
        if again or ripe:
            self._notify("firing", [*(fresh if ripe or again else ()), *again], now)
        over = [alert for alert in self.store.to_tell_over() if not _silenced(alert, silences, now)]
        if over:
            self._notify("resolved", over, now)
        self._refresh()

    def _notify(self, kind: Kind, alerts: Sequence[Alert], now: datetime) -> None:
        self._send(Notice(id=_notice_id(kind, alerts), kind=kind, at=now, alerts=tuple(alerts)))
        self.store.told(alerts, now, kind)

    # -- what people do ------------------------------------------------------------------------------------------------

    def standing(self, *, since: datetime | None = None, limit: int = 100) -> list[tuple[Alert, Silence | None]]:
        """Alerts with what silences them now: open ones, then those that ended in the last week, or ``since``."""
        now = self._clock.now()
        silences = self.store.silences(now)
        return [
            (alert, next((one for one in silences if alert.open and one.covers(alert, now)), None))
            for alert in self.store.list(since=since or now - SHOWN_AFTER, limit=limit)
        ]

    def acknowledge(self, alert_id: str, *, by: str, note: str = "") -> Alert:
        """Somebody has it in hand: no more repetitions. Errors: NotFound for one that is not open."""
        held = self.store.acknowledge(alert_id, by=by, note=_note(note), at=self._clock.now())
        if held is None:
            raise NotFound("no such open alert", where=alert_id[:60], fix="see: mainstay alerts list")
        return held

    def silence(self, *, by: str, length_s: float, objective: str = "", severity: str = "", note: str = "") -> Silence:
        """Nobody is told for a while. Errors: Invalid."""
        now = self._clock.now()
        names = [held.name for held in self._agreement.objectives]
        if objective and objective not in names:
            raise Invalid(
                f"no objective is named {objective[:60]!r}",
                where="objective",
                fix=f"known: {', '.join(names) or 'none'}",
            )
        if severity and severity not in list(Severity):
            raise Invalid(f"{severity[:60]!r} is no severity", where="severity", fix="write page or ticket")
        if not 0 < length_s <= LONGEST_SILENCE.total_seconds():
            raise Invalid("a silence lasts more than nothing and at most 90 days", where="for")
        made = Silence(
            id=self._clock.new_id("sil"),
            objective=objective,
            severity=severity,
            since=now,
            until=now + timedelta(seconds=length_s),
            by=by,
            note=_note(note),
        )
        self.store.silence(made)
        return made

    def unsilence(self, silence_id: str, *, by: str) -> Silence:
        """Tell people again. Errors: NotFound for one that is over."""
        held = self.store.unsilence(silence_id, by=by, at=self._clock.now())
        if held is None:
            raise NotFound("no such silence", where=silence_id[:60], fix="see: mainstay alerts list")
        return held

    def test(self) -> Notice:
        """A message that says that it is a test, by every way that is set up."""
        now = self._clock.now()
        made = Alert(id=self._clock.new_id("alr"), objective=TEST, severity=Severity.TICKET, opened=now, looked=now)
        notice = Notice(id=self._clock.new_id("ntc"), kind="test", at=now, alerts=(made,))
        self._send(notice)
        return notice


def wording(objective: Objective | None, alert: Alert) -> str:
    """One line for whoever is called: what is promised, and how fast it is being broken."""
    if objective is None:
        return "a test: nothing is wrong" if alert.objective == TEST else f"{alert.objective}: promised no more"
    said = promise(replace(objective, enter_mode=None, alert="auto", blocks_promotion=False))
    burn = max(alert.burns, key=lambda one: one.long_burn / one.threshold, default=None)
    if burn is None:
        return f"{objective.name}: {said}"
    what = (
        f"${burn.bad:.6f} for {burn.events} requests"
        if objective.measure == "cost_per_request_usd"
        else f"{burn.bad:g} of {burn.events} were bad"
    )
    return (
        f"{objective.name}: {said}. In the last {length(burn.long_s)} {what}: "
        f"{burn.long_burn:.1f} times as fast as permitted (alarm at {burn.threshold:.1f})"
    )


def objective_of(agreement: Agreement, alert: Alert) -> Objective | None:
    return next((held for held in agreement.objectives if held.name == alert.objective), None)


def silenced(alerts: Sequence[Alert], silences: Sequence[Silence], at: datetime) -> Mapping[str, bool]:
    """Which alerts a silence covers, by id."""
    return {alert.id: _silenced(alert, silences, at) for alert in alerts}


def _silenced(alert: Alert, silences: Sequence[Silence], at: datetime) -> bool:
    return any(one.covers(alert, at) for one in silences)


def _burn(one: Reading) -> Burn:
    return Burn(
        long_s=one.fitted.rule.long.total_seconds(),
        short_s=one.short.total_seconds(),
        threshold=_finite(one.fitted.burn),
        long_burn=_finite(one.long_burn),
        short_burn=_finite(one.short_burn),
        low_burn=_finite(one.low_burn),
        events=one.events,
        bad=one.bad,
    )


def _finite(value: float) -> float:
    """Of a target that permits nothing every burn is without bound: JSON has no word for that."""
    return min(value, 1e6)


def _piece(at: datetime) -> int:
    return int(at.timestamp() // TICKETS_EVERY.total_seconds())


def _note(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_NOTE].encode("utf-8", "replace").decode()


def _notice_id(kind: str, alerts: Sequence[Alert]) -> str:
    said = [kind, *(f"{alert.id}:{alert.notices}" for alert in sorted(alerts, key=lambda one: one.id))]
    return "ntc_" + hashlib.sha256(" ".join(said).encode()).hexdigest()[:26]
