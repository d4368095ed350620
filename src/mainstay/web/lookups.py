"""What the console's screens look up beside the main nouns, for programs: money of a request, budgets and prices, objectives over
their windows, sources, who has access."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.access.ports import Account, Key
from mainstay.access.roles import ROLES
from mainstay.agreement.ledger import LedgerLine, PurseLine
from mainstay.app import App
from mainstay.app.in_force import model_view, models
from mainstay.records.traces import visible_trace
from mainstay.types import ADMINISTRATORS, usd
from mainstay.web.console.objectives import Board, Line
from mainstay.web.desk import SIGNED_IN, Asker, Desk, Guarded, needs
from mainstay.web.documents import sources_of
from mainstay.web.operations import ModelView
from mainstay.web.views import Json

SHOWN = 500
"""So many users, groups and keys are told, as on the screen."""


class LedgerLineView(BaseModel):
    """One call of a model: what was held for it and what it cost. ``estimated``: without the provider's own count."""

    id: str
    at: str
    closed: str | None
    purpose: str
    model: str
    state: str
    held_usd: str
    spent_usd: str
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    estimated: bool
    price_from: str


class MoneyView(BaseModel):
    """The calls of one request in their order."""

    lines: list[LedgerLineView]


class BudgetView(BaseModel):
    """One budget in the window that runs now. ``share_left`` is below 0 when it is overspent; ``until`` is null where nothing
    begins anew."""

    of: str
    name: str
    since: str
    until: str | None
    limit_usd: str
    spent_usd: str
    held_usd: str
    share_left: float


class BudgetsView(BaseModel):
    """The emptiest first."""

    budgets: list[BudgetView]


class PricesView(BaseModel):
    """What calls are booked at; ``trouble`` is why that can not be told."""

    models: list[ModelView]
    trouble: str


class PieceView(BaseModel):
    """What happened in one piece of an objective's window; ``left`` is what remains of the whole window's budget after it."""

    since: str
    until: str
    events: int
    bad: float
    left: float | None


class PaceView(BaseModel):
    """How many times as fast as permitted the error budget goes in one window, and from where on somebody is told."""

    window_s: float
    severity: str
    burn: float | None
    threshold: float | None
    events: int
    fires: bool


class ObjectiveView(BaseModel):
    """One objective over its window. Of a cost objective ``bad`` is dollars."""

    name: str
    promise: str
    since: str
    until: str
    events: int
    left: float | None
    pieces: list[PieceView]
    burns: list[PaceView]


class HappenedView(BaseModel):
    """A release, a change of mode or an incident."""

    at: str
    kind: str
    what: str


class ObjectivesView(BaseModel):
    """As of ``at``, half a minute ago at most; what happened in the windows, the oldest first."""

    at: str
    objectives: list[ObjectiveView]
    happened: list[HappenedView]


class SourceView(BaseModel):
    """Where documents come from, and how fresh they are."""

    name: str
    state: str
    synced_at: str | None
    documents: int
    root: str
    detail: str


class SourcesView(BaseModel):
    """By name."""

    sources: list[SourceView]


class UserView(BaseModel):
    """Somebody who may act here. ``groups`` are those they belong to through groups of groups, too."""

    name: str
    display: str
    email: str
    role: str
    state: str
    groups: list[str]
    created: str
    asked_last: str | None


class GroupView(BaseModel):
    """A group and its direct members."""

    name: str
    members: list[str]
    kept_by: list[str]


class KeyView(BaseModel):
    """An API key without its secret."""

    id: str
    name: str
    principal: str
    scopes: list[str]
    created: str
    expires: str | None
    revoked: str | None
    last_used: str | None


