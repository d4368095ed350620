"""Pushed documents, and reading any document within one's scope.

``documents:write`` is authority over all pushed documents: it may replace and delete them whether or not it may read them.
Opening one to others without sending its content takes reading it, or a writer could read by granting. Documents of folders
are changed in their folders alone.
"""

from __future__ import annotations

from datetime import UTC
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from starlette.responses import Response

from mainstay.access.acl import Acl, canonical, parse_acl, parse_principal
from mainstay.access.explaining import Explanation
from mainstay.access.keys import Permission, permit
from mainstay.app import App
from mainstay.corpus.ingest import API_SOURCE, push
from mainstay.corpus.parsing.detect import BY_EXTENSION
from mainstay.corpus.ports import AccessRule, DocumentRecord, Prepared
from mainstay.corpus.sources import origin_of
from mainstay.errors import Conflict, Invalid, MainstayError, NotFound, TooLarge
from mainstay.shapes import document_view, explanation_view, kept_view
from mainstay.types import PUBLIC, Actor, Scope
from mainstay.web.bodies import AccessBody, BatchItem, DocumentBody, metadata_of
from mainstay.web.desk import Asker, Desk, Guarded, needs
from mainstay.web.problems import problem_of
from mainstay.web.views import BatchView, DocumentsView, DocumentView, Json, KeptView, SliceView, WhyView

MAX_BATCH = 1000
MAX_ID = 512
OWN_IDS = "doc_"

