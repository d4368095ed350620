"""Objectives: what is left of each error budget over its window, what happened meanwhile, and how fast it goes now."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from fastapi import FastAPI, Request
from markupsafe import Markup
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.agreement.attainment import budgeted
from mainstay.agreement.burning import Reading, Severity, readings
from mainstay.agreement.ports import Slice
from mainstay.agreement.terms import Objective, seconds
from mainstay.agreement.wording import length, promise
from mainstay.app import App
from mainstay.web.console import words
from mainstay.web.console.charts import SIGNS, Mark, budget_line, burn_bar
from mainstay.web.console.home import MODES
from mainstay.web.console.shell import Screen, enter, page
from mainstay.web.console.tables import Column, Table, csv_of, wants_csv
from mainstay.web.desk import Desk

SCREEN = Screen(name="Objectives", path="/objectives", needs=(Permission.TRACES_READ,))
FRESH_S = 30.0
STEPS = (300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600, 7 * 24 * 3600)
PIECES = 45
"""At most so many points has a line."""
GRACE = timedelta(minutes=1)
MARKS = 40


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What happened in one piece of the window; ``left`` is what remains of the whole window's budget after it."""

    since: datetime
    until: datetime
    events: int
    bad: float
    left: float | None


@dataclass(frozen=True, kw_only=True)
class Line:
    """One objective as it stands: its pieces in order, and its burn windows."""

    held: Objective
    promise: str
    since: datetime
    until: datetime
    pieces: Sequence[Piece]
    burns: Sequence[Reading]

    @property
    def left(self) -> float | None:
        return self.pieces[-1].left if self.pieces else None

    @property
    def events(self) -> int:
        return sum(piece.events for piece in self.pieces)

    @property
    def summary(self) -> str:
        """The whole in one sentence."""
        if self.left is None:
            return f"Nothing was measured in the last {length(_seconds(self.held))}."
        said = (
            f"{words.share(self.left)} of the error budget is left"
            if self.left >= 0
            else f"The error budget is overspent by {words.share(-self.left) if math.isfinite(self.left) else 'far'}"
        )
        firing = [one for one in self.burns if one.over]
        fast = f"; it burns too fast in {len(firing)} of {len(self.burns)} windows" if firing else ""
        return f"{said}, of {self.events:,} {'event' if self.events == 1 else 'events'} in {length(_seconds(self.held))}{fast}."


