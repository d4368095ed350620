"""trace: the journey of a request, as a waterfall; searches; legal holds; what is due to be forgotten."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import click

from mainstay.agreement.terms import nanodollars
from mainstay.cli.common import actor, as_json, as_user, opened, printable, put_json, table
from mainstay.errors import Invalid, NotFound
from mainstay.records.filters import CHOICES, possible
from mainstay.records.spans import ERROR, Line, waterfall
from mainstay.records.traces import Search, Trace, may_see_all, visible_trace
from mainstay.shapes import request_view
from mainstay.types import usd

MOST_LINES = 2000
_COLOURS = {"generate": "cyan", "retrieve": "green", "cache": "green", "verify": "blue", "review": "magenta"}
_SHOWN_BESIDE = ("input_tokens", "output_tokens", "cost_nanodollars", "model", "first_ms")


def _words(name: str) -> str:
    return f"{', '.join(CHOICES[name])}."


@click.group(help="The journey of a request: show, search; hold and release; prune.")
def trace() -> None:
    pass


@trace.command(
    "show", help="What was found, ranked, sent, checked and spent for one request; also by the id of a trace."
)
@click.argument("request_id")
@click.option("--brief", is_flag=True, help="The steps and their times alone.")
@as_user
@as_json
def trace_show(request_id: str, brief: bool, user: str | None, json_: bool) -> None:
    with opened() as app:
        asker = actor(app, user)
        shown = visible_trace(app.traces, request_id, asker, attributes=not brief)
    if json_:
        put_json(request_view(shown, whole=True, operator=may_see_all(asker)))
    else:
        _draw(shown, brief=brief)


@trace.command("search", help="The latest requests, or those that fit.")
@as_user
@click.option("--asker", default="", metavar="USER", help="Asked by, like user:alice.")
@click.option("--status", default="", help=_words("status"))
@click.option("--mode", default="", help=_words("mode"))
@click.option("--model", default="")
@click.option("--release", default="")
@click.option("--door", default="", help=_words("door"))
@click.option("--kind", default="", help=_words("kind"))
@click.option("--trace-id", default="", metavar="HEX", help="Every request of one trace.")
@click.option("--outcome", default="", help=f"An outcome that was reported for it: {_words('outcome')}")
@click.option("--failed/--not-failed", default=None, help="Failed through our fault, or not.")
@click.option("--min-cost", default="", metavar="USD", help="Cost at least this much.")
@click.option("--min-ms", default=0.0, type=click.FloatRange(min=0), help="Took at least so many milliseconds.")
@click.option("--after", default="", metavar="CURSOR", help="Go on where a search ended.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@as_json
def trace_search(user: str | None, json_: bool, min_cost: str, failed: bool | None, **said: Any) -> None:
    least = nanodollars(min_cost, "--min-cost") if min_cost else 0
    wanted = possible(Search(failed=failed, min_cost=least, **said), named=lambda name: "--" + name.replace("_", "-"))
    with opened() as app:
        person = actor(app, user)
        if not may_see_all(person):
            if wanted.asker not in ("", person.principal):
                raise NotFound("one sees one's own requests alone", where="--asker")
            wanted = replace(wanted, asker=person.principal)
        page = app.traces.search(wanted)
    if json_:
        views = [request_view(held, whole=False, operator=may_see_all(person)) for held in page.traces]
        put_json([{**view["facts"], **view} for view in views])
    else:
        table(
            [
                (
                    held.request_id,
                    f"{held.at:%Y-%m-%d %H:%M:%S}",
                    held.asker,
                    held.status,
                    held.mode,
                    held.model,
                    f"{held.duration_ms:.0f}",
                    usd(held.cost_nanodollars),
                )
                for held in page.traces
            ],
            ("request", "at (UTC)", "asker", "status", "mode", "model", "ms", "USD"),
        )
    if page.next:
        click.echo(f"more: --after '{page.next}'", err=True)


@trace.command("hold", help="Nothing of it is deleted until it is released, whatever its age.")
@click.argument("request_id")
@click.option("--why", required=True, metavar="TEXT", help="The case, as it is to be found again.")
def trace_hold(request_id: str, why: str) -> None:
    if not why.strip() or len(why) > 500:
        raise Invalid("say why in up to 500 characters", where="--why")
    _hold(request_id, why.strip(), why.strip())
    click.echo(f"{printable(request_id)} is held: {printable(why, 500)}")


@trace.command("release", help="End a hold: it is deleted when its time has come.")
@click.argument("request_id")
@click.option("--why", required=True, metavar="TEXT", help="Why it need not be kept any more.")
def trace_release(request_id: str, why: str) -> None:
    if not why.strip() or len(why) > 500:
        raise Invalid("say why in up to 500 characters", where="--why")
    _hold(request_id, "", why.strip())
    click.echo(f"{printable(request_id)} is not held any more")


def _hold(request_id: str, case: str, why: str) -> None:
    with opened() as app:
        if not app.traces.hold(request_id, case, at=app.clock.now(), why=why):
            raise NotFound("no such request", where=request_id[:80], fix="see: mainstay trace search")


@trace.command("prune", help="Delete what is older than it is kept, as the service itself does every hour.")
@click.option("--dry-run", is_flag=True, help="Count what would be deleted, delete nothing.")
@as_json
def trace_prune(dry_run: bool, json_: bool) -> None:
    with opened() as app:
        said = app.forgetting.run(dry_run=dry_run)
    if json_:
        put_json(said)
        return
    verb = "would be deleted" if dry_run else "deleted"
    click.echo(f"{said.traces} journeys and {said.spans} imported steps {verb}, {said.contents} texts;")
    click.echo(f"the steps of {said.dropped} journeys that sampling left out; {said.held} journeys are held and stay.")


# -- the waterfall -----------------------------------------------------------------------------------------------------


def _draw(shown: Trace, *, brief: bool) -> None:
    """The steps as a tree with bars, the time of the first words marked in the bar of the whole."""
    click.secho(f"{printable(shown.request_id)}  {shown.kind}  {shown.status}", bold=True)
    click.echo(f"  asked by {printable(shown.asker or 'several')} at {shown.at:%Y-%m-%d %H:%M:%S} UTC")
    click.echo(f"  {_sums(shown)}")
    steps = shown.whole
    total = max([shown.duration_ms, *(span.end_ms for span in steps)]) or 1.0
    columns = shutil.get_terminal_size((100, 20)).columns
    names, bar = (34, max(10, min(40, columns - 34 - 32))) if columns >= 76 else (24, 10)
    lines = waterfall(steps)
    for line in lines[:MOST_LINES]:
        own = bool(shown.root_id) and line.span.span_id == shown.root_id  # the request itself: its facts come below
        first = shown.first_ms if own or (shown.imported and line.depth == 0) else None
        _draw_line(line, total, names, bar, first)
        if not brief and (shown.imported or not own):
            for name, value in line.span.attributes.items():
                if value not in ("", [], None) and name not in _SHOWN_BESIDE:
                    click.secho(f"      {printable(name)}: {printable(str(value), 300)}", dim=True)
    if len(lines) > MOST_LINES:
        click.echo(f"  ... and {len(lines) - MOST_LINES} more steps: see --json")
    for name, value in shown.facts.items():
        click.echo(f"  {printable(name)}: {printable(str(value), 500)}")
    if shown.held:
        click.secho(f"  held: {printable(shown.held, 500)}", fg="yellow")
    if shown.kept == "dropped":
        click.echo("  sampling has left out its steps (records.sample in mainstay.yaml)")
    if shown.operator:
        click.secho("  for operators alone:", bold=True)
        for name, value in shown.operator.items():
            click.echo(f"    {printable(name)}: {printable(str(value), 500)}")


def _sums(shown: Trace) -> str:
    parts = [f"{shown.duration_ms:.0f} ms"]
    if shown.first_ms is not None:
        parts.append(f"first words after {shown.first_ms:.0f} ms")
    parts.append(f"${usd(shown.cost_nanodollars)}")
    if shown.input_tokens or shown.output_tokens:
        parts.append(f"{shown.input_tokens} tokens in, {shown.output_tokens} out")
    parts += [printable(part) for part in (shown.model, shown.mode and f"mode {shown.mode}", shown.release) if part]
    return " · ".join(parts)


def _draw_line(line: Line, total: float, names: int, width: int, first_ms: float | None) -> None:
    span = line.span
    branch = "".join("  " if last else "│ " for last in line.last[:-1])
    branch += ("└ " if line.last[-1] else "├ ") if line.last else ""
    word = branch + span.kind + (f" {span.name}" if span.name and span.name != span.kind else "")
    left = min(width - 1, max(0, int(width * span.start_ms / total)))
    cells = [" "] * width
    for n in range(left, min(width, left + max(1, round(width * span.duration_ms / total)))):
        cells[n] = "█"
    if first_ms is not None:
        cells[min(width - 1, max(0, int(width * first_ms / total)))] = "╎"
    said = dict(span.attributes)
    beside = [f"{span.duration_ms:9.1f} ms"]
    if span.duration_ms - line.self_ms > 0.05:
        beside.append(f"self {line.self_ms:.1f}")
    if said.get("model"):
        beside.append(printable(str(said["model"]), 30))
    if said.get("input_tokens") or said.get("output_tokens"):
        beside.append(f"{said.get('input_tokens', 0)}+{said.get('output_tokens', 0)} tokens")
    if isinstance(cost := said.get("cost_nanodollars"), int) and cost:
        beside.append(f"${usd(cost)}")
    if span.status == ERROR:
        beside.append(f"ERROR {printable(span.error_class, 40)}".rstrip())
    click.echo(f"  {_fitted(printable(word, 200), names)} │", nl=False)
    colour = "red" if span.status == ERROR else _COLOURS.get(span.kind)
    click.secho("".join(cells), fg=colour, nl=False)
    click.echo(f"│ {'  '.join(beside)}")


def _fitted(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"
