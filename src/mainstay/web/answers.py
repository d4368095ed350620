"""Native questions: ``POST /v1/answers``, whole or as server-sent events, and ``POST /v1/search``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from mainstay.access.keys import Permission
from mainstay.answering import Cited, Event, Finished, Noticed, TextPiece, admitted
from mainstay.app import App
from mainstay.records.spans import Context
from mainstay.shapes import answer_view, citation_view, search_view
from mainstay.types import Actor, Question
from mainstay.web.bodies import QuestionBody, SearchBody
from mainstay.web.desk import Asker, Desk, Guarded, needs
from mainstay.web.problems import problem_of
from mainstay.web.views import AnswerView, Json, SearchView

STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""The second tells a proxy to pass a stream on as it comes."""
_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": _EVENT}}}}


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Questions"])

    @router.post(
        "/v1/answers",
        response_model=AnswerView,
        responses=STREAMED,
        openapi_extra=needs(Permission.ASK),
        summary="Ask a question",
    )
    def answers(body: QuestionBody, actor: Asker, request: Request) -> Response:
        """An answer from the documents the asker may read, with citations.

        With `stream: true`: server-sent events `delta` ({text}, to be appended), `citation`, `notice` ({text}), then `done` with
        the whole answer, whose text replaces what was streamed. An event `error` with a problem document ends a stream that broke.
        """
        speech = Speech.begin(
            desk.app, body.asked(), actor, desk.own_id(request), door="answers", context=request.state.context
        )
        if body.stream:
            return stream(_events(speech, request.state.request_id))
        return Json(answer_view(speech.whole()))

    @router.post(
        "/v1/search", response_model=SearchView, openapi_extra=needs(Permission.SEARCH), summary="Find passages"
    )
    def search(body: SearchBody, actor: Asker) -> Response:
        """Passages within what the asker may read, best first. No model is called."""
        asked = admitted(body.question(), desk.app.question_limits)
        return Json(search_view(body.query, desk.app.searcher.search(asked, scope=desk.app.gate.scope(actor))))

    return router


@dataclass(frozen=True)
class Speech:
    """An answer on its way. The texts of its pieces are, together, the text of the answer, whenever the answer allows it."""

    events: Iterator[Event]

    @classmethod
    def begin(
        cls, app: App, question: Question, actor: Actor, request_id: str, *, door: str, context: Context
    ) -> Speech:
        """Ask. What is wrong with the question, or keeps us from looking, is raised here, while a status can still be sent."""
        events = app.answering.stream(question, actor, request_id=request_id, door=door, context=context)
        first = next(events)
        return cls(_completed(chain((first,), events)))

    def whole(self) -> Any:
        """The answer alone."""
        return next(event.answer for event in self.events if isinstance(event, Finished))


def _completed(events: Iterator[Event]) -> Iterator[Event]:
    said = ""
    for event in events:
        if isinstance(event, TextPiece):
            said += event.text
        if isinstance(event, Finished) and event.answer.text != said and event.answer.text.startswith(said):
            yield TextPiece(text=event.answer.text[len(said) :])
        yield event


def stream(frames: Iterator[str]) -> StreamingResponse:
    """Server-sent events."""
    return StreamingResponse(frames, media_type="text/event-stream; charset=utf-8", headers=STREAM_HEADERS)


def _events(speech: Speech, request_id: str) -> Iterator[str]:
    try:
        for event in speech.events:
            yield _frame(event)
    except Exception as error:  # noqa: BLE001 - the status is sent: the stream itself has to say that it broke
        yield frame("error", problem_of(error).document(request_id))


def _frame(event: Event) -> str:
    match event:
        case TextPiece(text=text):
            return frame("delta", {"text": text})
        case Cited(citation=citation):
            return frame("citation", citation_view(citation))
        case Noticed(text=text):
            return frame("notice", {"text": text})
        case Finished(answer=answer):
            return frame("done", answer_view(answer))


def frame(event: str | None, data: dict[str, Any]) -> str:
    """One server-sent event. ASCII alone, because some clients split lines where Unicode does."""
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {json.dumps(data, separators=(',', ':'))}\n\n"
