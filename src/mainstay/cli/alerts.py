"""alerts."""

from __future__ import annotations

import click

from mainstay.agreement.terms import seconds
from mainstay.app import ALERT, App
from mainstay.cli.common import as_json, opened, printable, put_json, table
from mainstay.errors import Invalid
from mainstay.shapes import alert_view, silence_view
from mainstay.workflows.ports import JobState

GONE_S = 90.0  # longer than a receiver and a mail server may take

_who = click.option("--as", "name", metavar="NAME", required=True, help="Who does it: kept with the change.")
_note = click.option("--note", default="", help="Why.")


@click.group(help="Objectives in trouble: list, ack, silence, unsilence, test.")
def alerts() -> None:
    pass


@alerts.command(
    "list", help="Open alerts, those that ended in the last week, and silences. Exit code 1 while one is open."
)
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--look", is_flag=True, help="Look at the objectives now, instead of waiting for the service to do so.")
@as_json
def alerts_list(limit: int, look: bool, json_: bool) -> None:
    with opened() as app:
        held = app.alarming.alerts
        if look:
            held.look(force=True)
        standing = held.standing(limit=limit)
        silences = held.store.silences(app.clock.now())
        agreement = app.settings.agreement
    shown = [
        {
            **alert_view(alert, agreement),
            "silenced_until": None if silence is None else silence.until,
        }
        for alert, silence in standing
    ]
    if json_:
        put_json({"alerts": shown, "silences": [silence_view(one) for one in silences]})
    else:
        if not standing:
            click.echo("no alerts")
        for alert, silence in standing:
            state = "OVER" if not alert.open else "quiet" if silence else "taken" if alert.acknowledged else "FIRING"
            colour = {"FIRING": "red", "taken": "yellow", "quiet": "yellow"}.get(state)
            click.secho(f"{state:7}", fg=colour, bold=state == "FIRING", nl=False)
            click.echo(f" {alert.id}  {alert.severity}  since {alert.opened:%Y-%m-%d %H:%M} UTC", nl=False)
            click.echo(f" until {alert.resolved:%Y-%m-%d %H:%M} UTC" if alert.resolved else "")
            click.echo(f"        {printable(alert_view(alert, agreement)['summary'], 500)}")
            if alert.acknowledged_by:
                note = f": {printable(alert.note, 300)}" if alert.note else ""
                click.secho(f"        taken by {printable(alert.acknowledged_by)}{note}", dim=True)
        if silences:
            click.echo()
            table(
                [
                    (
                        one.id,
                        one.objective or "any",
                        one.severity or "any",
                        f"{one.until:%Y-%m-%d %H:%M}",
                        one.by,
                        one.note,
                    )
                    for one in silences
                ],
                ("silence", "objective", "severity", "until (UTC)", "by", "note"),
            )
    if any(alert.open for alert, _ in standing):
        click.get_current_context().exit(1)


@alerts.command(help="Take an alert in hand: it is not repeated any more.")
@click.argument("alert_id", metavar="ID")
@_who
@_note
@as_json
def ack(alert_id: str, name: str, note: str, json_: bool) -> None:
    with opened() as app:
        held = app.alarming.alerts.acknowledge(alert_id, by=name, note=note)
        shown = alert_view(held, app.settings.agreement)
    if json_:
        put_json(shown)
    else:
        click.echo(f"{held.id}: taken by {printable(name)}")


@alerts.command(help="Tell nobody for a while, of one objective or severity or of all. Alerts open and end as ever.")
@click.option("--for", "length", metavar="LENGTH", required=True, help="How long, like 30m, 2h, 1d; at most 90d.")
@click.option("--objective", default="", help="Only of this objective.")
@click.option("--severity", type=click.Choice(["page", "ticket"]), help="Only of this severity.")
@_who
@_note
@as_json
def silence(length: str, objective: str, severity: str | None, name: str, note: str, json_: bool) -> None:
    with opened() as app:
        made = app.alarming.alerts.silence(
            by=name, length_s=seconds(length, "--for"), objective=objective, severity=severity or "", note=note
        )
    if json_:
        put_json(silence_view(made))
    else:
        click.echo(
            f"{made.id}: until {made.until:%Y-%m-%d %H:%M} UTC; end it with: mainstay alerts unsilence {made.id}"
        )


@alerts.command(help="End a silence: people are told again.")
@click.argument("silence_id", metavar="ID")
@_who
@as_json
def unsilence(silence_id: str, name: str, json_: bool) -> None:
    with opened() as app:
        held = app.alarming.alerts.unsilence(silence_id, by=name)
    if json_:
        put_json(silence_view(held))
    else:
        click.echo(f"{held.id}: over")


@alerts.command(
    help="Send a message that says that nothing is wrong, by each way that is set up, and wait until it is sent."
)
@as_json
def test(json_: bool) -> None:
    with opened() as app:
        held = app.settings.service.alerts
        if not held.ways:
            instead = "; alertmanager gets open alerts, and no tests" if held.alertmanager else ""
            raise Invalid(
                f"nobody is told of alerts by webhook or e-mail{instead}",
                where="mainstay.yaml alerts",
                fix="name alerts.webhook or alerts.email",
            )
        notice = app.alarming.alerts.test()
        said = [(way.partition(":")[0], _gone(app, f"{ALERT}:{notice.id}:{way}")) for way in held.ways]
    if json_:
        put_json({"id": notice.id, "ways": [{"way": way, "trouble": trouble} for way, trouble in said]})
    else:
        for way, trouble in said:
            click.echo(f"{way}: {'sent' if not trouble else printable(trouble, 300)}")
    if any(trouble for _, trouble in said):
        click.get_current_context().exit(1)


def _gone(app: App, key: str) -> str:
    """See one message off, here or by the process that has taken it; why it did not leave, empty when it did."""
    job = next(one for one in app.queue.recent(kind=ALERT, limit=1000) if one.key == key)
    worker = app.worker([ALERT])
    until = app.clock.monotonic() + GONE_S
    while app.clock.monotonic() < until:
        taken = worker.take(job.job_id)
        if taken is not None:
            worker.work(taken[0], asked_at=taken[1], once=True)
        now = app.queue.get(job.job_id)
        if now is None or now.state in (JobState.DONE, JobState.CANCELLED):
            return ""
        if now.state is JobState.DEAD:
            app.queue.cancel(job.job_id)  # nobody wants to be asked about a test for ever
            return now.error
        app.queue.wait(0.5)
    return f"not sent within {GONE_S:.0f} s: see mainstay jobs list --kind {ALERT}"
