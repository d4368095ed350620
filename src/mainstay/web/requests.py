"""What became of a request: the traces that an asker may see."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.errors import Invalid
from mainstay.records.traces import visible_trace
from mainstay.shapes import request_view
from mainstay.types import Actor
from mainstay.web.desk import SIGNED_IN, Asker, Desk, Guarded, needs
from mainstay.web.views import Json, RequestsView, RequestView


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Requests"])
    traces = desk.app.traces

    @router.get("/v1/requests", response_model=RequestsView, openapi_extra=needs(SIGNED_IN), summary="List requests")
    def listed(
        actor: Asker,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Annotated[str | None, Query(max_length=40)] = None,
    ) -> Response:
        """One's own requests, the newest first; everybody's for whoever may read traces."""
        asker = None if _operator(actor) else actor.principal
        recent = traces.recent(asker=asker, limit=limit, before=None if before is None else _moment(before))
        shown = [request_view(trace, whole=False, operator=False) for trace in recent]
        return Json({"requests": shown, "next": shown[-1]["at"] if len(shown) == limit else None})

    @router.get(
        "/v1/requests/{request_id}",
        response_model=RequestView,
        openapi_extra=needs(SIGNED_IN),
        summary="Look at a request",
    )
    def one(request_id: str, actor: Asker) -> Response:
        """The steps of one request: what was found, ranked, checked, spent. Somebody else's reads like one that never was."""
        return Json(request_view(visible_trace(traces, request_id, actor), whole=True, operator=_operator(actor)))

    return router


def _operator(actor: Actor) -> bool:
    return actor.admin or Permission.TRACES_READ in actor.scopes


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid("is no time", where="before", fix="write it like 2026-01-31T12:00:00Z") from None
