"""Chat: the port to a language model.

A model is asked with a ChatRequest and speaks in a stream: any number of Delta, then exactly one Done. A stream that
does not end in Done ends in a ModelFailure; there is no third way, so nothing that was cut short can pass for complete.

Each failure is classified once, by the provider, as a FailureKind, and `models.rules` says what is done about each kind.
Routing, breakers and money read the kind and never the text. Importing this module loads no HTTP and no vendor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from mainstay.errors import Invalid, MainstayError, Unavailable
from mainstay.models.prices import Price, token_bound
from mainstay.models.rules import FailureKind, Then, rule_of
from mainstay.prompts.message import Message, Role, ToolCall
from mainstay.types import Usage

__all__ = [
    "ChatModel",
    "ChatRequest",
    "Completion",
    "Delta",
    "Done",
    "Event",
    "FailureKind",
    "Message",
    "ModelFailure",
    "ModelRefused",
    "ModelUnavailable",
    "Reason",
    "Role",
    "ToolCall",
    "ToolSpec",
    "collected",
    "failure",
]

TOKENS_OF_TOOLS = 1024
"""Room for what a provider tells a model about how to call tools or keep to a schema."""
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

Reason: TypeAlias = Literal["stop", "length", "content_filter", "tool"]


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """Something a model may ask to be done; `schema` is the JSON schema of its arguments, an object's."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """What a model is asked.

    `deadline` is a reading of `time.monotonic()`: the call is over by then, whatever happens. `temperature=None` leaves
    it to the model. `json_schema` asks for JSON of this shape; the answer must be validated all the same. Of `tools` the
    model may call any or none; it does not see a schema for its answer and tools at once. `traceparent` tells the server to
    which trace the call belongs, `tracestate` what others say of that trace (W3C Trace Context); empty: nothing is told.
    """

    messages: tuple[Message, ...]
    max_output_tokens: int
    deadline: float
    temperature: float | None = 0.0
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[ToolSpec, ...] = ()
    traceparent: str = ""
    tracestate: str = ""

    def __post_init__(self) -> None:
        if not self.messages:
            raise Invalid("a request without messages", where="chat request")
        if self.max_output_tokens < 1:
            raise Invalid("max_output_tokens must be at least 1", where="chat request")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise Invalid("temperature must lie between 0 and 2", where="chat request")
        if self.tools and self.json_schema is not None:
            raise Invalid("a schema for the answer and tools at once", where="chat request")
        if any(not _TOOL_NAME.fullmatch(tool.name) for tool in self.tools):
            raise Invalid("a tool's name must be 1 to 64 letters, digits, _ or -", where="chat request")
        if len({tool.name for tool in self.tools}) < len(self.tools):
            raise Invalid("two tools of one name", where="chat request")
        for message in self.messages:
            if (message.role == "tool") != bool(message.tool_call_id):
                raise Invalid("a tool's result names its call, and nothing else does", where="chat request")
            if message.tool_calls and message.role != "assistant":
                raise Invalid("tool calls by somebody who is not the assistant", where="chat request")

    @property
    def input_token_bound(self) -> int:
        """No model makes more tokens of this request."""
        texts = [message.content for message in self.messages]
        for message in self.messages:
            texts += [call.id + call.name + call.arguments_json for call in message.tool_calls]
        if self.json_schema is not None:
            texts.append(json.dumps(self.json_schema, ensure_ascii=False))
        for tool in self.tools:
            texts.append(tool.name + tool.description + json.dumps(tool.schema, ensure_ascii=False))
        return token_bound(texts) + (TOKENS_OF_TOOLS if self.tools or self.json_schema is not None else 0)


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A piece of the answer's text, never empty."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """The end of the answer, with evidence. `usage` is None when not told or not possible: settle the estimate.

    `content_filter`: the provider or the model declined. That is an outcome for the asker; it is not routed around.
    `tool`: the model waits for the results of `tool_calls`, which are whole, with a JSON object as arguments each.
    `streamed` and `end_frame` tell how the server ended it, for who looks into its abilities.
    """

    reason: Reason
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    streamed: bool = True
    end_frame: bool = True


Event: TypeAlias = Delta | Done


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A whole answer."""

    text: str
    reason: Reason
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class ChatModel(Protocol):
    """One model at one provider. Safe to use from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def price(self) -> Price: ...

    @property
    def context_tokens(self) -> int: ...

    def stream(self, request: ChatRequest) -> Iterator[Event]:
        """Deltas, then one Done; or a ModelFailure. Closing the iterator ends the call."""
        ...

    def complete(self, request: ChatRequest) -> Completion:
        """The same, gathered."""
        ...


_INVALID = {FailureKind.CALLER, FailureKind.CONTEXT_TOO_LONG, FailureKind.CONTENT_FILTER}


class ModelFailure(MainstayError):
    """A call to a model that did not end in Done. Either ModelRefused or ModelUnavailable; see `kind`.

    `maybe_paid`: the provider may charge for it. `retry_after_s` holds what the provider asked for, else a default;
    `retry_after_given` tells which.
    """

    kind: FailureKind
    maybe_paid: bool
    retry_after_s: float
    retry_after_given: bool

    @property
    def blames_provider(self) -> bool:
        """Whether a breaker counts it: the provider or the way to it did badly, not the request or the settings."""
        return rule_of(self).breaker

    @property
    def elsewhere(self) -> bool:
        """Whether another model may be asked instead. Not when the request itself is wrong or was declined."""
        rule = rule_of(self)
        return Then.ELSEWHERE in (rule.then, rule.otherwise)


class ModelRefused(ModelFailure, Invalid):
    """The request was refused for what it is."""


class ModelUnavailable(ModelFailure, Unavailable):
    """No answer, or only a part of one."""


def failure(
    kind: FailureKind,
    what: str,
    *,
    where: str,
    fix: str = "",
    retry_after_s: float | None = None,
    maybe_paid: bool = True,
) -> ModelFailure:
    """The one way to make a ModelFailure: its class follows from its kind."""
    error: ModelFailure
    if kind in _INVALID:
        error = ModelRefused(what, where=where, fix=fix)
    else:
        error = ModelUnavailable(what, where=where, fix=fix)
    error.kind = kind
    error.maybe_paid = maybe_paid
    error.retry_after_given = retry_after_s is not None
    error.retry_after_s = 5.0 if retry_after_s is None else retry_after_s
    return error


def collected(events: Iterable[Event], *, where: str = "model") -> Completion:
    """The events of one stream as a whole; a stream without Done is a cut."""
    pieces: list[str] = []
    done: Done | None = None
    for event in events:
        if isinstance(event, Delta):
            pieces.append(event.text)
        else:
            done = event
    if done is None:
        raise failure(FailureKind.CUT, "the answer ended without its end", where=where)
    return Completion(text="".join(pieces), reason=done.reason, usage=done.usage, tool_calls=done.tool_calls)
