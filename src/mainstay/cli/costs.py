"""costs."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, time, timedelta
from typing import cast

import click

from mainstay.agreement.ledger import AXES, Axis, ReportRow
from mainstay.agreement.terms import seconds
from mainstay.cli.common import as_json, opened, put_json, table
from mainstay.errors import Invalid
from mainstay.shapes import cost_row_view
from mainstay.types import usd


@click.command(
    help="What calls of models cost: by day, user, team, key, model, release, purpose or outcome. A call of somebody in two "
    "teams counts for both."
)
@click.option("--by", type=click.Choice(AXES), default="day", show_default=True, help="One line for each of these.")
@click.option(
    "--since", default="30d", show_default=True, metavar="WHEN", help="A length of time like 12h or 30d, or a date."
)
@click.option("--until", metavar="DATE", help="Calls before this date (UTC) [default: now].")
@click.option("--csv", "csv_", is_flag=True, help="Print CSV.")
@as_json
def costs(by: str, since: str, until: str | None, csv_: bool, json_: bool) -> None:
    if csv_ and json_:
        raise click.UsageError("--csv and --json do not go together.")
    with opened() as app:
        now = app.clock.now()
        start = _moment(since, "--since", now)
        end = now if until is None else _moment(until, "--until", now)
        rows = app.ledger.report(by=cast("Axis", by), since=start, until=None if until is None else end)
    if json_:
        put_json({"by": by, "since": start, "until": end, "rows": [cost_row_view(row) for row in rows]})
    elif csv_:
        click.echo(_csv(by, rows), nl=False)
    elif not rows:
        click.echo("no model was called in this time")
    else:
        _show(by, rows)


def _moment(text: str, what: str, now: datetime) -> datetime:
    """A date (its midnight, UTC), or so long before now."""
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        pass
    try:
        return now - timedelta(seconds=seconds(text, what))
    except OverflowError:
        raise Invalid(f"{text!r} is longer ago than there are dates", where=what) from None


def _csv(by: str, rows: list[ReportRow]) -> str:
    made = io.StringIO()
    views = [cost_row_view(row) for row in rows]
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow([by, *list(cost_row_view(_NOBODY))[1:]])
    writer.writerows(["" if cell is None else cell for cell in view.values()] for view in views)
    return made.getvalue()


def _show(by: str, rows: list[ReportRow]) -> None:
    shown = [
        (
            row.name or "-",
            row.requests,
            row.answered,
            row.calls,
            row.input_tokens,
            row.cached_tokens,
            row.output_tokens,
            usd(row.cost_n),
            "-" if row.per_answered_n is None else usd(row.per_answered_n),
        )
        for row in rows
    ]
    table(
        shown,
        (by, "requests", "answered", "calls", "tokens in", "of them cached", "tokens out", "USD", "USD per answer"),
    )
    notes = {
        "estimated, not counted by the provider": sum(row.estimated for row in rows),
        "cost more than was held for them": sum(row.breaches for row in rows),
        "settled late": sum(row.late for row in rows),
        "lost: never settled": sum(row.lost for row in rows),
    }
    for what, count in notes.items():
        if count:
            click.echo(f"calls {what}: {count}")


_NOBODY = ReportRow(
    name="", requests=0, answered=0, calls=0, input_tokens=0, cached_tokens=0, output_tokens=0, cost_n=0
)
