"""The audit log and decision records, to be read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.errors import Invalid, NotFound
from mainstay.records.audit import AuditEntry, Filters
from mainstay.records.decisions import visible_decision
from mainstay.records.explaining import explained
from mainstay.records.filters import possible_action
from mainstay.shapes import audit_event_view, audit_proof_view, decision_view
from mainstay.web.desk import SIGNED_IN, Asker, Desk, Guarded, needs
from mainstay.web.views import Json

Word = Annotated[str, Query(max_length=400)]
MOST = 1 << 62


class AuditEventView(BaseModel):
    """An event. What was erased is empty; people whose key is gone stand under their pseudonym (`p_...`)."""

    n: int
    at: str
    action: str
    subject: str
    actor: str
    via: str
    why: str
    request_id: str
    details: dict[str, Any]
    before: str
    after: str
    erased: bool
    leaf: str


class AuditView(BaseModel):
    """Events, the newest first; `next` is the `before` of the page that follows."""

    events: list[AuditEventView]
    next: int | None


class HeadView(BaseModel):
    """A signed head: how many events the log held then, the root of their tree, and the signature."""

    log: str
    size: int
    root: str
    at: int
    key: str
    public: str
    signature: str


class AuditProofView(BaseModel):
    """That event `n` is in the tree of `size` events with this root. `verify_audit.py` takes it as it is."""

    n: int
    size: int
    root: str
    leaf: str
    line: dict[str, Any]
    path: list[str]
    head: HeadView | None


class SentView(BaseModel):
    """What a witness has got last."""

    size: int
    at: str
    trouble: str


class AuditHeadView(BaseModel):
    """The newest signed head, how large the log is now, and what each witness has got. ``trouble`` is why the log is not signed
    or a witness does not get its heads."""

    head: HeadView | None
    size: int
    trouble: str
    witnesses: dict[str, SentView]


class DecisionView(BaseModel):
    """What an answer was made of: in plain words, as a record, and where it stands in the audit log."""

    request_id: str
    n: int
    leaf: str
    record: dict[str, Any]
    proof: AuditProofView
    text: str


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Audit"])
    app = desk.app
    reads = needs(Permission.AUDIT_READ)

    @router.get("/v1/audit", response_model=AuditView, openapi_extra=reads, summary="List audit events")
    def listed(
        action: Word = "",
        actor: Word = "",
        subject: Word = "",
        since: Annotated[str, Query(max_length=40)] = "",
        until: Annotated[str, Query(max_length=40)] = "",
        decisions: bool = False,
        before: Annotated[int | None, Query(ge=0, le=MOST)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """The newest first. `action` with a dot at its end is all that begin with it."""
        filters = Filters(
            action=possible_action(action, "action"),
            actor=actor,
            subject=subject,
            since=_moment(since, "since"),
            until=_moment(until, "until"),
            decisions=decisions,
        )
        page = app.audit.list(filters, before, limit)
        return Json({"events": [audit_event_view(event) for event in page.events], "next": page.next})

    @router.get("/v1/audit/head", response_model=AuditHeadView, openapi_extra=reads, summary="The newest signed head")
    def head() -> Response:
        """With what each witness has got, and why it has not got a newer one."""
        held = app.audit.head()
        sent = {
            way: {"size": got.size, "at": got.at.isoformat(), "trouble": got.trouble}
            for way, got in app.audit.sent().items()
        }
        size, trouble = app.audit.size(), app.auditing.trouble
        return Json(
            {"head": None if held is None else held.view(), "size": size, "trouble": trouble, "witnesses": sent}
        )

    @router.get("/v1/audit/{n}", response_model=AuditEventView, openapi_extra=reads, summary="Look at an audit event")
    def one(n: int) -> Response:
        """All that is kept of it."""
        event = app.audit.get(n)
        if event is None:
            raise NotFound("no such event", where="audit")
        return Json(audit_event_view(event))

    @router.get(
        "/v1/audit/{n}/proof", response_model=AuditProofView, openapi_extra=reads, summary="Prove an audit event"
    )
    def proof(n: int, size: Annotated[int | None, Query(ge=1, le=MOST)] = None) -> Response:
        """That it is in the log: for the newest signed head that holds it, or for the tree of `size`."""
        return Json(audit_proof_view(app.audit.proof(n, size)))

    @router.get(
        "/v1/requests/{request_id}/decision",
        response_model=DecisionView,
        openapi_extra=needs(SIGNED_IN),
        summary="What an answer was made of",
        tags=["Requests"],
    )
    def decision(request_id: str, actor: Asker) -> Response:
        """Made from the record alone. Somebody else's reads like one that never was; who may see it leaves a trace of that."""
        held = visible_decision(app.decisions, request_id, actor)
        where = app.decisions.proof(request_id)
        text = explained(held, where)
        asked_by = "" if held.record is None else held.record.asked_by
        if asked_by != actor.principal:
            owner = asked_by if asked_by.startswith("user:") else ""
            app.audit.record(
                AuditEntry(
                    action="export.decision",
                    subject=f"request:{request_id}",
                    at=app.clock.now(),
                    details={"event": held.n, "form": "http"},
                    owner=owner,
                )
            )
        return Json({**decision_view(held, where), "text": text})

    return router


def _moment(text: str, where: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid("is no time", where=where, fix="write it like 2026-01-31T12:00:00Z") from None
