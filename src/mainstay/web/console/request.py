"""One request: its waterfall, what it found, which way it took and why, what it cost, what came of it, what proves it.

Somebody else's reads like one that never was. Texts of documents open within the visitor's Scope alone, and texts of the request
itself only for those who may read every document that they may quote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Query, Request
from markupsafe import Markup
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.app import App
from mainstay.corpus.ports import DocumentRecord
from mainstay.errors import NotFound
from mainstay.records.audit import AuditEntry, acting, by_actor
from mainstay.records.content import documents_of
from mainstay.records.decisions import Decision, visible_decision
from mainstay.records.explaining import explained
from mainstay.records.outline import Entry, Outline, outline
from mainstay.records.spans import ERROR, Span, waterfall
from mainstay.records.traces import Trace, may_see_all, visible_span, visible_trace
from mainstay.shapes import audit_proof_view
from mainstay.types import Actor, Scope
from mainstay.web.console import words
from mainstay.web.console.outcomes import outcomes_of
from mainstay.web.console.requests import SCREEN, badge
from mainstay.web.console.shell import Screen, enter, filters, is_part, may, page, part, source_link, with_query
from mainstay.web.console.tables import Cell, Column, Table, csv_of, wants_csv
from mainstay.web.desk import Desk

WHOLE = 500
"""Longer journeys are shown without what their steps say, and of their steps the upper levels."""
LINES = 120
SAID = 40
"""Lines of what steps say of the route and of verdicts."""
INDENTED = 12
MOST_DIGITS = 9
OPEN = Screen(name="", path=f"{SCREEN.path}/", known=True)
ICONS: Mapping[str, tuple[str, str]] = {
    "request": ("◎", "plain"),
    "admit": ("▸", "plain"),
    "guard": ("◈", "check"),
    "cache": ("▤", "look"),
    "filter": ("▽", "look"),
    "retrieve": ("●", "look"),
    "graph": ("◆", "look"),
    "critic": ("◇", "check"),
    "prompt": ("▪", "choose"),
    "route": ("▲", "choose"),
    "generate": ("■", "model"),
    "verify": ("✓", "check"),
    "tool": ("▶", "act"),
    "judge": ("□", "model"),
    "review": ("○", "act"),
    "ingest": ("▾", "plain"),
    "step": ("▫", "plain"),
    "other": ("·", "plain"),
}
"""A sign and a colour for each kind of step; its name stands beside them always."""
_FULL = 1000.0


def add(api: FastAPI, desk: Desk) -> None:
    app = desk.app

    @api.get(f"{SCREEN.path}/{{request_id}}", include_in_schema=False)
    def one(
        request: Request,
        request_id: str,
    ) -> Response:
        actor = enter(desk, request, OPEN)
        asked = filters(request, "page", "step", "content")
        content = asked.get("content", "")
        skeleton = visible_trace(app.traces, request_id, actor, attributes=False)
        brief = skeleton.span_count > WHOLE
        trace = skeleton if brief and not content else visible_trace(app.traces, request_id, actor)
        fall = _fall(trace, asked)
        if isinstance(fall, Missing):
            return page(
                request,
                "no_step.html",
                status=fall.status,
                actor=actor,
                request_name=request_id,
                said=fall.said,
            )
        decision = _decision(app, trace.request_id, actor)
        scope = app.gate.scope(actor)
        evidence, hidden = _evidence(app, trace, decision, scope)
        ledger = _ledger(app, trace.request_id)
        outcomes = outcomes_of(app, trace.request_id, actor)
        if wants_csv(request):
            return csv_of(request, _steps(trace), evidence, ledger, outcomes)
        return page(
            request,
            "request.html",
            actor=actor,
            lively=True,
            trace=trace,
            state=badge(trace.status, failed=trace.failed),
            facts=_facts(trace, operator=may_see_all(actor)),
            operator=[(_words(name), _shown(value)) for name, value in trace.operator.items()],
            fall=fall,
            pages=_pages(request, fall),
            above=[(span, _inside(request, span)) for span in fall.above],
            inside=lambda span: _inside(request, span),
            evidence=evidence,
            hidden=hidden,
            ways=_ways(trace)[:SAID],
            verdicts=_verdicts(trace, decision)[:SAID],
            ledger=ledger,
            outcomes=outcomes,
            decision=decision,
            texts=_texts(app, trace, scope) if not brief or content else None,
            brief=brief and not content,
        )

    @api.get(f"{SCREEN.path}/{{request_id}}/steps/{{span_id}}", include_in_schema=False)
    def step(request: Request, request_id: str, span_id: str) -> Response:
        actor = enter(desk, request, OPEN)
        span = visible_span(app.traces, request_id, span_id, actor)
        said = [(_words(name), _shown(value)) for name, value in span.attributes.items() if value not in ("", [], None)]
        if is_part(request):
            return part(request, "request_parts.html", "step", span, said, _icon(span.kind))
        return page(
            request, "step.html", actor=actor, span=span, said=said, icon=_icon(span.kind), request_name=request_id
        )

    @api.get(f"{SCREEN.path}/{{request_id}}/decision", include_in_schema=False)
    def decision(
        request: Request, request_id: str, shape: Annotated[str, Query(alias="format", max_length=10)] = ""
    ) -> Response:
        actor = enter(desk, request, OPEN)
        held = visible_decision(app.decisions, request_id, actor)
        proof = app.decisions.proof(request_id)
        text = explained(held, proof, _titles(app, held, app.gate.scope(actor)))
        asked_by = "" if held.record is None else held.record.asked_by
        if asked_by != actor.principal:  # whoever looks at how others were answered leaves a trace of that
            entry = AuditEntry(
                action="export.decision",
                subject=f"request:{request_id}",
                at=app.clock.now(),
                details={"event": held.n, "form": shape or "page"},
                owner=asked_by if asked_by.startswith("user:") else "",
            )
            with acting(by_actor(actor, request.state.request_id)):
                app.audit.record(entry)
        if shape == "proof":
            return saved(f"proof-{held.n}.json", json.dumps(audit_proof_view(proof), indent=2), "application/json")
        if shape == "text":
            return saved(f"decision-{held.n}.md", text, "text/markdown; charset=utf-8")
        return page(
            request,
            "decision.html",
            actor=actor,
            held=held,
            proof=proof,
            text=text,
            asked=request_id,
            audits=may(actor, Permission.AUDIT_READ),
        )


def saved(name: str, text: str, kind: str) -> Response:
    """A text as a file to be kept."""
    return Response(
        text.encode("utf-8", "replace"),
        media_type=kind,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


# -- the waterfall -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One line of the waterfall, ready to be shown."""

    line: Entry
    level: int
    icon: str
    colour: str
    error: bool
    bar: Markup
    model: str
    tokens: str
    cost_n: int | None

    @property
    def span(self) -> Span:
        return self.line.span


