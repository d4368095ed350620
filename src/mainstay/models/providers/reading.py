"""What every wire format has in common: the call, the strict reading of its stream, tool calls, usage.

One call, one attempt: breakers, fail-over and money are decided above. What differs between servers is data in
`ChatSettings`, never a test of a name. An answer counts as complete only with evidence: an end reason was seen and, where
the server sends it, the end frame; anything else is a failure with one kind.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mainstay.models.chat import (
    ChatRequest,
    Completion,
    Delta,
    Done,
    Event,
    FailureKind,
    ModelFailure,
    Reason,
    ToolCall,
    collected,
    failure,
)
from mainstay.models.prices import Price
from mainstay.models.providers.endpoint import Endpoint
from mainstay.models.providers.errors import failure_from_error, refusal
from mainstay.models.providers.sse import Frame, Garbage, Unfinished, frames
from mainstay.models.providers.wire import Allowance, Wire
from mainstay.types import Usage

MAX_LINE = 1 << 20
MAX_STREAM = 32 << 20
MAX_TOOL_CALLS = 64
LINGER_S = 0.25
"""How long the end of the body is awaited after the end frame, so that the connection can be used again."""
POSSIBLE = 4
"""A count of tokens above so many contexts is not possible."""


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """One chat model on one server: our name for it, the server's, its price, its limits and its abilities."""

    name: str
    model: str
    endpoint: Endpoint
    price: Price
    context_tokens: int
    output_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    json_dialect: Literal["json_schema", "json_object", "none"] = "json_schema"
    system_role: Literal["system", "developer"] = "system"
    sends_usage: bool = True
    sends_end_frame: bool = True
    takes_temperature: bool = True
    connect_s: float = 3.0
    first_token_s: float = 20.0
    idle_s: float = 15.0


class WireModel(ABC):
    """A ChatModel at the other end of the wire. Holds no state between calls."""

    def __init__(self, settings: ChatSettings, wire: Wire) -> None:
        self._where = f"model {settings.name}"
        self._endpoint = settings.endpoint.checked(self._where)
        self._settings, self._wire = replace(settings, endpoint=self._endpoint), wire

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.name!r} at {self._endpoint.base_url!r})"

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def price(self) -> Price:
        return self._settings.price

    @property
    def context_tokens(self) -> int:
        return self._settings.context_tokens

    def complete(self, request: ChatRequest) -> Completion:
        return collected(self.stream(request), where=self._where)

    def stream(self, request: ChatRequest) -> Iterator[Event]:
        settings = self._settings
        allowance = Allowance(
            deadline=request.deadline,
            connect_s=settings.connect_s,
            first_token_s=settings.first_token_s,
            idle_s=settings.idle_s,
        )
        path, body, answer = self._asked(request)
        call = self._wire.post(
            f"{self._endpoint.base_url}{path}",
            headers={
                **self._endpoint.sent_headers(),
                "accept": "text/event-stream, application/json",
                **({"traceparent": request.traceparent} if request.traceparent else {}),
                **({"tracestate": request.tracestate} if request.traceparent and request.tracestate else {}),
            },
            secret=bool(self._endpoint.secrets),
            body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
            allowance=allowance,
            where=self._where,
        )
        with call as reply:
            if reply.status != 200:
                raise refusal(reply, self._endpoint, self._where, [message.content for message in request.messages])
            if reply.media == "application/json":
                allowance.until_deadline()
                yield from answer.from_json(reply.body(MAX_STREAM))
            elif reply.media in ("text/event-stream", "text/plain", ""):
                yield from answer.from_stream(reply.chunks, allowance)
            else:
                raise failure(
                    FailureKind.MALFORMED,
                    "the answer is neither an event stream nor JSON",
                    where=self._where,
                    fix="check base_url",
                )

    @abstractmethod
    def _asked(self, request: ChatRequest) -> tuple[str, dict[str, Any], Answer]:
        """The path under base_url, the request as this server wants it, and the reader of what it answers."""


@dataclass(frozen=True)
class Taken:
    """What one frame held: text for the reader, whether the answer goes on, whether it was the end frame."""

    text: str = ""
    progress: bool = False
    end: bool = False


