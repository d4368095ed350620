"""Alerts: what raises alarm now and did before; acknowledge one, silence some for a while."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Form, Request
from starlette.responses import RedirectResponse, Response

from mainstay.access.keys import Permission, permit
from mainstay.agreement.burning import Severity
from mainstay.agreement.terms import seconds
from mainstay.records.alerts import MAX_NOTE, Alert, Alerts, Silence, objective_of, wording
from mainstay.records.audit import acting, by_actor
from mainstay.web.console.shell import Screen, enter, may, ours_alone, page
from mainstay.web.console.tables import Cell, Column, Table, csv_of, wants_csv
from mainstay.web.desk import Desk

SCREEN = Screen(name="Alerts", path="/alerts", needs=(Permission.TRACES_READ,))
LENGTHS = (("30m", "30 minutes"), ("2h", "2 hours"), ("1d", "a day"), ("7d", "a week"))
PAST = 100


def add(api: FastAPI, desk: Desk) -> None:
    alerts: Alerts = desk.app.alarming.alerts
    agreement = desk.app.settings.agreement

    @api.get(SCREEN.path, include_in_schema=False)
    def listed(request: Request) -> Response:
        actor = enter(desk, request, SCREEN)
        found = alerts.standing(limit=PAST)
        now = desk.app.clock.now()
        past = _past([alert for alert, _ in found if not alert.open])
        silences = alerts.store.silences(now)
        quiet = _silences(silences)
        whole = _table(found, desk)
        if wants_csv(request):
            return csv_of(request, whole, past, quiet)
        return page(
            request,
            "alerts.html",
            actor=actor,
            firing=[
                {
                    "alert": alert,
                    "said": wording(objective_of(agreement, alert), alert),
                    "silence": silence,
                    "state": _state(alert, silence),
                }
                for alert, silence in found
                if alert.open
            ],
            past=past,
            silences=silences,
            quiet=quiet,
            operates=may(actor, Permission.OPERATE),
            objectives=[("", "any"), *((held.name, held.name) for held in agreement.objectives)],
            severities=[("", "any"), *((str(one), str(one)) for one in Severity)],
            lengths=LENGTHS,
            limit=MAX_NOTE,
        )

    @api.post("/alerts/{alert_id}/acknowledge", include_in_schema=False)
    def acknowledge(request: Request, alert_id: str, note: Annotated[str, Form(max_length=MAX_NOTE)] = "") -> Response:
        ours_alone(request)
        actor = enter(desk, request, SCREEN)
        permit(actor, Permission.OPERATE)
        with acting(by_actor(actor, request.state.request_id)):
            alerts.acknowledge(alert_id, by=actor.principal, note=note.strip())
        return _back()

    @api.post("/alerts/silences", include_in_schema=False)
    def silence(
        request: Request,
        length: Annotated[str, Form(alias="for", max_length=20)],
        objective: Annotated[str, Form(max_length=200)] = "",
        severity: Annotated[str, Form(max_length=20)] = "",
        note: Annotated[str, Form(max_length=MAX_NOTE)] = "",
    ) -> Response:
        ours_alone(request)
        actor = enter(desk, request, SCREEN)
        permit(actor, Permission.OPERATE)
        with acting(by_actor(actor, request.state.request_id)):
            alerts.silence(
                by=actor.principal,
                length_s=seconds(length, "for"),
                objective=objective,
                severity=severity,
                note=note.strip(),
            )
        return _back()

    @api.post("/alerts/silences/{silence_id}/end", include_in_schema=False)
    def unsilence(request: Request, silence_id: str) -> Response:
        ours_alone(request)
        actor = enter(desk, request, SCREEN)
        permit(actor, Permission.OPERATE)
        with acting(by_actor(actor, request.state.request_id)):
            alerts.unsilence(silence_id, by=actor.principal)
        return _back()


def _back() -> Response:
    return RedirectResponse(SCREEN.path, 303)


def _state(alert: Alert, silence: Silence | None) -> tuple[str, str]:
    if silence is not None:
        return "silenced", "soft"
    if alert.acknowledged is not None:
        return "acknowledged", "warn"
    return ("quiet for a while", "warn") if alert.quiet_since is not None else ("burns", "bad")


def _table(found: list[tuple[Alert, Silence | None]], desk: Desk) -> Table:
    """Every alert of the page, for a file."""
    agreement = desk.app.settings.agreement
    return Table(
        name="alerts",
        caption="Alerts",
        columns=[
            Column(key="id", head="Alert", kind="code"),
            *_COLUMNS,
            Column(key="state", head="State"),
            Column(key="words", head="Words"),
        ],
        rows=[
            _row(alert)
            | {
                "id": alert.id,
                "state": _state(alert, silence)[0] if alert.open else "over",
                "words": wording(objective_of(agreement, alert), alert),
            }
            for alert, silence in found
        ],
    )


_COLUMNS = (
    Column(key="opened", head="Began", kind="time"),
    Column(key="objective", head="Objective"),
    Column(key="severity", head="Severity"),
    Column(key="resolved", head="Over", kind="time"),
    Column(key="lasted", head="Lasted", kind="duration"),
    Column(key="acknowledged", head="Acknowledged by"),
    Column(key="note", head="Note"),
    Column(key="notices", head="Messages", kind="count"),
)


def _row(alert: Alert) -> dict[str, Any]:
    return {
        "opened": alert.opened,
        "objective": Cell(value=alert.objective, href=f"/objectives#{quote(alert.objective, safe='')}"),
        "severity": alert.severity,
        "resolved": alert.resolved,
        "lasted": None if alert.resolved is None else _ms(alert.opened, alert.resolved),
        "acknowledged": alert.acknowledged_by,
        "note": alert.note,
        "notices": alert.notices,
    }


def _ms(since: datetime, until: datetime) -> float:
    return (until - since).total_seconds() * 1000


def _past(found: list[Alert]) -> Table:
    return Table(
        name="past",
        caption="Over in the last week",
        columns=list(_COLUMNS),
        rows=[_row(alert) for alert in found],
        empty="No alert ended in the last week.",
    )


def _silences(found: Any) -> Table:
    return Table(
        name="silences",
        caption="Silences",
        columns=[
            Column(key="until", head="Until", kind="time"),
            Column(key="objective", head="Objective"),
            Column(key="severity", head="Severity"),
            Column(key="by", head="By"),
            Column(key="note", head="Note"),
        ],
        rows=[
            {
                "until": one.until,
                "objective": one.objective or "any",
                "severity": one.severity or "any",
                "by": one.by,
                "note": one.note,
            }
            for one in found
        ],
        empty="Nothing is silenced.",
    )
