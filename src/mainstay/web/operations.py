"""What operators ask and order: the mode in force, the agreement and how it is kept, what was spent."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.agreement.versions import digest
from mainstay.shapes import clause_view, cost_row_view, mode_event_view, mode_view
from mainstay.types import Mode
from mainstay.web.bodies import ModeBody
from mainstay.web.desk import Asker, Desk, Guarded, needs
from mainstay.web.views import Json

HISTORY = 50
"""So many versions of the agreement, and approvals of them, are told."""
Axis = Literal["day", "user", "team", "key", "model", "release", "purpose", "outcome"]


class ModelView(BaseModel):
    """A language model that may answer, where it runs, and what its calls are booked at."""

    name: str
    model: str
    at: str
    region: str
    input_per_million_usd: str
    cached_input_per_million_usd: str | None
    output_per_million_usd: str
    per_request_usd: str
    long_prompts: int
    price_from: str


class PromptView(BaseModel):
    """A prompt in force."""

    name: str
    version: str
    label: str
    source: str


class AgreedView(BaseModel):
    """One part of the agreement in words."""

    part: str
    lines: list[str]


class SettingView(BaseModel):
    """One value as text. `said` is `the file` or `the default`; of a secret it is only said whether it is set."""

    key: str
    value: str
    said: str


class SettingsView(BaseModel):
    """What this process works with. `changed_since_start` names files that say something else by now; `wanted` is the embedder
    that the settings ask for, where another one is in force still; `trouble` is why the models can not be told."""

    version: str
    release: str
    agreement: str
    database: str
    revision: int
    search: str
    embedder: str
    model: str
    precision: str
    dims: int
    wanted: str
    changed_since_start: list[str]
    models: list[ModelView]
    trouble: str
    prompts: list[PromptView]
    agreed: list[AgreedView]
    settings: list[SettingView]


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
        """Each clause: its target, what is measured now with its interval, and what is left of its error budget. Then the versions
        that were in force and who approved them, the newest first."""
        versions, approvals = app.agreements.versions()[:HISTORY], app.agreements.approvals()[:HISTORY]
        return Json(
            {
                "digest": digest(app.settings.agreement),
                "clauses": [clause_view(clause) for clause in app.clauses()],
                "versions": [{"digest": one.digest, "first_seen": one.first_seen.isoformat()} for one in versions],
                "approvals": [
                    {
                        "digest": one.digest,
                        "name": one.name,
                        "role": one.role,
                        "note": one.note,
                        "at": one.at.isoformat(),
                    }
                    for one in approvals
                ],
            }
        )

    @router.get("/v1/costs", openapi_extra=reads, summary="What was spent")
    def costs(by: Annotated[Axis, Query()] = "day", days: Annotated[int, Query(ge=1, le=3660)] = 30) -> Response:
        """Calls of models, what they cost and what one answer cost: by day, user, team, key, model, release, purpose, outcome."""
        since = app.clock.now() - timedelta(days=days)
        return Json({"by": by, "rows": [cost_row_view(row) for row in app.ledger.report(by=by, since=since)]})

    @router.get(
        "/v1/settings",
        response_model=SettingsView,
        openapi_extra=needs(Permission.OPERATE, Permission.AUDIT_READ),
        summary="The settings in force",
    )
    def settings() -> Response:
        """What this process works with: release, embedder, models and prices, prompts, the agreement in words, and every value of
        mainstay.yaml with who said it. Secrets are masked."""
        return Json(desk.in_force.view())

    return router
