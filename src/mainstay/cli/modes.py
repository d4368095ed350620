"""mode."""

from __future__ import annotations

import click

from mainstay.cli.common import as_json, opened, printable, put_json, table
from mainstay.shapes import mode_event_view, mode_view
from mainstay.types import Mode


@click.group(help="The mode the service answers in: full, or a limited one. Orders reach every process within seconds.")
def mode() -> None:
    pass


@mode.command(help="The mode that is ordered or was last entered, and the latest changes.")
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="So many changes.")
@as_json
def show(limit: int, json_: bool) -> None:
    with opened() as app:
        standing, order = app.ladder.current(), app.modes.ordered()
        events = app.modes.events(limit)
        if json_:
            put_json({**mode_view(standing, order), "events": [mode_event_view(event) for event in events]})
            return
        if order is not None:
            click.echo(f"ordered: {order.mode} by {printable(order.by)} at {order.at:%Y-%m-%d %H:%M} UTC")
        else:
            click.echo("ordered: nothing; each serving process decides by what it sees")
        if events:
            click.echo()
            table(
                [
                    [f"{event.at:%Y-%m-%d %H:%M:%S}", event.before, event.after, event.reason, event.detail, event.by]
                    for event in events
                ],
                ["when (UTC)", "from", "to", "reason", "detail", "by"],
            )


@mode.command("set", help="Order a mode for every process: full, economy, cached_only, sources_only, static.")
@click.argument("to", type=click.Choice([str(held) for held in Mode]))
@click.option("--as", "name", metavar="NAME", required=True, help="Who orders it: kept with the change.")
@click.option("--note", default="", help="Why.")
@as_json
def set_(to: str, name: str, note: str, json_: bool) -> None:
    with opened() as app:
        app.ladder.order(Mode(to), by=name, detail=note)
        if json_:
            put_json(mode_view(app.ladder.current(), app.modes.ordered()))
        else:
            click.echo(f"ordered: {to}; every serving process follows within seconds")


@mode.command(help="Take the order back: the service decides again.")
@click.option("--as", "name", metavar="NAME", required=True, help="Who takes it back: kept with the change.")
@click.option("--note", default="", help="Why.")
@as_json
def clear(name: str, note: str, json_: bool) -> None:
    with opened() as app:
        app.ladder.order(None, by=name, detail=note)
        if json_:
            put_json(mode_view(app.ladder.current(), app.modes.ordered()))
        else:
            click.echo("no order; each serving process decides by what it sees")
