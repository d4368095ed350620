"""Background jobs, for operators: what waits, runs, was given up on; ask for one, try one again, cancel one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from mainstay.access.keys import Permission
from mainstay.errors import NotFound
from mainstay.shapes import job_view
from mainstay.web.bodies import JobBody
from mainstay.web.desk import Asker, Desk, Guarded, needs
from mainstay.web.views import JobsView, JobView, Json
from mainstay.workflows.ports import JobState


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(route_class=Guarded, tags=["Jobs"])
    app = desk.app
    admin = needs(Permission.ADMIN)

    @router.get("/v1/jobs", response_model=JobsView, openapi_extra=admin, summary="List jobs")
    def listed(
        state: Annotated[JobState | None, Query()] = None,
        kind: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """The newest first. Dead ones were given up on and stay until somebody looks."""
        return Json({"jobs": [job_view(job) for job in app.queue.recent(state=state, kind=kind, limit=limit)]})

    @router.post("/v1/jobs", status_code=202, response_model=JobView, openapi_extra=admin, summary="Ask for a job")
    def asked(body: JobBody, actor: Asker) -> Response:
        """Have a source synchronised by the next free worker. One that is waiting or running already is the answer."""
        job = app.ask_for_sync(body.source, delete_all=body.delete_all, requested_by=actor.principal)
        return Json(job_view(job), 202, {"Location": f"/v1/jobs/{job.job_id}"})

    @router.get("/v1/jobs/{job_id}", response_model=JobView, openapi_extra=admin, summary="Look at a job")
    def one(job_id: str) -> Response:
        """With its progress while it runs, and its result once it is done."""
        job = app.queue.get(job_id)
        if job is None:
            raise NotFound("no such job")
        return Json(job_view(job))

    @router.post("/v1/jobs/{job_id}/retry", response_model=JobView, openapi_extra=admin, summary="Try a job again")
    def retried(job_id: str) -> Response:
        """A dead or cancelled job, with all its attempts."""
        return Json(job_view(app.queue.retry(job_id)))

    @router.post("/v1/jobs/{job_id}/cancel", response_model=JobView, openapi_extra=admin, summary="Cancel a job")
    def cancelled(job_id: str) -> Response:
        """End a waiting or running job, or put a dead one away. What it has written stays."""
        return Json(job_view(app.queue.cancel(job_id)))

    return router
