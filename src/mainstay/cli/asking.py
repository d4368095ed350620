"""ask, search, trace."""

from __future__ import annotations

import click

from mainstay.access.keys import Permission, permit
from mainstay.answering import admitted
from mainstay.cli.common import actor, as_json, as_user, opened, put_json, show_answer, show_passage, table
from mainstay.records.traces import Trace, visible_trace
from mainstay.retrieval.filters import parse_filter
from mainstay.shapes import request_view, search_view
from mainstay.types import Question, Status

filters = click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only documents with this metadata; also key>=value, key=from..to. Repeatable.",
)


@click.command(help="Ask a question. The answer quotes and cites documents that the asker may read.")
@click.argument("question")
@as_user
@filters
@as_json
def ask(question: str, user: str | None, filters: tuple[str, ...], json_: bool) -> None:
    with opened() as app:
        asker = actor(app, user)
        permit(asker, Permission.ASK)
        answer = app.answering.answer(
            Question(text=question, filters=tuple(map(parse_filter, filters))), asker, door="cli"
        )
    if json_:
        put_json(answer)
    else:
        show_answer(answer)
    if answer.status in (Status.REFUSED, Status.FAILED):
        click.get_current_context().exit(1)


@click.command(help="Search for passages that the asker may read.")
@click.argument("words")
@as_user
@filters
@click.option("--top", default=8, show_default=True, type=click.IntRange(1, 100), help="How many passages.")
@as_json
def search(words: str, user: str | None, filters: tuple[str, ...], top: int, json_: bool) -> None:
    with opened() as app:
        asker = actor(app, user)
        permit(asker, Permission.SEARCH)
        question = Question(text=words, filters=tuple(map(parse_filter, filters)), top_k=top)
        found = app.searcher.search(admitted(question, app.question_limits), scope=app.gate.scope(asker))
    if json_:
        put_json(search_view(words, found))
    else:
        for n, passage in enumerate(found.passages, 1):
            show_passage(n, passage)
        if not found.passages:
            click.echo("Nothing found in what may be read.")
    if not found.passages:
        click.get_current_context().exit(1)


@click.group(help="The journey of a request.")
def trace() -> None:
    pass


@trace.command("show", help="What was found, ranked, sent, checked and spent for one request.")
@click.argument("request_id")
@as_user
@as_json
def trace_show(request_id: str, user: str | None, json_: bool) -> None:
    with opened() as app:
        shown = visible_trace(app.traces, request_id, actor(app, user))
    if json_:
        put_json(request_view(shown, whole=True, operator=bool(shown.operator)))
    else:
        _show_trace(shown)


@trace.command("search", help="The latest requests.")
@as_user
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@as_json
def trace_search(user: str | None, limit: int, json_: bool) -> None:
    with opened() as app:
        asker = actor(app, user)
        recent = app.traces.recent(asker=None if asker.admin else asker.principal, limit=limit)
    if json_:
        put_json(
            [
                {"id": held.request_id, "at": held.at, "asker": held.asker, "status": held.status, **held.facts}
                for held in recent
            ]
        )
    else:
        table(
            [
                (held.request_id, f"{held.at:%Y-%m-%d %H:%M:%S}", held.asker, held.status, held.facts.get("model", ""))
                for held in recent
            ],
            ("request", "at (UTC)", "asker", "status", "model"),
        )


def _show_trace(shown: Trace) -> None:
    click.secho(f"{shown.request_id}  {shown.kind}  {shown.status}", bold=True)
    click.echo(f"  asked by {shown.asker} at {shown.at:%Y-%m-%d %H:%M:%S} UTC")
    total = max((span.start_ms + span.duration_ms for span in shown.spans), default=0.0) or 1.0
    for span in shown.spans:
        left, width = int(30 * span.start_ms / total), max(1, round(30 * span.duration_ms / total))
        bar = " " * min(left, 29) + "█" * min(width, 30 - min(left, 29))
        click.echo(f"  {span.kind:9} │{bar:30}│ {span.duration_ms:8.1f} ms")
        for name, value in span.attributes.items():
            if value not in ("", [], None):
                click.secho(f"      {name}: {value}", dim=True)
    for name, value in shown.facts.items():
        click.echo(f"  {name}: {value}")
    if shown.operator:
        click.secho("  for operators alone:", bold=True)
        for name, value in shown.operator.items():
            click.echo(f"    {name}: {value}")