class Board:
    """Reads the lines, at most every half minute, whoever looks; pieces that are over are read once."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._held: tuple[float, datetime, list[Line], list[Mark]] | None = None
        self._pieces: dict[tuple[str, datetime, datetime], tuple[int, float, float]] = {}

    def read(self) -> tuple[datetime, list[Line], list[Mark]]:
        """As of when, the objectives, and what happened in their windows. Errors: Unavailable."""
        with self._lock:
            tick = self._app.clock.monotonic()
            if self._held is None or tick - self._held[0] >= FRESH_S:
                now = self._app.clock.now()
                lines = [self._line(held, now) for held in self._app.settings.agreement.objectives]
                since = min((line.since for line in lines), default=now)
                self._forget({(line.held.name, piece.since) for line in lines for piece in line.pieces})
                self._held = (tick, now, lines, marks(self._app, since))
            return self._held[1:]

    def _line(self, held: Objective, now: datetime) -> Line:
        window = _seconds(held)
        since = now - timedelta(seconds=window)
        found: list[tuple[datetime, datetime, int, float]] = []
        allowed = 0.0
        for start, end in cuts(since, now, window):
            events, bad, allowed = self._piece(held, start, end, now)
            found.append((start, end, events, bad))
        whole = allowed * sum(events for _, _, events, _ in found)
        return Line(
            held=held,
            promise=promise(held),
            since=since,
            until=now,
            pieces=_running(found, whole),
            burns=readings(held, self._app.measures, now, set(Severity)),
        )

    def _piece(self, held: Objective, start: datetime, end: datetime, now: datetime) -> tuple[int, float, float]:
        key = (held.name, start, end)
        known = self._pieces.get(key)
        if known is not None:
            return known
        found = budgeted(held, self._app.measures, Slice(since=start, until=end, team=held.team, door=held.door))
        value = (found.events, found.bad, found.allowed)
        if now - end > GRACE and start.second == start.microsecond == 0:
            self._pieces[key] = value
        return value

    def _forget(self, alive: set[tuple[str, datetime]]) -> None:
        for key in [key for key in self._pieces if key[:2] not in alive]:
            del self._pieces[key]


def cuts(since: datetime, now: datetime, window_s: float) -> list[tuple[datetime, datetime]]:
    """The window in at most ``PIECES`` pieces whose inner ends stand on whole hours or days (UTC)."""
    step = next((one for one in STEPS if window_s / one <= PIECES - 2), STEPS[-1])
    step = max(step, math.ceil(window_s / (PIECES - 2)))
    ends = []
    at = (int(since.timestamp()) // step + 1) * step
    while at < now.timestamp():
        ends.append(datetime.fromtimestamp(at, UTC))
        at += step
    edges = [since, *ends, now]
    return list(pairwise(edges))


def _running(found: Sequence[tuple[datetime, datetime, int, float]], whole: float) -> list[Piece]:
    """What is left after each piece, of what the whole window permits."""
    spent, pieces = 0.0, []
    events = sum(one[2] for one in found)
    for start, end, count, bad in found:
        spent += bad
        left = None if not events else 1 - spent / whole if whole > 0 else (1.0 if spent <= 0 else -math.inf)
        pieces.append(Piece(since=start, until=end, events=count, bad=bad, left=left))
    return pieces


def marks(app: App, since: datetime) -> list[Mark]:
    """Releases, changes of mode and incidents since then, in order of time."""
    found = [Mark(at=at, kind="release", what=f"release {name}") for name, at in app.lookups.releases(since)]
    found += [
        Mark(
            at=event.at,
            kind="mode",
            what=f"{MODES[event.before]} → {MODES[event.after]}: {event.detail or event.reason}",
        )
        for event in app.modes.events(MARKS)
        if event.at >= since
    ]
    found += [
        Mark(at=alert.opened, kind="incident", what=f"{alert.severity} for {alert.objective}")
        for alert in app.alarming.store.list(since=since, limit=MARKS)
        if alert.opened >= since
    ]
    return sorted(found, key=lambda mark: mark.at)


def add(api: FastAPI, desk: Desk) -> None:
    board = Board(desk.app)

    @api.get(SCREEN.path, include_in_schema=False)
    def objectives(request: Request) -> Response:
        actor = enter(desk, request, SCREEN)
        at, lines, happened = board.read()
        tables = [table(line) for line in lines]
        events = _happened(happened)
        if wants_csv(request):
            return csv_of(request, _all(lines), *tables, events)
        return page(
            request,
            "objectives.html",
            actor=actor,
            at=at,
            shown=[_shown(line, [mark for mark in happened if mark.at >= line.since]) for line in lines],
            tables=tables,
            events=events,
            signs=SIGNS,
        )


def _shown(line: Line, happened: Sequence[Mark]) -> dict[str, Any]:
    """One objective, ready to be drawn."""
    points = [(line.since, 1.0)] if line.left is not None else []
    points += [(piece.until, max(piece.left, -9.0)) for piece in line.pieces if piece.left is not None]
    overspent = line.left is not None and line.left < 0
    return {
        "name": line.held.name,
        "promise": line.promise,
        "summary": line.summary,
        "state": ("overspent", "bad") if overspent else ("within budget", "good") if points else ("no data", "soft"),
        "figure": budget_line(
            points, happened, since=line.since, until=line.until, title=f"{line.held.name}: {line.summary}"
        )
        if points
        else None,
        "burns": [_burn(one) for one in line.burns],
        "alarms": line.held.alert != "none",
    }


def _burn(one: Reading) -> dict[str, Any]:
    window, threshold = length(one.fitted.rule.long.total_seconds()), one.fitted.burn
    shown = min(one.long_burn, 1e6)
    limit = min(threshold, 1e6)
    state = "fires" if one.over else "calm" if one.events else "nothing measured"
    said = f"burns at {shown:.2f} times the permitted pace; {one.fitted.rule.severity} from {limit:.1f}"
    return {
        "window": window,
        "state": state,
        "look": "bad" if one.over else "good" if one.events else "soft",
        "said": said if one.events else "No event in this window.",
        "figure": burn_bar(shown, limit, over=one.over, title=f"Last {window}: {said}") if one.events else Markup(""),
    }


def table(line: Line) -> Table:
    """The numbers behind one line."""
    return Table(
        name=f"objective-{line.held.name}",
        caption=f"{line.held.name}, piece by piece",
        columns=[
            Column(key="since", head="From", kind="time"),
            Column(key="until", head="To", kind="time"),
            Column(key="events", head="Events", kind="count"),
            Column(key="bad", head="Bad", kind="count"),
            Column(key="left", head="Budget left", kind="share"),
        ],
        rows=[
            {"since": one.since, "until": one.until, "events": one.events, "bad": one.bad, "left": _finite(one.left)}
            for one in line.pieces
        ],
    )


def _all(lines: Sequence[Line]) -> Table:
    return Table(
        name="objectives",
        caption="Objectives",
        columns=[
            Column(key="objective", head="Objective"),
            Column(key="promise", head="Promise"),
            Column(key="events", head="Events", kind="count"),
            Column(key="left", head="Budget left", kind="share"),
            *(Column(key=f"burn_{n}", head=f"Burn {n}", kind="score") for n in range(1, 5)),
        ],
        rows=[
            {
                "objective": line.held.name,
                "promise": line.promise,
                "events": line.events,
                "left": _finite(line.left),
                **{f"burn_{n}": _finite(one.long_burn) for n, one in enumerate(line.burns, 1)},
            }
            for line in lines
        ],
    )


def _happened(found: Sequence[Mark]) -> Table:
    return Table(
        name="events",
        caption="Releases, changes of mode, incidents",
        columns=[
            Column(key="at", head="When", kind="time"),
            Column(key="kind", head="What"),
            Column(key="what", head="Which"),
        ],
        rows=[{"at": mark.at, "kind": mark.kind, "what": mark.what} for mark in reversed(found)],
        empty="Nothing of that kind happened in these windows.",
    )


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _seconds(held: Objective) -> float:
    return seconds(held.window, f"objectives.{held.name}.window")
