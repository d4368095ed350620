"""Requests: what was asked, by whom, what it came to. One's own; everybody's for whoever may read traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Request
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from mainstay.errors import Invalid, MainstayError
from mainstay.models.prices import nanodollars_of
from mainstay.records.filters import CHOICES, DOORS, ORDERS, among, mistakes
from mainstay.records.traces import LIMITED, Order, Search, Trace, may_see_all
from mainstay.types import Actor, Mode, Status
from mainstay.web.console.home import MODES
from mainstay.web.console.shell import Screen, enter, filters, page, with_query
from mainstay.web.console.tables import Cell, Column, Table, csv_answer, wants_csv
from mainstay.web.desk import Desk

SCREEN = Screen(name="Requests", path="/requests", known=True)
ROWS, CSV_ROWS, AT_ONCE = 50, 10_000, 500
FILTERS = (
    "id",
    "asker",
    "status",
    "mode",
    "model",
    "release",
    "door",
    "outcome",
    "failed",
    "cost",
    "ms",
    "since",
    "until",
)
STATES: Mapping[str, tuple[str, str]] = {
    Status.ANSWERED: ("answered", "good"),
    Status.PARTIAL: ("partly answered", "warn"),
    Status.CLARIFY: ("asked back", "soft"),
    Status.HANDED_OFF: ("given to a person", "soft"),
    Status.REFUSED: ("not answered", "warn"),
    Status.FAILED: ("failed", "bad"),
    "ok": ("ok", "good"),
    "error": ("failed", "bad"),
}


def add(api: FastAPI, desk: Desk) -> None:
    @api.get(SCREEN.path, include_in_schema=False)
    def requests(request: Request) -> Response:
        actor = enter(desk, request, SCREEN)
        asked = filters(request, *FILTERS, "cursor", "order")
        if (name := asked.get("id")) is not None:
            return RedirectResponse(f"{SCREEN.path}/{quote(name, safe='')}", 303)
        errors: dict[str, str] = {}
        wanted = _wanted(asked, actor, errors)
        order = next((one for one in ORDERS if one == asked.get("order")), None)
        columns = _columns(everybody=may_see_all(actor), order=order)
        if wants_csv(request) and not errors:
            return csv_answer("requests", columns, _all(desk, wanted, order))
        rows, following = ([], "") if errors else _some(desk, wanted, order)
        return page(
            request,
            "requests.html",
            status=422 if errors else 200,
            actor=actor,
            table=Table(
                name="requests",
                caption="Requests" if may_see_all(actor) else "Your requests",
                hide_caption=True,
                columns=columns,
                rows=rows,
                empty="More may come on the next page." if following else "No request fits.",
                more=with_query(request, cursor=following) if following else "",
                first=with_query(request, cursor=None) if "cursor" in asked else "",
            ),
            views=_views(desk.app.clock.now(), request),
            asked=asked,
            errors=errors,
            everybody=may_see_all(actor),
            choices=_choices(asked),
            order=asked.get("order", ""),
        )


def _wanted(asked: Mapping[str, str], actor: Actor, errors: dict[str, str]) -> Search:
    """The filters of the address as a search; what can not be understood is said in ``errors`` by field."""
    for name, known in (("failed", ("yes",)), ("order", ORDERS)):
        said_word(asked, name, known, errors)
    wanted = Search(
        status=asked.get("status", ""),
        mode=asked.get("mode", ""),
        model=asked.get("model", ""),
        release=asked.get("release", ""),
        door=asked.get("door", ""),
        outcome=asked.get("outcome", ""),
        asker=_asker(asked.get("asker", ""), actor),
        after=asked.get("cursor", ""),
        failed=True if asked.get("failed") == "yes" else None,
        limit=ROWS,
    )
    try:
        wanted = replace(wanted, min_cost=nanodollars_of(asked["cost"]) if "cost" in asked else 0)
    except MainstayError:
        errors["cost"] = "Write dollars like 0.05."
    try:
        least = float(asked.get("ms", "0"))
        if not 0 <= least < 1e12:
            raise ValueError
        wanted = replace(wanted, min_ms=least)
    except ValueError:
        errors["ms"] = "Write milliseconds like 2000."
    since, until = (said_time(asked, name, errors) for name in ("since", "until"))
    errors |= {name: told(wrong) for name, wrong in mistakes(wanted).items()}
    return replace(wanted, since=since, before=until)


def told(wrong: MainstayError) -> str:
    """What is wrong with a field and what to do, to be said below it; its label says where."""
    said = f"{wrong.what}; {wrong.fix}" if wrong.fix else wrong.what
    return f"{said[:1].upper()}{said[1:]}."


def said_word(asked: Mapping[str, str], name: str, known: Sequence[str], errors: dict[str, str]) -> str:
    """The word of one field, empty for none; one that is not known is none, and said in ``errors``."""
    word = asked.get(name, "")
    try:
        among(word, known, name)
    except Invalid as wrong:
        errors[name] = told(wrong)
        return ""
    return word


def said_time(asked: Mapping[str, str], name: str, errors: dict[str, str]) -> datetime | None:
    """The time of one field; what is none is said in ``errors``."""
    try:
        return moment(asked.get(name, ""))
    except Invalid:
        errors[name] = "Write a time like 2026-01-31 or 2026-01-31T12:00."
        return None


def _asker(name: str, actor: Actor) -> str:
    if not may_see_all(actor):
        return actor.principal
    return name if not name or ":" in name or name == "anonymous" else f"user:{name}"


def moment(text: str) -> datetime | None:
    """A time of an address, UTC unless it says otherwise; None for none. Errors: Invalid."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid("is no time", fix="write it like 2026-01-31T12:00") from None


