"""What is sent back: the rooms' nouns as JSON, and the shapes that the reference page shows for them.

The shapes document; the functions build. A test holds each against the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from mainstay.access.acl import Acl
from mainstay.answering import shown_filter
from mainstay.corpus.ports import DocumentRecord, Prepared
from mainstay.records.traces import Span, Trace
from mainstay.retrieval.search import Found
from mainstay.types import Answer, Citation, MetaValue, Passage, usd


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
    """One step of a request."""

    kind: str
    start_ms: float
    duration_ms: float
    attributes: dict[str, Any]


class RequestView(BaseModel):
    """What is kept of a request: ids, counts, scores and times, never texts. ``operator`` is shown to operators."""

    id: str
    at: str
    asker: str
    kind: str
    status: str
    facts: dict[str, Any]
    spans: list[SpanView] | None = None
    operator: dict[str, Any] | None = None


class RequestsView(BaseModel):
    """The newest first; ``next`` is the ``before`` of the page that follows."""

    requests: list[RequestView]
    next: str | None


class HealthView(BaseModel):
    """Whether the service can answer now, and why not."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str]


class LiveView(BaseModel):
    """The process runs."""

    status: Literal["alive"] = Field(description="Always alive: it has just answered.")


# -- builders ------------------------------------------------------------------------------------------------------------
def answer_view(answer: Answer) -> dict[str, Any]:
    """The contract's Answer."""
    timings = {"total": 0.0, "retrieve": 0.0, "generate": 0.0, **answer.timings_ms}
    return {
        "id": answer.id,
        "status": str(answer.status),
        "text": answer.text,
        "language": answer.language,
        "citations": [citation_view(citation) for citation in answer.citations],
        "mode": str(answer.mode),
        "notice": answer.notice,
        "questions": list(answer.questions),
        "review": answer.review,
        "confidence": answer.confidence,
        "model": answer.model,
        "route": list(answer.route),
        "usage": {"input_tokens": answer.usage.input_tokens, "output_tokens": answer.usage.output_tokens},
        "cost_usd": usd(answer.cost_nanodollars),
        "cap_usd": usd(answer.cap_nanodollars),
        "release": answer.release,
        "cache": {"hit": answer.cache_hit},
        "timings_ms": timings,
        "sources": [passage_view(passage) for passage in answer.sources],
    }


def citation_view(citation: Citation) -> dict[str, Any]:
    return {
        "n": citation.n,
        "document": citation.document,
        "version": citation.version,
        "title": citation.title,
        "uri": citation.uri,
        "quote": citation.quote,
        "start": citation.start,
        "end": citation.end,
        "page": citation.page,
        "verified": citation.verified,
    }


def passage_view(passage: Passage) -> dict[str, Any]:
    return {
        "document": passage.document,
        "version": passage.version,
        "title": passage.title,
        "uri": passage.uri,
        "text": passage.text,
        "start": passage.start,
        "end": passage.end,
        "page": passage.page,
        "heading_path": list(passage.heading_path),
        "score": round(passage.score, 6),
        "language": passage.language,
        "modified": _time(passage.modified),
        "metadata": metadata_view(passage.metadata),
    }


def search_view(query: str, found: Found) -> dict[str, Any]:
    return {
        "query": query,
        "passages": [passage_view(passage) for passage in found.passages],
        "filters": [shown_filter(condition) for condition in found.filters],
        "dropped": [shown_filter(condition) for condition in found.dropped],
        "readable": found.readable,
        "waiting": found.waiting,
    }


def document_view(record: DocumentRecord, *, curator: bool) -> dict[str, Any]:
    """A record; who else may read it, and what was odd about it, is for curators."""
    shown: dict[str, Any] = {
        "id": record.doc_id,
        "source": record.source,
        "path": record.path,
        "uri": record.uri,
        "title": record.title,
        "media_type": record.media_type,
        "version": record.version,
        "metadata": metadata_view(record.metadata),
        "language": record.language,
        "modified": _time(record.modified),
        "created": _time(record.created),
        "updated": _time(record.updated),
        "size": record.size,
        "chunks": record.chunks,
        "status": record.status,
        "reason": record.reason,
    }
    if curator:
        shown |= {"access": access_view(record.acl), "findings": _findings(record.findings)}
    return shown


def kept_view(kept: Prepared, notice: str | None) -> dict[str, Any]:
    return {
        "id": kept.doc_id,
        "external_id": kept.path,
        "version": kept.version,
        "title": kept.title,
        "media_type": kept.media_type,
        "metadata": metadata_view(kept.metadata),
        "language": kept.language,
        "chunks": len(kept.pieces),
        "access": access_view(kept.rule.acl),
        "findings": _findings(kept.findings),
        "notice": notice,
    }


def access_view(acl: Acl) -> dict[str, list[str]]:
    return {"allow": list(acl.allow), "deny": list(acl.deny)}


def request_view(trace: Trace, *, whole: bool, operator: bool) -> dict[str, Any]:
    """A trace; ``whole`` with its steps."""
    shown: dict[str, Any] = {
        "id": trace.request_id,
        "at": _time(trace.at),
        "asker": trace.asker,
        "kind": trace.kind,
        "status": trace.status,
        "facts": dict(trace.facts),
    }
    if whole:
        shown["spans"] = [_span(span) for span in trace.spans]
    if whole and operator:
        shown["operator"] = dict(trace.operator)
    return shown


def metadata_view(metadata: Mapping[str, MetaValue]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in metadata.items()}


def _span(span: Span) -> dict[str, Any]:
    return {
        "kind": span.kind,
        "start_ms": span.start_ms,
        "duration_ms": span.duration_ms,
        "attributes": dict(span.attributes),
    }


def _findings(findings: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"kind": kind, "detail": detail} for kind, detail in findings]


def _plain(value: MetaValue) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, date) else value


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
