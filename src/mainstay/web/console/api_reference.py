"""The HTTP API, explained from its own description."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import Response

from mainstay.web.console.shell import page, visitor
from mainstay.web.desk import Desk
from mainstay.web.problems import INTERNAL, KINDS
from mainstay.web.reference import sections


def add(api: FastAPI, desk: Desk) -> None:
    @api.get("/docs", include_in_schema=False)
    def reference(request: Request) -> Response:
        kinds = [(kind, known.http_status) for known, kind in KINDS] + [(INTERNAL, 500)]
        return page(
            request, "reference.html", actor=visitor(desk, request), sections=sections(api.openapi()), kinds=kinds
        )
