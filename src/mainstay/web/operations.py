"""What operators ask and order: the mode in force, the agreement and how it is kept, what was spent."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.agreement.versions import digest
from mainstay.shapes import clause_view, cost_row_view, mode_event_view, mode_view
from mainstay.types import Mode
from mainstay.web.bodies import ModeBody
from mainstay.web.desk import Asker, Desk, Guarded, needs
from mainstay.web.views import Json

Axis = Literal["day", "user", "team", "key", "model", "release", "purpose", "outcome"]


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Operations"])
    app = desk.app
    reads, operates = needs(Permission.TRACES_READ), needs(Permission.OPERATE)

    @router.get("/v1/mode", openapi_extra=reads, summary="The mode in force")
    def mode() -> Response:
        """With what asks for it, what an operator ordered, and the latest changes."""
        return Json(_mode())

    @router.post("/v1/mode", openapi_extra=operates, summary="Order a mode")
    def ordered(body: ModeBody, actor: Asker) -> Response:
        """For all processes, within a second or so. `null` leaves it to the service again. The change is kept with your name."""
        app.ladder.order(None if body.mode is None else Mode(body.mode), by=actor.principal, detail=body.note)
        return Json(_mode())

    def _mode() -> dict[str, Any]:
        shown = mode_view(app.ladder.current(), app.modes.ordered())
        return {**shown, "events": [mode_event_view(event) for event in app.modes.events(20)]}

    @router.get("/v1/agreement", openapi_extra=reads, summary="The agreement and how it is kept")
    def agreement() -> Response:
        """Each clause: its target, what is measured now with its interval, and what is left of its error budget."""
        return Json(
            {
                "digest": digest(app.settings.agreement),
                "clauses": [clause_view(clause) for clause in app.clauses()],
            }
        )

    @router.get("/v1/costs", openapi_extra=reads, summary="What was spent")
    def costs(by: Annotated[Axis, Query()] = "day", days: Annotated[int, Query(ge=1, le=3660)] = 30) -> Response:
        """Calls of models, what they cost and what one answer cost: by day, user, team, key, model, release, purpose, outcome."""
        since = app.clock.now() - timedelta(days=days)
        return Json({"by": by, "rows": [cost_row_view(row) for row in app.ledger.report(by=by, since=since)]})

    return router
