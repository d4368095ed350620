"""queries: the questions kept to test the service with."""

from __future__ import annotations

import click

from mainstay.cli.common import as_json, opened, put_json, table
from mainstay.evaluation import load_queries, run_queries


@click.group(help="The questions kept to test the service with.")
def queries() -> None:
    pass


@queries.command("list", help="All questions of queries/*.yaml.")
@as_json
def queries_list(json_: bool) -> None:
    with opened() as app:
        held = load_queries(app.settings.folder / "queries")
    if json_:
        put_json(held)
    else:
        table([(query.id, query.kind, query.asker, query.question) for query in held], ("id", "kind", "as", "question"))


@queries.command("check", help="Ask them all and compare: expected sources cited, off-topic questions left unanswered.")
@as_json
def queries_check(json_: bool) -> None:
    with opened() as app:
        held = load_queries(app.settings.folder / "queries")
        outcomes = run_queries(held, app.answer_as)
    if json_:
        put_json(outcomes)
    else:
        table(
            [
                (outcome.query.id, outcome.query.kind, outcome.status, "ok" if outcome.ok else "NO", outcome.why)
                for outcome in outcomes
            ],
            ("id", "kind", "status", "", ""),
        )
        counted = [outcome for outcome in outcomes if outcome.counts]
        click.echo(f"{sum(outcome.ok for outcome in counted)} of {len(counted)} as expected", err=True)
        near = [outcome for outcome in outcomes if not outcome.counts]
        if near:
            abstained = sum(not outcome.cited for outcome in near)
            click.echo(
                f"near misses (the subject is there, the fact is not): {abstained} of {len(near)} left unanswered",
                err=True,
            )
    if not all(outcome.ok for outcome in outcomes if outcome.counts):
        click.get_current_context().exit(1)