@dataclass(frozen=True, kw_only=True)
class Fall:
    """Lines on an axis from ``begin_ms`` on that is ``length_ms`` long. ``outline`` says of what they are a part."""

    lines: Sequence[Drawn]
    outline: Outline
    begin_ms: float
    length_ms: float
    page: int
    within: bool

    @property
    def above(self) -> Sequence[Span]:
        """The way up, where the steps of one step alone are shown."""
        return self.outline.above if self.within else ()

    @property
    def axis(self) -> str:
        return f"{words.duration(self.begin_ms)} to {words.duration(self.begin_ms + self.length_ms)}"

    @property
    def summary(self) -> str:
        """The whole in a few sentences."""
        held = self.outline
        failed = f", {held.errors:,} of them failed" if held.errors else ""
        of = f"{held.count:,} {'step' if held.count == 1 else 'steps'}"
        if self.within and held.head is not None:
            of += f" from {held.head.kind} on down"
        said = f"{of} in {words.duration(self.length_ms)}{failed}."
        if not held.whole:
            said += f" {len(self.lines):,} are shown; what holds more says how much, and opens."
        if held.last - held.first + 1 < held.parts:
            said += f" Of the {held.parts:,} parts of the first, {held.first:,} to {held.last:,} are here."
        return said


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Why nothing can be drawn of a request that there is, and the status of the page that says so."""

    status: int
    said: str


def _fall(trace: Trace, asked: Mapping[str, str]) -> Fall | Missing:
    """What is drawn: the step that was asked for and what is below it, or everything; a page of it."""
    number, top = asked.get("page", "1"), asked.get("step", "")
    if not (number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS and int(number) > 0):
        return Missing(
            status=422, said=f"{number[:40]!a} is not the number of a page of steps: they are counted from 1."
        )
    shown, steps = int(number), trace.whole
    held = outline(steps, top=top, page=shown, most=WHOLE if len(steps) <= WHOLE else LINES)
    if held is None:
        known = not top or any(span.span_id == top for span in steps)
        if known:
            return Missing(status=404, said=f"Its steps have no page {shown:,}.")
        left_out = "; sampling has left out its steps" if trace.kept == "dropped" else ""
        return Missing(status=404, said=f"This request has no step {top[:40]!a}{left_out}.")
    end = held.end_ms if top else max(held.end_ms, trace.duration_ms)
    length = max(0.0, end - held.begin_ms) or 1.0
    return Fall(
        lines=[_drawn(line, trace, held.begin_ms, length) for line in held.lines],
        outline=held,
        begin_ms=held.begin_ms,
        length_ms=length,
        page=shown,
        within=bool(top),
    )


def _drawn(line: Entry, trace: Trace, begin: float, length: float) -> Drawn:
    span = line.span
    model, tokens, cost = _spent(span, trace)
    icon, colour = _icon(span.kind)
    return Drawn(
        line=line,
        level=min(line.depth, INDENTED),
        icon=icon,
        colour=colour,
        error=span.status == ERROR,
        bar=_bar(span, line.self_ms, colour, begin, length, trace.first_ms),
        model=model,
        tokens=tokens,
        cost_n=cost,
    )


def _spent(span: Span, trace: Trace) -> tuple[str, str, int | None]:
    """A step's model, its tokens in and out, and its cost; of the request itself what all its steps took together."""
    if trace.root_id and span.span_id == trace.root_id and not trace.imported:
        model, tokens_in, tokens_out = "", trace.input_tokens, trace.output_tokens
        cost: int | None = trace.cost_nanodollars
    else:
        said = span.attributes
        model = str(said.get("model") or "")
        tokens_in, tokens_out = _int(said, "input_tokens") or 0, _int(said, "output_tokens") or 0
        cost = _int(said, "cost_nanodollars")
    return model, f"{tokens_in:,} + {tokens_out:,}" if tokens_in or tokens_out else "", cost


