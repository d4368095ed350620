"""The front desk: who comes in, and whether their credential permits what they ask for.

Programs show a key or token; the page's visitors have a cookie, which speaks only for requests that our own page made. The
actor is known before a body is read, so nobody unknown makes us read fifty megabytes.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.responses import Response

from mainstay.access.directory import ANONYMOUS
from mainstay.access.keys import Permission, permit
from mainstay.access.sessions import Session
from mainstay.app import App
from mainstay.app.in_force import InForce
from mainstay.errors import Exhausted, Invalid, Unauthenticated
from mainstay.records.audit import acting, by_actor
from mainstay.resilience.admission import Ticket, Waiting
from mainstay.types import Actor
from mainstay.web.tries import Tries

REMEMBERED_IDS = 10_000
REMEMBERED_CALLERS = 10_000
PERMISSION = "x-permission"
SIGNED_IN = "signed-in"
OR = " or "
ADMITTED = (str(Permission.ASK), str(Permission.SEARCH))
"""What counts against the agreement's traffic."""
DOORS = {"/v1/answers": "answers", "/v1/chat/completions": "chat"}


def _only(request: Request, header: str) -> str | None:
    """A header that says who asks stands once: with two of them, whoever sent the first would choose."""
    said = request.headers.getlist(header)
    if len(said) > 1:
        raise Invalid(f"the header {header} stands there {len(said)} times", where=header, fix="send it once")
    return said[0] if said else None


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A credential, and whose it was when it was last shown."""

    digest: bytes
    principal: str
    key_id: str | None = None
    groups: tuple[str, ...] = ()


class Desk:
    """One per server."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.sessions = app.sessions
        self.tries = Tries(app.clock)
        self.in_force = InForce(app)
        self._used_ids: OrderedDict[str, None] = OrderedDict()
        self._callers: OrderedDict[bytes, Caller] = OrderedDict()
        self._salt = secrets.token_bytes(32)
        self._lock = threading.Lock()

    def actor(self, request: Request) -> Actor:
        """Who asks. Errors: Unauthenticated, and what ``Identity.authenticate`` raises."""
        authorization = _only(request, "authorization")
        on_behalf_of = _only(request, "x-mainstay-user")
        if authorization is None and on_behalf_of is None and from_our_page(request):
            session = self.session(request)
            if session is not None:
                return self.actor_of(session)
        return self.app.identity.authenticate(authorization=authorization, on_behalf_of=on_behalf_of)

    def actor_of(self, session: Session) -> Actor:
        """The Actor of a session, as of now. Errors: Unauthenticated once its account, key or provider is gone."""
        identity = self.app.identity
        if session.credential == "key":
            return identity.actor_of_key(session.key_id)
        if session.credential == "password":
            return identity.actor_for(session.principal)
        if identity.oidc is None:
            raise Unauthenticated("the identity provider is not asked any more", fix="sign in again")
        actor = identity.actor_for(session.principal, session.groups or ())
        return (
            replace(actor, display=session.display) if session.display and actor.display == actor.principal else actor
        )

    def session(self, request: Request) -> Session | None:
        token = request.cookies.get(cookie_name(request))
        by_hand = request.headers.get("hx-request") != "true"
        return self.sessions.of(token, used=by_hand) if token else None

    def admit(self, request: Request, needed: str, caller: Caller) -> Actor:
        """The actor, if permitted. Errors: Unauthenticated, Refused."""
        actor = self.actor(request)
        self.remember(caller, actor)
        if needed != SIGNED_IN:
            permit(actor, *(Permission(one) for one in needed.split(OR)))
        elif actor.principal == ANONYMOUS:
            raise Unauthenticated(
                "this takes somebody who is known", fix="send `Authorization: Bearer` with an API key or a token"
            )
        return actor

    def caller(self, request: Request) -> Caller:
        """Who probably calls, read off the credential alone: no thread, no database. For the order in which requests are
        served, never for what they may do."""
        said = [request.headers.get(name, "") for name in ("authorization", "x-mainstay-user")]
        said.append(request.cookies.get(cookie_name(request), ""))
        if not any(said):
            return Caller(digest=b"", principal=ANONYMOUS)
        digest = hashlib.blake2b("\0".join(said).encode(), key=self._salt, digest_size=16).digest()
        with self._lock:
            known = self._callers.get(digest)
        return known or Caller(digest=digest, principal=f"unknown:{digest.hex()}")

    def remember(self, caller: Caller, actor: Actor) -> None:
        """Next time this credential comes, we know whose it is, as far as turns are concerned."""
        traffic = self.app.settings.agreement.traffic
        if caller.digest and (caller.principal, caller.key_id) != (actor.principal, actor.key_id):
            groups = tuple(self.app.groups_of(actor.principal)) if traffic.classes else ()
            known = Caller(digest=caller.digest, principal=actor.principal, key_id=actor.key_id, groups=groups)
            with self._lock:
                self._callers[caller.digest] = known
                if len(self._callers) > REMEMBERED_CALLERS:
                    self._callers.popitem(last=False)

    async def turn(self, request: Request, caller: Caller) -> Ticket:
        """A place among the requests at work; who waits for one takes no thread. Errors: Exhausted."""
        app = self.app
        began = app.clock.monotonic()
        until = began + app.settings.agreement.request.deadline_s
        try:
            answer = app.admission.try_admit(caller.principal, caller.key_id, caller.groups, until)
            return await answer.granted() if isinstance(answer, Waiting) else answer
        except Exhausted as error:
            # Those who exceed a rate of their own were told so before; who is refused for load was failed by us.
            app.turned_away(
                caller.principal,
                request_id=request.state.request_id,
                door=DOORS.get(request.url.path, ""),
                ours=not error.where.endswith("_per_minute"),
            )
            raise
        finally:
            request.state.queued_ms = (app.clock.monotonic() - began) * 1000

    def own_id(self, request: Request) -> str:
        """The id to keep this request's trace under: the one the caller offered if nobody has used it, else a new one."""
        offered: str = request.state.request_id
        if request.state.offered_id and not self._claim(offered):
            request.state.request_id = self.app.clock.new_id("req")
        request.state.offered_id = False
        return str(request.state.request_id)

    def _claim(self, request_id: str) -> bool:
        with self._lock:
            if request_id in self._used_ids or self.app.traces.get(request_id) is not None:
                return False
            self._used_ids[request_id] = None
            if len(self._used_ids) > REMEMBERED_IDS:
                self._used_ids.popitem(last=False)
            return True


