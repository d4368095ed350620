"""Chat over the Anthropic wire format: `/messages`.

A stream is `message_start`, for each block `content_block_start`, `_delta`s and `content_block_stop`, then `message_delta`
with the end reason and the usage so far, then `message_stop`; `ping` anywhere. Blocks come one after the other, numbered
from 0, which makes lost, doubled and reordered pieces visible. Kinds of events, blocks and deltas that are not known are
progress and nothing else, as the format asks of its readers.

JSON of a given shape is asked for by forcing the call of one tool with that schema: it works with every model that has
tools and takes any schema, while the format's own structured output refuses bounds on strings, numbers and arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mainstay.models.chat import ChatRequest, FailureKind, Message, Reason, ToolSpec
from mainstay.models.providers.reading import Answer, ChatSettings, Taken, ToolCalls, WireModel, usage_of
from mainstay.models.providers.sse import Frame

API_VERSION = "2023-06-01"
VERSION_HEADER = "anthropic-version"
AUTH_HEADER = "x-api-key"
HOTTEST = 1.0
FORM = ToolSpec(name="answer", description="Give the answer in this form.", schema={})
"""The tool that is forced for JSON."""

_REASONS: Mapping[str, Reason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "pause_turn": "length",
    "tool_use": "tool",
    "refusal": "content_filter",
    "model_context_window_exceeded": "length",
}
_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class AnthropicModel(WireModel):
    """A ChatModel. Holds no state between calls."""

    def _asked(self, request: ChatRequest) -> tuple[str, dict[str, Any], Answer]:
        form = None
        if request.json_schema is not None and self._settings.json_dialect != "none":
            form = replace(FORM, schema=request.json_schema)
        return "/messages", _body(self._settings, request, form), _Answer(self._settings, request, form)


def _body(settings: ChatSettings, request: ChatRequest, form: ToolSpec | None) -> dict[str, Any]:
    """The request as this server wants it."""
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": _turns(request.messages),
        "max_tokens": request.max_output_tokens,
        "stream": True,
    }
    if system := "\n\n".join(message.content for message in request.messages if message.role == "system"):
        body["system"] = system
    if request.temperature is not None and settings.takes_temperature:
        body["temperature"] = min(request.temperature, HOTTEST)
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if tools := request.tools or ((form,) if form else ()):
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema} for tool in tools
        ]
    if form is not None:
        body["tool_choice"] = {"type": "tool", "name": form.name}
    return body


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The conversation without the system's part. Results of tools are the user's; those that follow each other are one turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        if message.role == "tool":
            result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}
            if turns and turns[-1]["role"] == "user" and isinstance(turns[-1]["content"], list):
                turns[-1]["content"].append(result)
            else:
                turns.append({"role": "user", "content": [result]})
        elif message.tool_calls:
            said = [{"type": "text", "text": message.content}] if message.content else []
            calls = [
                {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments_json)}
                for call in message.tool_calls
            ]
            turns.append({"role": "assistant", "content": [*said, *calls]})
        else:
            turns.append({"role": message.role, "content": message.content})
    return turns


class _Answer(Answer):
    """One answer in this format."""

    def __init__(self, settings: ChatSettings, request: ChatRequest, form: ToolSpec | None) -> None:
        super().__init__(settings, request)
        self._form = form
        if form is not None:
            self.calls = ToolCalls([form.name], self.malformed)
        self._started = self._any_text = False
        self._blocks = 0
        self._open: str | None = None
        self._overfull = False
        self._counts: dict[str, Any] = {}

    def take(self, frame: Frame) -> Taken:
        document = self.parsed(frame.data)
        kind = document.get("type")
        if kind == "error" or frame.event == "error" or document.get("error"):
            raise self.error(document)
        if not isinstance(kind, str):
            raise self.malformed("an event without a type")
        if kind == "message_start":
            return self._begun(document)
        if kind != "ping" and not self._started:
            raise self.malformed("an event before the start")
        match kind:
            case "content_block_start":
                return self._block_begun(document)
            case "content_block_delta":
                return self._piece(document)
            case "content_block_stop":
                self._in_block(document)
                self._open = None
                return Taken()
            case "message_delta":
                return self._ending(document)
            case "message_stop":
                if self.reason is None:
                    raise self.failed(FailureKind.CUT, "the answer ended without an end reason")
                self._finish()
                return Taken(end=True)
            case _:
                return Taken()

    def take_whole(self, document: dict[str, Any]) -> str:
        if document.get("type") == "error" or document.get("error"):
            raise self.error(document)
        blocks = document.get("content")
        if document.get("type") != "message" or not isinstance(blocks, list):
            raise self.malformed("a document that is no message")
        text = ""
        for block in blocks:
            if not isinstance(block, dict):
                raise self.malformed("a block of an unknown shape")
            if block.get("type") == "tool_use":
                self.calls.begin(block.get("id"), block.get("name"))
                self.calls.add(len(self.calls) - 1, json.dumps(block.get("input"), ensure_ascii=False))
            elif block.get("type") == "text":
                text += self._shown(block.get("text"))
        if self._form is not None:
            text = "".join(call.arguments_json for call in self.calls.whole())
        self._any_text = bool(text)
        self._count(document.get("usage"))
        self._ended_by(document.get("stop_reason"))
        self._finish()
        return text

    def _begun(self, document: dict[str, Any]) -> Taken:
        message = document.get("message")
        if self._started or not isinstance(message, dict):
            raise self.malformed("a second start, or one of an unknown shape")
        self._started = True
        self._count(message.get("usage"))
        self._counts.pop("output_tokens", None)  # only the end tells how much came out
        return Taken()

    def _block_begun(self, document: dict[str, Any]) -> Taken:
        block = document.get("content_block")
        if self._open is not None or self.reason is not None or document.get("index") != self._blocks:
            raise self.malformed("a block out of order")
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise self.malformed("a block of an unknown shape")
        self._blocks += 1
        self._open = str(block["type"])
        if self._open == "tool_use":
            self.calls.begin(block.get("id"), block.get("name"))
            return Taken(progress=True)
        text = self._shown(block.get("text", "")) if self._open == "text" else ""
        return Taken(text=text, progress=True)

    def _piece(self, document: dict[str, Any]) -> Taken:
        self._in_block(document)
        delta = document.get("delta")
        if not isinstance(delta, dict):
            raise self.malformed("a piece of an unknown shape")
        kind = delta.get("type")
        if kind == "text_delta" and self._open == "text":
            return Taken(text=self._shown(delta.get("text")), progress=True)
        if kind == "input_json_delta" and self._open == "tool_use":
            piece = delta.get("partial_json")
            self.calls.add(len(self.calls) - 1, piece)
            self._any_text = self._any_text or bool(self._form and piece)
            return Taken(text=str(piece) if self._form else "", progress=True)
        if kind in ("text_delta", "input_json_delta") and self._open in ("text", "tool_use"):
            raise self.malformed("a piece in the wrong block")
        return Taken(progress=True)

    def _ending(self, document: dict[str, Any]) -> Taken:
        delta = document.get("delta")
        if self._open is not None or not isinstance(delta, dict):
            raise self.malformed("an end inside a block, or of an unknown shape")
        self._count(document.get("usage"))
        if (reason := delta.get("stop_reason")) is not None:
            self._ended_by(reason)
        return Taken(progress=True)

    def _in_block(self, document: dict[str, Any]) -> None:
        if self._open is None or document.get("index") != self._blocks - 1:
            raise self.malformed("a piece of a block that is not open")

    def _shown(self, text: object) -> str:
        """A block's text; what is said beside a form that was asked for is not part of the answer."""
        if not isinstance(text, str):
            raise self.malformed("text of an unknown shape")
        shown = "" if self._form else text
        self._any_text = self._any_text or bool(shown)
        return shown

    def _ended_by(self, reason: object) -> None:
        if reason == "model_context_window_exceeded" and not self._any_text:
            raise self.failed(FailureKind.CONTEXT_TOO_LONG, "the prompt filled the model's context")
        self.end(_REASONS.get(reason) if isinstance(reason, str) else None)

    def _count(self, usage: object) -> None:
        """Counts are totals so far: the latest holds."""
        if isinstance(usage, dict):
            self._counts.update({key: usage[key] for key in _COUNTS if usage.get(key) is not None})
            details = usage.get("output_tokens_details")
            if isinstance(details, dict) and details.get("thinking_tokens") is not None:
                self._counts["reasoning"] = details["thinking_tokens"]

    def _finish(self) -> None:
        """Usage as ours: what went through the cache is part of the input. A form that was filled in is the answer itself."""
        parts = [self._counts.get(key, 0) for key in ("cache_read_input_tokens", "cache_creation_input_tokens")]
        fresh = self._counts.get("input_tokens")
        sensible = all(type(count) is int and count >= 0 for count in (fresh, *parts))
        self.usage = usage_of(
            self.settings,
            inputs=fresh + sum(parts) if sensible and fresh is not None else None,
            outputs=self._counts.get("output_tokens"),
            cached=parts[0],
            written=parts[1],
            reasoning=self._counts.get("reasoning"),
        )
        if self._form is not None and self.reason in ("tool", "stop"):
            if not self.calls.whole() and self.reason == "tool":
                raise self.malformed("it ends with a form and gave none")
            self.calls = ToolCalls([], self.malformed)
            self.reason = "stop"
