"""The page for people: ask, read the answer beside its sources, open a source at the cited words.

Works without JavaScript; a small module only streams. Every text of a document, a question or a model is put into the page as
text: Jinja escapes it, the module uses text nodes, and the one thing made active is our own link to a source.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

from fastapi import FastAPI, Form, Query, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from mainstay.access.directory import ANONYMOUS
from mainstay.access.keys import Permission, permit
from mainstay.answering import EXTRACTIVE
from mainstay.app import App
from mainstay.corpus.ports import DocumentRecord
from mainstay.errors import Invalid, MainstayError, NotFound, Refused, Unauthenticated
from mainstay.types import Actor, Answer, Question
from mainstay.web.desk import Desk, cookie_name, from_our_page
from mainstay.web.documents import page_at, record_of
from mainstay.web.problems import INTERNAL, KINDS, Problem, problem_of
from mainstay.web.reference import sections
from mainstay.web.sessions import LIFETIME_S, Session

HERE = Path(__file__).parent
SHOWN_CHARS = 40_000
"""So much of a long document stands on one page."""
_MARKER = re.compile(r"\[(\d{1,3})\]")
_NOT_PAGES = ("/v1/", "/openapi.json", "/livez", "/readyz", "/metrics", "/static/")


def add(api: FastAPI, desk: Desk) -> None:
    """The pages of this server."""
    api.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    _asking(api, desk)
    _signing_in(api, desk)

    @api.get("/docs", include_in_schema=False)
    def reference(request: Request) -> Response:
        kinds = [(kind, known.http_status) for known, kind in KINDS] + [(INTERNAL, 500)]
        return _page(request, "reference.html", sections=sections(api.openapi()), kinds=kinds)


def _asking(api: FastAPI, desk: Desk) -> None:
    @api.get("/", include_in_schema=False)
    def ask(request: Request, q: Annotated[str, Query(max_length=20_000)] = "") -> Response:
        actor = _visitor(desk, request)
        if actor is None:
            return _to_sign_in(request)
        # A link on somebody else's site may fill in a question; asking it, which may cost money, takes this visitor's own click.
        pressed = bool(q.strip()) and request.headers.get("sec-fetch-site") != "cross-site"
        answer, failed = _asked(desk, request, actor, q) if pressed else (None, None)
        seen = {
            "question": q,
            "answer": answer,
            "failed": failed,
            "limit": desk.app.settings.service.limits.question_chars,
        }
        return _page(request, "ask.html", status=failed.status if failed else 200, actor=actor, **seen)

    @api.get("/documents/{document_id:path}", include_in_schema=False)
    def document(
        request: Request,
        document_id: str,
        version: Annotated[str | None, Query(max_length=64)] = None,
        start: Annotated[int, Query(ge=0, le=2**31)] = 0,
        end: Annotated[int, Query(ge=0, le=2**31)] = 0,
        at: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    ) -> Response:
        actor = _visitor(desk, request)
        if actor is None:
            return _to_sign_in(request)
        permit(actor, Permission.DOCUMENTS_READ)
        view = _opened(desk.app, actor, document_id, version, start, end, at)
        return _page(request, "document.html", actor=actor, view=view)


def _signing_in(api: FastAPI, desk: Desk) -> None:
    @api.get("/sign-in", include_in_schema=False)
    def form(request: Request, to: Annotated[str, Query(max_length=4000)] = "/") -> Response:
        return _page(request, "sign_in.html", to=_local(to), failed=None, name="")

    @api.post("/sign-in", include_in_schema=False)
    def sign_in(
        request: Request,
        name: Annotated[str, Form(max_length=1024)] = "",
        password: Annotated[str, Form(max_length=4096)] = "",
        key: Annotated[str, Form(max_length=16_384)] = "",
        to: Annotated[str, Form(max_length=4000)] = "/",
    ) -> Response:
        _ours_alone(request)
        address = request.client.host if request.client else ""
        try:
            desk.tries.allow(name or "key", address)
            token = desk.sessions.begin(_shown(desk, name, password, key.strip()))
        except MainstayError as error:
            if isinstance(error, Unauthenticated):
                desk.tries.wrong(name or "key", address)
            failed = problem_of(error)
            return _page(
                request,
                "sign_in.html",
                status=failed.status,
                headers=failed.headers,
                to=_local(to),
                failed=failed,
                name=name,
            )
        came = RedirectResponse(_local(to), 303)
        secure = request.url.scheme == "https"
        came.set_cookie(
            cookie_name(request), token, max_age=int(LIFETIME_S), httponly=True, samesite="lax", secure=secure, path="/"
        )
        return came

    @api.post("/sign-out", include_in_schema=False)
    def sign_out(request: Request) -> Response:
        _ours_alone(request)
        desk.sessions.end(request.cookies.get(cookie_name(request), ""))
        gone = RedirectResponse("/", 303)
        gone.delete_cookie(
            cookie_name(request), path="/", httponly=True, samesite="lax", secure=request.url.scheme == "https"
        )
        return gone


def is_page(request: Request) -> bool:
    """Whether whoever asks would rather read a page than JSON."""
    return not request.url.path.startswith(_NOT_PAGES) and "text/html" in request.headers.get("accept", "")


def problem(request: Request, said: Problem) -> Response:
    """What went wrong, as a page."""
    return _page(request, "problem.html", status=said.status, headers=said.headers, problem=said)


# -- who visits ----------------------------------------------------------------------------------------------------------
def _visitor(desk: Desk, request: Request) -> Actor | None:
    """Who looks at a page; None when they must sign in first."""
    session = desk.session(request)
    try:
        if session is not None:
            return desk.actor_of(session)
    except (Unauthenticated, Refused):
        desk.sessions.end(request.cookies.get(cookie_name(request), ""))
    try:
        return desk.app.identity.authenticate(authorization=None, on_behalf_of=None)
    except Unauthenticated:
        return None


def _shown(desk: Desk, name: str, password: str, key: str) -> Session:
    """What was shown at sign-in, once it has proved good. Errors: Unauthenticated."""
    if key:
        session = Session(authorization=f"Bearer {key}")
        desk.actor_of(session)
        return session
    return Session(principal=desk.app.identity.sign_in(name, password).principal)


def _ours_alone(request: Request) -> None:
    if not from_our_page(request):
        raise Refused("this form was not sent by our own page", fix="open the page here and try again")


def _to_sign_in(request: Request) -> Response:
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?{urlencode({'to': here})}", 303)


def _local(to: str) -> str:
    """A path of ours, whatever was sent."""
    parts = urlsplit(to) if to.isprintable() and "\\" not in to else None
    local = parts is not None and to.startswith("/") and not to.startswith("//") and not parts.netloc
    return quote(to, safe="/?&=%#:;,+~.-_!*'()@$") if local else "/"


# -- the answer ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Shown:
    """An answer as the page shows it: its text cut at the markers."""

    answer: Answer
    pieces: tuple[tuple[str, int], ...]
    quoted: bool


def _asked(desk: Desk, request: Request, actor: Actor, q: str) -> tuple[Shown | None, Problem | None]:
    try:
        permit(actor, Permission.ASK)
        app = desk.app
        until = app.clock.monotonic() + app.settings.agreement.request.deadline_s
        caller = desk.caller(request)
        with app.admission.admit(actor.principal, actor.key_id, caller.groups, until):
            answer = app.answering.answer(Question(text=q), actor, request_id=desk.own_id(request), door="page")
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


# -- a source ------------------------------------------------------------------------------------------------------------
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


def _opened(
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


def source_link(document: str, version: str, start: int, end: int) -> str:
    """Our own address of the cited words: the only active link made from an answer."""
    return f"/documents/{quote(document, safe='')}?{urlencode({'version': version, 'start': start, 'end': end})}#cited"


# -- pages ---------------------------------------------------------------------------------------------------------------
_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Any = None,
    actor: Actor | None = None,
    **values: Any,
) -> Response:
    known = actor is not None and actor.principal != ANONYMOUS
    request.state.nonce = secrets.token_urlsafe(18)  # the envelope names it in the policy of this page
    html = _TEMPLATES.get_template(template).render(
        service=request.app.title,
        request_id=request.state.request_id,
        nonce=request.state.nonce,
        actor=actor,
        known=known,
        static=static,
        source_link=source_link,
        **values,
    )
    return HTMLResponse(html.encode("utf-8", "replace"), status, dict(headers or {}))


@cache
def static(name: str) -> str:
    """The address of a file of ours; it changes with its content, so that it may be kept."""
    return f"/static/{name}?v={hashlib.sha256((HERE / 'static' / name).read_bytes()).hexdigest()[:12]}"
