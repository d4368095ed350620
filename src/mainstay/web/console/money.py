"""Money: what calls of models cost, for whom and for what; what is left of each budget; the prices in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.agreement.budgets import SERVICE
from mainstay.agreement.ledger import AXES, Axis, PurseLine, ReportRow
from mainstay.app import App
from mainstay.errors import MainstayError
from mainstay.web.console import figures, words
from mainstay.web.console.charts import day_bars
from mainstay.web.console.requests import said_word
from mainstay.web.console.shell import Screen, enter, filters, page, with_query
from mainstay.web.console.tables import Cell, Column, Table, csv_of, wants_csv
from mainstay.web.desk import Desk

SCREEN = Screen(name="Money", path="/money", needs=(Permission.TRACES_READ,))
DAYS = (7, 30, 90)
SHOWN = 200
"""So many lines of one table stand on the page; its file has them all."""
HEADS: dict[Axis, str] = {
    "day": "Day (UTC)",
    "user": "Asked by",
    "team": "Team",
    "key": "Key",
    "model": "Model",
    "release": "Release",
    "purpose": "For",
    "outcome": "Came to",
}
_WHO = {"user": "asker"}


def add(api: FastAPI, desk: Desk) -> None:
    app = desk.app

    @api.get(SCREEN.path, include_in_schema=False)
    def money(request: Request) -> Response:
        actor = enter(desk, request, SCREEN)
        asked, errors = filters(request, "by", "days"), dict[str, str]()
        by = cast("Axis", said_word(asked, "by", AXES, errors) or "day")
        days = int(said_word(asked, "days", [str(one) for one in DAYS], errors) or 30)
        wrong = dict.fromkeys(errors)  # links to other views leave it out
        today = app.clock.now().astimezone(UTC).date()
        since = datetime.combine(today - timedelta(days=days - 1), time(), UTC)
        rows = [] if errors else app.ledger.report(by=by, since=since)
        spent = _spent(by, rows)
        budgets, prices, trouble = _budgets(app), *_prices(app)
        if wants_csv(request) and not errors:
            return csv_of(request, spent, budgets, prices)
        daily = rows if by == "day" or errors else app.ledger.report(by="day", since=since)
        return page(
            request,
            "money.html",
            status=422 if errors else 200,
            actor=actor,
            by="" if "by" in errors else by,
            days=0 if "days" in errors else days,
            asked=asked,
            errors=errors,
            choices=_choices(asked),
            axes=[(axis, HEADS[axis], with_query(request, **{**wrong, "by": axis})) for axis in AXES],
            spans=[(many, with_query(request, **{**wrong, "days": many})) for many in DAYS],
            chart=_chart(daily, today, days),
            summary=_summary(daily, days),
            spent=replace(spent, rows=spent.rows[:SHOWN]),
            cut=len(rows) - SHOWN,
            budgets=replace(budgets, export=not errors),  # a file is had at an address without a mistake
            prices=replace(prices, export=not errors),
            trouble=trouble,
        )


def _choices(asked: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """What the lists offer after a mistake; a word that is none of it stays chosen, so that whoever wrote it sees it."""
    offered: dict[str, list[tuple[str, str]]] = {
        "by": [(axis, HEADS[axis]) for axis in AXES],
        "days": [(str(many), f"{many} days") for many in DAYS],
    }
    for name, usual in (("by", "day"), ("days", "30")):
        said = asked.get(name, usual)
        if said not in dict(offered[name]):
            offered[name].append((said, said))
    return offered


def _chart(daily: Sequence[ReportRow], today: date, days: int) -> Any:
    held = {row.name: row for row in daily}
    names = [f"{today - timedelta(days=days - 1 - n):%Y-%m-%d}" for n in range(days)]
    found = [(name, held[name].cost_n, held[name].held_n) if name in held else (name, 0, 0) for name in names]
    if not any(spent or kept for _, spent, kept in found):
        return None
    return day_bars(found, title=_summary(daily, days))


def _summary(daily: Sequence[ReportRow], days: int) -> str:
    """The whole in one sentence."""
    cost = sum(row.cost_n for row in daily)
    requests, held = sum(row.requests for row in daily), sum(row.held_n for row in daily)
    if not daily:
        return f"No model was called in the last {days} days."
    said = f"{words.money(cost)} in {days} days for {requests:,} {'request' if requests == 1 else 'requests'} that called a model"
    most = max(daily, key=lambda row: row.cost_n)
    dearest = f"; the dearest day was {most.name} with {words.money(most.cost_n)}" if most.cost_n else ""
    return f"{said}{dearest}{f'; {words.money(held)} is held' if held else ''}."


def _spent(by: Axis, rows: Sequence[ReportRow]) -> Table:
    ordered = sorted(rows, key=lambda row: row.name, reverse=True)
    if by != "day":
        ordered = sorted(rows, key=lambda row: (-row.cost_n, row.name))
    return Table(
        name=f"spent-by-{by}",
        caption=f"Spent, by {HEADS[by].partition(' (')[0].lower()}",
        columns=[
            Column(key="name", head=HEADS[by]),
            Column(key="cost", head="Cost", kind="money", sorted="" if by == "day" else "descending"),
            Column(key="held", head="Held", kind="money"),
            Column(key="requests", head="Requests", kind="count"),
            Column(key="answered", head="of them answered", kind="count"),
            Column(key="per_answer", head="For one answered", kind="money"),
            Column(key="calls", head="Calls", kind="count"),
            Column(key="input", head="Tokens in", kind="count"),
            Column(key="cached", head="of them cached", kind="count"),
            Column(key="output", head="Tokens out", kind="count"),
            Column(key="odd", head="Odd"),
        ],
        rows=[_row(by, row) for row in ordered],
        empty="No model was called in this time.",
    )


def _row(by: Axis, row: ReportRow) -> dict[str, Any]:
    odd = [
        f"{many} {what}"
        for many, what in (
            (row.estimated, "estimated"),
            (row.breaches, "dearer than held"),
            (row.late, "settled late"),
            (row.lost, "never settled"),
        )
        if many
    ]
    return {
        "name": Cell(value=row.name or "none", look="" if row.name else "soft", href=_requests(by, row.name)),
        "cost": row.cost_n,
        "held": row.held_n,
        "requests": row.requests,
        "answered": row.answered,
        "per_answer": row.per_answered_n,
        "calls": row.calls,
        "input": row.input_tokens,
        "cached": row.cached_tokens,
        "output": row.output_tokens,
        "odd": ", ".join(odd),
    }


def _requests(by: Axis, name: str) -> str:
    """The requests behind a line, where the list can be asked for them."""
    if not name or name == SERVICE:
        return ""
    if by == "day":
        until = date.fromisoformat(name) + timedelta(days=1)
        return f"/requests?{urlencode({'since': name, 'until': f'{until:%Y-%m-%d}', 'order': 'cost'})}"
    if by in ("user", "model", "release"):
        return f"/requests?{urlencode({_WHO.get(by, by): name})}"
    return ""


def _budgets(app: App) -> Table:
    limits = {(held.of, held.name): str(held.enter_mode) for held in app.settings.agreement.budgets}
    return Table(
        name="budgets",
        caption="Budgets whose window runs now, the emptiest first",
        columns=[
            Column(key="whose", head="Whose"),
            Column(key="window", head="Since", kind="time"),
            Column(key="until", head="Begins anew", kind="time"),
            Column(key="limit", head="Limit", kind="money"),
            Column(key="spent", head="Spent", kind="money"),
            Column(key="held", head="Held", kind="money"),
            Column(key="left", head="Left", kind="money"),
            Column(key="share", head="Share left"),
            Column(key="then", head="When it is spent"),
        ],
        rows=[_budget(line, limits) for line in app.lookups.purses(app.clock.now())],
        empty="No budget has been drawn on in its window.",
    )


def _budget(line: PurseLine, then: dict[tuple[Any, str], str]) -> dict[str, Any]:
    share = words.share(line.left)
    return {
        "whose": Cell(value=line.name or "the service", note=line.kind if line.name else ""),
        "window": line.since if line.until is not None else None,
        "until": Cell(value=line.until, note="" if line.until is not None else "never"),
        "limit": line.limit_n,
        "spent": line.settled_n,
        "held": line.held_n,
        "left": Cell(value=line.left_n, look="bad" if line.left_n <= 0 else ""),
        "share": Cell(
            value=f"{line.left:.4f}",
            figure=figures.budget_bar(line.left, title=f"{share} left"),
            note=str(share),
        ),
        "then": then.get((line.kind, line.name), then.get((line.kind, ""), "refused")).replace("_", " "),
    }


def _prices(app: App) -> tuple[Table, str]:
    """What the calls of each model are booked at."""
    rows: list[dict[str, Any]] = []
    trouble = ""
    try:
        board = app.switchboard
        for name in board.names:
            price = board.model(name).price
            rows.append(
                {
                    "model": name,
                    "input": price.input_per_million_nanodollars,
                    "cached": price.cached_input_per_million_nanodollars,
                    "output": price.output_per_million_nanodollars,
                    "request": price.per_request_nanodollars,
                    "long": len(price.long_prompts),
                    "source": price.version,
                }
            )
    except MainstayError as error:
        trouble = error.line()
    return Table(
        name="prices",
        caption="Prices in force",
        columns=[
            Column(key="model", head="Model"),
            Column(key="input", head="Per million tokens in", kind="money"),
            Column(key="cached", head="cached ones", kind="money"),
            Column(key="output", head="Per million tokens out", kind="money"),
            Column(key="request", head="Per call", kind="money"),
            Column(key="long", head="Prices for long prompts", kind="count"),
            Column(key="source", head="From"),
        ],
        rows=rows,
        empty="No language model is set up, so nothing costs money.",
    ), trouble
