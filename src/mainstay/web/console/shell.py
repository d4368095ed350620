"""What every screen shares: who visits, what is open to them, the page around a screen, addresses, errors.

A screen is a route and a template. It lets its visitor in by ``enter``, which leads whoever is not signed in to the sign-in
page and shows everybody else whom the screen is not for the page of an address that does not exist.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import QueryParams
from starlette.responses import HTMLResponse, RedirectResponse, Response

from mainstay.access.directory import ANONYMOUS
from mainstay.access.keys import Permission
from mainstay.errors import MainstayError, NotFound, Refused, Unauthenticated
from mainstay.resilience.ladder import mode_notice
from mainstay.types import Actor
from mainstay.web.console import words
from mainstay.web.desk import Desk, cookie_name, from_our_page
from mainstay.web.problems import Problem

HERE = Path(__file__).parent.parent
VARY = "HX-Request, HX-Request-Type"
"""A part of a page and the whole of it have one address: neither may be kept for the other."""
_NOT_PAGES = ("/v1/", "/openapi.json", "/livez", "/readyz", "/metrics", "/static/")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Screen:
    """One entry of the navigation: open to whoever has any of these permissions, or (``known``) to everybody who is signed
    in. Neither: to every visitor."""

    name: str
    path: str
    needs: tuple[Permission, ...] = ()
    known: bool = False

    def open_to(self, actor: Actor) -> bool:
        if self.known and actor.principal == ANONYMOUS:
            return False
        return not self.needs or may(actor, *self.needs)


class SignInFirst(Unauthenticated):
    """Whoever comes has to say who they are before this screen is shown."""


# -- who visits ----------------------------------------------------------------------------------------------------------


def may(actor: Actor, *any_of: Permission) -> bool:
    """Whether the visitor has one of these permissions."""
    return any(held in actor.scopes or Permission.ADMIN in actor.scopes for held in any_of)


def visitor(desk: Desk, request: Request) -> Actor | None:
    """Who looks at a page; None when they must sign in first."""
    session = desk.session(request)
    try:
        if session is not None:
            return desk.actor_of(session)
    except (Unauthenticated, Refused):
        desk.sessions.end(request.cookies.get(cookie_name(request), ""), "not_valid")
    try:
        return desk.app.identity.authenticate(authorization=None, on_behalf_of=None)
    except Unauthenticated:
        return None


def enter(desk: Desk, request: Request, screen: Screen) -> Actor:
    """The visitor, if the screen is open to them. Errors: SignInFirst, and NotFound for a screen that is not theirs."""
    actor = visitor(desk, request)
    if actor is None or (actor.principal == ANONYMOUS and not screen.open_to(actor)):
        raise SignInFirst("sign in to see this", fix="sign in")
    if not screen.open_to(actor):
        raise NotFound("there is nothing at this address")
    return actor


def ours_alone(request: Request) -> None:
    """A form that changes something is taken from our own pages only. Errors: Refused."""
    if not from_our_page(request):
        raise Refused("this form was not sent by our own page", fix="open the page here and try again")


def is_part(request: Request) -> bool:
    """Whether a page of ours asks for a part of itself: a hint for what to render, never a right."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-request-type", "full") != "full"


def is_page(request: Request) -> bool:
    """Whether whoever asks would rather read a page than JSON."""
    return not request.url.path.startswith(_NOT_PAGES) and (
        "text/html" in request.headers.get("accept", "") or request.headers.get("hx-request") == "true"
    )


def to_sign_in(request: Request, _error: Exception) -> Response:
    """To the sign-in page and back. Inside a page its part can not be a sign-in form: the whole page goes there."""
    whole = request.headers.get("hx-request") == "true"
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    address = f"/sign-in?{urlencode({'to': here})}" if request.method == "GET" else "/sign-in"
    if whole:
        return HTMLResponse("", 401, {"HX-Redirect": address, "Vary": VARY})
    return RedirectResponse(address, 303)


# -- addresses -----------------------------------------------------------------------------------------------------------


def with_query(request: Request, **changes: object) -> str:
    """The address of this page with other filters; None takes one away. What is not named stays."""
    kept = {name: value for name, value in request.query_params.items() if name not in changes and value != ""}
    kept |= {name: str(value) for name, value in changes.items() if value is not None and value != ""}
    return request.url.path + (f"?{urlencode(kept)}" if kept else "")


def source_link(document: str, version: str, start: int, end: int) -> str:
    """Our own address of the cited words: the only active link made from an answer."""
    return f"/documents/{quote(document, safe='')}?{urlencode({'version': version, 'start': start, 'end': end})}#cited"


@cache
def static(name: str) -> str:
    """The address of a file of ours; it changes with its content, so that it may be kept."""
    return f"/static/{name}?v={hashlib.sha256((HERE / 'static' / name).read_bytes()).hexdigest()[:12]}"


# -- pages ---------------------------------------------------------------------------------------------------------------

TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= words.FILTERS
TEMPLATES.globals |= {"static": static, "source_link": source_link}


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    actor: Actor | None = None,
    lively: bool = False,
    **values: Any,
) -> Response:
    """A template with what ``base.html`` needs. ``lively``: parts of the page load by themselves (htmx)."""
    desk: Desk = request.app.state.desk
    request.state.nonce = secrets.token_urlsafe(18)  # the envelope names it in the policy of this page
    html = TEMPLATES.get_template(template).render(
        service=request.app.title,
        request_id=request.state.request_id,
        nonce=request.state.nonce,
        actor=actor,
        known=actor is not None and actor.principal != ANONYMOUS,
        screens=() if actor is None else [one for one in screens(request.app) if one.open_to(actor)],
        here=request.url.path,
        banner=_limited(desk),
        lively=lively,
        link=lambda **changes: with_query(request, **changes),
        **values,
    )
    return HTMLResponse(html.encode("utf-8", "replace"), status, {"Vary": VARY, **(headers or {})})


def part(request: Request, template: str, macro: str, *arguments: object) -> Response:
    """One macro alone, for a page that replaces a part of itself by it; its template is one that extends no other. The macro
    gets the nonce after its arguments, because htmx heeds only what carries it."""
    request.state.nonce = secrets.token_urlsafe(18)
    module = TEMPLATES.get_template(template).module
    html = str(getattr(module, macro)(*arguments, request.state.nonce))
    return HTMLResponse(html.encode("utf-8", "replace"), 200, {"Vary": VARY})


def problem(request: Request, said: Problem) -> Response:
    """What went wrong, as a page with the visitor's own navigation; as a sentence where a part of a page was asked for."""
    if is_part(request):
        return page(request, "problem_part.html", status=said.status, headers=said.headers, problem=said)
    try:
        actor = visitor(request.app.state.desk, request)
    except MainstayError:  # the error to be shown is the one that was said first
        actor = None
    return page(request, "problem.html", status=said.status, headers=said.headers, actor=actor, problem=said)


def screens(api: FastAPI) -> tuple[Screen, ...]:
    """All there are, in the order of the navigation."""
    found: tuple[Screen, ...] = api.state.screens
    return found


def filters(request: Request, *names: str) -> dict[str, str]:
    """The filters of the address that a screen knows, blank ones left out, each at most 200 characters."""
    asked: QueryParams = request.query_params
    return {name: asked[name].strip()[:200] for name in names if asked.get(name, "").strip()}


def _limited(desk: Desk) -> str:
    """What is limited and why, in one sentence; empty while nothing is."""
    standing = desk.app.ladder.current()
    return mode_notice(standing.mode, standing.cause, "en", desk.app.settings.agreement.modes)
