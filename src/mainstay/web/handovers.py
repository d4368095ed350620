"""Questions that go to a person: what became of one's own, and all of them for operators."""

from __future__ import annotations

import threading
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from mainstay.access.directory import ANONYMOUS
from mainstay.access.keys import Permission
from mainstay.answering import admitted
from mainstay.app import App
from mainstay.errors import Invalid, NotFound
from mainstay.handover import HandOver, State, operates, promise, visible
from mainstay.records.traces import visible_trace
from mainstay.shapes import handover_view
from mainstay.text.language import language
from mainstay.types import Actor, Question
from mainstay.web.bodies import HandOverBody, NoteBody
from mainstay.web.desk import SIGNED_IN, Asker, Desk, Guarded, needs
from mainstay.web.views import HandOversView, HandOverView, Json

ASKED_FOR = "the asker wished it"
_ONE_AT_A_TIME = tuple(threading.Lock() for _ in range(16))  # by answer: two clicks are one question for a person


def handed_over(app: App, actor: Actor, text: str, request_id: str) -> tuple[HandOver, bool]:
    """An asker's question, given to a person once for each answer, and whether that happened now. Without a ``request_id`` it
    is a question that was not asked here before.

    Errors: NotFound for an answer to somebody else, and for one that never was; Invalid for a question that can be none.
    """
    if not request_id:
        return _given(app, actor, text, ""), True
    if visible_trace(app.traces, request_id, actor).asker != actor.principal or actor.principal == ANONYMOUS:
        raise NotFound("no such request", where=request_id[:60])
    with _ONE_AT_A_TIME[hash(request_id) % len(_ONE_AT_A_TIME)]:
        known = app.handovers.list(principal=actor.principal, request_id=request_id, limit=1)
        if known:
            return known[0], False
        return _given(app, actor, text or _kept(app, request_id), request_id), True


def _given(app: App, actor: Actor, text: str, request_id: str) -> HandOver:
    question = admitted(Question(text=text), app.question_limits)
    return app.hand_over(question, actor, reason=ASKED_FOR, request_id=request_id, language=language(question.text))


def _kept(app: App, request_id: str) -> str:
    """The question as it was asked, where texts are kept. Errors: Invalid where they are not."""
    text = (app.traces.content(request_id) or {}).get("question", "")
    if not text:
        raise Invalid("the text of this question was not kept", where="question", fix="send it again with this request")
    return text


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
        "/v1/requests/{request_id}/handover",
        status_code=201,
        response_model=HandOverView,
        responses={200: {"model": HandOverView, "description": "It is with a person already: that hand-over."}},
        openapi_extra=needs(Permission.ASK),
        summary="Give an answered question to a person",
    )
    def given(request_id: str, body: HandOverBody, actor: Asker) -> Response:
        """For whoever asked it, once for each answer: asked for again, it is the same hand-over (200)."""
        held, now = handed_over(app, actor, body.question, request_id)
        return Json(shown(held, actor), 201 if now else 200)

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
