"""Home: the agreement as a scorecard for those who look after the service, Ask for everybody else."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from mainstay.access.keys import Permission
from mainstay.agreement.attainment import ClauseStanding, Standing, budgeted
from mainstay.agreement.ports import Slice
from mainstay.agreement.terms import Objective
from mainstay.agreement.versions import difference, digest, restored
from mainstay.app import App
from mainstay.errors import MainstayError, NotFound
from mainstay.resilience.ladder import Standing as InMode
from mainstay.types import Mode
from mainstay.web.console import ask, figures, words
from mainstay.web.console.shell import Screen, enter, is_part, page, part, screens, with_query
from mainstay.web.console.tables import Cell, Column, Table, csv_answer, csv_of, wants_csv
from mainstay.web.desk import Desk

SCREEN = Screen(name="Home", path="/", needs=(Permission.TRACES_READ,))
DOOR = Screen(name="", path="/")
FRESH_S = 10.0
"""So old may the figures be: a page that is loaded again costs nothing meanwhile."""
TODAY_S = 60.0
"""So old may the last point of a trend be."""
DAYS = 7
CHANGES = 12
VERSIONS = 5
"""So many versions of the agreement are told apart in words."""
MODES = {
    Mode.FULL: "Full service",
    Mode.ECONOMY: "Economy: cheaper models",
    Mode.CACHED_ONLY: "Earlier answers only",
    Mode.SOURCES_ONLY: "Sources only, no answers",
    Mode.STATIC: "Not answering",
}
_STATES: dict[Standing, tuple[str, str]] = {
    "met": ("met", "good"),
    "missed": ("missed", "bad"),
    "too_little_data": ("too little data", "soft"),
    "informative": ("for information", "soft"),
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that changed how the service answers."""

    at: datetime
    what: str
    by: str = ""
    href: str = ""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What Home shows, as of ``at``. ``stale``: why it could not be read anew."""

    at: datetime
    clauses: Sequence[ClauseStanding]
    trends: Mapping[str, Markup | None]
    digest: str
    changes: Sequence[Change]
    stale: str = ""

    @property
    def summary(self) -> str:
        """The whole in one sentence."""
        many = {state: sum(clause.state == state for clause in self.clauses) for state in _STATES}
        judged = many["met"] + many["missed"]
        said = (
            f"{many['met']} of {judged} clauses with enough data are met" if judged else "No clause has enough data yet"
        )
        missed = [clause.words for clause in self.clauses if clause.state == "missed"]
        return f"{said}; missed: {'; '.join(missed)}." if missed else f"{said}."


class Scorecard:
    """Reads what Home shows, at most every ten seconds, whoever looks."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._reading = threading.Lock()
        self._held: tuple[float, Scored] | None = None
        self._days: dict[tuple[str, datetime], tuple[float, tuple[float, float] | None]] = {}

    def read(self) -> Scored:
        """Errors: Unavailable, unless there is an older reading: that one is shown as such."""
        held = self._held
        if held is not None and (self._young(held) or not self._reading.acquire(blocking=False)):
            return held[1]
        if held is None:
            self._reading.acquire()
        try:
            held = self._held
            if held is not None and self._young(held):
                return held[1]
            try:
                scored = self._read()
            except MainstayError as error:
                if held is None:
                    raise
                return replace(held[1], stale=error.what)
            self._held = (self._app.clock.monotonic(), scored)
            return scored
        finally:
            self._reading.release()

    def _young(self, held: tuple[float, Scored]) -> bool:
        return self._app.clock.monotonic() - held[0] < FRESH_S

    def _read(self) -> Scored:
        app, now = self._app, self._app.clock.now()
        return Scored(
            at=now,
            clauses=app.clauses(),
            trends={f"objectives.{one.name}": self._trend(one, now) for one in app.settings.agreement.objectives},
            digest=digest(app.settings.agreement),
            changes=_changes(app),
        )

    def _trend(self, held: Objective, now: datetime) -> Markup | None:
        """One point a day (UTC): the share within the promise, or what a request cost."""
        first = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)
        days = [self._day(held, first + timedelta(days=n), now) for n in range(DAYS)]
        values = [None if day is None else day[0] for day in days]
        if sum(value is not None for value in values) < 2:
            return None
        if held.measure == "cost_per_request_usd":
            texts = ["nothing" if value is None else f"${value:.6f}" for value in values]
            what = "cost of a request"
        else:
            texts = ["nothing" if value is None else str(words.share(value)) for value in values]
            what = "share within the promise"
        target = next(day[1] for day in reversed(days) if day is not None)
        return figures.sparkline(
            values, target=target, title=f"Last {DAYS} days, {what}, oldest first: {', '.join(texts)}"
        )

    def _day(self, held: Objective, since: datetime, now: datetime) -> tuple[float, float] | None:
        """The day's value and what is promised. Days that are over are read once; of today the reading may be a minute old."""
        tick, key = self._app.clock.monotonic(), (held.name, since)
        known = self._days.get(key)
        if known is not None and tick < known[0]:
            return known[1]
        until = min(now, since + timedelta(days=1))
        found = budgeted(held, self._app.measures, Slice(since=since, until=until, team=held.team, door=held.door))
        value = None
        if found.events:
            share = found.bad / found.events
            value = (share, found.allowed) if held.measure == "cost_per_request_usd" else (1 - share, 1 - found.allowed)
        # A minute of grace: what a process measured before midnight may be written after it.
        over = now - until > timedelta(minutes=1)
        self._days[key] = (math.inf if over else tick + TODAY_S, value)
        for old in [one for one in self._days if one[1] < since - timedelta(days=2 * DAYS)]:
            del self._days[old]
        return value


