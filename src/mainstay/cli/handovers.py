"""handovers."""

from __future__ import annotations

import textwrap

import click

from mainstay.cli.common import OPERATOR, as_json, opened, printable, put_json, table
from mainstay.errors import NotFound
from mainstay.handover import MAX_NOTE, HandOver, State, promise
from mainstay.shapes import handover_view


@click.group(help="Questions that go to a person: list, show, retry, close.")
def handovers() -> None:
    pass


@handovers.command(
    "list", help="Questions for a person, the newest first. Failed ones were given up on: see why, then retry."
)
@click.option("--state", type=click.Choice([str(state) for state in State]), help="Only in this state.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
@as_json
def handovers_list(state: str | None, limit: int, json_: bool) -> None:
    with opened() as app:
        held = app.handovers.list(state=None if state is None else State(state), limit=limit)
        rules = app.settings.agreement.handover
    if json_:
        put_json([handover_view(one, promise(rules, one.language, one.id), operator=True) for one in held])
        return
    table(
        [
            (
                one.id,
                f"{one.at:%Y-%m-%d %H:%M}",
                str(one.state),
                one.principal,
                " ".join(one.question.split())[:60],
                one.detail[:80],
            )
            for one in held
        ],
        ("id", "asked", "state", "by", "question", "detail"),
    )


@handovers.command("show", help="A question for a person, with the conversation and what was found.")
@click.argument("handover_id", metavar="ID")
@as_json
def handovers_show(handover_id: str, json_: bool) -> None:
    with opened() as app:
        held = app.handovers.get(handover_id)
        if held is None:
            raise NotFound("no such hand-over", where=handover_id[:60], fix="see: mainstay handovers list")
        said = promise(app.settings.agreement.handover, held.language, held.id)
    _put(held, said, json_)


@handovers.command("retry", help="Have one delivered that was given up on, by the ways that it has not gone yet.")
@click.argument("handover_id", metavar="ID")
@as_json
def handovers_retry(handover_id: str, json_: bool) -> None:
    with opened() as app:
        held = app.retry_handover(handover_id, by=OPERATOR.principal)
        said = promise(app.settings.agreement.handover, held.language, held.id)
    _put(held, said, json_)


@handovers.command("close", help="A person has taken care of it: it is not delivered any more.")
@click.argument("handover_id", metavar="ID")
@click.option("--note", default="", metavar="TEXT", help=f"What to remember about it, up to {MAX_NOTE} characters.")
@as_json
def handovers_close(handover_id: str, note: str, json_: bool) -> None:
    with opened() as app:
        held = app.close_handover(handover_id, by=OPERATOR.principal, note=note)
        said = promise(app.settings.agreement.handover, held.language, held.id)
    _put(held, said, json_)


def _put(held: HandOver, said: str, json_: bool) -> None:
    if json_:
        put_json(handover_view(held, None if held.state is State.CLOSED else said, operator=True))
        return
    for name, value in (
        ("id", held.id),
        ("state", held.state),
        ("asked", f"{held.at:%Y-%m-%d %H:%M:%S}"),
        ("by", held.principal),
        ("why", held.reason),
        ("request", held.request_id),
        ("arrived by", ", ".join(held.sent)),
        ("detail", held.detail),
    ):
        if value:
            click.echo(f"  {name:12} {printable(str(value), 500)}")
    _part("question", held.question)
    for role, text in held.history:
        _part(role, text)
    _part("draft", held.draft)
    for source in held.sources:
        page = f", page {source.page}" if source.page else ""
        span = f"{source.document}@{source.version} {source.start}-{source.end}"
        click.echo(f"  {'source':12} {printable(source.title)} ({printable(source.uri)}{page}) {span}")


def _part(name: str, text: str) -> None:
    if text:
        lines = "\n".join(printable(line, 4000) for line in text.splitlines())
        click.echo(f"  {printable(name, 12)}:\n{textwrap.indent(lines, '    ')}")
