"""The OpenAI-compatible door: the official client works unchanged, streaming and not.

What would change the answer and is not done here is refused by name; sampling settings are accepted and have no effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.answering import BROKE_OFF, CUT_SHORT, Finished, TextPiece
from mainstay.errors import Invalid, NotFound
from mainstay.models.chat import FailureKind
from mainstay.shapes import answer_view
from mainstay.types import Answer
from mainstay.web.answers import STREAMED, Speech, frame, stream
from mainstay.web.bodies import ChatBody
from mainstay.web.desk import Asker, Desk, Guarded, needs
from mainstay.web.problems import problem_of
from mainstay.web.views import Json

MODEL = "mainstay"
_NOT_DONE = {
    "tools": "tools are not supported: the answer comes from documents",
    "functions": "functions are not supported: the answer comes from documents",
    "logprobs": "log probabilities are not available",
    "audio": "audio is not supported",
}


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["OpenAI-compatible"])

    @router.post(
        "/v1/chat/completions",
        responses=STREAMED,
        openapi_extra=needs(Permission.ASK),
        summary="Ask through an OpenAI client",
    )
    def chat(body: ChatBody, actor: Asker, request: Request) -> Response:
        """The last user message is the question, earlier turns are history; system messages carry no authority and are left out.

        The whole answer, with its citations, stands under `mainstay` in the completion, or in the last chunk of a stream.
        Filters and `top_k` can be sent as `extra_body={"mainstay": {"filters": {"year": 2024}}}`.
        """
        _refuse_undone(body)
        speech = Speech.begin(
            desk.app, body.asked(), actor, desk.own_id(request), door="chat", context=request.state.context
        )
        created = int(desk.app.clock.now().timestamp())
        if body.stream:
            told = body.stream_options is not None and bool(body.stream_options.include_usage)
            return stream(_chunks(speech, request.state.request_id, created, told))
        return Json(_completion(speech.whole(), created))

    @router.get("/v1/models", openapi_extra=needs(Permission.ASK), summary="List models")
    def models() -> Response:
        """One model: this service."""
        return Json({"object": "list", "data": [_model()]})

    @router.get("/v1/models/{name:path}", openapi_extra=needs(Permission.ASK), summary="Look at a model")
    def model(name: str) -> Response:
        """The model of this name."""
        _known(name)
        return Json(_model())

    return router


def _refuse_undone(body: ChatBody) -> None:
    _known(body.model)
    for name, said in _NOT_DONE.items():
        if getattr(body, name):
            raise Invalid(said, where=name, fix="leave it out")
    if body.n is not None and body.n != 1:
        raise Invalid("one answer is given to one question", where="n", fix="leave it out, or send 1")
    if body.response_format is not None and body.response_format.get("type") != "text":
        raise Invalid(
            "only text answers are given", where="response_format", fix='leave it out, or send {"type": "text"}'
        )
    if body.modalities is not None and body.modalities != ["text"]:
        raise Invalid("only text answers are given", where="modalities", fix='leave it out, or send ["text"]')


def _known(name: str) -> None:
    if name != MODEL:
        raise NotFound(f"no model {name[:80]!a}", where="model", fix=f"use {MODEL}")


def _model() -> dict[str, Any]:
    return {"id": MODEL, "object": "model", "created": 0, "owned_by": "mainstay"}


def _completion(answer: Answer, created: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    return {
        "id": answer.id,
        "object": "chat.completion",
        "created": created,
        "model": MODEL,
        "system_fingerprint": answer.release,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}],
        "usage": _usage(answer),
        "mainstay": answer_view(answer),
    }


def _chunks(speech: Speech, request_id: str, created: int, usage_told: bool) -> Iterator[str]:
    # With include_usage every chunk has a usage field, null in all but the last.
    head: dict[str, Any] = {"id": request_id, "object": "chat.completion.chunk", "created": created, "model": MODEL}
    usage = {"usage": None} if usage_told else {}
    try:
        yield frame(None, {**head, "choices": [_choice({"role": "assistant", "content": ""})], **usage})
        for event in speech.events:
            if isinstance(event, TextPiece):
                yield frame(None, {**head, "choices": [_choice({"content": event.text})], **usage})
            elif isinstance(event, Finished):
                last = _choice({}, _finish(event.answer))
                yield frame(None, {**head, "choices": [last], **usage, "mainstay": answer_view(event.answer)})
                if usage_told:
                    yield frame(None, {**head, "choices": [], "usage": _usage(event.answer)})
                yield "data: [DONE]\n\n"
    except Exception as error:  # noqa: BLE001 - the status is sent: the stream itself has to say that it broke
        yield frame(None, problem_of(error).openai())


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _usage(answer: Answer) -> dict[str, int]:
    read, written = answer.usage.input_tokens, answer.usage.output_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _finish(answer: Answer) -> str:
    """Read from the end of the route. The format has no word for an answer that broke off: ``length`` says that it is not whole."""
    ending = answer.route[-1].rpartition(":")[2] if answer.route else ""
    if ending == FailureKind.CONTENT_FILTER:
        return "content_filter"
    return "length" if ending in (BROKE_OFF, CUT_SHORT) else "stop"
