"""Ask, read the answer beside its sources, see why they were chosen, hand the question to a person, say whether it helped.

Works without JavaScript; a small module only streams. Every text of a document, a question or a model is put into the page as
text: Jinja escapes it, the module uses text nodes, and the one thing made active is our own link to a source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import FastAPI, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from mainstay.access.acl import Acl
from mainstay.access.keys import Permission, permit
from mainstay.answering import EXTRACTIVE
from mainstay.app import App
from mainstay.corpus.ports import DocumentRecord
from mainstay.errors import MainstayError
from mainstay.handover import State, promise, visible
from mainstay.records.outcomes import MAX_COMMENT
from mainstay.records.traces import Trace, visible_trace
from mainstay.types import PUBLIC, Actor, Answer, Question, Scope
from mainstay.web.console.shell import Screen, enter, ours_alone, page
from mainstay.web.console.tables import Cell, Column, Table, csv_of, wants_csv
from mainstay.web.desk import Desk
from mainstay.web.handovers import handed_over as give_to_a_person
from mainstay.web.problems import Problem, problem_of

SCREEN = Screen(name="Ask", path="/ask", needs=(Permission.ASK,))
OWN = Screen(name="One's own requests", path="/ask/", known=True)
_MARKER = re.compile(r"\[(\d{1,3})\]")


def add(api: FastAPI, desk: Desk) -> None:
    @api.get("/ask", include_in_schema=False)
    def ask(request: Request, q: Annotated[str, Query(max_length=20_000)] = "") -> Response:
        return asked(desk, request, enter(desk, request, SCREEN), q)

    @api.get("/ask/why/{request_id}", include_in_schema=False)
    def why(request: Request, request_id: str) -> Response:
        actor = enter(desk, request, OWN)
        trace = visible_trace(desk.app.traces, request_id, actor)
        table = _why(desk.app, trace, desk.app.gate.scope(actor), admin=actor.admin)
        if wants_csv(request):
            return csv_of(request, table)
        return page(request, "why.html", actor=actor, asked=request_id, table=table)

    @api.post("/ask/hand-over", include_in_schema=False)
    def hand_over(
        request: Request,
        q: Annotated[str, Form(max_length=20_000)] = "",
        answer: Annotated[str, Form(max_length=100)] = "",
    ) -> Response:
        ours_alone(request)
        actor = enter(desk, request, OWN)
        permit(actor, Permission.ASK)
        held, _ = give_to_a_person(desk.app, actor, q, answer)
        return RedirectResponse(f"/ask/handed-over/{quote(held.id, safe='')}", 303)

    @api.get("/ask/handed-over/{handover_id}", include_in_schema=False)
    def handed_over(request: Request, handover_id: str) -> Response:
        actor = enter(desk, request, OWN)
        held = visible(desk.app.handovers, handover_id, actor)
        said = promise(desk.app.settings.agreement.handover, held.language, held.id)
        closed = held.state is State.CLOSED
        return page(request, "handed_over.html", actor=actor, held=held, promise=said, closed=closed)

    @api.post("/ask/feedback", include_in_schema=False)
    def told(
        request: Request,
        answer: Annotated[str, Form(max_length=64)],
        rating: Annotated[Literal["up", "down"], Form()],
        comment: Annotated[str, Form(max_length=MAX_COMMENT)] = "",
    ) -> Response:
        ours_alone(request)
        actor = enter(desk, request, OWN)
        permit(actor, Permission.ASK)
        desk.app.outcomes.feedback(actor, answer, up=rating == "up", comment=comment.strip())
        return RedirectResponse("/ask/thanks", 303)

    @api.get("/ask/thanks", include_in_schema=False)
    def thanks(request: Request) -> Response:
        return page(request, "thanks.html", actor=enter(desk, request, OWN))


def asked(desk: Desk, request: Request, actor: Actor, q: str) -> Response:
    """The page, with the answer to ``q`` when there is one."""
    # A link on somebody else's site may fill in a question; asking it, which may cost money, takes this visitor's own click.
    pressed = bool(q.strip()) and request.headers.get("sec-fetch-site") != "cross-site"
    answer, failed = _answered(desk, request, actor, q) if pressed else (None, None)
    return page(
        request,
        "ask.html",
        status=failed.status if failed else 200,
        actor=actor,
        question=q,
        answer=answer,
        failed=failed,
        limit=desk.app.settings.service.limits.question_chars,
    )


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An answer as the page shows it: its text cut at the markers."""

    answer: Answer
    pieces: tuple[tuple[str, int], ...]
    quoted: bool


