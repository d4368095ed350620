"""What Prometheus scrapes."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.records.metrics import CONTENT_TYPE
from mainstay.web.desk import Desk, Guarded, needs


def routes(desk: Desk) -> APIRouter:
    """The counters begin with the server: from here on each request is counted."""
    app = desk.app
    metrics = app.metrics
    is_open = app.settings.service.metrics.open
    router = APIRouter(tags=["Operations"]) if is_open else APIRouter(route_class=Guarded, tags=["Operations"])

    @router.get(
        "/metrics",
        openapi_extra=None if is_open else needs(Permission.TRACES_READ),
        response_class=Response,
        summary="Figures for Prometheus",
    )
    def scraped() -> Response:
        """The text format, version 0.0.4. Labels come from the settings alone: no users, questions, documents, request ids."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return router
