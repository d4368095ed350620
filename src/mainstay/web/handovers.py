"""Questions that go to a person: what became of one's own, and all of them for operators."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.handover import HandOver, State, operates, promise, visible
from mainstay.shapes import handover_view
from mainstay.types import Actor
from mainstay.web.bodies import NoteBody
from mainstay.web.desk import SIGNED_IN, Asker, Desk, Guarded, needs
from mainstay.web.views import HandOversView, HandOverView, Json


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Hand-overs"])
    app = desk.app
    rules = app.settings.agreement.handover

    def shown(held: HandOver, actor: Actor) -> dict[str, Any]:
        said = None if held.state is State.CLOSED else promise(rules, held.language, held.id)
        return handover_view(held, said, operator=operates(actor))

    @router.get(
        "/v1/handovers",
        response_model=HandOversView,
        openapi_extra=needs(SIGNED_IN),
        summary="List questions for a person",
    )
    def listed(
        actor: Asker,
        state: Annotated[State | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Response:
        """One's own, the newest first; everybody's for whoever may read traces."""
        asker = None if operates(actor) else actor.principal
        held = app.handovers.list(state=state, principal=asker, limit=limit)
        return Json({"handovers": [shown(one, actor) for one in held]})

    @router.get(
        "/v1/handovers/{handover_id}",
        response_model=HandOverView,
        openapi_extra=needs(SIGNED_IN),
        summary="Look at a question for a person",
    )
    def one(handover_id: str, actor: Asker) -> Response:
        """How it stands. Somebody else's reads like one that never was."""
        return Json(shown(visible(app.handovers, handover_id, actor), actor))

    @router.post(
        "/v1/handovers/{handover_id}/close",
        response_model=HandOverView,
        openapi_extra=needs(Permission.ADMIN),
        summary="Close a question for a person",
    )
    def closed(handover_id: str, body: NoteBody, actor: Asker) -> Response:
        """A person has taken care of it. What was not delivered yet is not delivered any more."""
        return Json(shown(app.close_handover(handover_id, by=actor.principal, note=body.note), actor))

    return router
