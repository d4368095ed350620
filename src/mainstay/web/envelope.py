"""What every response carries and every request is held to: ids, security headers, a bounded body, no traceback.

Plain ASGI, so that streams pass through as they come. It is the outermost layer of ours: whatever escapes the rest ends
here as one problem document, and its traceback in the log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mainstay.errors import TooLarge
from mainstay.guard.redaction import findings
from mainstay.records.spans import Context, trace_state_of
from mainstay.types import Clock
from mainstay.web.problems import Problem, problem_of

COMPATIBLE = ("/v1/chat/", "/v1/models")
"""Where errors take the form that OpenAI clients read."""
MAX_DRAIN, DRAIN_S, IDLE_S = 64 * 1024 * 1024, 5.0, 0.5
"""How much of a body that is too large is taken in before it is refused: bytes, seconds, seconds without any. While more is
sent the connection is closed."""
KEEP_STATIC = "public, max-age=86400"  # their addresses carry a hash of their content

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_DATA_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_log = logging.getLogger(__name__)


class Envelope:
    """The middleware. ``body_limit`` says how many bytes a request to a path may bring; ``own_form`` is the body of a refusal
    and its media type where an address has a form of its own for it, None where not."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Clock,
        body_limit: Callable[[str], int],
        own_form: Callable[[Scope, Problem], tuple[bytes, str] | None] = lambda _scope, _problem: None,
    ) -> None:
        self._app, self._clock, self._body_limit, self._own_form = app, clock, body_limit, own_form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (
            scope["method"] == "HEAD"
        ):  # the server sends no body then; what asks the head wants to know what GET would say
            scope = {**scope, "method": "GET"}
        exchange = _Exchange(scope, receive, send, self._clock, self._body_limit(scope["path"]), self._own_form)
        try:
            if exchange.announced > exchange.limit:
                await exchange.drain()
                raise exchange.too_large()
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:  # the outermost door: one of two places that may not die of a surprise
            if not isinstance(error, TooLarge):
                _log.exception("request %s failed", exchange.state["request_id"])
            if exchange.started:
                raise  # the response is under way and can only be broken off
            await exchange.refuse(problem_of(error))
        finally:
            ticket = exchange.state.pop("ticket", None)
            if ticket is not None:
                ticket.release()


class _Exchange:
    """One request and its response."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        clock: Clock,
        limit: int,
        own_form: Callable[[Scope, Problem], tuple[bytes, str] | None],
    ) -> None:
        self._own_form = own_form
        self._scope, self._receive, self._send, self._clock = scope, receive, send, clock
        self.limit, self._received, self.started, self._replaced = limit, 0, False, False
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        length = headers.get(b"content-length", "")
        self.announced = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0
        self._waits = headers.get(b"expect", "").lower() == "100-continue"
        offered = headers.get(b"x-request-id", "")
        self.state: dict[str, Any] = scope.setdefault("state", {})
        # An id is kept wherever the request is: one that holds a secret is not taken.
        self.state["offered_id"] = _REQUEST_ID.fullmatch(offered) is not None and not findings(offered)
        self.state["request_id"] = offered if self.state["offered_id"] else clock.new_id("req")
        states = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"tracestate")
        self.state["context"], self._traceparent = _child_of(headers.get(b"traceparent", ""), states)

    def too_large(self) -> TooLarge:
        return TooLarge(f"the body has more than {self.limit} bytes", where="body", fix="send less")

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self.limit:
            self._replaced = True
            if message.get("more_body"):
                await self.drain()
            raise self.too_large()
        return message

    async def drain(self) -> None:
        """Take in what is still being sent and forget it, within bounds: most clients read no answer before they have sent all
        they have, and a connection that is closed meanwhile is a broken pipe to them."""
        if self._waits:
            return  # for our leave to send it, which it is not given
        taken, until = 0, self._clock.monotonic() + DRAIN_S
        with suppress(TimeoutError):
            while taken < MAX_DRAIN and self._clock.monotonic() < until:
                async with asyncio.timeout(IDLE_S):
                    message = await self._receive()
                taken += len(message.get("body", b""))
                if not message.get("more_body"):
                    return

    async def send(self, message: Message) -> None:
        if self._replaced and not self.started:
            # Whoever read the body may have taken our error for another one: what is true is that it was too large.
            await self.refuse(problem_of(self.too_large()))
        elif self._replaced:
            return
        elif message["type"] == "http.response.start":
            self.started = True
            await self._send({**message, "headers": [*message["headers"], *self._headers(message["headers"])]})
        else:
            await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, unless an answer is under way."""
        self.started = True
        body, kind = self._said(problem)
        own = {"content-type": kind, "content-length": str(len(body)), "connection": "close", **problem.headers}
        headers = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in own.items()]
        await self._send(
            {"type": "http.response.start", "status": problem.status, "headers": [*headers, *self._headers(headers)]}
        )
        await self._send({"type": "http.response.body", "body": body})

    def _said(self, problem: Problem) -> tuple[bytes, str]:
        if (own := self._own_form(self._scope, problem)) is not None:
            return own
        if self._scope["path"].startswith(COMPATIBLE):
            return json.dumps(problem.openai()).encode(), "application/json"
        return json.dumps(problem.document(self.state["request_id"])).encode(), "application/problem+json"

    def _page_policy(self) -> str:
        return _PAGE_POLICY.format(nonce=self.state.get("nonce") or secrets.token_urlsafe(18))

    def _headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        named = {name.lower(): value for name, value in given}
        page = named.get(b"content-type", b"").startswith(b"text/html")
        added = {
            "x-request-id": self.state["request_id"],
            "traceparent": self._traceparent,
            "x-content-type-options": "nosniff",
            # A page sends its address to itself alone. With no-referrer, browsers also hide the Origin of our own forms.
            "referrer-policy": "same-origin" if page else "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "content-security-policy": self._page_policy() if page else _DATA_POLICY,
            "cache-control": KEEP_STATIC if self._scope["path"].startswith("/static/") else "no-store",
        }
        queued_ms = self.state.get("queued_ms")
        if queued_ms is not None and queued_ms >= 1:
            added["server-timing"] = f"queue;dur={queued_ms:.0f}"  # W3C Server Timing: how long it waited for its turn
        if self._scope.get("scheme") == "https":
            added["strict-transport-security"] = "max-age=31536000"
        return [(name.encode(), value.encode()) for name, value in added.items() if name.encode() not in named]


def _child_of(parent: str, states: str) -> tuple[Context, str]:
    """Our place in the caller's trace, or the start of a new one; and how it is told (W3C Trace Context, section 3.2)."""
    match = _TRACEPARENT.fullmatch(parent.strip())
    known = match is not None and match[1] != "ff" and set(match[2]) != {"0"} and set(match[3]) != {"0"}
    trace = match[2] if match is not None and known else secrets.token_hex(16)
    flags = match[4] if match is not None and known else "00"
    state = trace_state_of(states) if known else ""
    own = Context(
        trace_id=trace,
        span_id=secrets.token_hex(8),
        parent_id=match[3] if match is not None and known else "",
        trace_state="" if state and findings(state) else state,  # as with request ids: it is kept, and told others
    )
    return own, f"00-{own.trace_id}-{own.span_id}-{flags}"