def _inside(request: Request, span: Span) -> str:
    """The address of a step's own waterfall."""
    return with_query(request, step=span.span_id, page=None) + "#steps"


def _icon(kind: str) -> tuple[str, str]:
    return ICONS.get(kind, ICONS["other"])


def _int(said: Mapping[str, Any], name: str) -> int | None:
    value = said.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _bar(span: Span, self_ms: float, colour: str, begin: float, length: float, first_ms: float | None) -> Markup:
    """A bar on the axis of all; what the step did itself is solid below, the first words a tick across."""
    left = max(0.0, min(_FULL - 4, _FULL * (span.start_ms - begin) / length))
    width = max(4.0, min(_FULL - left, _FULL * span.duration_ms / length))
    own = width * min(1.0, self_ms / span.duration_ms) if span.duration_ms > 0 else width
    parted = width - own > 1
    looks = " ".join([colour, *(["failed"] if span.status == ERROR else []), *([] if parted else ["alone"])])
    drawn = [Markup('<rect class="{}" x="{:.0f}" y="3" width="{:.0f}" height="10"/>').format(looks, left, width)]
    if parted:
        drawn.append(
            Markup('<rect class="own {}" x="{:.0f}" y="10" width="{:.0f}" height="3"/>').format(colour, left, own)
        )
    ticks = span.kind in ("request", "generate") or not span.parent_id
    if ticks and first_ms is not None and span.start_ms <= first_ms <= span.end_ms:
        at = max(left, min(left + width, _FULL * (first_ms - begin) / length))
        drawn.append(Markup('<line class="tick" x1="{:.0f}" y1="0" x2="{:.0f}" y2="16"/>').format(at, at))
    return Markup(
        '<svg class="bar" viewBox="0 0 1000 16" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(Markup("").join(drawn))


def _pages(request: Request, fall: Fall) -> list[tuple[str, str]]:
    found = []
    if fall.page > 1:
        found.append(("Earlier steps", with_query(request, page=fall.page - 1 if fall.page > 2 else None) + "#steps"))
    if fall.outline.last < fall.outline.parts:
        found.append(("Later steps", with_query(request, page=fall.page + 1) + "#steps"))
    return found


def _steps(trace: Trace) -> Table:
    """Every step, shown or not: made only for the file."""
    return Table(
        name="steps",
        caption="Steps",
        columns=[
            Column(key="step", head="Step", kind="code"),
            Column(key="level", head="Level", kind="count"),
            Column(key="kind", head="Kind"),
            Column(key="name", head="Name"),
            Column(key="status", head="State"),
            Column(key="error", head="Error"),
            Column(key="start", head="Starts", kind="duration"),
            Column(key="duration", head="Took", kind="duration"),
            Column(key="self", head="Itself", kind="duration"),
            Column(key="model", head="Model"),
            Column(key="tokens", head="Tokens"),
            Column(key="cost", head="Cost", kind="money"),
        ],
        rows=[
            {
                "step": line.span.span_id,
                "level": line.depth,
                "kind": line.span.kind,
                "name": line.span.name,
                "status": line.span.status,
                "error": line.span.error_class,
                "start": line.span.start_ms,
                "duration": line.span.duration_ms,
                "self": line.self_ms,
                "model": model,
                "tokens": tokens,
                "cost": cost,
            }
            for line in waterfall(trace.whole)
            for model, tokens, cost in (_spent(line.span, trace),)
        ],
    )


# -- what it was -----------------------------------------------------------------------------------------------------------


def _facts(trace: Trace, *, operator: bool) -> list[tuple[str, object]]:
    known: list[tuple[str, object]] = [
        ("Asked by", trace.asker or "several"),
        ("When", words.when(trace.at)),
        ("Took", words.duration(trace.duration_ms)),
        ("First words after", words.duration(trace.first_ms)),
        ("Cost", words.money(trace.cost_nanodollars)),
        ("Tokens in and out", f"{trace.input_tokens:,} + {trace.output_tokens:,}"),
        ("Mode", trace.mode),
        ("Model", trace.model),
        ("Release", trace.release),
        ("Door", trace.door),
        ("Name", trace.name),
        ("Error", str(trace.facts.get("error") or "")),
        ("Notices", _shown(trace.facts.get("notices") or "")),
    ]
    if operator:
        known += [("Steps kept because", trace.kept), ("Held", trace.held)]
    return [(name, value) for name, value in known if value not in ("", None)]


def _words(name: str) -> str:
    said = name.replace("_", " ").replace(".", " · ")
    return said[:1].upper() + said[1:]


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4f}".rstrip("0").rstrip(".")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return "\n".join(_shown(one) for one in value)
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


