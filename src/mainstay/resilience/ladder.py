"""The ladder of modes: full, economy, cached only, sources only, static; who asks for which, and how it is left again.

Automatic reasons (a breaker, an objective, a budget, the database, the index, overload) ask for a mode and stop asking;
the worst of them counts. A rung is held for ``hold_down`` after the last one stopped asking for it or worse, then the mode
goes straight to what is still asked for or held. So a rung is entered at most once in each ``hold_down``, and a reason
that flaps can not make the mode flap.

An operator's order stands in every process until it is withdrawn. An order of a limited mode is a floor: automatic
reasons may still go further down. An order of ``full`` overrules all automatic reasons. Orders act at once, without
hold-down.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from mainstay.agreement import terms
from mainstay.errors import Invalid, MainstayError
from mainstay.resilience.ports import ModeEvent, ModeLog, Order
from mainstay.text.phrases import phrase
from mainstay.types import Clock, Mode

AUTOMATIC = "automatic"
_RANK = {mode: rank for rank, mode in enumerate(Mode)}
_READ_S = 1.0  # how long an order of another process may go unseen
_AWAY_S = (1.0, 2.0, 5.0)  # pauses while the log does not answer; the last one repeats
_STRIKES = 3  # reads in a row that fail before the database counts as away: one that is only slow is none
_UNWRITTEN = 1000
_AT_ONCE = 20  # events that one request may write for all
_OVER_AT_ONCE = ("database", "index")  # when they are back they are back: holding on would deny what works
_CAUSES = ("breaker", "objective", "budget", "database", "index", "overload", "order")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a mode is asked for. ``held``: nobody asks any more, and the hold-down runs."""

    name: str
    mode: Mode
    detail: str
    held: bool = False


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The mode of this process, since when, and all reasons, the deciding one first. ``cause`` names the kind of that one
    for ``mode_notice``. ``trouble`` is set while the log does not answer; ``unwritten`` events wait for it."""

    mode: Mode
    since: datetime
    reasons: tuple[Reason, ...] = ()
    ordered: Order | None = None
    trouble: str = ""
    unwritten: int = 0

    @property
    def cause(self) -> str:
        return cause_of(self.reasons[0].name) if self.reasons and self.mode is not Mode.FULL else ""


@dataclass(frozen=True, kw_only=True)
class _Ask:
    mode: Mode
    detail: str
    number: int
    until: float | None


@dataclass(frozen=True, kw_only=True)
class _Held:
    until: float
    name: str
    detail: str


class Ladder:
    """Which mode this process is in. Reading it is cheap; the shared order is looked at once a second at most.

    ``database_mode`` is asked for while the order can not be read; None leaves that to others.
    """

    def __init__(
        self,
        rules: terms.Ladder,
        clock: Clock,
        log: ModeLog,
        *,
        process: str = "",
        database_mode: Mode | None = Mode.STATIC,
    ) -> None:
        self._clock, self._log = clock, log
        self._process = process or f"{socket.gethostname()}:{os.getpid()}"
        self._hold_s = terms.seconds(rules.hold_down, "modes.hold_down")
        self._rungs = sorted({rule.mode for rule in rules.rungs} - {Mode.FULL}, key=_RANK.__getitem__)
        self._database_mode = database_mode
        self._state = threading.Lock()  # held for moments only
        self._reading = threading.Lock()  # while the log is asked for the order, or told of one
        self._writing = threading.Lock()  # while events are written
        self._asks: dict[str, _Ask] = {}
        self._held: dict[Mode, _Held] = {}
        self._order: Order | None = None
        self._ordering = self._began = False
        self._mode = Mode.FULL
        self._since = clock.now()
        self._decided = ("", "")  # the reason that decided last, for the event of the way back
        self._number = 0
        self._read_at = self._write_at = float("-inf")
        self._unread = self._unkept = 0  # failures in a row
        self._trouble = ""
        self._outbox: deque[ModeEvent] = deque(maxlen=_UNWRITTEN)

    @property
    def rungs(self) -> tuple[Mode, ...]:
        """The modes there are, the best first."""
        return (Mode.FULL, *self._rungs)

    def rung(self, mode: Mode) -> Mode:
        """The rung that stands for ``mode``: itself, or the next one down that is listed; below the last, the last."""
        if mode is Mode.FULL or not self._rungs:
            return Mode.FULL
        return next((rung for rung in self._rungs if _RANK[rung] >= _RANK[mode]), self._rungs[-1])

    def ask_for(self, mode: Mode, reason: str, detail: str = "", *, for_s: float | None = None) -> None:
        """``reason`` needs ``mode`` until it says ``no_longer``, or for so many seconds; asking again replaces what it asked.

        ``reason`` is breaker, objective, budget, database, index or overload, with more after a colon: ``breaker:NAME``.
        ``detail`` is for operators.
        """
        now = self._clock.monotonic()
        with self._state:
            before = self._asks.get(reason)
            if mode is Mode.FULL:
                self._drop(reason, now)
            else:
                if before is not None and before.mode is not mode:
                    self._drop(reason, now)
                self._number += 1
                number = self._number if before is None else before.number
                until = None if for_s is None else now + for_s
                self._asks[reason] = _Ask(mode=self.rung(mode), detail=detail, number=number, until=until)
            self._move(now)
        self._flush()

    def no_longer(self, reason: str) -> None:
        """``reason`` needs nothing any more; what it asked for is held for ``hold_down``."""
        now = self._clock.monotonic()
        with self._state:
            self._drop(reason, now)
            self._move(now)
        self._flush()

    def current(self) -> Standing:
        """How it stands now. Never raises: without the log the last known order counts, and ``trouble`` says so."""
        self._refresh()
        with self._state:
            self._move(self._clock.monotonic())
            standing = self._standing()
        self._flush()
        return standing

    def order(self, mode: Mode | None, by: str, *, for_s: float | None = None, detail: str = "") -> Standing:
        """Order a mode by hand, for all processes; None withdraws it. Errors: Invalid, Unavailable."""
        if mode is not None and mode not in self.rungs:
            raise Invalid(
                f"{mode} is not on the ladder",
                where="modes.rungs",
                fix=f"order one of {', '.join(self.rungs)}, or list it in agreement.yaml",
            )
        with self._reading:
            with self._state:
                self._move(self._clock.monotonic())
                at = self._clock.now()
                until = None if for_s is None else at + timedelta(seconds=for_s)
                order = None if mode is None else Order(mode=mode, by=by, at=at, until=until)
                after = self._wanted(order)
                said = detail or ("withdrawn" if mode is None else f"{mode} ordered")
                event = self._event(after, "order", said, by)
                self._ordering = True
            try:
                self._log.order(order, event)
            except BaseException:
                with self._state:
                    self._ordering = False
                raise
            with self._state:
                self._ordering = False
                self._order = order
                self._set(after, "order", said)
                self._move(self._clock.monotonic())
                standing = self._standing()
        self._flush()
        return standing

    # -- under the state's lock ----------------------------------------------------------------------------------------

    def _drop(self, reason: str, now: float) -> None:
        ask = self._asks.pop(reason, None)
        if ask is not None and cause_of(reason) not in _OVER_AT_ONCE:
            ended = now if ask.until is None else min(now, ask.until)
            held = self._held.get(ask.mode)
            if held is None or held.until < ended + self._hold_s:
                self._held[ask.mode] = _Held(until=ended + self._hold_s, name=reason, detail=ask.detail)

    def _move(self, now: float) -> None:
        """Go where the asks, the holds and the order say, with one event if that is elsewhere."""
        for reason in [name for name, ask in self._asks.items() if ask.until is not None and ask.until <= now]:
            self._drop(reason, now)
        for mode in [mode for mode, held in self._held.items() if held.until <= now]:
            del self._held[mode]
        if self._ordering:
            return  # an order is being written: whoever writes it goes on from there
        after = self._wanted(self._order)
        if after is self._mode:
            return
        order = self._standing_order()
        deciding = next(iter(self._reasons()), None)
        if deciding is not None and deciding.mode is after:
            name, detail = deciding.name, deciding.detail
        elif order is not None:
            name, detail = "order", f"{order.mode} ordered"
        else:
            name, detail = self._decided[0], f"over: {self._decided[1]}" if self._decided[1] else "over"
        by = order.by if order is not None and name == "order" else AUTOMATIC
        self._outbox.append(self._event(after, name, detail, by))
        self._set(after, name, detail)

    def _event(self, after: Mode, reason: str, detail: str, by: str) -> ModeEvent:
        return ModeEvent(
            event_id=self._clock.new_id("mode"),
            before=self._mode,
            after=after,
            reason=reason,
            detail=detail,
            by=by,
            at=self._clock.now(),
            process=self._process,
        )

    def _set(self, after: Mode, name: str, detail: str) -> None:
        if after is not self._mode:
            self._mode, self._since = after, self._clock.now()
        if after is not Mode.FULL:
            self._decided = (name, detail)

    def _standing_order(self) -> Order | None:
        return self._valid(self._order)

    def _valid(self, order: Order | None) -> Order | None:
        if order is None or (order.until is not None and order.until <= self._clock.now()):
            return None
        return order

    def _wanted(self, order: Order | None) -> Mode:
        order = self._valid(order)
        automatic = _worst([ask.mode for ask in self._asks.values()] + list(self._held))
        if order is None:
            return automatic
        return Mode.FULL if order.mode is Mode.FULL else _worst([self.rung(order.mode), automatic])

    def _reasons(self) -> list[Reason]:
        """All that ask, the worst mode first; among equals the order, then the one that asked first, then what is held."""
        found: list[tuple[int, int, int, Reason]] = []
        order = self._standing_order()
        if order is not None and order.mode is not Mode.FULL:
            mode = self.rung(order.mode)
            found.append((-_RANK[mode], 0, 0, Reason(name="order", mode=mode, detail=f"{order.mode} ordered")))
        for name, ask in self._asks.items():
            found.append((-_RANK[ask.mode], 1, ask.number, Reason(name=name, mode=ask.mode, detail=ask.detail)))
        for mode, held in self._held.items():
            reason = Reason(name=held.name, mode=mode, detail=held.detail, held=True)
            found.append((-_RANK[mode], 2, 0, reason))
        return [reason for *_, reason in sorted(found, key=lambda one: one[:3])]

    def _standing(self) -> Standing:
        return Standing(
            mode=self._mode,
            since=self._since,
            reasons=tuple(self._reasons()),
            ordered=self._standing_order(),
            trouble=self._trouble,
            unwritten=len(self._outbox),
        )

    # -- asking and telling the log, outside the state's lock ----------------------------------------------------------

    def _refresh(self) -> None:
        if self._clock.monotonic() < self._read_at or not self._reading.acquire(blocking=False):
            return
        try:
            now = self._clock.monotonic()
            if now < self._read_at:
                return
            order, said = None, ""
            try:
                order = self._log.ordered()
            except Exception as error:  # noqa: BLE001 - whatever the database does, requests are still answered somehow
                said = error.line() if isinstance(error, MainstayError) else type(error).__name__
            self._read(order, said)
        finally:
            self._reading.release()

    def _read(self, order: Order | None, said: str) -> None:
        """Take note of the order, or of why it could not be read."""
        away = False
        with self._state:
            now = self._clock.monotonic()
            if said:
                self._read_at = now + _AWAY_S[min(self._unread, len(_AWAY_S) - 1)]
                self._unread += 1
                self._trouble = f"database: {said}"
                away = self._unread >= _STRIKES
            else:
                self._read_at = now + _READ_S
                self._unread, self._trouble = 0, ""
                self._order = order
                if not self._began:  # an order that stood before this process began is no change of its mode
                    self._began = True
                    if self._standing_order() is not None and not self._asks:
                        self._set(self._wanted(order), "order", f"{order.mode} ordered" if order else "")
        if self._database_mode is not None:
            if away:
                self.ask_for(self._database_mode, "database:modes", said)
            elif not said:
                self.no_longer("database:modes")

    def _flush(self) -> None:
        """Write what is not yet written, in order; what can not be written now waits in memory, the newest 1000."""
        if not self._outbox or self._clock.monotonic() < self._write_at or not self._writing.acquire(blocking=False):
            return
        try:
            for _ in range(_AT_ONCE):
                with self._state:
                    if not self._outbox:
                        return
                    event = self._outbox[0]
                try:
                    self._log.keep(event)
                except Exception:  # noqa: BLE001 - a change of mode is no reason for a request to fail
                    self._write_at = self._clock.monotonic() + _AWAY_S[min(self._unkept, len(_AWAY_S) - 1)]
                    self._unkept += 1
                    return
                with self._state:
                    self._unkept = 0
                    if self._outbox and self._outbox[0] is event:  # else it fell out at the far end meanwhile
                        self._outbox.popleft()
        finally:
            self._writing.release()


def mode_for(standing: Standing, own: Mode) -> Mode:
    """The mode of one request: the worse of the service's and of what its own budget leaves (``Ladder.rung`` of it)."""
    return _worst([standing.mode, own])


