"""Audit: who did what to whom and why; one event with its proof; how the log is signed, and what witnesses have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.app import App
from mainstay.errors import Invalid, NotFound
from mainstay.records.audit import Event, Filters, reason
from mainstay.records.filters import possible_action
from mainstay.shapes import audit_proof_view
from mainstay.web.console.request import saved
from mainstay.web.console.requests import said_time, said_word, told
from mainstay.web.console.shell import Screen, enter, filters, page, with_query
from mainstay.web.console.tables import Cell, Column, Table, csv_answer, wants_csv
from mainstay.web.desk import Desk

SCREEN = Screen(name="Audit", path="/audit", needs=(Permission.ADMIN, Permission.AUDIT_READ))
ROWS, CSV_ROWS, AT_ONCE = 100, 10_000, 500
FILTERS = ("action", "actor", "subject", "since", "until", "decisions")


def add(api: FastAPI, desk: Desk) -> None:
    app = desk.app

    @api.get(SCREEN.path, include_in_schema=False)
    def audit(request: Request) -> Response:
        actor = enter(desk, request, SCREEN)
        asked = filters(request, *FILTERS, "before")
        errors: dict[str, str] = {}
        wanted = _wanted(asked, errors)
        before = _number(asked.get("before", ""))
        if before is None and "before" in asked:
            errors["before"] = f"{asked['before'][:40]!a} is not the number of an event; begin at the newest."
        if wants_csv(request) and not errors:
            return csv_answer("audit", _COLUMNS, _all(app, wanted, before))
        found = None if errors else app.audit.list(wanted, before, ROWS)
        return page(
            request,
            "audit.html",
            status=422 if errors else 200,
            actor=actor,
            asked=asked,
            errors=errors,
            which=_which(asked),
            table=Table(
                name="audit",
                caption="Events, the newest first",
                columns=_COLUMNS,
                rows=[] if found is None else [_row(event) for event in found.events],
                empty="More may come on the next page." if found and found.next is not None else "No event fits.",
                more=with_query(request, before=found.next) if found and found.next is not None else "",
                first=with_query(request, before=None) if before is not None else "",
            ),
            standing=standing(app),
        )

    @api.get("/audit/{n}", include_in_schema=False)
    def one(request: Request, n: str) -> Response:
        actor = enter(desk, request, SCREEN)
        event = app.audit.get(_event(n))
        if event is None:
            raise NotFound("there is no such event")
        proof = app.audit.proof(event.n)
        if request.query_params.get("format") == "proof":
            return saved(f"proof-{event.n}.json", json.dumps(audit_proof_view(proof), indent=2), "application/json")
        return page(
            request,
            "audit_event.html",
            actor=actor,
            event=event,
            details=[(name, json.dumps(value, ensure_ascii=False)) for name, value in event.details.items()],
            proof=proof,
        )


def _wanted(asked: Mapping[str, str], errors: dict[str, str]) -> Filters:
    wanted = Filters(
        action=asked.get("action", ""),
        actor=asked.get("actor", ""),
        subject=asked.get("subject", ""),
        decisions=asked.get("decisions") == "yes",
    )
    try:
        possible_action(wanted.action, "action")
    except Invalid as wrong:
        errors["action"] = told(wrong)
    said_word(asked, "decisions", ("yes",), errors)
    since, until = (said_time(asked, name, errors) for name in ("since", "until"))
    return replace(wanted, since=since, until=until)


def _which(asked: Mapping[str, str]) -> list[tuple[str, str]]:
    """The list offers these; a word that is none of them stays chosen, so that whoever wrote it sees it."""
    offered = [("", "what people and the service did"), ("yes", "what answers were made of")]
    said = asked.get("decisions", "")
    return offered if said in dict(offered) else [*offered, (said, said)]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _event(text: str) -> int:
    number = _number(text)
    if number is None:
        raise NotFound("there is no such event")
    return number


_COLUMNS = [
    Column(key="n", head="Event", kind="count"),
    Column(key="at", head="When", kind="time"),
    Column(key="action", head="What"),
    Column(key="subject", head="Of", kind="path"),
    Column(key="actor", head="By"),
    Column(key="via", head="Through", kind="path"),
    Column(key="why", head="Why"),
]


def _row(event: Event) -> dict[str, Any]:
    return {
        "n": Cell(value=event.n, href=f"/audit/{event.n}"),
        "at": event.at,
        "action": event.action,
        "subject": Cell(value=event.subject, note="erased" if event.erased else ""),
        "actor": event.actor,
        "via": event.via,
        "why": reason(event),
    }


def _all(app: App, wanted: Filters, before: int | None) -> Iterator[Mapping[str, Any]]:
    given = 0
    while given < CSV_ROWS:
        found = app.audit.list(wanted, before, AT_ONCE)
        for event in found.events[: CSV_ROWS - given]:
            yield _row(event)
        given += len(found.events)
        if found.next is None:
            return
        before = found.next


def standing(app: App) -> dict[str, Any]:
    """How far the log is signed, and what stands against it."""
    head, size = app.audit.head(), app.audit.size()
    witnesses = app.audit.sent()
    return {
        "size": size,
        "head": head,
        "unsigned": size - (0 if head is None else head.size),
        "witnesses": [
            {"name": name, "size": got.size, "at": got.at, "trouble": got.trouble} for name, got in witnesses.items()
        ],
        "trouble": app.auditing.trouble,
    }
