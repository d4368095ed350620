"""What came of answers: taken in from the systems that know, from the asker's thumb, and counted."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.records.outcomes import MAX_COMMENT, MAX_FIELDS, MAX_WORD, Axis, Kind
from mainstay.records.traces import may_see_all
from mainstay.shapes import outcome_row_view, outcome_view
from mainstay.web.bodies import Text, unicode
from mainstay.web.desk import SIGNED_IN, Asker, Desk, Guarded, needs
from mainstay.web.views import Json

_STRICT = ConfigDict(extra="forbid")
Number = Annotated[float, Field(allow_inf_nan=False)]


def _field(held: object) -> object:
    """A union of types would be told of by the names that pydantic has for its branches."""
    if not isinstance(held, str | bool | int | float) or (isinstance(held, float) and not math.isfinite(held)):
        raise ValueError("must be a text, a number, true or false")
    return unicode(held) if isinstance(held, str) else held


FieldValue = Annotated[
    Any,
    AfterValidator(_field),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "boolean"}, {"type": "integer"}, {"type": "number"}]}),
]


class OutcomeBody(BaseModel):
    """What came of one answer. `key` is your own name for it, like a ticket's id and its state: the same one again is a
    repetition. `at` is when it happened, now if left out."""

    model_config = _STRICT

    request_id: Annotated[Text, Field(min_length=1, max_length=64)]
    kind: Kind
    value: Number | None = None
    unit: Annotated[Text, Field(max_length=MAX_WORD)] = ""
    source: Annotated[Text, Field(max_length=MAX_WORD)] = ""
    at: AwareDatetime | None = None
    comment: Annotated[Text, Field(max_length=MAX_COMMENT)] = ""
    fields: Annotated[dict[Text, FieldValue], Field(max_length=MAX_FIELDS)] = Field(default_factory=dict)
    key: Annotated[Text, Field(max_length=128)] = ""


class FeedbackBody(BaseModel):
    """What the asker thinks of an answer of their own."""

    model_config = _STRICT

    request_id: Annotated[Text, Field(min_length=1, max_length=64)]
    thumbs: Literal["up", "down"]
    comment: Annotated[Text, Field(max_length=MAX_COMMENT)] = ""


class OutcomeView(BaseModel):
    """One outcome, as it is kept."""

    id: str
    request_id: str
    kind: Kind
    value: float | None
    unit: str
    source: str
    by: str
    at: str
    recorded: str
    comment: str
    fields: dict[str, str | bool | int | float]


class OutcomesView(BaseModel):
    """The newest first."""

    outcomes: list[OutcomeView]


class OutcomeRowView(BaseModel):
    """A line of a report. `rate` is `solved` among `decided` with its 95 % interval; `cost_per_solved_usd` is what all decided
    cases cost for each that is solved, with its own."""

    name: str
    requests: int
    reported: int
    decided: int
    solved: int
    rate: float | None
    low: float | None
    high: float | None
    cost_per_solved_usd: str | None
    cost_low_usd: str | None
    cost_high_usd: str | None
    kinds: dict[str, int]
    thumbs_up: int


class OutcomeReportView(BaseModel):
    """The most requests first."""

    by: str
    rows: list[OutcomeRowView]


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Outcomes"])
    app = desk.app

    @router.post(
        "/v1/outcomes",
        status_code=201,
        response_model=OutcomeView,
        openapi_extra=needs(Permission.OUTCOMES_WRITE),
        summary="Say what came of an answer",
    )
    def recorded(body: OutcomeBody, actor: Asker) -> Response:
        """Late ones and repeated ones are welcome: all are kept, of one kind the newest counts. Comment and fields are redacted."""
        held = app.outcomes.record(
            body.request_id,
            body.kind,
            by=actor.principal,
            value=body.value,
            unit=body.unit,
            source=body.source,
            at=body.at,
            comment=body.comment,
            fields=body.fields,
            mark=body.key,
        )
        return Json(outcome_view(held), 201)

    @router.post(
        "/v1/feedback",
        status_code=201,
        response_model=OutcomeView,
        openapi_extra=needs(Permission.ASK),
        summary="A thumb for an answer of one's own",
    )
    def feedback(body: FeedbackBody, actor: Asker) -> Response:
        """Changing one's mind is fine: the newest counts. Somebody else's answer reads like one that never was."""
        held = app.outcomes.feedback(actor, body.request_id, up=body.thumbs == "up", comment=body.comment)
        return Json(outcome_view(held), 201)

    @router.get(
        "/v1/requests/{request_id}/outcomes",
        response_model=OutcomesView,
        openapi_extra=needs(SIGNED_IN),
        summary="What came of a request",
    )
    def of_request(request_id: str, actor: Asker) -> Response:
        """What one has said oneself of one's own; everything for whoever may read traces."""
        held = app.outcomes.of(request_id, actor, all_of=may_see_all(actor))
        return Json({"outcomes": [outcome_view(one) for one in held]})

    @router.get(
        "/v1/outcomes",
        response_model=OutcomeReportView,
        openapi_extra=needs(Permission.TRACES_READ),
        summary="Count what came of answers",
    )
    def report(by: Annotated[Axis, Query()] = "release", days: Annotated[int, Query(ge=1, le=3660)] = 30) -> Response:
        """By release, model, prompt, route or mode: how many are solved, how sure that is, what a solved case costs.
        `reported` beside `requests` shows of how many nothing is known."""
        now = app.clock.now()
        rows = app.outcomes.report(by, since=now - timedelta(days=days), until=now)
        return Json({"by": by, "rows": [outcome_row_view(row) for row in rows]})

    return router