def add(api: FastAPI, desk: Desk) -> None:
    scorecard = Scorecard(desk.app)

    @api.get("/", include_in_schema=False)
    def home(request: Request, q: Annotated[str, Query(max_length=20_000)] = "") -> Response:
        actor = enter(desk, request, DOOR)
        asks = ask.SCREEN.open_to(actor)
        if is_part(request) and not SCREEN.open_to(actor):
            raise NotFound("there is nothing at this address")  # it was theirs when the page was loaded
        if asks and (q or not SCREEN.open_to(actor)):
            return ask.asked(desk, request, actor, q)
        if not SCREEN.open_to(actor):
            others = [one for one in screens(request.app) if one.open_to(actor)]
            if not others:
                raise NotFound("there is nothing at this address")
            return RedirectResponse(others[0].path, 303)
        scored = scorecard.read()
        if wants_csv(request):
            if request.query_params.get("table", "agreement") == "agreement":
                return csv_answer("agreement", _COLUMNS, [_row(clause) for clause in scored.clauses])
            return csv_of(request, _changed(scored))
        view = {
            "scored": scored,
            "table": _table(scored),
            "changes": _changed(scored),
            "mode": _mode(desk.app.ladder.current()),
        }
        if is_part(request):
            return part(request, "home_parts.html", "scorecard", view, lambda **held: with_query(request, **held))
        return page(request, "home.html", actor=actor, lively=True, view=view)


# -- the mode ------------------------------------------------------------------------------------------------------------


def _mode(standing: InMode) -> dict[str, Any]:
    """The mode of this process in words for operators."""
    reasons = [
        f"{held.name}: {held.detail or MODES[held.mode]}{' (held)' if held.held else ''}" for held in standing.reasons
    ]
    return {
        "name": MODES[standing.mode],
        "full": standing.mode is Mode.FULL,
        "since": standing.since,
        "reasons": reasons,
        "ordered": "" if standing.ordered is None else f"{MODES[standing.ordered.mode]}, by {standing.ordered.by}",
        "trouble": standing.trouble,
    }


# -- the clauses ---------------------------------------------------------------------------------------------------------

_COLUMNS = [
    Column(key="clause", head="Clause"),
    Column(key="words", head="Words"),
    Column(key="state", head="State"),
    Column(key="unit", head="Unit"),
    Column(key="target", head="Target", kind="count"),
    Column(key="value", head="Now", kind="count"),
    Column(key="low", head="Low", kind="count"),
    Column(key="high", head="High", kind="count"),
    Column(key="events", head="Events", kind="count"),
    Column(key="budget_left", head="Budget left", kind="share"),
]


