"""A source, opened at the cited words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.app import App
from mainstay.corpus.ports import DocumentRecord
from mainstay.errors import Invalid, NotFound
from mainstay.types import Actor
from mainstay.web.console.shell import Screen, enter, page
from mainstay.web.desk import Desk
from mainstay.web.documents import page_at, record_of

SHOWN_CHARS = 40_000
"""So much of a long document stands on one page."""
SOURCE = Screen(name="Source", path="/documents/", needs=(Permission.DOCUMENTS_READ,))


def add(api: FastAPI, desk: Desk) -> None:
    @api.get("/documents/{document_id:path}", include_in_schema=False)
    def document(
        request: Request,
        document_id: str,
        version: Annotated[str | None, Query(max_length=64)] = None,
        start: Annotated[int, Query(ge=0, le=2**31)] = 0,
        end: Annotated[int, Query(ge=0, le=2**31)] = 0,
        at: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    ) -> Response:
        actor = enter(desk, request, SOURCE)
        view = opened(desk.app, actor, document_id, version, start, end, at)
        return page(request, "document.html", actor=actor, view=view)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A document's text around the cited span. ``earlier`` and ``later`` are where the neighbouring parts of a long text begin."""

    record: DocumentRecord
    version: str
    current: bool
    page: int | None
    before: str
    cited: str
    after: str
    first: int
    last: int
    length: int
    earlier: int | None
    later: int | None


def opened(
    app: App, actor: Actor, document_id: str, version: str | None, start: int, end: int, at: int | None
) -> Opened:
    scope = app.gate.scope(actor)
    record = record_of(app, document_id, scope)
    held = app.documents.text(record.doc_id, version or record.version, scope=scope)
    if held is None:
        raise NotFound("no such document")
    text, pages = held
    if not start <= end <= len(text):
        raise Invalid("this span is not in the document", where="start", fix="open the document from an answer")
    first = _shown_from(len(text), start if at is None else at)
    last = min(len(text), first + SHOWN_CHARS)
    begin, stop = max(first, min(start, last)), max(first, min(end, last))
    return Opened(
        record=record,
        version=version or record.version,
        current=version in (None, record.version),
        page=page_at(pages, start) if end > start else None,
        before=text[first:begin],
        cited=text[begin:stop],
        after=text[stop:last],
        first=first,
        last=last,
        length=len(text),
        earlier=max(0, first - SHOWN_CHARS // 2) if first > 0 else None,
        later=last + SHOWN_CHARS // 2 if last < len(text) else None,
    )


def _shown_from(length: int, wanted: int) -> int:
    return 0 if length <= SHOWN_CHARS else max(0, min(wanted - SHOWN_CHARS // 2, length - SHOWN_CHARS))
