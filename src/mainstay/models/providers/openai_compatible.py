"""Chat and embeddings over the OpenAI wire format, as hosted and local servers speak it.

One call, one attempt: breakers, fail-over and money are decided above. What differs between servers is data in
`ChatSettings`, never a test of a name. The parser is strict. An answer counts as complete only with evidence: an end
reason was seen and, where the server sends it, the end frame; anything else is a failure with one kind.

What a provider says in an error is shown without the secrets, and not at all when it quotes the prompt.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeAlias

import httpx2
import numpy as np
import numpy.typing as npt

from mainstay import __version__
from mainstay.errors import Invalid
from mainstay.models.chat import (
    ChatRequest,
    Completion,
    Delta,
    Done,
    Event,
    FailureKind,
    ModelFailure,
    Reason,
    collected,
    failure,
)
from mainstay.models.embedders import EmbedderIdentity
from mainstay.models.prices import Price
from mainstay.models.providers.sse import Frame, Garbage, Unfinished, frames
from mainstay.models.providers.wire import Allowance, Reply, Wire, check_base_url, check_headers
from mainstay.types import Usage

Floats: TypeAlias = npt.NDArray[np.float32]

MAX_LINE = 1 << 20
MAX_STREAM = 32 << 20
MAX_ERROR = 64 << 10
MAX_EMBEDDINGS = 64 << 20
LINGER_S = 0.25
"""How long the end of the body is awaited after the end frame, so that the connection can be used again."""
SAID = 200
"""So much of a provider's error text is shown."""
QUOTED = 24
"""A run of the prompt this long in an error text is a quotation of the prompt."""

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
    "function_call": "tool",
}
_BROKEN_ENDS = frozenset({"error", "insufficient_system_resource"})
_TOO_LONG_CODES = frozenset(
    [
        "context_length_exceeded",
        "context_window_exceeded",
        "model_context_window_exceeded",
        "exceed_context_size_error",
        "request_too_large",
        "string_above_max_length",
    ]
)
_FILTER_CODES = frozenset(
    ["content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"]
)
_QUOTA_CODES = frozenset(
    ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"]
)
_AUTH_CODES = frozenset(["invalid_api_key", "authentication_error", "permission_error", "permission_denied"])
_MISSING_CODES = frozenset(["model_not_found", "not_found_error", "deployment_not_found", "deploymentnotfound"])
_BUSY_CODES = frozenset(
    ["overloaded_error", "overloaded", "engine_overloaded", "server_overloaded", "capacity_exceeded"]
)
_RATE_CODES = frozenset(
    ["rate_limit_exceeded", "rate_limit_error", "rate_limited", "too_many_requests", "requests", "tokens"]
)
_TOO_LONG_TEXT = re.compile(
    r"context (?:length|window|size)|maximum context|prompt is too long|too many (?:input )?tokens|n_ctx", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a server is and how it is addressed. The secrets appear in no repr and in no error."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def checked(self, where: str) -> Endpoint:
        """The same with a normal base_url; Invalid if anything in it cannot be sent."""
        endpoint = Endpoint(base_url=check_base_url(self.base_url, where), api_key=self.api_key, headers=self.headers)
        if self.api_key is not None and (not self.api_key or self.api_key != self.api_key.strip()):
            raise Invalid(
                "the api_key is empty or has white space around it",
                where=where,
                fix="check the variable it is read from",
            )
        check_headers(endpoint.sent_headers(), where)
        return endpoint

    def sent_headers(self) -> dict[str, str]:
        headers = {"user-agent": f"mainstay/{__version__}", **self.headers, "content-type": "application/json"}
        return headers if self.api_key is None else {**headers, "authorization": f"Bearer {self.api_key}"}

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(s for s in (self.api_key, *self.headers.values()) if s)


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


class OpenAiCompatibleModel:
    """A ChatModel. Holds no state between calls."""

    def __init__(self, settings: ChatSettings, wire: Wire) -> None:
        self._where = f"model {settings.name}"
        self._endpoint = settings.endpoint.checked(self._where)
        self._settings, self._wire = settings, wire

    def __repr__(self) -> str:
        return f"OpenAiCompatibleModel({self._settings.name!r} at {self._endpoint.base_url!r})"

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
        call = self._wire.post(
            f"{self._endpoint.base_url}/chat/completions",
            headers={**self._endpoint.sent_headers(), "accept": "text/event-stream, application/json"},
            secret=bool(self._endpoint.secrets),
            body=json.dumps(_chat_body(settings, request), ensure_ascii=False).encode("utf-8", "replace"),
            allowance=allowance,
            where=self._where,
        )
        with call as reply:
            if reply.status != 200:
                said = [message.content for message in request.messages]
                raise _refusal(reply, self._endpoint, self._where, said)
            answer = _Answer(settings, request, self._where, self._endpoint.secrets)
            if reply.media == "application/json":
                allowance.until_deadline()
                yield from answer.whole(reply.body(MAX_STREAM))
            elif reply.media in ("text/event-stream", "text/plain", ""):
                yield from answer.streamed(reply.chunks, allowance)
            else:
                raise failure(
                    FailureKind.MALFORMED,
                    "the answer is neither an event stream nor JSON",
                    where=self._where,
                    fix="check base_url",
                )


def _chat_body(settings: ChatSettings, request: ChatRequest) -> dict[str, Any]:
    """The request as this server wants it."""
    roles = {"system": settings.system_role}
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [{"role": roles.get(m.role, m.role), "content": m.content} for m in request.messages],
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
    return body


class _Answer:
    """What has been read of one answer, and whether it may end here."""

    def __init__(self, settings: ChatSettings, request: ChatRequest, where: str, secrets: tuple[str, ...]) -> None:
        self._settings, self._where, self._secrets = settings, where, secrets
        self._prompt = [message.content for message in request.messages]
        self._reason: Reason | None = None
        self._refused = False
        self._usage: Usage | None = None

    def streamed(self, chunks: Iterator[bytes], allowance: Allowance) -> Iterator[Event]:
        """Events of an event stream."""
        incoming = frames(_at_most(chunks, MAX_STREAM), max_line=MAX_LINE)
        any_frame = False
        while (frame := self._next(incoming)) is not None:
            any_frame = True
            if frame.data == "[DONE]":
                self._nothing_follows(incoming, allowance)
                yield self._done(ended=True)
                return
            text, progress = self._read(self._parsed(frame.data), frame.event, "delta")
            if progress:
                allowance.progress()
            if text:
                yield Delta(text=text)
                allowance.progress()  # the reader's own time does not count as a gap
        if not any_frame:
            raise self._malformed("an empty answer")
        yield self._done(ended=False)

    def whole(self, body: bytes) -> Iterator[Event]:
        """Events of an answer that came as one JSON document although a stream was asked for."""
        try:
            document = self._parsed(body.decode("utf-8"))
        except UnicodeDecodeError:
            raise self._malformed("bytes that are not UTF-8") from None
        text, _ = self._read(document, "", "message")
        if text:
            yield Delta(text=text)
        yield self._done(ended=True)

    def _next(self, incoming: Iterator[Frame]) -> Frame | None:
        try:
            return next(incoming, None)
        except Garbage as garbage:
            raise self._malformed(str(garbage)) from None
        except Unfinished:
            raise failure(FailureKind.CUT, "the answer broke off in the middle of a line", where=self._where) from None

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
            raise self._malformed("garbage after the end") from None
        if more is not None:
            raise self._malformed("more after the end")

    def _parsed(self, text: str) -> dict[str, Any]:
        try:
            document = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise self._malformed("a frame that is not JSON") from None
        if not isinstance(document, dict):
            raise self._malformed("a frame that is no JSON object")
        return document

    def _read(self, document: dict[str, Any], event: str, part: str) -> tuple[str, bool]:
        """Take one chunk in: its text, and whether it is a sign of the answer going on."""
        if document.get("error") or event == "error":
            raise _failure_from_error(
                document, None, where=self._where, secrets=self._secrets, prompt=self._prompt, retry_after_s=None
            )
        if (usage := document.get("usage")) is not None:
            self._usage = _usage(usage, self._settings.context_tokens)
        choices = document.get("choices")
        if choices is None and "usage" in document:
            return "", False
        if not isinstance(choices, list):
            raise self._malformed("a chunk without choices")
        if not choices:
            return "", False
        choice = choices[0]
        if len(choices) > 1 or not isinstance(choice, dict) or choice.get("index", 0) != 0:
            raise self._malformed("a chunk of another answer")
        text, progress = self._text(choice.get(part))
        if self._reason is not None and text:
            raise self._malformed("text after the end")
        self._end(choice.get("finish_reason"))
        return text, progress or self._reason is not None

    def _text(self, delta: object) -> tuple[str, bool]:
        """The text of a piece. Thinking and tool calls are progress, but not text."""
        if delta is None:
            return "", False
        if not isinstance(delta, dict):
            raise self._malformed("a chunk of an unknown shape")
        text, refusal = delta.get("content") or "", delta.get("refusal") or ""
        if not isinstance(text, str) or not isinstance(refusal, str):
            raise self._malformed("text of an unknown shape")
        self._refused = self._refused or bool(refusal)
        silent = any(delta.get(key) for key in ("reasoning_content", "reasoning", "tool_calls", "function_call"))
        return text + refusal, bool(text or refusal or silent)

    def _end(self, reason: object) -> None:
        if reason is None or reason == "":
            return
        if reason in _BROKEN_ENDS:
            raise failure(FailureKind.SERVER, "the provider gave up in the middle of the answer", where=self._where)
        known = _REASONS.get(reason) if isinstance(reason, str) else None
        if known is None or self._reason not in (None, known):
            raise self._malformed("an unknown end reason")
        self._reason = known

    def _done(self, *, ended: bool) -> Done:
        """The end, if there is evidence for it."""
        if self._reason is None:
            raise failure(FailureKind.CUT, "the answer ended without an end reason", where=self._where)
        if not ended and self._settings.sends_end_frame:
            raise failure(FailureKind.CUT, "the answer ended without its end frame", where=self._where)
        return Done(reason="content_filter" if self._refused else self._reason, usage=self._usage)

    def _malformed(self, what: str) -> ModelFailure:
        return failure(FailureKind.MALFORMED, f"the answer breaks the protocol: {what}", where=self._where)


def _at_most(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise Garbage(f"an answer of more than {limit} bytes")
        yield chunk


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _usage(told: object, context_tokens: int) -> Usage | None:
    """The usage as told; None when it cannot be true, so that the estimate is settled instead."""
    if not isinstance(told, dict):
        return None
    counts = [told.get("prompt_tokens"), told.get("completion_tokens")]
    most = 4 * context_tokens
    if not all(type(count) is int and 0 <= count <= most for count in counts) or counts[0] == 0:
        return None
    return Usage(input_tokens=int(counts[0] or 0), output_tokens=int(counts[1] or 0))


# Refusals: an HTTP status or an error object, turned into one kind.


def _refusal(reply: Reply, endpoint: Endpoint, where: str, prompt: Sequence[str]) -> ModelFailure:
    """What a response other than 200 means."""
    if 300 <= reply.status < 400:
        return failure(
            FailureKind.NOT_FOUND,
            f"the provider answered {reply.status}, a redirect, which is not followed",
            where=where,
            fix="write the final address as base_url",
            maybe_paid=False,
        )
    if reply.status < 300:
        return failure(FailureKind.MALFORMED, f"an unexpected status {reply.status}", where=where)
    try:
        document = json.loads(reply.body(MAX_ERROR))
    except (ModelFailure, ValueError, RecursionError):
        document = None  # the status says enough; an error page that is cut or too long must not hide it
    return _failure_from_error(
        document if isinstance(document, dict) else {},
        reply.status,
        where=where,
        secrets=endpoint.secrets,
        prompt=prompt,
        retry_after_s=_retry_after(reply.headers),
    )


def _failure_from_error(
    document: Mapping[str, Any],
    status: int | None,
    *,
    where: str,
    secrets: Sequence[str],
    prompt: Sequence[str],
    retry_after_s: float | None,
) -> ModelFailure:
    """An error object, from a response of this status or (None) from inside a stream."""
    inner = document.get("error", document)
    error = inner if isinstance(inner, dict) else {"message": inner}
    codes = {str(error.get(key) or "").lower() for key in ("code", "type")} - {""}
    message = next(
        (m for m in (error.get("message"), error.get("detail"), document.get("detail")) if isinstance(m, str)), ""
    )
    kind = _kind(status, codes, message)
    told = _tellable(message, secrets, prompt)
    head = "the provider failed in the middle of the answer" if status is None else f"the provider answered {status}"
    named = ", ".join(sorted(code for code in codes if re.fullmatch(r"[a-z0-9_.\-]{1,48}", code)))
    what = head + (f" ({_tellable(named, secrets, ())})" if named else "") + (f": {told}" if told else "")
    free = status is not None and status < 500
    return failure(kind, what, where=where, fix=_FIXES.get(kind, ""), retry_after_s=retry_after_s, maybe_paid=not free)


_FIXES: Mapping[FailureKind, str] = {
    FailureKind.AUTH: "check the key, its rights and the account",
    FailureKind.NOT_FOUND: "check the model's name and base_url",
}


def _kind(status: int | None, codes: set[str], message: str) -> FailureKind:
    """The kind of a refusal: codes are more precise than the status; the text tells about the context length only."""
    by_code: tuple[tuple[frozenset[str], FailureKind], ...] = (
        (_TOO_LONG_CODES, FailureKind.CONTEXT_TOO_LONG),
        (_FILTER_CODES, FailureKind.CONTENT_FILTER),
        (_QUOTA_CODES, FailureKind.AUTH),
        (_AUTH_CODES, FailureKind.AUTH),
        (_MISSING_CODES, FailureKind.NOT_FOUND),
        (_BUSY_CODES, FailureKind.OVERLOAD),
        (_RATE_CODES, FailureKind.RATE),
    )
    for known, kind in by_code:
        if codes & known:
            return kind
    match status:
        case 401 | 402 | 403:
            return FailureKind.AUTH
        case 404:
            return FailureKind.NOT_FOUND
        case 413:
            return FailureKind.CONTEXT_TOO_LONG
        case 429:
            return FailureKind.RATE
        case 503 | 529:
            return FailureKind.OVERLOAD
        case 408 | 409:
            return FailureKind.SERVER
    if (status or 400) < 500 and _TOO_LONG_TEXT.search(message):
        return FailureKind.CONTEXT_TOO_LONG
    if status is None:
        return FailureKind.CALLER if "invalid_request_error" in codes else FailureKind.SERVER
    return FailureKind.CALLER if status < 500 else FailureKind.SERVER


def _tellable(message: str, secrets: Sequence[str], prompt: Sequence[str]) -> str:
    """The provider's text, short and without secrets; nothing if it quotes the prompt."""
    for secret in secrets:
        message = message.replace(secret, "***")
    message = " ".join("".join(c if c.isprintable() else " " for c in message).split())[:SAID]
    flat = [" ".join(text.split()) for text in prompt]
    for start in range(len(message) - QUOTED + 1):
        if any(message[start : start + QUOTED] in text for text in flat):
            return "(its text quotes the prompt and is not shown)"
    return message


def _retry_after(headers: httpx2.Headers) -> float | None:
    """How long the provider wants to be left alone."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return _sane(float(milliseconds) / 1000)
        told = headers.get("retry-after")
        if told is None:
            return None
        try:
            return _sane(float(told))
        except ValueError:
            return _sane(max(0.0, parsedate_to_datetime(told).timestamp() - time.time()))
    except (ValueError, OverflowError):
        return None


def _sane(seconds: float) -> float | None:
    return seconds if 0 <= seconds <= 86_400 else None


# Embeddings


@dataclass(frozen=True, kw_only=True)
class EmbedderSettings:
    """One embedding model on one server.

    `dims` is the length its vectors have; with `ask_dims` the server is told to make them so long. Texts are sent
    `batch` at a time. Prefixes are for models that tell queries and passages apart.

    Whether a vector is the same to the last bit in any company is up to the server; `batch=1` makes sure.
    """

    name: str
    model: str
    endpoint: Endpoint
    dims: int
    ask_dims: bool = False
    batch: int = 32
    batch_bytes: int = 200_000
    query_prefix: str = ""
    passage_prefix: str = ""
    connect_s: float = 3.0
    timeout_s: float = 30.0


class OpenAiCompatibleEmbedder:
    """An Embedder. A failed call raises ModelFailure; nothing is returned in part."""

    weight = 0.7  # nothing is known of it: that of the built-in ones
    related = 0.45  # nothing is known of it: that of the built-in ones

    def __init__(self, settings: EmbedderSettings, wire: Wire) -> None:
        self._where = f"embedder {settings.name}"
        if settings.dims < 1 or settings.batch < 1:
            raise Invalid("dims and batch must be at least 1", where=self._where)
        self._endpoint = settings.endpoint.checked(self._where)
        self._settings, self._wire = settings, wire
        self._identity = EmbedderIdentity(
            name=settings.name, digest=_digest(settings, self._endpoint), precision="remote", dims=settings.dims
        )

    def __repr__(self) -> str:
        return f"OpenAiCompatibleEmbedder({self._settings.name!r} at {self._endpoint.base_url!r})"

    @property
    def identity(self) -> EmbedderIdentity:
        """The server's weights cannot be seen: host, model and length stand for them."""
        return self._identity

    def embed_passages(self, texts: Sequence[str]) -> Floats:
        return self._embedded([self._settings.passage_prefix + t if _has_token(t) else "" for t in texts])

    def embed_query(self, text: str) -> Floats:
        row: Floats = self._embedded([self._settings.query_prefix + text if _has_token(text) else ""])[0]
        return row

    def _embedded(self, texts: Sequence[str]) -> Floats:
        """A row for each text; empty ones stay zero and are not sent."""
        rows = np.zeros((len(texts), self._settings.dims), dtype=np.float32)
        for batch in self._batches(texts):
            rows[batch] = self._asked([texts[i] for i in batch])
        return rows

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        batch: list[int] = []
        size = 0
        for i, text in enumerate(texts):
            if not text:
                continue
            length = len(text.encode("utf-8", "replace"))
            if batch and (len(batch) == self._settings.batch or size + length > self._settings.batch_bytes):
                yield batch
                batch, size = [], 0
            batch.append(i)
            size += length
        if batch:
            yield batch

    def _asked(self, texts: list[str]) -> Floats:
        settings = self._settings
        body: dict[str, Any] = {"model": settings.model, "input": texts, "encoding_format": "float"}
        if settings.ask_dims:
            body["dimensions"] = settings.dims
        deadline = time.monotonic() + settings.timeout_s
        allowance = Allowance(
            deadline=deadline, connect_s=settings.connect_s, first_token_s=settings.timeout_s, idle_s=settings.timeout_s
        )
        call = self._wire.post(
            f"{self._endpoint.base_url}/embeddings",
            headers={**self._endpoint.sent_headers(), "accept": "application/json"},
            secret=bool(self._endpoint.secrets),
            body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
            allowance=allowance,
            where=self._where,
        )
        with call as reply:
            if reply.status != 200:
                raise _refusal(reply, self._endpoint, self._where, texts)
            allowance.until_deadline()
            content = reply.body(MAX_EMBEDDINGS)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            raise self._malformed("it is not JSON") from None
        return self._rows(document, len(texts))

    def _rows(self, document: object, count: int) -> Floats:
        """The vectors in the order of the texts, each checked and of unit length."""
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, list) or len(data) != count or not all(isinstance(entry, dict) for entry in data):
            raise self._malformed(f"it does not hold {count} vectors")
        by_index = {i: entry.get("embedding") for entry in data if type(i := entry.get("index")) is int}
        if set(by_index) != set(range(count)):
            raise self._malformed("its vectors are not numbered from 0")
        rows = np.empty((count, self._settings.dims), dtype=np.float64)
        for i in range(count):
            vector = by_index[i]
            if not isinstance(vector, list) or not all(type(x) in (float, int) for x in vector):
                raise self._malformed("a vector is not a list of numbers")
            if len(vector) != self._settings.dims:
                raise self._malformed(f"a vector has {len(vector)} dimensions instead of {self._settings.dims}")
            try:
                rows[i] = vector
            except OverflowError:
                raise self._malformed("a vector holds a number out of range") from None
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not (norms > 0).all():
            raise self._malformed("a vector is zero or not finite")
        unit: Floats = (rows / norms).astype(np.float32)
        return unit

    def _malformed(self, what: str) -> ModelFailure:
        return failure(FailureKind.MALFORMED, f"the answer breaks the protocol: {what}", where=self._where)


def _digest(settings: EmbedderSettings, endpoint: Endpoint) -> str:
    url = httpx2.URL(endpoint.base_url)
    parts = [url.host, settings.model, settings.dims]
    if settings.query_prefix or settings.passage_prefix:
        parts += [settings.query_prefix, settings.passage_prefix]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _has_token(text: str) -> bool:
    """Not blank, and not control characters only."""
    return any(c.isprintable() and not c.isspace() for c in text)