class Guarded(APIRoute):
    """A route that says in its ``openapi_extra`` which permission it takes, and is closed to everybody else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        needed = (self.openapi_extra or {})[PERMISSION]
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            desk: Desk = request.app.state.desk
            caller = desk.caller(request)
            if needed in ADMITTED:
                # First, so that refusing costs next to nothing. Held until the response has left: the envelope gives it
                # back, however that ends.
                request.state.ticket = await desk.turn(request, caller)
            actor = await run_in_threadpool(desk.admit, request, needed, caller)
            request.state.actor = actor
            with acting(by_actor(actor, request.state.request_id)):
                return await handle(request)

        return guarded


def needs(*any_of: Permission | str) -> dict[str, Any]:
    """What a Guarded route writes into its ``openapi_extra``: open to whoever has any of these permissions."""
    return {PERMISSION: OR.join(map(str, any_of)), "security": [{"bearer": []}]}


async def _actor(request: Request) -> Actor:
    actor: Actor = request.state.actor
    return actor


Asker = Annotated[Actor, Depends(_actor)]
"""The actor whom the route has admitted."""


def from_our_page(request: Request) -> bool:
    """Whether the browser says that our own page sent this; without such a word, no."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")


def cookie_name(request: Request) -> str:
    return "__Host-mainstay" if request.url.scheme == "https" else "mainstay"