# -- evidence ------------------------------------------------------------------------------------------------------------


def _decision(app: App, request_id: str, actor: Actor) -> Decision | None:
    try:
        return visible_decision(app.decisions, request_id, actor)
    except NotFound:
        return None


def _evidence(app: App, trace: Trace, decision: Decision | None, scope: Scope) -> tuple[Table, int]:
    """What was found, best first, of what the visitor may read now, and how many passages they may not."""
    records: dict[str, DocumentRecord | None] = {}
    rows, hidden = [], 0
    for row in _passages(trace, decision):
        name = str(row["document"])
        if name not in records:
            records[name] = app.documents.record(name, scope=scope)
        record = records[name]
        if record is None:
            hidden += 1
            continue
        version = str(row.get("version") or "")
        link = (
            source_link(name, version, row["start"], row["end"])
            if version
            else f"/documents/{quote(record.doc_id, safe='')}"
        )
        older = bool(version) and version != record.version
        rows.append(
            row
            | {
                "document": Cell(value=record.title, href=link, note=record.path),
                "version": Cell(value=version, note="changed since" if older else ""),
                "used": "cited" if row.get("used") else "",
            }
        )
    return Table(
        name="evidence",
        caption="Evidence, best first",
        columns=[
            Column(key="rank", head="Rank", kind="count"),
            Column(key="document", head="Document"),
            Column(key="version", head="Version", kind="code"),
            Column(key="place", head="Characters"),
            Column(key="score", head="Score", kind="score"),
            Column(key="words", head="By words", kind="score"),
            Column(key="meaning", head="By meaning", kind="score"),
            Column(key="used", head="Used"),
        ],
        rows=rows,
        empty="No passage is kept for this request, or none that you may read.",
    ), hidden


def _passages(trace: Trace, decision: Decision | None) -> Iterator[dict[str, Any]]:
    """What was found by rank, from the decision's record with versions, else from the step that found it."""
    found = next((span.attributes for span in trace.spans if span.kind == "retrieve"), {})
    by_words, by_meaning = _floats(found.get("lexical")), _floats(found.get("dense"))
    if decision is not None and decision.record is not None and decision.record.passages:
        for held in decision.record.passages:
            n = held.rank - 1
            yield {
                "rank": held.rank,
                "document": held.document,
                "version": held.version,
                "start": held.start,
                "end": held.end,
                "place": f"{held.start:,} to {held.end:,}",
                "score": float(held.score) if held.score else None,
                "words": by_words[n] if n < len(by_words) else None,
                "meaning": by_meaning[n] if n < len(by_meaning) else None,
                "used": held.used,
            }
        return
    scores = _floats(found.get("scores"))
    cited = {str(one).partition("@")[0] for one in _list(trace.facts.get("citations"))}
    for n, document in enumerate(map(str, _list(found.get("documents")))):
        yield {
            "rank": n + 1,
            "document": document,
            "score": scores[n] if n < len(scores) else None,
            "words": by_words[n] if n < len(by_words) else None,
            "meaning": by_meaning[n] if n < len(by_meaning) else None,
            "used": document in cited,
        }


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _floats(value: object) -> list[float | None]:
    return [float(one) if isinstance(one, int | float) else None for one in _list(value)]


