"""The two wire formats as a server speaks them: the text of frames, documents and errors, for the scripted upstream."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Calls = Sequence[tuple[str, str, Sequence[str]]]
"""Tool calls: id, name, and the pieces of the arguments."""


class Format(Protocol):
    """One wire format. Each method gives the text of whole frames, or a document."""

    name: str
    path: str

    def opening(self) -> str: ...
    def piece(self, text: str) -> str: ...
    def thought(self) -> str: ...
    def tools(self, calls: Calls) -> str: ...
    def ending(self, reason: str, usage: object = None) -> str: ...
    def end_frame(self) -> str: ...
    def document(self, text: str, reason: str, usage: object = None) -> dict[str, Any]: ...
    def usage(self, tokens_in: int, tokens_out: int) -> dict[str, Any]: ...
    def error(self, code: str, message: str) -> dict[str, Any]: ...
    def error_frame(self, code: str, message: str) -> str: ...


def frame(document: Mapping[str, Any], event: str = "") -> str:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(document)}\n\n"


class OpenAi:
    """Chat completions."""

    name, path = "openai-compatible", "/chat/completions"

    def chunk(self, delta: Mapping[str, object], reason: str | None = None) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "scripted",
            "choices": [{"index": 0, "delta": dict(delta), "finish_reason": reason}],
            "obfuscation": "aZ3",
        }

    def opening(self) -> str:
        return frame(self.chunk({"role": "assistant", "content": ""}))

    def piece(self, text: str) -> str:
        return frame(self.chunk({"content": text}))

    def thought(self) -> str:
        return frame(self.chunk({"reasoning_content": "hm"}))

    def tools(self, calls: Calls) -> str:
        frames = []
        for index, (id_, name, pieces) in enumerate(calls):
            head = {"index": index, "id": id_, "type": "function", "function": {"name": name, "arguments": ""}}
            frames.append(frame(self.chunk({"tool_calls": [head]})))
            frames += [
                frame(self.chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
                for piece in pieces
            ]
        return "".join(frames)

    def ending(self, reason: str, usage: object = None) -> str:
        told = frame({**self.chunk({}), "choices": [], "usage": usage}) if usage is not None else ""
        return frame(self.chunk({}, _REASONS[self.name].get(reason, reason))) + told

    def end_frame(self) -> str:
        return "data: [DONE]\n\n"

    def document(self, text: str, reason: str, usage: object = None) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": _REASONS[self.name].get(reason, reason)}
        whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "scripted"}
        return {**whole, "choices": [choice], **({} if usage is None else {"usage": usage})}

    def usage(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        counts = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
        return {**counts, "total_tokens": tokens_in + tokens_out}

    def error(self, code: str, message: str) -> dict[str, Any]:
        return {"error": {"message": message, "type": "error", "param": None, "code": code or None}}

    def error_frame(self, code: str, message: str) -> str:
        return frame({"error": {"message": message, "type": code, "code": code}})


class Anthropic:
    """Messages. `opening` begins the first block, of text; `tools` and `ending` close what is open."""

    name, path = "anthropic", "/messages"

    def opening(self) -> str:
        usage = {"input_tokens": 9, "output_tokens": 1}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted", "content": []}
        start = {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}}
        return self._event(start) + self._event({"type": "ping"}) + self.begun(0, {"type": "text", "text": ""})

    def begun(self, index: int, block: Mapping[str, object]) -> str:
        return self._event({"type": "content_block_start", "index": index, "content_block": dict(block)})

    def delta(self, index: int, delta: Mapping[str, object]) -> str:
        return self._event({"type": "content_block_delta", "index": index, "delta": dict(delta)})

    def stopped(self, index: int) -> str:
        return self._event({"type": "content_block_stop", "index": index})

    def piece(self, text: str) -> str:
        return self.delta(0, {"type": "text_delta", "text": text})

    def thought(self) -> str:
        return self.delta(0, {"type": "thinking_delta", "thinking": "hm"})

    def tools(self, calls: Calls) -> str:
        """Blocks after the first one; the last one stays open for `ending`, which closes block 0 if there is none."""
        frames = [self.stopped(0)]
        for index, (id_, name, pieces) in enumerate(calls, 1):
            frames.append(self.begun(index, {"type": "tool_use", "id": id_, "name": name, "input": {}}))
            frames += [self.delta(index, {"type": "input_json_delta", "partial_json": piece}) for piece in pieces]
            frames.append(self.stopped(index))
        return "".join(frames)

    def ending(self, reason: str, usage: object = None, *, close: bool = True) -> str:
        delta = {"stop_reason": _REASONS[self.name].get(reason, reason), "stop_sequence": None}
        end: dict[str, Any] = {"type": "message_delta", "delta": delta}
        if usage is not None:
            end["usage"] = usage
        return (self.stopped(0) if close and reason != "tool" else "") + self._event(end)

    def end_frame(self) -> str:
        return self._event({"type": "message_stop"})

    def document(self, text: str, reason: str, usage: object = None) -> dict[str, Any]:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted"}
        content = [{"type": "text", "text": text}]
        told = {} if usage is None else {"usage": usage}
        return {**message, "content": content, "stop_reason": _REASONS[self.name].get(reason, reason), **told}

    def usage(self, tokens_in: int, tokens_out: int) -> dict[str, Any]:
        return {"input_tokens": tokens_in, "output_tokens": tokens_out}

    def error(self, code: str, message: str) -> dict[str, Any]:
        error = {"type": code or "invalid_request_error", "message": message}
        return {"type": "error", "error": error, "request_id": "req_1"}

    def error_frame(self, code: str, message: str) -> str:
        return self._event({"type": "error", "error": {"type": code, "message": message}})

    def _event(self, document: Mapping[str, Any]) -> str:
        return frame(document, str(document["type"]))


_REASONS: Mapping[str, Mapping[str, str]] = {
    "openai-compatible": {"tool": "tool_calls"},
    "anthropic": {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool": "tool_use",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
    },
}
OPENAI = OpenAi()
ANTHROPIC = Anthropic()
FORMATS: Mapping[str, Format] = {OPENAI.name: OPENAI, ANTHROPIC.name: ANTHROPIC}
