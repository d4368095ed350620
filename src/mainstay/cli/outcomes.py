"""outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

import click

from mainstay.agreement.terms import seconds
from mainstay.cli.common import OPERATOR, as_json, opened, printable, put_json, table
from mainstay.errors import Invalid
from mainstay.records.outcomes import AXES, Axis, Kind, Row
from mainstay.shapes import outcome_row_view, outcome_view
from mainstay.types import usd


@click.group(help="What came of answers: record one, report on all.")
def outcome() -> None:
    pass


@outcome.command(
    "record", help="Say what came of the answer with this request ID. All are kept, of one kind the newest counts."
)
@click.argument("request_id", metavar="ID")
@click.option("--kind", type=click.Choice([str(kind) for kind in Kind]), required=True, help="What happened.")
@click.option("--value", type=float, help="A number, like the minutes it took; of thumbs 1 or 0.")
@click.option("--unit", default="", help="Its unit, like minutes.")
@click.option("--source", default="", help="Where it comes from, like helpdesk.")
@click.option("--at", "at_", metavar="TIME", help="When it happened, like 2026-03-01T12:00:00Z [default: now].")
@click.option("--comment", default="", help="Redacted before it is kept.")
@click.option(
    "--field", "fields", multiple=True, metavar="NAME=VALUE", help="Anything else, redacted. May be repeated."
)
@click.option("--key", default="", help="Your own name for it: the same one again is a repetition.")
@as_json
def record(
    request_id: str,
    kind: str,
    value: float | None,
    unit: str,
    source: str,
    at_: str | None,
    comment: str,
    fields: tuple[str, ...],
    key: str,
    json_: bool,
) -> None:
    with opened() as app:
        held = app.outcomes.record(
            request_id,
            Kind(kind),
            by=OPERATOR.principal,
            value=value,
            unit=unit,
            source=source,
            at=None if at_ is None else _time(at_),
            comment=comment,
            fields=dict(_field(one) for one in fields),
            mark=key,
        )
    if json_:
        put_json(outcome_view(held))
    else:
        click.echo(f"{held.id}: {held.kind} of {held.request_id}")


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text[:40]!r} is no time", where="--at", fix="write it like 2026-03-01T12:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _field(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise Invalid(f"{text[:40]!r} is no field", where="--field", fix="write NAME=VALUE")
    return name, value


@outcome.command(
    help="What came of answers, by release, model, prompt, route or mode. Rates are of cases whose outcome decides whether they "
    'are solved; "known" says of how many requests that is known at all. Intervals are 95 %.'
)
@click.option("--by", type=click.Choice(AXES), default="release", show_default=True, help="One line for each of these.")
@click.option("--since", default="30d", show_default=True, metavar="LENGTH", help="How far back, like 12h or 30d.")
@as_json
def report(by: str, since: str, json_: bool) -> None:
    held = seconds(since, "--since")
    if held > 3660 * 86_400:
        raise Invalid(f"--since {since} is longer than ten years")
    with opened() as app:
        now = app.clock.now()
        rows = app.outcomes.report(cast("Axis", by), since=now - timedelta(seconds=held), until=now)
    if json_:
        put_json({"by": by, "since": now - timedelta(seconds=held), "rows": [outcome_row_view(row) for row in rows]})
    elif not rows:
        click.echo("no question was answered in this time")
    else:
        table(
            [
                (
                    row.name or "-",
                    row.requests,
                    f"{row.reported} ({_share(row.reported / row.requests if row.requests else 0)})",
                    row.decided,
                    row.solved,
                    "-" if row.rate is None else f"{_share(row.rate)} ({_share(row.low)} to {_share(row.high)})",
                    _cost(row),
                    ", ".join(f"{kind} {count}" for kind, count in row.kinds.items()),
                )
                for row in rows
            ],
            (by, "requests", "known", "decided", "solved", "rate", "USD per solved", "outcomes"),
        )
        if any(row.reported < row.requests for row in rows):
            click.secho(
                printable(
                    "those whose outcome nobody reported may have ended otherwise: compare rows where as many are known"
                ),
                dim=True,
            )


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value * 100:.1f} %"


def _cost(row: Row) -> str:
    if row.cost_n is None:
        return "-"
    low = "?" if row.cost_low_n is None else usd(row.cost_low_n)
    high = "?" if row.cost_high_n is None else usd(row.cost_high_n)
    return f"{usd(row.cost_n)} ({low} to {high})"