Offset = Annotated[int | None, Query(ge=0, le=2**31)]


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Documents"])
    app = desk.app

    @router.get(
        "/v1/documents",
        response_model=DocumentsView,
        openapi_extra=needs(Permission.DOCUMENTS_READ),
        summary="List documents",
    )
    def listed(
        actor: Asker,
        source: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        """The documents the asker may read, in the order of their ids."""
        records = app.documents.records(scope=app.gate.scope(actor), source_name=source, limit=limit + 1, after=after)
        shown = [document_view(record, curator=_curator(actor)) for record in records[:limit]]
        return Json({"documents": shown, "next": shown[-1]["id"] if len(records) > limit else None})

    @router.post(
        "/v1/documents:batch",
        response_model=BatchView,
        openapi_extra=needs(Permission.DOCUMENTS_WRITE),
        summary="Push many",
    )
    def batch(body: Annotated[list[BatchItem], Body(max_length=MAX_BATCH)], actor: Asker, request: Request) -> Response:
        """Up to 1000 puts and deletes, one after the other. One that fails is told and does not stop the rest."""
        return Json({"results": [_step(app, actor, item, request.state.request_id) for item in body]})

    @router.get(
        "/v1/documents/{document:path}/text",
        response_model=SliceView,
        openapi_extra=needs(Permission.DOCUMENTS_READ),
        summary="Read a text",
    )
    def text(
        document: str,
        actor: Asker,
        version: Annotated[str | None, Query(max_length=64)] = None,
        start: Offset = None,
        end: Offset = None,
    ) -> Response:
        """The stored text of a version, or the exact slice that a citation names. Offsets count Unicode characters."""
        return Json(slice_of(app, record_of(app, document, app.gate.scope(actor)), actor, version, start, end))

    @router.get(
        "/v1/documents/{document:path}/access",
        response_model=WhyView,
        openapi_extra=needs(Permission.DOCUMENTS_READ),
        summary="Why somebody may read a document",
    )
    def why(document: str, actor: Asker, user: Annotated[str, Query(max_length=300)] = "") -> Response:
        """The way from a person to the rule in force. Without `user` it is about the asker; others are for administrators."""
        record = record_of(app, document, app.gate.scope(actor))
        return Json(explanation_view(record, explained(app, actor, record, user), curator=_curator(actor)))

    @router.get(
        "/v1/documents/{document:path}",
        response_model=DocumentView,
        openapi_extra=needs(Permission.DOCUMENTS_READ),
        summary="Look at a document",
    )
    def one(document: str, actor: Asker) -> Response:
        """A document without its text, by our id or by the one it was pushed under."""
        return Json(document_view(record_of(app, document, app.gate.scope(actor)), curator=_curator(actor)))

    @router.put(
        "/v1/documents/{document:path}",
        response_model=KeptView,
        openapi_extra=needs(Permission.DOCUMENTS_WRITE),
        summary="Push a document",
    )
    def put(document: str, body: DocumentBody, actor: Asker) -> Response:
        """Keep a document under the caller's own id, replacing what that id held. It is found at once.

        Without `access`, what its front matter states holds; without that it is private to administrators, and the answer says so.
        """
        return Json(_put(app, actor, document, body))

    @router.patch(
        "/v1/documents/{document:path}",
        response_model=DocumentView,
        openapi_extra=needs(Permission.DOCUMENTS_WRITE),
        summary="Change access",
    )
    def patch(document: str, body: AccessBody, actor: Asker) -> Response:
        """Replace the rule of access of a pushed document. In force at the next question."""
        acl = _acl(body.access)
        record = record_of(app, document, app.gate.scope(actor))
        if record.source != API_SOURCE:
            raise _elsewhere(record)
        app.documents.set_access(record.doc_id, AccessRule(origin=origin_of(acl), acl=acl), app.clock.now())
        return Json(
            {**document_view(record, curator=True), "access": {"allow": list(acl.allow), "deny": list(acl.deny)}}
        )

    @router.delete(
        "/v1/documents/{document:path}",
        status_code=204,
        openapi_extra=needs(Permission.DOCUMENTS_WRITE),
        summary="Delete a document",
    )
    def delete(document: str, actor: Asker) -> Response:
        """Delete a pushed document with every version of it. In force at the next question."""
        _delete(app, actor, document)
        return Response(status_code=204)

    return router


def record_of(app: App, document: str, scope: Scope) -> DocumentRecord:
    """The document of this document, or pushed under it. Errors: NotFound, alike for what is missing and what is out of scope."""
    found = app.documents.record(document, scope=scope) if document.startswith(OWN_IDS) else None
    if found is not None:
        return found
    same = app.documents.find(document, scope=scope) if len(document) <= MAX_ID else []
    pushed = [record for record in same if record.source == API_SOURCE]
    if len(pushed or same) > 1:
        raise Conflict(
            "several documents have this path", fix=f"use an id: {', '.join(record.doc_id for record in same[:5])}"
        )
    if not same:
        raise _missing()
    return (pushed or same)[0]


def explained(app: App, actor: Actor, record: DocumentRecord, user: str) -> Explanation:
    """Why ``user`` (empty: the actor) may or may not read this. Errors: Refused for others, unless one is an administrator."""
    name = user.strip()
    person = parse_principal(name if ":" in name else f"user:{name}", "user") if name else actor.principal
    if person == actor.principal:
        return app.why(
            record.acl, person, actor.groups, sees_all=actor.key_id is None or Permission.ADMIN in actor.scopes
        )
    permit(actor, Permission.ADMIN)
    if person == PUBLIC or person.startswith("group:"):
        raise Invalid(f"{person} is nobody who asks", where="user", fix="name a user or a service")
    return app.why(record.acl, person)


def slice_of(
    app: App, record: DocumentRecord, actor: Actor, version: str | None, start: int | None, end: int | None
) -> dict[str, Any]:
    """Part of a version's stored text. Errors: NotFound for a version that is not kept, Invalid for a span outside the text."""
    held = app.documents.text(record.doc_id, version or record.version, scope=app.gate.scope(actor))
    if held is None:
        raise _missing()
    whole, pages = held
    first, last = start or 0, len(whole) if end is None else end
    if not first <= last <= len(whole):
        raise Invalid(
            f"{first} to {last} is no span of this text of {len(whole)} characters",
            where="start",
            fix="use offsets within it",
        )
    return {
        "document": record.doc_id,
        "version": version or record.version,
        "start": first,
        "end": last,
        "length": len(whole),
        "page": page_at(pages, first),
        "text": whole[first:last],
    }


def page_at(pages: tuple[tuple[int, int, int], ...], offset: int) -> int | None:
    return next((page for page, begin, end in pages if begin <= offset < end), None)


def _put(app: App, actor: Actor, document: str, body: DocumentBody) -> dict[str, Any]:
    external_id = _external_id(app, actor, document)
    content = body.bytes()
    limit = app.settings.service.limits.document_mb * 1024 * 1024
    if len(content) > limit:
        raise TooLarge(
            f"the document has {len(content)} bytes, at most {limit} are read", where="content", fix="split it"
        )
    kept = push(
        app.documents,
        app.sandbox,
        app.clock,
        external_id=external_id,
        content=content,
        name=_name(external_id, body),
        title=_line(body.title, "title"),
        uri=_line(body.uri, "uri"),
        access=None if body.access is None else _acl(body.access),
        metadata=metadata_of(body.metadata),
        modified=body.modified if body.modified is None or body.modified.tzinfo else body.modified.replace(tzinfo=UTC),
    )
    return kept_view(kept, _private_notice(kept))


def _private_notice(kept: Prepared) -> str | None:
    if kept.rule.acl.allow:
        return None
    return "private to administrators: nobody else can find it until access names who may read it"


def _delete(app: App, actor: Actor, document: str) -> None:
    if not document.isprintable():
        raise _missing()  # nothing can have been pushed under it
    visible = app.documents.find(document, scope=app.gate.scope(actor)) if len(document) <= MAX_ID else []
    pushed = app.documents.known(API_SOURCE)
    doc_id = (
        pushed[document].doc_id
        if document in pushed
        else next((held.doc_id for held in pushed.values() if held.doc_id == document), "")
    )
    if not doc_id and visible:
        raise _elsewhere(visible[0])
    if not doc_id or not app.documents.remove([doc_id], app.clock.now()):
        raise _missing()


def _step(app: App, actor: Actor, item: BatchItem, request_id: str) -> dict[str, Any]:
    try:
        if item.op == "delete":
            _delete(app, actor, item.id)
            return {"id": item.id, "status": "deleted"}
        return {"id": item.id, "status": "kept", "document": _put(app, actor, item.id, item)}
    except MainstayError as error:
        return {"id": item.id, "status": "failed", "problem": problem_of(error).document(request_id)}


def _external_id(app: App, actor: Actor, document: str) -> str:
    """The caller's id that is meant. Errors: Invalid for one that can be none, NotFound for an id of ours that is none."""
    if document.startswith(OWN_IDS):
        record = record_of(app, document, app.gate.scope(actor))
        if record.source != API_SOURCE:
            raise _elsewhere(record)
        return record.path
    if len(document) > MAX_ID or not document.isprintable() or document != document.strip() or not document:
        raise Invalid(
            f"an id is one line of 1 to {MAX_ID} visible characters", where="id", fix="use the id of your own system"
        )
    if any(part in (".", "..") for part in document.replace("\\", "/").split("/")):
        raise Invalid("an id can not step upwards with '..'", where="id", fix="use the id of your own system")
    return document


def _name(external_id: str, body: DocumentBody) -> str:
    """The file name that tells how to read the content: as given, by media type, by the id's ending, else plain text."""
    if body.name:
        return PurePosixPath(_line(body.name, "name").replace("\\", "/")).name or "document.txt"
    if body.media_type:
        kind = body.media_type.partition(";")[0].strip().lower()
        ending = next((ending for ending, known in BY_EXTENSION.items() if known == kind), None)
        if ending is None:
            raise Invalid(
                f"{kind[:60]!a} is not read",
                where="media_type",
                fix=f"use one of {', '.join(sorted(set(BY_EXTENSION.values())))}",
            )
        return f"document.{ending}"
    suffix = PurePosixPath(external_id).suffix.lower().removeprefix(".")
    return f"document.{suffix}" if suffix in BY_EXTENSION or body.content_base64 is not None else "document.txt"


def _line(text: str, where: str) -> str:
    line = " ".join(text.split())
    if not line.isprintable():
        raise Invalid("holds characters that nobody can see", where=where, fix="write it again by hand")
    return line


def _acl(value: object) -> Acl:
    return canonical(parse_acl([] if value is None else value, "access"))


def _curator(actor: Actor) -> bool:
    return actor.admin or not {Permission.DOCUMENTS_WRITE, Permission.ADMIN}.isdisjoint(actor.scopes)


def _missing() -> NotFound:
    return NotFound("no such document")


def _elsewhere(record: DocumentRecord) -> Conflict:
    kind, _, place = record.origin.partition(":")
    stated = {
        "folder": f"its access is stated in {place}/.access.yaml",
        "source": "its access is stated at the source in mainstay.yaml",
        "rule": f"its access is stated by the rule {place} in mainstay.yaml",
    }.get(kind, "its access is stated in the document or beside it")
    return Conflict(
        f"this document belongs to the source {record.source}: {stated}", fix="change it there, then run: mainstay sync"
    )


def sources_of(app: App) -> list[dict[str, Any]]:
    """Every source that is named, kept or has documents, by name."""
    counts = app.documents.count_by_source()
    known = {str(held["name"]): held for held in app.documents.sources()}
    return [
        {
            "name": name,
            "state": str(known.get(name, {}).get("state") or "never synchronised"),
            "synced_at": known.get(name, {}).get("synced_at"),
            "documents": counts.get(name, 0),
            "root": str(known.get(name, {}).get("root") or ""),
            "detail": str(known.get(name, {}).get("detail") or ""),
        }
        for name in sorted({*known, *counts, *app.source_names()})
    ]
