"""Puts the door together and opens it: routes, pages, error faces, uvicorn."""

from __future__ import annotations

import math
import signal
import socket
import sys
import threading
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from mainstay import __version__
from mainstay.app import App
from mainstay.errors import Invalid, MainstayError
from mainstay.web import (
    alerts,
    answers,
    audit,
    compatible,
    console,
    documents,
    handovers,
    jobs,
    lookups,
    metrics,
    operations,
    otlp,
    outcomes,
    requests,
)
from mainstay.web.desk import Desk
from mainstay.web.envelope import COMPATIBLE, Envelope
from mainstay.web.problems import Problem, problem_of
from mainstay.web.views import HealthView, Json, LiveView, ProblemJson, ProblemView

SMALL_BODY = 1024 * 1024
RETRY_AFTER_S = "5"
KEEP_ALIVE_S, GRACE_S = 15, 10
_METHODS = ("get", "put", "post", "delete", "patch")


def create_api(app: App) -> FastAPI:
    """The HTTP application over an App. The caller starts and closes the App."""
    desk = Desk(app)
    api = FastAPI(
        title=app.settings.service.name,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=Json,
        responses={"default": {"model": ProblemView, "description": "What went wrong (RFC 9457)."}},
    )
    api.state.desk = desk
    for router in (
        answers.routes(desk),
        documents.routes(desk),
        compatible.routes(desk),
        requests.routes(desk),
        otlp.routes(desk),
        jobs.routes(desk),
        operations.routes(desk),
        lookups.routes(desk),
        handovers.routes(desk),
        audit.routes(desk),
        outcomes.routes(desk),
        alerts.routes(desk),
        metrics.routes(desk),
        _probes(app),
    ):
        api.include_router(router)
    console.add(api, desk)
    for error in (MainstayError, RequestValidationError, HTTPException):
        api.add_exception_handler(error, _said)
    api.add_middleware(Envelope, clock=app.clock, body_limit=lambda path: _body_limit(app, path), own_form=_otlp_form)
    api.openapi = lambda: _openapi(api)  # type: ignore[method-assign] # the way FastAPI documents for changing it
    return api


def serve(app: App, host: str, port: int) -> None:
    """Start the App's background work and serve until interrupted. Port 0 takes a free one. Errors: Invalid when the address is
    not to be had."""
    listening = _listening(host, port)
    shown = f"[{host}]" if ":" in host else host
    print(f"serving http://{shown}:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(
        create_api(app),
        access_log=False,
        log_config=None,  # to the log of the whole process, which redacts
        log_level="warning",
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        # Answers under way are finished: none takes longer than the agreement's deadline.
        timeout_graceful_shutdown=max(GRACE_S, math.ceil(app.settings.agreement.request.deadline_s) + 1),
    )
    if threading.current_thread() is threading.main_thread():
        # uvicorn repeats the signal once it has shut down; at its default, SIGTERM would end us before the App is closed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    app.start()
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        return
    finally:
        listening.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=512)
        # Connections inherit it. asyncio sets it only where the protocol is named, and each answer would wait 40 ms without.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Invalid(
            f"can not listen ({reason})", where=f"{host}:{port}", fix="choose another --port, or end what holds it"
        ) from None


def _body_limit(app: App, path: str) -> int:
    if path == otlp.PATH:
        return otlp.MAX_BODY
    if not path.startswith("/v1/documents"):
        return SMALL_BODY
    # Twice the document: base64 takes a third more, JSON's escapes up to as much again. The document itself is measured later.
    return 2 * app.settings.service.limits.document_mb * 1024 * 1024 + SMALL_BODY


def _said(request: Request, error: Exception) -> Response:
    """An error, in the form that whoever asked can read."""
    problem = problem_of(error)
    headers = dict(problem.headers)
    if (own := _otlp_form(request.scope, problem)) is not None:
        body, kind = own
        return Response(body, problem.status, headers, media_type=kind)
    if request.url.path.startswith(COMPATIBLE):
        return Json(problem.openai(), problem.status, headers)
    if console.is_page(request):
        return console.problem(request, problem)
    return ProblemJson(problem.document(request.state.request_id), problem.status, headers)


def _otlp_form(scope: Scope, problem: Problem) -> tuple[bytes, str] | None:
    """A refusal of spans, in OTLP's own form; None at every other address."""
    if scope["path"] != otlp.PATH or scope["method"] != "POST":
        return None
    return otlp.refused(problem, Headers(scope=scope).get("content-type", ""))


def _probes(app: App) -> APIRouter:
    router = APIRouter(tags=["Operations"])

    @router.get("/livez", response_model=LiveView, summary="Does the process run?")
    def livez() -> Response:
        """Answers without looking at anything."""
        return Json({"status": "alive"})

    @router.get("/readyz", response_model=HealthView, summary="Can it answer now?")
    def readyz() -> Response:
        """503 with the reason while it can not."""
        health = app.health()
        said = {"status": "ready" if health.ready else "not ready", "checks": health.checks}
        return Json(said) if health.ready else Json(said, 503, {"Retry-After": RETRY_AFTER_S})

    return router


def _openapi(api: FastAPI) -> dict[str, Any]:
    if api.openapi_schema is None:
        made = FastAPI.openapi(api)
        made.setdefault("components", {})["securitySchemes"] = {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key (mst_...) or a token of the identity provider.",
            }
        }
        for path, operations in made["paths"].items():
            for method in _METHODS:
                operation = operations.get(method)
                if operation is not None:
                    operation["responses"].pop("422", None)  # FastAPI's own form of errors, which is not ours
                    _problems_typed(operation, path)
        for unused in ("HTTPValidationError", "ValidationError"):
            made["components"].get("schemas", {}).pop(unused, None)
        api.openapi_schema = made
    return api.openapi_schema


def _problems_typed(operation: dict[str, Any], path: str) -> None:
    """Say in which form this address tells of problems."""
    problem: dict[str, Any] = {}
    if path.startswith(COMPATIBLE):
        error = {"type": "object", "properties": {"error": {"type": "object"}}, "required": ["error"]}
        said = {
            "description": "What went wrong, as OpenAI clients read it.",
            "content": {"application/json": {"schema": error}},
        }
    else:
        problem = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{ProblemView.__name__}"}}}
        said = {"description": "What went wrong (RFC 9457).", "content": problem}
    if path == otlp.PATH:  # whoever sends spans is answered in OTLP's own form; who tries another method, as elsewhere
        own = {"application/json": {"schema": {"type": "object"}}, "application/x-protobuf": {}}
        said = {"description": said["description"], "content": {**problem, **own}}
    operation["responses"]["default"] = said