def _titles(app: App, held: Decision, scope: Scope) -> dict[str, str]:
    """Titles of the documents of a decision that the visitor may read."""
    found: dict[str, str] = {}
    for one in held.record.passages if held.record is not None else ():
        if one.document not in found and (record := app.documents.record(one.document, scope=scope)) is not None:
            found[one.document] = record.title
    return found


def _texts(app: App, trace: Trace, scope: Scope) -> tuple[Mapping[str, str], str]:
    """The texts that were kept, or why they are not shown."""
    texts = app.traces.content(trace.request_id)
    if texts is None:
        return {}, "No text of this request was kept."
    if any(app.documents.record(document, scope=scope) is None for document in documents_of(trace)):
        return {}, "It quotes documents that are out of your reach, or gone."
    return texts, ""


# -- the way it took -------------------------------------------------------------------------------------------------------


def _ways(trace: Trace) -> list[tuple[str, list[str]]]:
    """The route, and what routing said of its choice."""
    found: list[tuple[str, list[str]]] = []
    if route := [str(one) for one in _list(trace.facts.get("route"))]:
        found.append(("Tried, in order", [one.replace(":", ": ", 1) for one in route]))
    for span in trace.spans:
        said = span.attributes
        if not said:  # of the longest journeys, nothing that steps say is read
            continue
        if span.kind == "route":
            for name, label in (("order", "Models by worth"), ("excluded", "Left out"), ("why", "Why")):
                value = said.get(name)
                lines = [str(one) for one in _list(value)] or ([str(value)] if value else [])
                if lines:
                    found.append((label, lines))
            if said.get("decision"):
                found.append(("Decided", [f"{said['decision']}, confidence {_shown(said.get('confidence'))}"]))
        if span.kind == "cache":
            hit = (
                "an earlier answer was given again" if said.get("hit") else str(said.get("why") or "no earlier answer")
            )
            found.append(("Cache", [f"{hit}, similarity {_shown(said.get('similarity'))}"]))
    return found


def _verdicts(trace: Trace, decision: Decision | None) -> list[str]:
    """What rules said: of the agreement, of permission, of the check against sources."""
    found = [
        f"Refused by the rule {span.attributes['refused']}"
        for span in trace.spans
        if span.kind == "guard" and span.attributes.get("refused")
    ]
    if decision is not None and decision.record is not None:
        found += [
            f"Rule applied: {rule}" for rule in decision.record.policy if f"Refused by the rule {rule}" not in found
        ]
        if decision.record.disclosure:
            found.append(f"Said beside the answer: {decision.record.disclosure}")
    for span in trace.spans:
        said = span.attributes
        if not said:
            continue
        if span.kind == "verify" and "citations" in said:
            cited, dropped = _int(said, "citations") or 0, _int(said, "unsupported") or 0
            found.append(
                f"Checked against its sources: {_many(cited, 'citation')}, "
                f"{_many(dropped, 'unsupported statement')} taken out"
            )
        if span.kind == "review":
            found.append(f"Given to a person: {said.get('reason') or ''}")
    return found


def _ledger(app: App, request_id: str) -> Table:
    return Table(
        name="ledger",
        caption="Money held and spent",
        columns=[
            Column(key="at", head="When", kind="time"),
            Column(key="purpose", head="For"),
            Column(key="model", head="Model"),
            Column(key="state", head="State"),
            Column(key="held", head="Held", kind="money"),
            Column(key="spent", head="Spent", kind="money"),
            Column(key="input", head="Tokens in", kind="count"),
            Column(key="cached", head="of them cached", kind="count"),
            Column(key="output", head="Tokens out", kind="count"),
            Column(key="prices", head="Prices of", kind="code"),
        ],
        rows=[
            {
                "at": line.at,
                "purpose": line.purpose,
                "model": line.model,
                "state": Cell(value=line.state, note="estimated" if line.estimated else ""),
                "held": line.held_n,
                "spent": line.settled_n,
                "input": line.input_tokens,
                "cached": line.cached_tokens,
                "output": line.output_tokens,
                "prices": line.prices,
            }
            for line in app.lookups.lines(request_id)
        ],
        empty="No model was paid for this request.",
    )
