"""worker, jobs."""

from __future__ import annotations

import json
import signal
import sys
import threading
from types import FrameType

import click

from mainstay.app import ALERT, EMBED, HANDOVER, INDEX, SYNC, App
from mainstay.cli.common import as_json, opened, put_json, table
from mainstay.errors import Invalid, MainstayError, NotFound
from mainstay.shapes import job_view
from mainstay.workflows.ports import Job, JobState
from mainstay.workflows.worker import Ended, Hooks, Outcome, Worker


@click.command(
    help="Do background jobs until stopped: synchronise sources, make vectors. Run as many as you like, on as many machines"
    " as reach the database and the folders. On SIGTERM it hands back what it is at."
)
@click.option("--once", is_flag=True, help="Stop when nothing is due; exit code 1 if a job failed.")
@click.option(
    "--concurrency", type=click.IntRange(1, 64), default=1, show_default=True, help="Jobs at once in this process."
)
@click.option("--json", "json_", is_flag=True, help="Print one JSON document a job, each on its line.")
def worker(once: bool, concurrency: int, json_: bool) -> None:
    stop, failed = threading.Event(), threading.Event()

    def told(_signal: int, _frame: FrameType | None) -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler)  # who says it twice means at once

    def ended(outcome: Outcome) -> None:
        if outcome.ended in (Ended.RETRY, Ended.DEAD):
            failed.set()
        click.echo(json.dumps(_turn(outcome), ensure_ascii=False) if json_ else _line(outcome))
        sys.stdout.flush()

    with opened() as app:
        _fits(app, concurrency)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, told)
        hooks = Hooks(ended=ended, say=lambda said: click.echo(f"mainstay: {said}", err=True))
        workers = [app.worker(hooks=hooks, stop=stop) for _ in range(concurrency)]
        threads = [threading.Thread(target=_run, args=(one, once, stop), daemon=True) for one in workers[1:]]
        for thread in threads:
            thread.start()
        try:
            workers[0].run(until_idle=once)
        finally:
            if not once:
                stop.set()
            for thread in threads:
                thread.join()
    if once and failed.is_set():
        click.get_current_context().exit(1)


def _run(one: Worker, once: bool, stop: threading.Event) -> None:
    try:
        one.run(until_idle=once)
    except MainstayError as error:  # the first worker meets it as well, and says it with its exit code
        stop.set()
        click.echo(f"mainstay: {error.line()}", err=True)


def _fits(app: App, concurrency: int) -> None:
    """A job in the middle of a write must not keep the other jobs' heartbeats waiting for a connection."""
    pool = app.settings.service.database.pool
    if app.database.dialect == "postgresql" and concurrency > max(1, pool // 2 - 1):
        raise Invalid(
            f"{concurrency} jobs at once need more than {pool} connections",
            where="--concurrency",
            fix=f"set database.pool to {2 * concurrency + 2}, or run more processes",
        )


def _turn(outcome: Outcome) -> dict[str, object]:
    error = outcome.error
    return {
        "id": outcome.job.job_id,
        "kind": outcome.job.kind,
        "key": outcome.job.key,
        "ended": str(outcome.ended),
        "attempt": outcome.job.attempts,
        "seconds": round(outcome.seconds, 3),
        "result": dict(outcome.result),
        "error": "" if error is None else str(error) or type(error).__name__,
    }


def _line(outcome: Outcome) -> str:
    counts = ", ".join(f"{count} {what}" for what, count in outcome.result.items() if isinstance(count, int) and count)
    said = counts if outcome.error is None else " ".join(str(outcome.error).split())
    named = outcome.job.key or outcome.job.kind
    return f"{outcome.job.job_id} {named} {outcome.ended} in {outcome.seconds:.1f} s{f': {said}' if said else ''}"


@click.group(help="Background jobs: list, show, retry, cancel.")
def jobs() -> None:
    pass


@jobs.command("list", help="Jobs, the newest first. Dead ones were given up on: they stay until somebody looks.")
@click.option("--state", type=click.Choice([str(state) for state in JobState]), help="Only in this state.")
@click.option("--kind", type=click.Choice([SYNC, EMBED, INDEX, HANDOVER, ALERT]), help="Only of this kind.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@as_json
def jobs_list(state: str | None, kind: str | None, limit: int, json_: bool) -> None:
    with opened() as app:
        held = app.queue.recent(state=None if state is None else JobState(state), kind=kind, limit=limit)
    if json_:
        put_json([job_view(job) for job in held])
        return
    table(
        [
            (
                job.job_id,
                job.key or job.kind,
                str(job.state),
                f"{job.attempts}/{job.max_attempts}",
                _progress(job),
                f"{job.updated:%Y-%m-%d %H:%M:%S}",
                job.error[:80],
            )
            for job in held
        ],
        ("id", "job", "state", "attempt", "progress", "touched", "error"),
    )


def _progress(job: Job) -> str:
    return f"{job.progress['done']}/{job.progress['total']}" if "total" in job.progress else ""


@jobs.command("show", help="Everything about one job.")
@click.argument("job_id", metavar="JOB")
@as_json
def jobs_show(job_id: str, json_: bool) -> None:
    with opened() as app:
        job = app.queue.get(job_id)
    if job is None:
        raise NotFound("no such job", where=job_id, fix="see: mainstay jobs list")
    _put(job, json_)


@jobs.command("retry", help="Try a dead or cancelled job again, with all its attempts.")
@click.argument("job_id", metavar="JOB")
@as_json
def jobs_retry(job_id: str, json_: bool) -> None:
    with opened() as app:
        job = app.queue.retry(job_id)
    _put(job, json_)


@jobs.command("cancel", help="End a waiting or running job, or put a dead one away. What it has written stays.")
@click.argument("job_id", metavar="JOB")
@as_json
def jobs_cancel(job_id: str, json_: bool) -> None:
    with opened() as app:
        job = app.queue.cancel(job_id)
    _put(job, json_)


def _put(job: Job, json_: bool) -> None:
    shown = job_view(job)
    if json_:
        put_json(shown)
        return
    for name, value in shown.items():
        if value not in (None, "", {}):
            click.echo(f"  {name:12} {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")
