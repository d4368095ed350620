"""Chat: the port to a language model.

A model is asked with a ChatRequest and speaks in a stream: any number of Delta, then exactly one Done. A stream that
does not end in Done ends in a ModelFailure; there is no third way, so nothing that was cut short can pass for complete.

Each failure is classified once, by the provider, as a FailureKind. Routing, breakers and money read the kind and never
the text. Importing this module loads no HTTP and no vendor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeAlias

from mainstay.errors import Invalid, MainstayError, Unavailable
from mainstay.models.prices import Price, token_bound
from mainstay.prompts.message import Message, Role
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
    "collected",
    "failure",
]

Reason: TypeAlias = Literal["stop", "length", "content_filter", "tool"]


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """What a model is asked.

    `deadline` is a reading of `time.monotonic()`: the call is over by then, whatever happens. `temperature=None` leaves
    it to the model. `json_schema` asks for JSON of this shape; the answer must be validated all the same.
    """

    messages: tuple[Message, ...]
    max_output_tokens: int
    deadline: float
    temperature: float | None = 0.0
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.messages:
            raise Invalid("a request without messages", where="chat request")
        if self.max_output_tokens < 1:
            raise Invalid("max_output_tokens must be at least 1", where="chat request")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise Invalid("temperature must lie between 0 and 2", where="chat request")

    @property
    def input_token_bound(self) -> int:
        """No model makes more tokens of this request."""
        schema = [] if self.json_schema is None else [json.dumps(self.json_schema, ensure_ascii=False)]
        return token_bound([message.content for message in self.messages] + schema)


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A piece of the answer's text, never empty."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """The end of the answer, with evidence. `usage` is None when not told or not possible: settle the estimate.

    `content_filter`: the provider or the model declined. That is an outcome for the asker; it is not routed around.
    """

    reason: Reason
    usage: Usage | None = None


Event: TypeAlias = Delta | Done


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A whole answer."""

    text: str
    reason: Reason
    usage: Usage | None = None


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


class FailureKind(StrEnum):
    """What went wrong, seen from whoever must decide what to do next."""

    CALLER = "caller"
    """The request is wrong: no other model will like it better, the provider is healthy."""
    AUTH = "auth"
    """The account is refused: key, rights, unpaid or used up. An operator must act."""
    NOT_FOUND = "not_found"
    """No such model or address. An operator must act."""
    CONTEXT_TOO_LONG = "context_too_long"
    """Too much text for this model: shorten it, or take one with more room."""
    CONTENT_FILTER = "content_filter"
    """Declined for its content before an answer began."""
    RATE = "rate"
    """Too many calls for now; see retry_after_s."""
    OVERLOAD = "overload"
    """The provider says it is too busy."""
    SERVER = "server"
    """The provider failed inside."""
    NETWORK = "network"
    """No connection, or it broke before anything was answered."""
    SILENT = "silent"
    """It took the call and never said a word."""
    SLOW_FIRST_TOKEN = "slow_first_token"  # noqa: S105
    """It began to answer, but no text came in time."""
    STALLED = "stalled"
    """It stopped in the middle and stayed quiet."""
    CUT = "cut"
    """The answer ended without its end."""
    MALFORMED = "malformed"
    """What came does not follow the protocol."""
    DEADLINE = "deadline"
    """It was still speaking when the request's time was up (or the time was up before the call)."""


_INVALID = {FailureKind.CALLER, FailureKind.CONTEXT_TOO_LONG, FailureKind.CONTENT_FILTER}
_OPERATOR = {FailureKind.AUTH, FailureKind.NOT_FOUND}


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
        return self.kind not in _INVALID | _OPERATOR | {FailureKind.DEADLINE}

    @property
    def elsewhere(self) -> bool:
        """Whether another model may be asked instead. Not when the request itself is wrong or was declined."""
        return self.kind not in {FailureKind.CALLER, FailureKind.CONTENT_FILTER, FailureKind.DEADLINE}


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
    return Completion(text="".join(pieces), reason=done.reason, usage=done.usage)
