"""What waits to be done: questions for a person, and background jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.handover import HandOver, State, operates
from mainstay.types import Actor
from mainstay.web.console.requests import said_word
from mainstay.web.console.shell import Screen, enter, filters, page
from mainstay.web.console.tables import Cell, Column, Table, csv_of, wants_csv
from mainstay.web.desk import Desk
from mainstay.workflows.ports import Job, JobState

HANDOVERS = Screen(name="Hand-overs", path="/handovers", known=True)
JOBS = Screen(name="Jobs", path="/jobs", needs=(Permission.ADMIN,))
ROWS = 200
_LOOKS = {"failed": "bad", "dead": "bad", "closed": "soft", "done": "soft", "cancelled": "soft"}


def add(api: FastAPI, desk: Desk) -> None:
    app = desk.app

    @api.get(HANDOVERS.path, include_in_schema=False)
    def handovers(request: Request) -> Response:
        actor = enter(desk, request, HANDOVERS)
        asked, errors = filters(request, "state"), dict[str, str]()
        everybody = operates(actor)
        state = said_word(asked, "state", list(State), errors)
        chosen = State(state) if state else None
        whose = None if everybody else actor.principal
        found = [] if errors else app.handovers.list(state=chosen, principal=whose, limit=ROWS)
        table = Table(
            name="handovers",
            caption="Questions for a person" if everybody else "Your questions for a person",
            hide_caption=True,
            columns=[
                Column(key="at", head="When", kind="time"),
                Column(key="question", head="Question"),
                Column(key="state", head="State"),
                *([Column(key="asker", head="Asked by")] if everybody else []),
                *([Column(key="reason", head="Why")] if everybody else []),
                *([Column(key="sent", head="Sent to")] if everybody else []),
                Column(key="request", head="Request", kind="code"),
            ],
            rows=[_handover(held, everybody=everybody) for held in found],
            empty="No question is in this state." if state else "No question is with a person.",
        )
        heading = "Questions for a person" if everybody else "Your questions for a person"
        return _shown(request, actor, heading, table, list(map(str, State)), asked, errors)

    @api.get(JOBS.path, include_in_schema=False)
    def jobs(request: Request) -> Response:
        actor = enter(desk, request, JOBS)
        asked, errors = filters(request, "state"), dict[str, str]()
        state = said_word(asked, "state", list(JobState), errors)
        chosen = JobState(state) if state else None
        found = [] if errors else app.queue.recent(state=chosen, limit=ROWS)
        table = Table(
            name="jobs",
            caption="Jobs",
            hide_caption=True,
            columns=[
                Column(key="job", head="Job", kind="code"),
                Column(key="kind", head="Kind"),
                Column(key="key", head="About"),
                Column(key="state", head="State"),
                Column(key="attempts", head="Attempts"),
                Column(key="created", head="Asked for", kind="time"),
                Column(key="updated", head="Last moved", kind="time"),
                Column(key="owner", head="Worker"),
                Column(key="by", head="Asked for by"),
            ],
            rows=[_job(held) for held in found],
            empty="No job is in this state." if state else "No job is known.",
        )
        return _shown(request, actor, "Jobs", table, list(map(str, JobState)), asked, errors)


def _shown(
    request: Request,
    actor: Actor,
    heading: str,
    table: Table,
    known: list[str],
    asked: Mapping[str, str],
    errors: Mapping[str, str],
) -> Response:
    """The list; where it was asked for a state that there is not, what is wrong instead, and the states that there are."""
    if wants_csv(request) and not errors:
        return csv_of(request, table)
    said = asked.get("state", "")
    return page(
        request,
        "work.html",
        status=422 if errors else 200,
        actor=actor,
        heading=heading,
        table=table,
        states=_states(request.url.path, known, said),
        choices=[("", "all"), *((one, one) for one in (*known, said))],
        said=said,
        errors=errors,
    )


def _states(path: str, known: list[str], here: str) -> list[tuple[str, str, bool]]:
    return [
        ("All", path, not here),
        *((one.capitalize(), f"{path}?state={one}", one == here) for one in known),
    ]


def _handover(held: HandOver, *, everybody: bool) -> dict[str, Any]:
    return {
        "at": held.at,
        "question": held.question,
        "state": Cell(value=str(held.state), look=_LOOKS.get(held.state, ""), note=held.detail if everybody else ""),
        "asker": held.principal,
        "reason": held.reason.replace("_", " "),
        "sent": ", ".join(held.sent),
        "request": Cell(
            value=held.request_id, href=f"/requests/{quote(held.request_id, safe='')}" if held.request_id else ""
        ),
    }


def _job(held: Job) -> dict[str, Any]:
    return {
        "job": held.job_id,
        "kind": held.kind,
        "key": held.key,
        "state": Cell(value=str(held.state), look=_LOOKS.get(held.state, ""), note=held.error),
        "attempts": f"{held.attempts} of {held.max_attempts}",
        "created": held.created,
        "updated": held.updated,
        "owner": held.owner,
        "by": held.requested_by,
    }