def _some(desk: Desk, wanted: Search, order: Order | None) -> tuple[Sequence[Mapping[str, Any]], str]:
    """One page of rows, and the cursor of the next one."""
    if order is not None:
        return [_row(one) for one in desk.app.traces.ranked(wanted, order)], ""
    found = desk.app.traces.search(wanted)
    return [_row(one) for one in found.traces], found.next


def _all(desk: Desk, wanted: Search, order: Order | None) -> Iterator[Mapping[str, Any]]:
    """Rows for a file: those of this page and the following ones, up to a bound."""
    wanted = replace(wanted, limit=AT_ONCE)
    given = 0
    while given < CSV_ROWS:
        rows, following = _some(desk, wanted, order)
        yield from rows[: CSV_ROWS - given]
        given += len(rows)
        if not following:
            return
        wanted = replace(wanted, after=following)


def _columns(*, everybody: bool, order: Order | None) -> list[Column]:
    return [
        Column(key="request", head="Request", kind="code"),
        Column(key="at", head="When", kind="time", sorted="" if order else "descending"),
        *([Column(key="asker", head="Asked by")] if everybody else []),
        Column(key="status", head="Came to"),
        Column(key="mode", head="Mode"),
        Column(key="model", head="Model"),
        Column(key="door", head="Door"),
        Column(key="duration", head="Took", kind="duration", sorted="descending" if order == "time" else ""),
        Column(key="cost", head="Cost", kind="money", sorted="descending" if order == "cost" else ""),
        Column(key="steps", head="Steps", kind="count"),
    ]


def _row(held: Trace) -> dict[str, Any]:
    limited = held.mode not in ("", Mode.FULL)
    return {
        "request": Cell(value=held.request_id, href=f"{SCREEN.path}/{quote(held.request_id, safe='')}"),
        "at": held.at,
        "asker": held.asker or "several",
        "status": Cell(value=held.status, figure=badge(held.status, failed=held.failed), note=held.name),
        "mode": Cell(value=held.mode, look="warn" if limited else "", note="limited" if limited else ""),
        "model": held.model,
        "door": held.door,
        "duration": held.duration_ms,
        "cost": held.cost_nanodollars,
        "steps": held.span_count,
    }


def badge(status: str, *, failed: bool) -> Markup:
    """What a request came to: a word, with a shape for what went wrong."""
    said, look = STATES.get(status, (status, "soft"))
    return Markup('<span class="badge {}">{}</span>').format("bad" if failed else look, said)


def _views(now: datetime, request: Request) -> list[tuple[str, str, bool]]:
    """Views that somebody looks for often: plain addresses, to be kept like any other."""
    today = f"{now.astimezone(UTC):%Y-%m-%d}"
    week = f"{now.astimezone(UTC) - timedelta(days=7):%Y-%m-%d}"
    named: tuple[tuple[str, dict[str, str]], ...] = (
        ("All", {}),
        ("Failed today", {"failed": "yes", "since": today}),
        ("Limited service", {"mode": LIMITED}),
        ("Given to a person", {"status": Status.HANDED_OFF}),
        ("Dearest this week", {"order": "cost", "since": week}),
        ("Slowest this week", {"order": "time", "since": week}),
    )
    here = {name: value for name, value in request.query_params.items() if name not in ("cursor", "format") and value}
    return [(name, SCREEN.path + (f"?{urlencode(asked)}" if asked else ""), asked == here) for name, asked in named]


def _choices(asked: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """What the lists of the form offer; a word that is none of it stays chosen, so that whoever wrote it sees it."""
    offered: dict[str, list[tuple[str, str]]] = {
        "status": [
            ("", "any"),
            *((str(one), STATES[one][0]) for one in Status),
            *((one, f"{one}, of a source or another program") for one in CHOICES["status"] if one not in list(Status)),
        ],
        "mode": [("", "any"), (LIMITED, "limited in any way"), *((str(one), MODES[one]) for one in Mode)],
        "door": [("", "any"), *((one, one) for one in DOORS)],
        "outcome": [("", "no matter"), *((one, one.replace("_", " ")) for one in CHOICES["outcome"])],
        "failed": [("", "no matter"), ("yes", "through our fault")],
    }
    for name, options in offered.items():
        if asked.get(name, "") not in dict(options):
            options.append((asked[name], asked[name]))
    return offered
