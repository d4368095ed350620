"""Objectives in trouble: who looks, who takes one, who wants to hear nothing for a while."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.agreement.terms import seconds
from mainstay.records.alerts import MAX_NOTE, Alert, Silence
from mainstay.shapes import alert_view, silence_view
from mainstay.web.bodies import Text
from mainstay.web.desk import Asker, Desk, Guarded, needs
from mainstay.web.views import Json

_STRICT = ConfigDict(extra="forbid")


class AckBody(BaseModel):
    """What to remember about it."""

    model_config = _STRICT

    note: Annotated[Text, Field(max_length=MAX_NOTE)] = ""


class SilenceBody(BaseModel):
    """Which alerts nobody is told of, and for how long: `30m`, `2h`, `1d`. Left out, an objective or severity is any."""

    model_config = _STRICT

    objective: Annotated[Text, Field(max_length=200)] = ""
    severity: Literal["", "page", "ticket"] = ""
    length: Annotated[Text, Field(alias="for", max_length=20)]
    note: Annotated[Text, Field(max_length=MAX_NOTE)] = ""


class BurnView(BaseModel):
    """How fast an error budget goes in one pair of windows."""

    long_s: float
    short_s: float
    threshold: float
    long_burn: float
    short_burn: float
    low_burn: float
    events: int
    bad: float


class SilenceView(BaseModel):
    """Until then nobody is told. An empty objective or severity is any."""

    id: str
    objective: str
    severity: str
    since: str
    until: str
    by: str
    note: str


class AlertView(BaseModel):
    """An objective in trouble, or that was."""

    id: str
    objective: str
    severity: Literal["page", "ticket"]
    state: Literal["firing", "resolved"]
    summary: str
    opened: str
    resolved: str | None
    acknowledged: str | None
    acknowledged_by: str
    note: str
    notices: int
    burns: list[BurnView]
    silenced_until: str | None = None


class AlertsView(BaseModel):
    """Open ones first, then those that ended in the last week."""

    alerts: list[AlertView]
    silences: list[SilenceView]


class ToldView(BaseModel):
    """A message that is on its way, by these ways."""

    id: str
    ways: list[str]


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Alerts"])
    app = desk.app
    alerts, agreement = app.alarming.alerts, app.settings.agreement
    reads, operates = needs(Permission.TRACES_READ), needs(Permission.OPERATE)

    def shown(alert: Alert, silence: Silence | None) -> dict[str, Any]:
        until = None if silence is None else silence_view(silence)["until"]
        return {**alert_view(alert, agreement), "silenced_until": until}

    @router.get("/v1/alerts", response_model=AlertsView, openapi_extra=reads, summary="Objectives in trouble")
    def listed(limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Response:
        """Each with how fast its error budget goes, and whether somebody has it in hand."""
        silences = alerts.store.silences(app.clock.now())
        return Json(
            {
                "alerts": [shown(alert, silence) for alert, silence in alerts.standing(limit=limit)],
                "silences": [silence_view(one) for one in silences],
            }
        )

    @router.post(
        "/v1/alerts/test", status_code=202, response_model=ToldView, openapi_extra=operates, summary="Test alerts"
    )
    def tested() -> Response:
        """Send a message that says that nothing is wrong, by each way that is set up."""
        notice = alerts.test()
        return Json({"id": notice.id, "ways": [way.partition(":")[0] for way in app.settings.service.alerts.ways]}, 202)

    @router.post(
        "/v1/alerts/{alert_id}/ack", response_model=AlertView, openapi_extra=operates, summary="Take an alert in hand"
    )
    def acknowledged(alert_id: str, body: AckBody, actor: Asker) -> Response:
        """It is not repeated any more; its end is told all the same. Kept with your name."""
        return Json(shown(alerts.acknowledge(alert_id, by=actor.principal, note=body.note), None))

    @router.post(
        "/v1/silences",
        status_code=201,
        response_model=SilenceView,
        openapi_extra=operates,
        summary="Tell nobody for a while",
    )
    def silenced(body: SilenceBody, actor: Asker) -> Response:
        """At most 90 days. Alerts open and end as ever; what ends while it is silenced is told when the silence ends."""
        made = alerts.silence(
            by=actor.principal,
            length_s=seconds(body.length, "for"),
            objective=body.objective,
            severity=body.severity,
            note=body.note,
        )
        return Json(silence_view(made), 201)

    @router.delete(
        "/v1/silences/{silence_id}", response_model=SilenceView, openapi_extra=operates, summary="End a silence"
    )
    def unsilenced(silence_id: str, actor: Asker) -> Response:
        """People are told again of what is open."""
        return Json(silence_view(alerts.unsilence(silence_id, by=actor.principal)))

    return router