def cause_of(reason: str) -> str:
    """The kind of a reason, in the words that ``mode_notice`` knows: ``breaker:NAME`` is a breaker."""
    kind = reason.partition(":")[0]
    return kind if kind in _CAUSES else ""


def mode_notice(mode: Mode, cause: str, language: str, rules: terms.Ladder) -> str:
    """One plain sentence for the asker: what is limited, and the plain cause; empty in full mode.

    The agreement's own notice wins: in the language, else its English; ``{cause}`` in it is filled in. ``cause`` is a
    reason or the kind of one; details of it are for operators.
    """
    if mode is Mode.FULL:
        return ""
    why = _why(cause, language)
    own = next((rule.notice for rule in rules.rungs if rule.mode is mode), {})
    said = own.get(language) or own.get("en")
    if said:
        return said.replace("{cause}", why)
    return phrase("limited_because" if why else "limited", language, cause=why, said=phrase(f"mode_{mode}", language))


def static_text(language: str, rules: terms.Ladder, cause: str = "") -> str:
    """What is said instead of an answer in static mode: the agreement's own text with ``{cause}`` filled in as in a notice,
    else the built-in one."""
    own = next((rule.text for rule in rules.rungs if rule.mode is Mode.STATIC), {})
    said = own.get(language) or own.get("en")
    return said.replace("{cause}", _why(cause, language)) if said else phrase("static_text", language)


def _why(cause: str, language: str) -> str:
    """A reason, or the kind of one, in plain words; empty when there is none."""
    kind = cause_of(cause)
    return phrase(f"cause_{kind}", language) if kind else ""


def _worst(modes: list[Mode]) -> Mode:
    return max(modes, key=_RANK.__getitem__, default=Mode.FULL)
