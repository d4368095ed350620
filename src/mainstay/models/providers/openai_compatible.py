"""Chat over the OpenAI wire format, as hosted and local servers speak it: `/chat/completions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mainstay.models.chat import ChatRequest, FailureKind, Message, Reason
from mainstay.models.providers.embeddings import EmbedderSettings, OpenAiCompatibleEmbedder
from mainstay.models.providers.endpoint import Endpoint
from mainstay.models.providers.reading import Answer, ChatSettings, Taken, WireModel, usage_of
from mainstay.models.providers.sse import Frame
from mainstay.types import Usage

__all__ = ["ChatSettings", "EmbedderSettings", "Endpoint", "OpenAiCompatibleEmbedder", "OpenAiCompatibleModel"]

_REASONS: Mapping[str, Reason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "tool_calls": "tool",
}
_BROKEN_ENDS = frozenset({"error", "insufficient_system_resource"})
_OVERFULL = "model_context_window_exceeded"


class OpenAiCompatibleModel(WireModel):
    """A ChatModel. Holds no state between calls."""

    def _asked(self, request: ChatRequest) -> tuple[str, dict[str, Any], Answer]:
        return "/chat/completions", _body(self._settings, request), _Answer(self._settings, request)


def _body(settings: ChatSettings, request: ChatRequest) -> dict[str, Any]:
    """The request as this server wants it."""
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [_message(settings, message) for message in request.messages],
        "stream": True,
        settings.output_limit_field: request.max_output_tokens,
    }
    if settings.sends_usage:
        body["stream_options"] = {"include_usage": True}
    if request.temperature is not None and settings.takes_temperature:
        body["temperature"] = request.temperature
    if request.stop:
        body["stop"] = list(request.stop)
    if request.json_schema is not None and settings.json_dialect == "json_schema":
        schema = {"name": "answer", "strict": True, "schema": request.json_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif request.json_schema is not None and settings.json_dialect == "json_object":
        body["response_format"] = {"type": "json_object", "schema": request.json_schema}
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
            }
            for tool in request.tools
        ]
    return body


def _message(settings: ChatSettings, message: Message) -> dict[str, Any]:
    role = settings.system_role if message.role == "system" else message.role
    told: dict[str, Any] = {"role": role, "content": message.content}
    if message.tool_call_id:
        told["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
            for call in message.tool_calls
        ]
    return told


class _Answer(Answer):
    """One answer in this format."""

    def __init__(self, settings: ChatSettings, request: ChatRequest) -> None:
        super().__init__(settings, request)
        self._any_text = False

    def take(self, frame: Frame) -> Taken:
        if frame.data == "[DONE]":
            return Taken(end=True)
        return self._chunk(self.parsed(frame.data), frame.event, "delta")

    def take_whole(self, document: dict[str, Any]) -> str:
        return self._chunk(document, "", "message").text

    def _chunk(self, document: dict[str, Any], event: str, part: str) -> Taken:
        if document.get("error") or event == "error":
            raise self.error(document)
        if (usage := document.get("usage")) is not None:
            self.usage = _usage(usage, self.settings)
        choices = document.get("choices")
        if choices is None and "usage" in document:
            return Taken()
        if not isinstance(choices, list):
            raise self.malformed("a chunk without choices")
        if not choices:
            return Taken()
        choice = choices[0]
        if len(choices) > 1 or not isinstance(choice, dict) or choice.get("index", 0) != 0:
            raise self.malformed("a chunk of another answer")
        text, progress = self._text(choice.get(part))
        if self.reason is not None and text:
            raise self.malformed("text after the end")
        self._any_text = self._any_text or bool(text)
        self._ended_by(choice.get("finish_reason"))
        return Taken(text=text, progress=progress or self.reason is not None)

    def _text(self, delta: object) -> tuple[str, bool]:
        """The text of a piece. Thinking and tool calls are progress, but not text."""
        if delta is None:
            return "", False
        if not isinstance(delta, dict):
            raise self.malformed("a chunk of an unknown shape")
        text, refusal = delta.get("content") or "", delta.get("refusal") or ""
        if not isinstance(text, str) or not isinstance(refusal, str):
            raise self.malformed("text of an unknown shape")
        self.refused = self.refused or bool(refusal)
        called = delta.get("tool_calls")
        if called:
            self._called(called)
        silent = called or any(delta.get(key) for key in ("reasoning_content", "reasoning"))
        return text + refusal, bool(text or refusal or silent)

    def _called(self, pieces: object) -> None:
        """Pieces of tool calls: id and name come once (some servers repeat them), arguments in any number of pieces."""
        if not isinstance(pieces, list) or self.reason is not None:
            raise self.malformed("tool calls of an unknown shape, or after the end")
        for piece in pieces:
            function = piece.get("function") if isinstance(piece, dict) else None
            if not isinstance(function, dict):
                raise self.malformed("a tool call of an unknown shape")
            id_, name, index = piece.get("id"), function.get("name"), piece.get("index")
            if index is None and id_:  # servers that send each call whole leave it out
                index = len(self.calls)
            if type(index) is not int or not 0 <= index <= len(self.calls):
                raise self.malformed("a piece of a tool call out of order")
            if index == len(self.calls):
                self.calls.begin(id_, name)
            elif (id_ or self.calls.head(index)[0], name or self.calls.head(index)[1]) != self.calls.head(index):
                raise self.malformed("pieces of two tool calls under one index")
            if (arguments := function.get("arguments")) is not None:
                self.calls.add(index, arguments)

    def _ended_by(self, reason: object) -> None:
        if reason is None or reason == "":
            return
        if reason in _BROKEN_ENDS:
            raise self.failed(FailureKind.SERVER, "the provider gave up in the middle of the answer")
        if reason == _OVERFULL:
            if not self._any_text:
                raise self.failed(FailureKind.CONTEXT_TOO_LONG, "the prompt filled the model's context")
            reason = "length"
        self.end(_REASONS.get(reason) if isinstance(reason, str) else None)


def _usage(told: object, settings: ChatSettings) -> Usage | None:
    """Cached tokens and cache writes are part of the prompt's, reasoning is part of the completion's."""
    if not isinstance(told, dict):
        return None
    prompt = told.get("prompt_tokens_details") or {}
    completion = told.get("completion_tokens_details") or {}
    if not isinstance(prompt, dict) or not isinstance(completion, dict):
        return None
    return usage_of(
        settings,
        inputs=told.get("prompt_tokens"),
        outputs=told.get("completion_tokens"),
        cached=prompt.get("cached_tokens"),
        written=prompt.get("cache_write_tokens"),
        reasoning=completion.get("reasoning_tokens"),
    )