def _row(held: ClauseStanding) -> dict[str, Any]:
    """One clause for programs: numbers in the clause's unit."""
    row = {column.key: getattr(held, column.key) for column in _COLUMNS}
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def _table(scored: Scored) -> Table:
    return Table(
        name="agreement",
        caption="Clauses of the agreement",
        hide_caption=True,
        columns=[
            Column(key="clause", head="Clause"),
            Column(key="state", head="State"),
            Column(key="promise", head="Promise"),
            Column(key="now", head="Now"),
            Column(key="interval", head="95 % interval, promise dashed"),
            Column(key="left", head="Error budget left"),
            Column(key="trend", head=f"Last {DAYS} days"),
        ],
        rows=[_shown(clause, scored.trends.get(clause.clause)) for clause in scored.clauses],
        empty="The agreement has no clauses.",
    )


def _shown(held: ClauseStanding, trend: Markup | None) -> dict[str, Any]:
    state, look = _STATES[held.state]
    if held.state in ("met", "missed") and not held.sure and held.low is not None:
        state = f"{state}, not certain"
    interval = figures.interval_bar(
        low=held.low,
        value=held.value if held.low is not None or held.high is not None else None,
        high=held.high,
        target=held.target,
        title=f"{held.value_text}, 95 % interval {held.interval_text}; promised {held.target_text}",
    )
    left = held.budget_left
    said = "" if left is None else "overspent" if left < 0 else f"{words.share(left)} left"
    return {
        "clause": Cell(value=held.words[:1].upper() + held.words[1:], note=held.note),
        "state": Cell(value=state, figure=Markup('<span class="badge {}">{}</span>').format(look, state)),
        "promise": held.target_text,
        "now": Cell(
            value=held.value_text,
            look="soft" if held.value is None else "",
            note=f"{held.interval_text} · {held.events:,} {'event' if held.events == 1 else 'events'}"
            if held.interval_text
            else "",
        ),
        "interval": Cell(value="", figure=interval),
        "left": Cell(
            value=said,
            look="bad" if left is not None and left < 0 else "",
            note="",
            figure=_with_bar(left, said),
        ),
        "trend": Cell(value="", figure=trend),
    }


def _with_bar(left: float | None, said: str) -> Markup | None:
    bar = figures.budget_bar(left, title=f"Error budget: {said}")
    return None if bar is None else Markup("{}<span>{}</span>").format(bar, said)


# -- what changed last ---------------------------------------------------------------------------------------------------


def _changes(app: App) -> list[Change]:
    """The latest changes of mode and of the agreement, the newest first."""
    found = [
        Change(
            at=event.at,
            by=event.by,
            what=f"{MODES[event.before]} → {MODES[event.after]}: {event.detail or event.reason}",
        )
        for event in app.modes.events(CHANGES)
    ]
    versions = app.agreements.versions()
    for n, version in enumerate(versions[:VERSIONS]):
        older = versions[n + 1] if n + 1 < len(versions) else None
        found.append(
            Change(
                at=version.first_seen,
                what=_said(version.digest, version.content, None if older is None else older.content),
            )
        )
    found += [
        Change(
            at=one.at,
            by=f"{one.name}, {one.role}",
            what=_approved(one.digest, one.note),
        )
        for one in app.agreements.approvals()[:CHANGES]
    ]
    return sorted(found, key=lambda one: one.at, reverse=True)[:CHANGES]


def _approved(name: str, note: str) -> str:
    return f"Agreement {name} approved: {note}" if note else f"Agreement {name} approved"


def _said(name: str, content: str, older: str | None) -> str:
    if older is None:
        return f"Agreement {name}: the first one"
    try:
        changes = difference(restored(older), restored(content))
    except MainstayError:
        return f"Agreement {name}"
    said = " ".join(change.sentence for change in changes[:3])
    more = f" And {len(changes) - 3} more." if len(changes) > 3 else ""
    return f"Agreement {name}: {said}{more}"


def _changed(scored: Scored) -> Table:
    return Table(
        name="changes",
        caption="What changed last",
        columns=[
            Column(key="at", head="When", kind="time"),
            Column(key="what", head="What"),
            Column(key="by", head="By whom"),
        ],
        rows=[{"at": one.at, "what": one.what, "by": one.by} for one in scored.changes],
        empty="No change of mode and of the agreement is known.",
    )
