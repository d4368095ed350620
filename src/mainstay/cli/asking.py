"""ask, search."""

from __future__ import annotations

import click

from mainstay.access.keys import Permission, permit
from mainstay.answering import admitted
from mainstay.cli.common import actor, as_json, as_user, opened, put_json, show_answer, show_passage
from mainstay.retrieval.filters import parse_filter
from mainstay.shapes import search_view
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
