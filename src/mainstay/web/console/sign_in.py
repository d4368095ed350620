"""Signing in and out at the console: by password, by API key or token, at an identity provider."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Annotated
from urllib.parse import quote, urlencode, urlsplit

from fastapi import FastAPI, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from mainstay.access.keys import MARK
from mainstay.access.provider import Attempt, Provider
from mainstay.access.sessions import LIFETIME
from mainstay.errors import Exhausted, Invalid, MainstayError, Refused, Unauthenticated, Unavailable
from mainstay.records.audit import acting, whoever_acts
from mainstay.web.console.shell import ours_alone, page
from mainstay.web.desk import Desk, cookie_name
from mainstay.web.problems import problem_of

BACK = "/sign-in/back"
"""Where the identity provider sends people back to."""
ATTEMPT_S = 600
MAX_TO = 1500

_log = logging.getLogger(__name__)


def add(api: FastAPI, desk: Desk) -> None:
    provider = _provider(desk)

    @api.get("/sign-in", include_in_schema=False)
    def form(request: Request, to: Annotated[str, Query(max_length=4000)] = "/") -> Response:
        return _form(request, provider, to=local(to))

    @api.post("/sign-in", include_in_schema=False)
    def sign_in(
        request: Request,
        name: Annotated[str, Form(max_length=1024)] = "",
        password: Annotated[str, Form(max_length=4096)] = "",
        key: Annotated[str, Form(max_length=16_384)] = "",
        to: Annotated[str, Form(max_length=4000)] = "/",
    ) -> Response:
        ours_alone(request)
        address = request.client.host if request.client else ""
        try:
            with _here(request):
                desk.tries.allow(name or "key", address)
                token = _shown(desk, name, password, key.strip())
        except MainstayError as error:
            if isinstance(error, Unauthenticated):
                desk.tries.wrong(name or "key", address)
            _refused(desk, error, name, key.strip())
            return _form(request, provider, to=local(to), error=error, name=name)
        return _came(desk, request, token, local(to))

    @api.post("/sign-out", include_in_schema=False)
    def sign_out(request: Request) -> Response:
        ours_alone(request)
        token = request.cookies.get(cookie_name(request), "")
        session = desk.sessions.of(token) if token else None
        with _here(request):
            desk.sessions.end(token)
        elsewhere = ""
        if session is not None and session.credential == "provider" and provider is not None:
            elsewhere = provider.sign_out_page(f"{_own_address(request, provider)}/")
        gone: Response = RedirectResponse("/", 303)
        if elsewhere:  # a form may not lead to another host: its page is for them to open, and shows where it leads
            gone = page(request, "signed_out.html", elsewhere=elsewhere, host=urlsplit(elsewhere).hostname)
        gone.delete_cookie(
            cookie_name(request), path="/", httponly=True, samesite="lax", secure=request.url.scheme == "https"
        )
        return gone

    if provider is not None:
        _elsewhere(api, desk, provider)


def _elsewhere(api: FastAPI, desk: Desk, provider: Provider) -> None:
    """To the identity provider and back. Going there changes nothing here, so a link may do it."""

    @api.get("/sign-in/provider", include_in_schema=False)
    def away(request: Request, to: Annotated[str, Query(max_length=4000)] = "/") -> Response:
        wanted = local(to)
        try:
            attempt, address = provider.begin(wanted if len(wanted) <= MAX_TO else "/", _back(request, provider))
        except MainstayError as error:
            return _form(request, provider, to=wanted, error=error)
        going = RedirectResponse(address, 303)
        going.set_cookie(
            _attempt_name(request),
            attempt.packed(),
            max_age=ATTEMPT_S,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
            path="/",
        )
        return going

    @api.get(BACK, include_in_schema=False)
    def back(request: Request) -> Response:
        attempt = Attempt.unpacked(request.cookies.get(_attempt_name(request), ""))
        known = ""
        try:
            who = provider.finish(attempt, _answer(request), _back(request, provider))
            for note in who.notes:
                _log.warning("token of %s: %s", who.principal, note)
            known = who.principal
            desk.app.identity.actor_for(who.principal, who.groups)
            with _here(request):
                token = desk.sessions.begin(who.principal, "provider", display=who.display, groups=who.groups)
        except MainstayError as error:
            if isinstance(error, Unauthenticated | Refused | Invalid):
                desk.app.refusals.failed(known, "provider")
            failed = _form(request, provider, to="/" if attempt is None else local(attempt.to), error=error)
            _forget_attempt(request, failed)
            return failed
        came = _came(desk, request, token, "/" if attempt is None else local(attempt.to))
        _forget_attempt(request, came)
        return came


def local(to: str) -> str:
    """A path of ours, whatever was sent."""
    parts = urlsplit(to) if to.isprintable() and "\\" not in to else None
    ours = parts is not None and to.startswith("/") and not to.startswith("//") and not parts.netloc
    return quote(to, safe="/?&=%#:;,+~.-_!*'()@$") if ours else "/"


# -- parts ---------------------------------------------------------------------------------------------------------------


def _provider(desk: Desk) -> Provider | None:
    """The identity provider, where the settings let people sign in there."""
    oidc = desk.app.identity.oidc
    if oidc is None or not oidc.settings.client_id:
        return None
    return Provider(oidc, _post, desk.app.clock)


def _post(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
    from mainstay.egress import post_form  # brings the HTTP client

    return post_form(url, form, headers)


def _shown(desk: Desk, name: str, password: str, key: str) -> str:
    """The token of a session for what was shown, once it has proved good. Errors: Unauthenticated."""
    identity = desk.app.identity
    if not key:
        return desk.sessions.begin(identity.sign_in(name, password).principal, "password")
    actor = identity.authenticate(authorization=f"Bearer {key}", on_behalf_of=None)
    if key.startswith(MARK):
        return desk.sessions.begin(actor.principal, "key", key_id=actor.key_id or "")
    assert identity.oidc is not None  # it has just vouched for the token
    told = identity.oidc.verify(key)
    return desk.sessions.begin(told.principal, "token", display=told.display, groups=told.groups, until=told.expires)


def _here(request: Request) -> AbstractContextManager[None]:
    """Nobody acts yet, or any more; the audit log hears for which request it was."""
    return acting(replace(whoever_acts(), request_id=request.state.request_id))


def _refused(desk: Desk, error: MainstayError, name: str, key: str) -> None:
    """Count a sign-in that failed, for the audit log. Under a name that nobody has, as a number alone."""
    way = "password" if not key else "key" if key.startswith(MARK) else "token"
    if isinstance(error, Exhausted):  # it was not looked at, and the name is not looked up
        desk.app.refusals.failed("", way, limited=True)
    elif isinstance(error, Unauthenticated | Refused | Invalid):
        desk.app.refusals.failed("" if key else desk.app.people.known(name), way)


def _came(desk: Desk, request: Request, token: str, to: str) -> Response:
    """Signed in: with a cookie of its own, never one that was there before."""
    with _here(request):
        desk.sessions.end(request.cookies.get(cookie_name(request), ""), "signed_in_anew")
    came = RedirectResponse(to, 303)
    came.set_cookie(
        cookie_name(request),
        token,
        max_age=int(LIFETIME.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        path="/",
    )
    return came


def _form(
    request: Request, provider: Provider | None, *, to: str, error: MainstayError | None = None, name: str = ""
) -> Response:
    failed = None if error is None else problem_of(error)
    if isinstance(error, Unavailable):
        _log.warning("sign-in: %s", error.line())
    return page(
        request,
        "sign_in.html",
        status=200 if failed is None else failed.status,
        headers=None if failed is None else failed.headers,
        to=to,
        failed=failed,
        name=name,
        elsewhere="" if provider is None else f"/sign-in/provider?{urlencode({'to': to})}",
    )


def _answer(request: Request) -> dict[str, str]:
    """The provider's answer; a parameter that stands twice counts as none (RFC 6749, 3.1)."""
    asked = request.query_params
    return {name: value for name, value in asked.items() if len(asked.getlist(name)) == 1}


def _own_address(request: Request, provider: Provider) -> str:
    if provider.redirect_uri is not None:
        parts = urlsplit(provider.redirect_uri)
        return f"{parts.scheme}://{parts.netloc}"
    return f"{request.url.scheme}://{request.url.netloc}"


def _back(request: Request, provider: Provider) -> str:
    """Our address as the provider knows it: it compares, so that no forged Host header leads anybody elsewhere."""
    return provider.redirect_uri or f"{_own_address(request, provider)}{BACK}"


def _attempt_name(request: Request) -> str:
    return f"{cookie_name(request)}-sign-in"


def _forget_attempt(request: Request, response: Response) -> None:
    response.delete_cookie(
        _attempt_name(request), path="/", httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
