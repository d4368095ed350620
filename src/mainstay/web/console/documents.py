"""Documents: where they come from and how fresh they are, what could not be read; who may read one, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from mainstay.access.acl import Acl
from mainstay.access.directory import ANONYMOUS
from mainstay.access.keys import Permission
from mainstay.app import App
from mainstay.corpus.ports import DocumentRecord
from mainstay.corpus.quality import examine
from mainstay.errors import Invalid, NotFound, Refused
from mainstay.types import PUBLIC, Scope
from mainstay.web.console.requests import said_word
from mainstay.web.console.shell import Screen, enter, filters, may, page, with_query
from mainstay.web.console.tables import Cell, Column, Table, csv_of, wants_csv
from mainstay.web.desk import Desk
from mainstay.web.documents import OWN_IDS, explained, sources_of

SCREEN = Screen(name="Documents", path="/documents", needs=(Permission.DOCUMENTS_READ,))
ROWS, UNREAD, FINDINGS = 100, 200, 500
_CURSOR = re.compile(rf"{OWN_IDS}[a-z2-7]{{24}}")  # as corpus.ingest makes ids


def add(api: FastAPI, desk: Desk) -> None:
    app = desk.app

    @api.get(SCREEN.path, include_in_schema=False)
    def documents(request: Request) -> Response:
        actor = enter(desk, request, SCREEN)
        asked = filters(request, "source", "after", "findings")
        scope = app.gate.scope(actor)
        curates = may(actor, Permission.ADMIN, Permission.DOCUMENTS_WRITE)
        oversees = may(actor, Permission.ADMIN)
        errors = _mistakes(app, scope, asked, oversees=oversees)
        # A file is had at an address without a mistake.
        sources = replace(_sources(app), export=not errors) if oversees else None
        listed = unread = findings = None
        if not errors:
            listed = _listed(request, app, scope, asked, curates=curates)
            unread = _unread(app, scope, asked.get("source")) if oversees else None
            findings = _findings(app, scope) if oversees and asked.get("findings") == "yes" else None
        if wants_csv(request) and listed is not None:
            others = [table for table in (sources, unread, findings) if table is not None]
            return csv_of(request, listed, *others)
        return page(
            request,
            "documents.html",
            status=422 if errors else 200,
            actor=actor,
            asked=asked,
            errors=errors,
            listed=listed,
            sources=sources,
            unread=unread,
            findings=findings,
            source="" if errors else asked.get("source", ""),
            oversees=oversees,
        )

    @api.get("/documents/{document_id}/access", include_in_schema=False)
    def access(request: Request, document_id: str, user: Annotated[str, Query(max_length=300)] = "") -> Response:
        actor = enter(desk, request, SCREEN)
        if not document_id.startswith(OWN_IDS):
            raise NotFound("no such document")
        record = app.documents.record(document_id, scope=app.gate.scope(actor))
        if record is None:
            raise NotFound("no such document")
        oversees = may(actor, Permission.ADMIN)
        error = ""
        said = None
        try:
            if actor.principal != ANONYMOUS or user:
                said = explained(app, actor, record, user)
        except (Invalid, Refused) as wrong:
            error = wrong.line()
        return page(
            request,
            "access_panel.html",
            status=422 if error else 200,
            actor=actor,
            record=record,
            stated=stated(record) if oversees else "",
            rule=rule_words(record.acl) if oversees else [],
            said=said,
            lines=[] if said is None else _lines(said.lines(), whole=oversees),
            user=user,
            error=error,
            oversees=oversees,
        )


def stated(record: DocumentRecord) -> str:
    """Where the rule in force is written."""
    kind, _, place = record.origin.partition(":")
    return {
        "folder": f"in {place.removesuffix('/.')}/.access.yaml",
        "source": f"at the source {place} in mainstay.yaml",
        "rule": f"by the rule {place} in mainstay.yaml",
    }.get(kind, "in the document itself, beside it, or by a rule that reaches into many folders")


def rule_words(rule: Acl) -> list[tuple[str, str]]:
    """A rule as it reads."""
    allowed = ["everybody" if name == PUBLIC else name for name in rule.allow]
    return [
        ("Allowed", ", ".join(allowed) or "nobody but administrators"),
        ("Denied", ", ".join(rule.deny) or "nobody"),
    ]


def _lines(lines: Sequence[str], *, whole: bool) -> list[str]:
    """Who else may read it is for those who oversee."""
    return [line for line in lines if whole or not line.startswith("the rule allows")]


def _mistakes(app: App, scope: Scope, asked: Mapping[str, str], *, oversees: bool) -> dict[str, str]:
    """What of the filters can not be, by field. To whom the list of sources is not shown, a source of which they may read
    nothing reads like one that there is not. A cursor is a place in the order of ids: whether a document has it does not
    matter, and is not told."""
    errors: dict[str, str] = {}
    source, after = asked.get("source", ""), asked.get("after", "")
    if oversees:
        said_word(asked, "source", [str(held["name"]) for held in sources_of(app)], errors)
    elif source and not app.documents.records(scope=scope, source_name=source, limit=1):
        errors["source"] = (
            f"No document that you may read comes from {source[:40]!a}; leave it empty for those of every source."
        )
    if after and not _CURSOR.fullmatch(after):
        errors["after"] = f"{after[:40]!a} is not the id of a document; begin at the first."
    return errors


def _listed(request: Request, app: App, scope: Scope, asked: Mapping[str, str], *, curates: bool) -> Table:
    found = app.documents.records(
        scope=scope, source_name=asked.get("source"), limit=ROWS + 1, after=asked.get("after", "")
    )
    shown = found[:ROWS]
    return Table(
        name="documents",
        caption="Documents that you may read",
        columns=[
            Column(key="title", head="Title"),
            Column(key="path", head="Path", kind="path"),
            Column(key="source", head="Source"),
            Column(key="modified", head="Changed", kind="time"),
            Column(key="language", head="Language"),
            Column(key="size", head="Size", kind="size"),
            Column(key="pieces", head="Pieces", kind="count"),
            Column(key="state", head="State"),
            *([Column(key="access", head="Who may read it")] if curates else []),
            Column(key="id", head="Id", kind="code"),
        ],
        rows=[_row(record, curates=curates) for record in shown],
        empty=_nothing(asked),
        more=with_query(request, after=shown[-1].doc_id) if len(found) > ROWS else "",
        first=with_query(request, after=None) if "after" in asked else "",
    )


def _nothing(asked: Mapping[str, str]) -> str:
    """What an empty list means."""
    if "after" in asked:
        return "No document that you may read comes after this place."
    return "No document has come from this source." if "source" in asked else "There is no document that you may read."


def _row(record: DocumentRecord, *, curates: bool) -> dict[str, Any]:
    at = f"/documents/{quote(record.doc_id, safe='')}"
    unread = record.status != "ready"
    row: dict[str, Any] = {
        "title": Cell(value=record.title or record.path, href=at),
        "path": record.path,
        "source": record.source,
        "modified": record.modified,
        "language": record.language,
        "size": record.size,
        "pieces": record.chunks,
        "state": Cell(
            value="not read" if unread else "ready",
            look="bad" if unread else "",
            note=record.reason if unread else "; ".join(kind for kind, _ in record.findings) if curates else "",
        ),
        "id": record.doc_id,
    }
    if curates:
        names = ", ".join(record.acl.allow) or "private"
        denied = f" but not {', '.join(record.acl.deny)}" if record.acl.deny else ""
        row["access"] = Cell(value=f"{names}{denied}", href=f"{at}/access")
    return row


def _sources(app: App) -> Table:
    now = app.clock.now()
    rows = []
    for held in sources_of(app):
        name, state, at, detail = held["name"], held["state"], held["synced_at"], held["detail"]
        rows.append(
            {
                "source": Cell(value=name, href=f"/documents?source={quote(name, safe='')}"),
                "state": Cell(value=state, look="bad" if state not in ("ok", "ready", "synced") and detail else ""),
                "at": at,
                "age": None if at is None else max(0.0, (now - at).total_seconds() * 1000),
                "documents": held["documents"],
                "root": held["root"],
                "problems": detail,
            }
        )
    return Table(
        name="sources",
        caption="Sources",
        columns=[
            Column(key="source", head="Source"),
            Column(key="state", head="State"),
            Column(key="at", head="Synchronised", kind="time"),
            Column(key="age", head="Ago", kind="duration"),
            Column(key="documents", head="Documents", kind="count"),
            Column(key="root", head="Folder"),
            Column(key="problems", head="Problems"),
        ],
        rows=rows,
        empty="No source is set up: add one under sources in mainstay.yaml.",
    )


def _unread(app: App, scope: Scope, source: str | None) -> Table:
    rows: list[dict[str, Any]] = []
    after = ""
    while len(rows) < UNREAD and (some := app.documents.records(scope=scope, source_name=source, after=after)):
        after = some[-1].doc_id
        rows += [
            {"path": record.path, "source": record.source, "reason": record.reason, "updated": record.updated}
            for record in some
            if record.status != "ready"
        ]
    return Table(
        name="unread",
        caption="Files that could not be read",
        columns=[
            Column(key="path", head="File", kind="path"),
            Column(key="source", head="Source"),
            Column(key="reason", head="Why"),
            Column(key="updated", head="Since", kind="time"),
        ],
        rows=rows[:UNREAD],
        empty="Every file could be read.",
    )


def _findings(app: App, scope: Scope) -> Table:
    issues = examine(app.documents, scope=scope, now=app.clock.now())
    return Table(
        name="findings",
        caption=f"Findings about the documents, worst first{f' ({FINDINGS} of {len(issues)})' if len(issues) > FINDINGS else ''}",
        columns=[
            Column(key="kind", head="Finding"),
            Column(key="documents", head="Documents"),
            Column(key="detail", head="Why"),
        ],
        rows=[
            {"kind": issue.kind, "documents": " ~ ".join(issue.documents), "detail": issue.detail}
            for issue in issues[:FINDINGS]
        ],
        empty="Nothing was found.",
    )