class WhoView(BaseModel):
    """Users and services, groups, keys (the newest first), and what each role permits; at most 500 of each."""

    users: list[UserView]
    groups: list[GroupView]
    keys: list[KeyView]
    roles: dict[str, list[str]]


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Operations"])
    app = desk.app
    reads = needs(Permission.TRACES_READ)
    board = Board(app)

    @router.get(
        "/v1/requests/{request_id}/money",
        response_model=MoneyView,
        openapi_extra=needs(SIGNED_IN),
        summary="What a request held and spent",
        tags=["Requests"],
    )
    def money(request_id: str, actor: Asker) -> Response:
        """The ledger's own lines. Somebody else's reads like one that never was."""
        trace = visible_trace(app.traces, request_id, actor, attributes=False)
        return Json({"lines": [_line(one) for one in app.lookups.lines(trace.request_id)]})

    @router.get("/v1/budgets", response_model=BudgetsView, openapi_extra=reads, summary="What is left of budgets")
    def budgets() -> Response:
        """Those that somebody has drawn on in the window that runs now."""
        return Json({"budgets": [_budget(one) for one in app.lookups.purses(app.clock.now())]})

    @router.get("/v1/prices", response_model=PricesView, openapi_extra=reads, summary="Prices in force")
    def prices() -> Response:
        """What the calls of each model are booked at."""
        found, trouble = models(app)
        return Json({"models": [model_view(one) for one in found], "trouble": trouble})

    @router.get(
        "/v1/objectives", response_model=ObjectivesView, openapi_extra=reads, summary="Objectives over their windows"
    )
    def objectives() -> Response:
        """What is left of each error budget piece by piece, how fast it goes, and what happened meanwhile."""
        at, lines, happened = board.read()
        said = [{"at": mark.at.isoformat(), "kind": mark.kind, "what": mark.what} for mark in happened]
        return Json({"at": at.isoformat(), "objectives": [_objective(one) for one in lines], "happened": said})

    @router.get(
        "/v1/sources",
        response_model=SourcesView,
        openapi_extra=needs(Permission.ADMIN),
        summary="Where documents come from",
    )
    def sources() -> Response:
        """How fresh each source is, and what went wrong."""
        return Json({"sources": [{**one, "synced_at": _time(one["synced_at"])} for one in sources_of(app)]})

    @router.get(
        "/v1/access",
        response_model=WhoView,
        openapi_extra=needs(Permission.ADMIN, Permission.AUDIT_READ),
        summary="Who has access",
    )
    def access() -> Response:
        """Users with their roles and groups, groups with their members, keys without their secrets."""
        accounts = [*app.people.list("user"), *app.people.list("service")][:SHOWN]
        asked = app.lookups.last_asked([one.principal for one in accounts])
        groups = list(dict.fromkeys([*(one.principal for one in app.people.list("group")), ADMINISTRATORS]))[:SHOWN]
        return Json(
            {
                "users": [_user(app, one, asked.get(one.principal)) for one in accounts],
                "groups": [_group(app, one) for one in groups],
                "keys": [_key(one) for one in list(reversed(app.keyring.list()))[:SHOWN]],
                "roles": {role: sorted(map(str, permits)) for role, permits in ROLES.items()},
            }
        )

    return router


def _line(one: LedgerLine) -> dict[str, Any]:
    return {
        "id": one.hold_id,
        "at": _time(one.at),
        "closed": _time(one.closed),
        "purpose": one.purpose,
        "model": one.model,
        "state": one.state,
        "held_usd": usd(one.held_n),
        "spent_usd": usd(one.settled_n),
        "input_tokens": one.input_tokens,
        "cached_input_tokens": one.cached_tokens,
        "output_tokens": one.output_tokens,
        "estimated": one.estimated,
        "price_from": one.prices,
    }


def _budget(one: PurseLine) -> dict[str, Any]:
    return {
        "of": one.kind,
        "name": one.name,
        "since": _time(one.since),
        "until": _time(one.until),
        "limit_usd": usd(one.limit_n),
        "spent_usd": usd(one.settled_n),
        "held_usd": usd(one.held_n),
        "share_left": one.left,
    }


def _objective(line: Line) -> dict[str, Any]:
    return {
        "name": line.held.name,
        "promise": line.promise,
        "since": _time(line.since),
        "until": _time(line.until),
        "events": line.events,
        "left": _finite(line.left),
        "pieces": [
            {
                "since": _time(one.since),
                "until": _time(one.until),
                "events": one.events,
                "bad": one.bad,
                "left": _finite(one.left),
            }
            for one in line.pieces
        ],
        "burns": [
            {
                "window_s": one.fitted.rule.long.total_seconds(),
                "severity": str(one.fitted.rule.severity),
                "burn": _finite(one.long_burn),
                "threshold": _finite(one.fitted.burn),
                "events": one.events,
                "fires": one.over,
            }
            for one in line.burns
        ],
    }


def _user(app: App, one: Account, asked: datetime | None) -> dict[str, Any]:
    return {
        "name": one.principal,
        "display": one.display,
        "email": one.email,
        "role": one.acts_as if one.principal.startswith("user:") else "",
        "state": str(one.state),
        "groups": app.groups_of(one.principal),
        "created": _time(one.created),
        "asked_last": _time(asked),
    }


def _group(app: App, name: str) -> dict[str, Any]:
    members = app.people.members(name)
    return {
        "name": name,
        "members": [one.member for one in members],
        "kept_by": sorted({one.source for one in members}),
    }


def _key(one: Key) -> dict[str, Any]:
    return {
        "id": one.key_id,
        "name": one.name,
        "principal": one.principal,
        "scopes": sorted(one.scopes),
        "created": _time(one.created),
        "expires": _time(one.expires),
        "revoked": _time(one.revoked),
        "last_used": _time(one.last_used),
    }


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
