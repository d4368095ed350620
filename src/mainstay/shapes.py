"""The rooms' nouns as JSON: one shape for every door, the HTTP API and the command line alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

from mainstay.access.acl import Acl
from mainstay.access.explaining import Explanation
from mainstay.agreement.attainment import ClauseStanding
from mainstay.agreement.ledger import ReportRow
from mainstay.agreement.terms import Agreement
from mainstay.answering import shown_filter
from mainstay.corpus.ports import DocumentRecord, Prepared
from mainstay.handover import HandOver
from mainstay.records.alerts import Alert, Silence, objective_of, wording
from mainstay.records.audit import Event, HeadLine, Proof
from mainstay.records.decisions import Decision
from mainstay.records.outcomes import Outcome
from mainstay.records.outcomes import Row as OutcomeRow
from mainstay.records.spans import waterfall
from mainstay.records.traces import Span, Trace
from mainstay.resilience.ladder import Standing
from mainstay.resilience.ports import ModeEvent, Order
from mainstay.retrieval.search import Found
from mainstay.types import Answer, Citation, MetaValue, Passage, usd
from mainstay.workflows.ports import Job


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


def explanation_view(record: DocumentRecord, said: Explanation, *, curator: bool) -> dict[str, Any]:
    """Why somebody may or may not read a document; who else may is for curators."""
    path = [{"member": step.member, "group": step.group, "source": step.source} for step in said.path]
    shown: dict[str, Any] = {
        "document": record.doc_id,
        "principal": said.principal,
        "visible": said.visible,
        "reason": said.reason,
        "known": said.known,
        "decided_by": said.decided_by,
        "path": path,
        "lines": said.lines() if curator else [line for line in said.lines() if not line.startswith("the rule allows")],
    }
    if curator:
        shown |= {"access": access_view(said.rule), "origin": record.origin}
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
    """A trace; ``whole`` with its steps, the request itself beside them as ``root``."""
    shown: dict[str, Any] = {
        "id": trace.request_id,
        "at": _time(trace.at),
        "asker": trace.asker,
        "kind": trace.kind,
        "status": trace.status,
        "facts": dict(trace.facts),
        "trace_id": trace.trace_id,
        "name": trace.name,
        "door": trace.door,
        "mode": trace.mode,
        "model": trace.model,
        "release": trace.release,
        "failed": trace.failed,
        "duration_ms": trace.duration_ms,
        "first_ms": trace.first_ms,
        "cost_usd": usd(trace.cost_nanodollars),
        "input_tokens": trace.input_tokens,
        "output_tokens": trace.output_tokens,
        "span_count": trace.span_count or len(trace.spans),
        "kept": trace.kept,
    }
    if whole:
        own = {line.span.span_id: line.self_ms for line in waterfall(trace.whole)}
        steps = [span_view(span, own.get(span.span_id) if span.span_id else None) for span in trace.whole]
        shown["root"] = steps.pop(0) if len(steps) > len(trace.spans) else None
        shown["spans"] = steps
    if operator:
        shown["held"] = trace.held
    if whole and operator:
        shown["operator"] = dict(trace.operator)
    return shown


def job_view(job: Job) -> dict[str, Any]:
    return {
        "id": job.job_id,
        "kind": job.kind,
        "key": job.key,
        "state": str(job.state),
        "payload": dict(job.payload),
        "priority": job.priority,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "owner": job.owner,
        "run_at": _time(job.run_at),
        "lease_until": _time(job.lease_until),
        "heartbeat_at": _time(job.heartbeat_at),
        "progress": dict(job.progress),
        "result": dict(job.result),
        "error": job.error,
        "requested_by": job.requested_by,
        "created": _time(job.created),
        "updated": _time(job.updated),
    }


def handover_view(held: HandOver, promise: str | None, *, operator: bool) -> dict[str, Any]:
    """A question for a person, as its asker may see it, or as operators may."""
    shown: dict[str, Any] = {
        "id": held.id,
        "request_id": held.request_id,
        "at": _time(held.at),
        "state": str(held.state),
        "question": held.question,
        "promise": promise,
    }
    if operator:
        shown["operator"] = {
            "principal": held.principal,
            "reason": held.reason,
            "language": held.language,
            "history": [{"role": role, "content": said} for role, said in held.history],
            "sources": [
                {
                    "document": source.document,
                    "version": source.version,
                    "title": source.title,
                    "uri": source.uri,
                    "start": source.start,
                    "end": source.end,
                    "page": source.page,
                }
                for source in held.sources
            ],
            "draft": held.draft,
            "sent": list(held.sent),
            "detail": held.detail,
        }
    return shown


def cost_row_view(row: ReportRow) -> dict[str, Any]:
    """One line of a report of costs; amounts are decimal dollars, and whole nano-dollars where sums are made of them."""
    return {
        "name": row.name,
        "requests": row.requests,
        "answered": row.answered,
        "calls": row.calls,
        "input_tokens": row.input_tokens,
        "cached_input_tokens": row.cached_tokens,
        "output_tokens": row.output_tokens,
        "cost_usd": usd(row.cost_n),
        "cost_nanodollars": row.cost_n,
        "cost_per_answer_usd": None if row.per_answered_n is None else usd(row.per_answered_n),
        "held_usd": usd(row.held_n),
        "estimated": row.estimated,
        "breaches": row.breaches,
        "late": row.late,
        "lost": row.lost,
    }


def clause_view(held: ClauseStanding) -> dict[str, Any]:
    """Where one clause of the agreement stands."""
    return {
        "clause": held.clause,
        "words": held.words,
        "state": held.state,
        "unit": held.unit,
        "target": held.target,
        "value": held.value,
        "low": held.low,
        "high": held.high,
        "sure": held.sure,
        "events": held.events,
        "bad": held.bad,
        "budget_left": _finite(held.budget_left),
        "burn": {name: _finite(burn) for name, burn in held.burn.items()},
    }


def mode_view(standing: Standing, order: Order | None) -> dict[str, Any]:
    """The mode of this process, why, and what an operator ordered."""
    return {
        "mode": str(standing.mode),
        "since": _time(standing.since),
        "reasons": [
            {"reason": held.name, "mode": str(held.mode), "detail": held.detail, "held": held.held}
            for held in standing.reasons
        ],
        "ordered": None
        if order is None
        else {"mode": str(order.mode), "by": order.by, "at": _time(order.at), "until": _time(order.until)},
        "trouble": standing.trouble,
    }


def mode_event_view(event: ModeEvent) -> dict[str, Any]:
    return {
        "id": event.event_id,
        "at": _time(event.at),
        "before": str(event.before),
        "after": str(event.after),
        "reason": event.reason,
        "detail": event.detail,
        "by": event.by,
        "process": event.process,
    }


def metadata_view(metadata: Mapping[str, MetaValue]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in metadata.items()}


def span_view(span: Span, self_ms: float | None = None) -> dict[str, Any]:
    """One step. ``self_ms`` is the time it spent itself, not in its parts."""
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "kind": span.kind,
        "name": span.name,
        "start_ms": span.start_ms,
        "duration_ms": span.duration_ms,
        "self_ms": span.duration_ms if self_ms is None else self_ms,
        "status": span.status,
        "error_class": span.error_class,
        "attributes": dict(span.attributes),
    }


def audit_event_view(event: Event) -> dict[str, Any]:
    """An event of the audit log. What was erased is empty; people whose key is gone stand under their pseudonym."""
    return {
        "n": event.n,
        "at": _time(event.at),
        "action": event.action,
        "subject": event.subject,
        "actor": event.actor,
        "via": event.via,
        "why": event.why,
        "request_id": event.request_id,
        "details": dict(event.details),
        "before": event.before,
        "after": event.after,
        "erased": event.erased,
        "leaf": event.leaf,
    }


def audit_proof_view(proof: Proof) -> dict[str, Any]:
    """A proof, as ``verify_audit.py`` takes it."""
    return {
        "n": proof.n,
        "size": proof.size,
        "root": proof.root,
        "leaf": proof.leaf,
        "line": _line_view(proof.line),
        "path": list(proof.path),
        "head": None if proof.head is None else proof.head.view(),
    }


def decision_view(decision: Decision, proof: Proof | None) -> dict[str, Any]:
    """A decision record and where it stands in the log; ``record`` is null once it was erased or has expired."""
    return {
        "request_id": decision.request_id,
        "n": decision.n,
        "leaf": decision.line.leaf.hex(),
        "record": None if decision.record is None else decision.record.view(),
        "proof": None if proof is None else audit_proof_view(proof),
    }


def _line_view(line: HeadLine) -> dict[str, Any]:
    return {
        "n": line.n,
        "at": line.at,
        "action": line.action,
        "owner": line.owner,
        "before": line.before,
        "after": line.after,
        "body": line.body,
    }


def _findings(findings: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"kind": kind, "detail": detail} for kind, detail in findings]


def _plain(value: MetaValue) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, date) else value


def _finite(value: float | None) -> float | None:
    """JSON knows no infinity."""
    return value if value is None or math.isfinite(value) else None


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def outcome_view(held: Outcome) -> dict[str, Any]:
    """What came of an answer."""
    return {
        "id": held.id,
        "request_id": held.request_id,
        "kind": str(held.kind),
        "value": held.value,
        "unit": held.unit,
        "source": held.source,
        "by": held.by,
        "at": held.at.isoformat(),
        "recorded": held.recorded.isoformat(),
        "comment": held.comment,
        "fields": dict(held.fields),
    }


def outcome_row_view(row: OutcomeRow) -> dict[str, Any]:
    """A line of the report of what came of answers."""
    return {
        "name": row.name,
        "requests": row.requests,
        "reported": row.reported,
        "decided": row.decided,
        "solved": row.solved,
        "rate": row.rate,
        "low": row.low,
        "high": row.high,
        "cost_per_solved_usd": None if row.cost_n is None else usd(row.cost_n),
        "cost_low_usd": None if row.cost_low_n is None else usd(row.cost_low_n),
        "cost_high_usd": None if row.cost_high_n is None else usd(row.cost_high_n),
        "kinds": dict(row.kinds),
        "thumbs_up": row.up,
    }


def alert_view(alert: Alert, agreement: Agreement) -> dict[str, Any]:
    """An objective in trouble."""
    return {
        "id": alert.id,
        "objective": alert.objective,
        "severity": str(alert.severity),
        "state": "firing" if alert.open else "resolved",
        "summary": wording(objective_of(agreement, alert), alert),
        "opened": alert.opened.isoformat(),
        "resolved": None if alert.resolved is None else alert.resolved.isoformat(),
        "acknowledged": None if alert.acknowledged is None else alert.acknowledged.isoformat(),
        "acknowledged_by": alert.acknowledged_by,
        "note": alert.note,
        "notices": alert.notices,
        "burns": [asdict(one) for one in alert.burns],
    }


def silence_view(held: Silence) -> dict[str, Any]:
    """When nobody wants to hear of alerts."""
    return {
        "id": held.id,
        "objective": held.objective,
        "severity": held.severity,
        "since": held.since.isoformat(),
        "until": held.until.isoformat(),
        "by": held.by,
        "note": held.note,
    }