def _answered(desk: Desk, request: Request, actor: Actor, q: str) -> tuple[Shown | None, Problem | None]:
    try:
        permit(actor, Permission.ASK)
        app = desk.app
        until = app.clock.monotonic() + app.settings.agreement.request.deadline_s
        caller = desk.caller(request)
        with app.admission.admit(actor.principal, actor.key_id, caller.groups, until):
            answer = app.answering.answer(
                Question(text=q), actor, request_id=desk.own_id(request), door="page", context=request.state.context
            )
    except MainstayError as error:
        return None, problem_of(error)
    return Shown(
        answer=answer, pieces=cut(answer.text, {held.n for held in answer.citations}), quoted=answer.model == EXTRACTIVE
    ), None


def cut(text: str, known: set[int]) -> tuple[tuple[str, int], ...]:
    """The text as (piece, number of the source named after it, or 0)."""
    pieces: list[tuple[str, int]] = []
    last = 0
    for marker in _MARKER.finditer(text):
        if int(marker[1]) in known:
            pieces.append((text[last : marker.start()], int(marker[1])))
            last = marker.end()
    return (*pieces, (text[last:], 0))


# -- why these sources ---------------------------------------------------------------------------------------------------


def _why(app: App, trace: Trace, scope: Scope, *, admin: bool) -> Table:
    """What was found for a request, best first, of what its visitor may read now."""
    return Table(
        name="why",
        caption="What was found, best first",
        columns=[
            Column(key="rank", head="Rank", kind="count"),
            Column(key="document", head="Document"),
            Column(key="score", head="Together", kind="score"),
            Column(key="words", head="By its words", kind="score"),
            Column(key="meaning", head="By its meaning", kind="score"),
            Column(key="because", head="You may read it because"),
        ],
        rows=list(_found(app, trace, scope, admin=admin)),
        empty="How this answer was found is not kept, or what was found is not there any more.",
    )


def _found(app: App, trace: Trace, scope: Scope, *, admin: bool) -> Iterator[dict[str, Any]]:
    records: dict[str, DocumentRecord | None] = {}
    for span in trace.spans:
        said = span.attributes
        documents = said.get("documents") if span.kind == "retrieve" else None
        if not isinstance(documents, list):
            continue
        for n, name in enumerate(map(str, documents)):
            if name not in records:
                records[name] = app.documents.record(name, scope=scope)
            record = records[name]
            if record is not None:
                yield {
                    "rank": n + 1,
                    "document": Cell(value=record.title, href=f"/documents/{quote(record.doc_id, safe='')}"),
                    "score": _at(said.get("scores"), n),
                    "words": _at(said.get("lexical"), n),
                    "meaning": _at(said.get("dense"), n),
                    "because": _because(record.acl, scope, admin=admin),
                }


def _at(values: object, n: int) -> float | None:
    value = values[n] if isinstance(values, list) and n < len(values) else None
    return float(value) if isinstance(value, int | float) else None


def _because(rule: Acl, scope: Scope, *, admin: bool) -> str:
    """The part of the rule that lets this visitor in, and nobody else's."""
    if PUBLIC in rule.allow:
        return "everybody may"
    hits = sorted(held for held in rule.allow if held in scope.principals)
    named = [held for held in hits if not held.startswith("group:")]
    if named:
        return "it is shared with you"
    if hits:
        return f"you are in {' and in '.join(held.removeprefix('group:') for held in hits)}"
    return "you are an administrator" if admin else "its rule lets you in"
