"""What became of a request: the traces that an asker may see."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from mainstay.agreement.terms import nanodollars
from mainstay.app import App
from mainstay.errors import Invalid
from mainstay.records.content import documents_of
from mainstay.records.filters import possible
from mainstay.records.traces import Order, Page, Search, Trace, may_see_all, visible_span, visible_trace
from mainstay.shapes import request_view, span_view
from mainstay.types import Actor
from mainstay.web.desk import SIGNED_IN, Asker, Desk, Guarded, needs
from mainstay.web.views import Json, RequestsView, RequestView, SpanView

Word = Annotated[str, Query(max_length=200)]


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Requests"])
    traces = desk.app.traces

    @router.get("/v1/requests", response_model=RequestsView, openapi_extra=needs(SIGNED_IN), summary="List requests")
    def listed(
        actor: Asker,
        asker: Word = "",
        status: Word = "",
        mode: Word = "",
        model: Word = "",
        release: Word = "",
        door: Word = "",
        kind: Word = "",
        trace_id: Annotated[str, Query(max_length=32)] = "",
        outcome: Word = "",
        failed: bool | None = None,
        min_cost_usd: Annotated[str, Query(max_length=20)] = "",
        min_ms: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0,
        since: Annotated[str | None, Query(max_length=40)] = None,
        before: Annotated[str | None, Query(max_length=120)] = None,
        cursor: Annotated[str, Query(max_length=120)] = "",
        order: Annotated[Order | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Response:
        """One's own requests, the newest first; everybody's for whoever may read traces. `before` takes a time or a cursor.

        `order=cost` gives the dearest, `order=time` the slowest of the newest that a page looks at; nothing follows it.
        """
        everybody = may_see_all(actor)
        if before is not None and "~" in before:
            cursor, before = before, None
        wanted = Search(
            asker=asker if everybody else actor.principal,
            status=status,
            mode=mode,
            model=model,
            release=release,
            door=door,
            kind=kind,
            trace_id=trace_id,
            outcome=outcome,
            failed=failed,
            min_cost=nanodollars(min_cost_usd, "min_cost_usd") if min_cost_usd else 0,
            min_ms=min_ms,
            since=None if since is None else _moment(since, "since"),
            before=None if before is None else _moment(before, "before"),
            after=cursor,
            limit=limit,
        )
        wanted = possible(wanted)
        if asker and not everybody and asker != actor.principal:
            return Json({"requests": [], "next": None})
        page = Page(traces=tuple(traces.ranked(wanted, order))) if order else traces.search(wanted)
        shown = [request_view(trace, whole=False, operator=everybody) for trace in page.traces]
        return Json({"requests": shown, "next": page.next or None})

    @router.get(
        "/v1/requests/{request_id}",
        response_model=RequestView,
        openapi_extra=needs(SIGNED_IN),
        summary="Look at a request",
    )
    def one(request_id: str, actor: Asker, attributes: bool = True, content: bool = False) -> Response:
        """The steps of one request: what was found, ranked, checked, spent. Somebody else's reads like one that never was.

        The id of a trace finds what other programs sent of it, or our request in it. `attributes=false` leaves out what the
        steps say of themselves: quick for the longest. `content=true` adds the texts that were kept, if any.
        """
        trace = visible_trace(traces, request_id, actor, attributes=attributes or content)
        shown = request_view(trace, whole=True, operator=may_see_all(actor))
        if content:
            shown |= _content(desk.app, trace, actor)
        return Json(shown)

    @router.get(
        "/v1/requests/{request_id}/spans/{span_id}",
        response_model=SpanView,
        openapi_extra=needs(SIGNED_IN),
        summary="Look at a step",
    )
    def step(request_id: str, span_id: str, actor: Asker) -> Response:
        """One step of a request, with everything it says of itself."""
        return Json(span_view(visible_span(traces, request_id, span_id, actor)))

    return router


def _content(app: App, trace: Trace, actor: Actor) -> dict[str, Any]:
    """The texts of a request, for whoever may read every document that they may quote, now; a role does not widen that."""
    texts = app.traces.content(trace.request_id)
    if texts is None:
        return {"content": None, "content_why": "none was kept"}
    scope = app.gate.scope(actor)
    if any(app.documents.record(document, scope=scope) is None for document in documents_of(trace)):
        return {"content": None, "content_why": "it quotes documents that are out of your reach, or gone"}
    return {"content": dict(texts), "content_why": None}


def _moment(text: str, where: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid("is no time", where=where, fix="write it like 2026-01-31T12:00:00Z") from None