class Answer(ABC):
    """What has been read of one answer, and whether it may end here. The formats differ in `take` and `take_whole`."""

    def __init__(self, settings: ChatSettings, request: ChatRequest) -> None:
        self.settings, self.request = settings, request
        self._where = f"model {settings.name}"
        self.reason: Reason | None = None
        self.refused = False
        self.usage: Usage | None = None
        self.calls = ToolCalls([tool.name for tool in request.tools], self.malformed)

    @abstractmethod
    def take(self, frame: Frame) -> Taken:
        """Read one frame of the stream."""

    @abstractmethod
    def take_whole(self, document: dict[str, Any]) -> str:
        """Read an answer that came as one document: its text."""

    def from_stream(self, chunks: Iterator[bytes], allowance: Allowance) -> Iterator[Event]:
        """Events of an event stream."""
        incoming = frames(_at_most(chunks, MAX_STREAM), max_line=MAX_LINE)
        any_frame = False
        while (frame := self._next(incoming)) is not None:
            any_frame = True
            taken = self.take(frame)
            if taken.end:
                self._nothing_follows(incoming, allowance)
                yield self._done(end_frame=True)
                return
            if taken.progress:
                allowance.progress()
            if taken.text:
                yield Delta(text=taken.text)
                allowance.progress()  # the reader's own time does not count as a gap
        if not any_frame:
            raise self.malformed("an empty answer")
        yield self._done(end_frame=False)

    def from_json(self, body: bytes) -> Iterator[Event]:
        """Events of an answer that came as one JSON document although a stream was asked for."""
        try:
            text = self.take_whole(self.parsed(body.decode("utf-8")))
        except UnicodeDecodeError:
            raise self.malformed("bytes that are not UTF-8") from None
        if text:
            yield Delta(text=text)
        yield self._done(streamed=False)

    def parsed(self, text: str) -> dict[str, Any]:
        try:
            document = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise self.malformed("a frame that is not JSON") from None
        if not isinstance(document, dict):
            raise self.malformed("a frame that is no JSON object")
        return document

    def end(self, reason: Reason | None) -> None:
        """The end reason; None: one that is not known."""
        if reason is None or self.reason not in (None, reason):
            raise self.malformed("an unknown end reason")
        self.reason = reason

    def error(self, document: Mapping[str, Any]) -> ModelFailure:
        """An error object inside an answer."""
        return failure_from_error(
            document,
            None,
            where=self._where,
            secrets=self.settings.endpoint.secrets,
            prompt=[message.content for message in self.request.messages],
        )

    def failed(self, kind: FailureKind, what: str) -> ModelFailure:
        return failure(kind, what, where=self._where)

    def malformed(self, what: str) -> ModelFailure:
        return self.failed(FailureKind.MALFORMED, f"the answer breaks the protocol: {what}")

    def _next(self, incoming: Iterator[Frame]) -> Frame | None:
        try:
            return next(incoming, None)
        except Garbage as garbage:
            raise self.malformed(str(garbage)) from None
        except Unfinished:
            raise self.failed(FailureKind.CUT, "the answer broke off in the middle of a line") from None

    def _nothing_follows(self, incoming: Iterator[Frame], allowance: Allowance) -> None:
        """Read to the end of the body, if it is near; more frames after the end frame are garbage."""
        allowance.until = min(allowance.deadline, time.monotonic() + LINGER_S)
        try:
            more = next(incoming, None)
        except ModelFailure as late:
            if late.kind is FailureKind.MALFORMED:
                raise
            return
        except (Garbage, Unfinished):
            raise self.malformed("garbage after the end") from None
        if more is not None:
            raise self.malformed("more after the end")

    def _done(self, *, end_frame: bool = True, streamed: bool = True) -> Done:
        """The end, if there is evidence for it."""
        if self.reason is None:
            raise self.failed(FailureKind.CUT, "the answer ended without an end reason")
        if not end_frame and self.settings.sends_end_frame:
            raise self.failed(FailureKind.CUT, "the answer ended without its end frame")
        reason: Reason = "content_filter" if self.refused else self.reason
        calls: tuple[ToolCall, ...] = ()
        if reason in ("stop", "tool"):  # in an answer that was cut short or declined the last call is not whole
            calls = self.calls.whole()
            if reason == "tool" and not calls:
                raise self.malformed("it waits for tools and calls none")
            reason = "tool" if calls else "stop"  # some servers end a tool call with "stop"
        return Done(reason=reason, usage=self.usage, tool_calls=calls, streamed=streamed, end_frame=end_frame)


class ToolCalls:
    """Tool calls, put together from their pieces. `index` tells them apart; they come in its order."""

    def __init__(self, offered: list[str], malformed: Callable[[str], ModelFailure]) -> None:
        self._offered, self._malformed = offered, malformed
        self._heads: list[tuple[str, str]] = []
        self._pieces: list[list[str]] = []
        self._size = 0

    def __len__(self) -> int:
        return len(self._heads)

    def begin(self, id_: object, name: object) -> None:
        """The next call."""
        if not isinstance(id_, str) or not id_ or not isinstance(name, str):
            raise self._malformed("a tool call without id and name")
        if name not in self._offered:
            raise self._malformed("a call of a tool that was not offered")
        if len(self._heads) == MAX_TOOL_CALLS or any(id_ == known for known, _ in self._heads):
            raise self._malformed("the same tool call twice, or too many")
        self._heads.append((id_, name))
        self._pieces.append([])

    def head(self, index: int) -> tuple[str, str]:
        return self._heads[index]

    def add(self, index: int, arguments: object) -> None:
        """More of a call's arguments."""
        if not isinstance(arguments, str):
            raise self._malformed("tool arguments of an unknown shape")
        self._size += len(arguments)
        if self._size > MAX_LINE:
            raise self._malformed("tool arguments without end")
        self._pieces[index].append(arguments)

    def whole(self) -> tuple[ToolCall, ...]:
        """The calls; each one's arguments are a JSON object, of none is an empty one."""
        return tuple(
            ToolCall(id=id_, name=name, arguments_json=self._object("".join(pieces) or "{}"))
            for (id_, name), pieces in zip(self._heads, self._pieces, strict=True)
        )

    def _object(self, text: str) -> str:
        try:
            fine = isinstance(json.loads(text, parse_constant=_no_constant), dict)
        except (ValueError, RecursionError):
            fine = False
        if not fine:
            raise self._malformed("tool arguments that are no JSON object")
        return text


def usage_of(
    settings: ChatSettings, *, inputs: object, outputs: object, cached: object, written: object, reasoning: object
) -> Usage | None:
    """The usage as told (a detail that was not told is None); None when it cannot be true, so that the estimate is settled."""
    counts = [inputs, outputs, *(0 if told is None else told for told in (cached, written, reasoning))]
    most = POSSIBLE * settings.context_tokens
    if not all(type(count) is int and 0 <= count <= most for count in counts):
        return None
    i, o, c, w, r = (int(str(count)) for count in counts)
    if i == 0 or c + w > i or r > o:
        return None
    return Usage(input_tokens=i, output_tokens=o, cached_input_tokens=c, cache_write_tokens=w, reasoning_tokens=r)


def _at_most(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise Garbage(f"an answer of more than {limit} bytes")
        yield chunk


def _no_constant(name: str) -> object:
    raise ValueError(name)
