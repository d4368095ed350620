"""What is sent back, as the reference page shows it. ``mainstay.shapes`` builds it; a test holds each against the other."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse


class Json(JSONResponse):
    """JSON that never fails on what a document may hold."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )


class ProblemJson(Json):
    media_type = "application/problem+json"


# -- shapes --------------------------------------------------------------------------------------------------------------
class CitationView(BaseModel):
    """A source of the answer: ``quote`` is exactly the slice ``start:end`` of the stored text of that version."""

    n: int
    document: str
    version: str
    title: str
    uri: str
    quote: str
    start: int
    end: int
    page: int | None
    verified: bool


class PassageView(BaseModel):
    """A part of a document, as found."""

    document: str
    version: str
    title: str
    uri: str
    text: str
    start: int
    end: int
    page: int | None
    heading_path: list[str]
    score: float
    language: str
    modified: str | None
    metadata: dict[str, Any]


class UsageView(BaseModel):
    """Tokens, as the provider reported them."""

    input_tokens: int
    output_tokens: int


class CacheView(BaseModel):
    """Whether the answer came from the cache."""

    hit: bool


class TimingsView(BaseModel):
    """Milliseconds."""

    total: float
    retrieve: float
    generate: float


class AnswerView(BaseModel):
    """An answer, with everything needed to trust or doubt it."""

    id: str
    status: Literal["answered", "partial", "clarify", "handed_off", "refused", "failed"]
    text: str
    language: str
    citations: list[CitationView]
    mode: Literal["full", "economy", "cached_only", "sources_only", "static"]
    notice: str | None
    questions: list[str]
    review: str | None
    confidence: float
    model: str
    route: list[str]
    usage: UsageView
    cost_usd: str
    cap_usd: str
    release: str
    cache: CacheView
    timings_ms: TimingsView
    sources: list[PassageView]


class SearchView(BaseModel):
    """Passages, best first. ``readable`` counts the passages searched, ``waiting`` those without a vector yet."""

    query: str
    passages: list[PassageView]
    filters: list[str]
    dropped: list[str]
    readable: int
    waiting: int


class AccessView(BaseModel):
    """Who may read: a hit in ``allow`` and none in ``deny``; nobody but administrators when ``allow`` is empty."""

    allow: list[str]
    deny: list[str]


class FindingView(BaseModel):
    """Something a curator should know about the document."""

    kind: str
    detail: str


class DocumentView(BaseModel):
    """A document without its text. ``access`` and ``findings`` are shown to those who may write documents."""

    id: str
    source: str
    path: str
    uri: str
    title: str
    media_type: str
    version: str
    metadata: dict[str, Any]
    language: str
    modified: str | None
    created: str
    updated: str
    size: int
    chunks: int
    status: Literal["ready", "quarantined"]
    reason: str
    access: AccessView | None = None
    findings: list[FindingView] | None = None


class StepView(BaseModel):
    """``member`` belongs to ``group``, because ``source`` says so."""

    member: str
    group: str
    source: str


class WhyView(BaseModel):
    """Whether ``principal`` may read the document and why: ``path`` leads from them to the name that the rule hit.

    ``access`` and ``origin`` (where the rule is stated) are shown to those who may write documents.
    """

    document: str
    principal: str
    visible: bool
    reason: str
    known: bool
    decided_by: str
    path: list[StepView]
    lines: list[str]
    access: AccessView | None = None
    origin: str | None = None


class DocumentsView(BaseModel):
    """One page of documents; ``next`` is the ``after`` of the page that follows."""

    documents: list[DocumentView]
    next: str | None


class SliceView(BaseModel):
    """``text`` is exactly the slice ``start:end`` of the stored text, which is ``length`` characters long."""

    document: str
    version: str
    start: int
    end: int
    length: int
    page: int | None
    text: str


class KeptView(BaseModel):
    """What a push kept. ``notice`` says what the sender may not have meant."""

    id: str
    external_id: str
    version: str
    title: str
    media_type: str
    metadata: dict[str, Any]
    language: str
    chunks: int
    access: AccessView
    findings: list[FindingView]
    notice: str | None


class ProblemView(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


class BatchResultView(BaseModel):
    """How one step of a batch went."""

    id: str
    status: Literal["kept", "deleted", "failed"]
    document: KeptView | None = None
    problem: ProblemView | None = None


class BatchView(BaseModel):
    """A batch, step by step, in the order sent."""

    results: list[BatchResultView]


class SpanView(BaseModel):
    """One step of a request. ``parent_id`` is the step it is part of, ``self_ms`` the time it spent in none of its parts."""

    span_id: str
    parent_id: str
    kind: str
    name: str
    start_ms: float
    duration_ms: float
    self_ms: float
    status: Literal["ok", "error"]
    error_class: str
    attributes: dict[str, Any]


class RequestView(BaseModel):
    """What is kept of a request: ids, counts, scores and times. ``operator`` and ``held`` are shown to operators.

    ``root`` is the request itself among its steps. ``kept`` is why its steps are kept, or ``dropped``. ``content`` are texts,
    where the service keeps some and who asks may read everything they quote; ``content_why`` says why there are none.
    """

    id: str
    at: str
    asker: str
    kind: str
    status: str
    facts: dict[str, Any]
    trace_id: str = ""
    name: str = ""
    door: str = ""
    mode: str = ""
    model: str = ""
    release: str = ""
    failed: bool = False
    duration_ms: float = 0.0
    first_ms: float | None = None
    cost_usd: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    span_count: int = 0
    kept: str = ""
    root: SpanView | None = None
    spans: list[SpanView] | None = None
    operator: dict[str, Any] | None = None
    held: str | None = None
    content: dict[str, str] | None = None
    content_why: str | None = None


class RequestsView(BaseModel):
    """The newest first; ``next`` is the ``cursor`` of the page that follows, which may hold fewer than were asked for."""

    requests: list[RequestView]
    next: str | None


class JobView(BaseModel):
    """A piece of background work. ``error`` says why it failed last, ``result`` what it did once it is done."""

    id: str
    kind: str
    key: str
    state: Literal["ready", "running", "done", "cancelled", "dead"]
    payload: dict[str, Any]
    priority: int
    attempts: int
    max_attempts: int
    owner: str
    run_at: str
    lease_until: str | None
    heartbeat_at: str | None
    progress: dict[str, Any]
    result: dict[str, Any]
    error: str
    requested_by: str
    created: str
    updated: str


class JobsView(BaseModel):
    """The newest first."""

    jobs: list[JobView]


class TurnView(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str


class HandOverSourceView(BaseModel):
    """A span of a document version that was found, without its text."""

    document: str
    version: str
    title: str
    uri: str
    start: int
    end: int
    page: int | None


class HandOverInsideView(BaseModel):
    """What those need who answer it. ``sent`` names the ways by which it has arrived."""

    principal: str
    reason: str
    language: str
    history: list[TurnView]
    sources: list[HandOverSourceView]
    draft: str
    sent: list[str]
    detail: str


class HandOverView(BaseModel):
    """A question for a person. ``promise`` says what happens next, until it is closed; ``operator`` is for operators."""

    id: str
    request_id: str
    at: str
    state: Literal["waiting", "delivered", "failed", "closed"]
    question: str
    promise: str | None
    operator: HandOverInsideView | None = None


class HandOversView(BaseModel):
    """The newest first."""

    handovers: list[HandOverView]


class HealthView(BaseModel):
    """Whether the service can answer now, and why not."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str]


class LiveView(BaseModel):
    """The process runs."""

    status: Literal["alive"] = Field(description="Always alive: it has just answered.")
