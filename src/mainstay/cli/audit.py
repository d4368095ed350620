"""audit: who did what, when and why; proofs, signed heads, checks; erasure and legal holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import click

from mainstay.cli.common import as_json, opened, printable, progress, put_json, table
from mainstay.errors import Conflict, Invalid, NotFound
from mainstay.records.audit import AuditEntry, Filters, because, reason
from mainstay.records.audit.checking import Report
from mainstay.records.filters import possible_action
from mainstay.shapes import audit_event_view, audit_proof_view

VERIFIER = "verify_audit.py"
MOST_DIGITS = 19  # what has more is beyond what a database counts
why_option = click.option("--why", required=True, help="The reason: kept in the log.")


@click.group(help="The audit log: list, show, prove, verify, export; erase a person, legal holds, the signing key.")
def audit() -> None:
    pass


class _Number(click.ParamType[int]):
    """A whole number of the log: an event's, or how many events a tree has."""

    name = "number"

    def __init__(self, what: str, fix: str, *, least: int = 0) -> None:
        self._what, self._fix, self._least = what, fix, least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) < MOST_DIGITS and int(text) >= self._least):
            self.fail(f"{text[:40]!a} is not {self._what}; {self._fix}", param, ctx)
        return int(text)


_EVENT = _Number("the number of an event", "see: mainstay audit list")
_SIZE = _Number("how many events a tree can have", "write 1 or more; see: mainstay audit head", least=1)


@audit.command("list", help="Events, the newest first.")
@click.option("--action", default="", help="One action, like key.created, or all that begin like key. (with the dot).")
@click.option("--actor", default="", metavar="WHO", help="Done by: user:alice, cli:root, service:crm.")
@click.option("--subject", default="", metavar="WHAT", help="Done to: user:alice, document:ID, agreement:DIGEST.")
@click.option("--since", default="", metavar="TIME", help="From then on, like 2026-01-31 or 2026-01-31T12:00.")
@click.option("--until", default="", metavar="TIME", help="Before then.")
@click.option("--decisions", is_flag=True, help="What answers were made of, instead of events.")
@click.option("--before", "cursor", type=_EVENT, help="Only events before this number.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@as_json
def list_(
    action: str,
    actor: str,
    subject: str,
    since: str,
    until: str,
    decisions: bool,
    cursor: int | None,
    limit: int,
    json_: bool,
) -> None:
    filters = Filters(
        action=possible_action(action, "--action"),
        actor=actor,
        subject=subject,
        since=_time(since, "--since"),
        until=_time(until, "--until"),
        decisions=decisions,
    )
    with opened() as app:
        page = app.audit.list(filters, cursor, limit)
    if json_:
        put_json({"events": [audit_event_view(event) for event in page.events], "next": page.next})
        return
    rows = [
        (
            event.n,
            f"{event.at:%Y-%m-%d %H:%M:%S}",
            event.action,
            event.subject or "(erased)",
            event.actor,
            reason(event),
        )
        for event in page.events
    ]
    table(rows, ("n", "when (UTC)", "what", "of", "by", "why"))
    if page.next is not None:
        click.echo(f"more: --before {page.next}")


@audit.command(help="One event: all that is kept of it.")
@click.argument("n", type=_EVENT)
@as_json
def show(n: int, json_: bool) -> None:
    with opened() as app:
        event = app.audit.get(n)
    if event is None:
        raise NotFound(f"no event {n}", where="audit", fix="see: mainstay audit list")
    if json_:
        put_json(audit_event_view(event))
        return
    for name, value in audit_event_view(event).items():
        if isinstance(value, dict):
            for key, held in value.items():
                click.echo(f"{name}.{printable(str(key))}: {printable(json.dumps(held, ensure_ascii=False), 2000)}")
        elif value not in ("", None):
            click.echo(f"{name}: {printable(str(value), 2000)}")


@audit.command(
    help="The proof that an event is in the log: its head line, the hashes beside its way up, a signed head."
)
@click.argument("n", type=_EVENT)
@click.option("--size", type=_SIZE, help="For the tree of so many events [default: the newest head].")
@as_json
def proof(n: int, size: int | None, json_: bool) -> None:
    with opened() as app:
        shown = audit_proof_view(app.audit.proof(n, size))
    if json_:
        put_json(shown)
        return
    click.echo(f"event {n} is in the tree of {shown['size']} events with the root {shown['root']}")
    click.echo(f"leaf {shown['leaf']}")
    for at, held in enumerate(shown["path"]):
        click.echo(f"{at:2}  {held}")
    head = shown["head"]
    click.echo(f"signed by {head['key']}" if head else "not signed yet: mainstay audit head --sign")


@audit.command(help="The newest signed head, and what the witnesses have got.")
@click.option("--sign", is_flag=True, help="Sign the log as it is, and send the head to every witness.")
@as_json
def head(sign: bool, json_: bool) -> None:
    with opened() as app:
        if sign:
            app.auditing.look(now=True)
        held, sent, size = app.audit.head(), app.audit.sent(), app.audit.size()
    if json_:
        put_json({"head": None if held is None else held.view(), "size": size, "witnesses": dict(sent)})
        return
    if held is None:
        click.echo(f"{size} events, nothing signed yet: mainstay audit head --sign")
    else:
        click.echo(f"{held.size} of {size} events signed at {held.time:%Y-%m-%d %H:%M:%S} UTC")
        click.echo(f"root {held.root}\nkey {held.key}, public {held.public}\nlog {held.log}")
    for way, got in sent.items():
        trouble = f": {printable(got.trouble)}" if got.trouble else ""
        click.echo(f"{way} has {got.size}, since {got.at:%Y-%m-%d %H:%M:%S} UTC{trouble}")


@audit.command(
    help="Check everything: events, tree, signatures, and heads that a witness keeps. Exit code 1 when wrong."
)
@click.option(
    "--witness",
    "witnesses",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file of heads that was kept elsewhere, one a line. Repeatable.",
)
@as_json
def verify(witnesses: tuple[Path, ...], json_: bool) -> None:
    from mainstay.witness import read_heads  # brings the HTTP client

    with opened() as app:
        witnessed = [one for file in witnesses for one in read_heads(file)]
        with progress("checking") as bar:
            report = app.audit.verify(witnessed, progress=bar)
    if json_:
        put_json({**_report(report), "right": report.right, "first_wrong": report.first_wrong})
    else:
        _put_report(report)
    if not report.right:
        click.get_current_context().exit(1)


@audit.command(
    help="Write the whole log into one file of JSON lines, and beside it verify_audit.py, which checks it offline with "
    "Python alone. Whoever has the file can read every event."
)
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@why_option
def export(target: Path, why: str) -> None:
    verifier = target.parent / VERIFIER
    if target.exists():
        raise Conflict("is there already", where=str(target), fix="name another file")
    if not target.parent.is_dir():
        raise Invalid("no such folder", where=str(target.parent), fix="make it, or name another")
    with opened() as app:
        at = app.clock.now()
        entry = AuditEntry(action="export.audit", subject="log:audit", at=at, why=why, details={"file": target.name})
        app.audit.record(entry)
        app.auditing.look(now=True)
        with _private(target) as file:
            events = _written(file, app.audit.export())
    verifier.write_text((files("mainstay.records.audit") / VERIFIER).read_text(encoding="utf-8"), encoding="utf-8")
    click.echo(f"{events} events in {target}\ncheck it anywhere: python3 {verifier} {target}")


@audit.command(
    help="Forget a person: their key, every body under it, and what they wrote of answers. Hashes, times and proofs stay. Not "
    "to be undone."
)
@click.argument("name")
@why_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(name: str, why: str, yes: bool) -> None:
    person = name if ":" in name else f"user:{name}"
    with opened() as app:
        app.may_forget(person, why)
        if not yes:
            click.confirm(f"Forget {printable(person)} in the audit log, for good?", abort=True, err=True)
        gone = app.forget(person, why)
    said = {
        0: "",
        1: " 1 outcome has lost its words and its name.",
    }.get(gone.outcomes, f" {gone.outcomes} outcomes have lost their words and their name.")
    bodies = "1 body" if gone.bodies == 1 else f"{gone.bodies} bodies"
    click.echo(
        f"{bodies} and the key are gone; the log still verifies.{said} Older backups hold them until they expire."
    )


@audit.command(help="Place a legal hold: nothing of this person or thing is erased or forgotten while it stands.")
@click.argument("subject")
@why_option
def hold(subject: str, why: str) -> None:
    with opened() as app:
        named = subject if ":" in subject else f"user:{subject}"
        held = app.audit.hold(named, why)
        unknown = named.startswith("user:") and all(one.principal != named for one in app.people.list())
    click.echo(f"{held.id} stands on {printable(held.subject)}")
    if unknown:
        click.secho("  nobody of this name is known here: is it spelt right?", fg="yellow", err=True)


@audit.command(help="Lift a legal hold.")
@click.argument("hold_id")
@why_option
def lift(hold_id: str, why: str) -> None:
    with opened() as app:
        app.audit.lift(hold_id, why)
    click.echo(f"{printable(hold_id)} is lifted")


@audit.command(help="The legal holds that stand.")
@as_json
def holds(json_: bool) -> None:
    with opened() as app:
        standing = app.audit.holds()
    if json_:
        put_json({"holds": standing})
    else:
        table(
            [(held.id, held.subject, f"{held.placed:%Y-%m-%d}", held.by, held.why) for held in standing],
            ("hold", "on", "since", "by", "why"),
        )


@audit.command("rotate-key", help="Change to a fresh signing key: the old one signs the announcement of the new one.")
@why_option
def rotate_key(why: str) -> None:
    with opened() as app, because(why):
        signed = app.auditing.rotate()
        fresh = app.auditing.signer()
    click.echo(f"{fresh.id} signs from now on, public {fresh.public.hex()}\n{signed.key} has signed that")


def _report(report: Report) -> dict[str, Any]:
    return {
        "log": report.log,
        "events": report.events,
        "erased": report.erased,
        "heads": report.heads,
        "witnessed": report.witnessed,
        "root": report.root,
        "keys": report.keys,
        "findings": report.findings,
        "more": report.more,
        "notes": report.notes,
    }


def _put_report(report: Report) -> None:
    click.echo(
        f"{report.events} events ({report.erased} erased), {report.heads} heads, {report.witnessed} of witnesses\n"
        f"root {report.root}"
    )
    for note in report.notes:
        click.secho(f"note: {note}", fg="yellow")
    for finding in report.findings:
        click.secho(f"WRONG: {finding.what}", fg="red")
    if report.more:
        click.echo(f"and {report.more} more")
    first = report.first_wrong
    said = "everything is right" if report.right else "something is wrong"
    click.echo(said if report.right or first is None else f"{said}, first at event {first}")


def _private(path: Path) -> IO[str]:
    """A new file for its owner's eyes alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")


def _written(file: IO[str], lines: Iterable[dict[str, Any]]) -> int:
    """Writes JSON lines; returns how many were events."""
    events = 0
    for line in lines:
        file.write(json.dumps(line, ensure_ascii=True, sort_keys=True) + "\n")
        events += line["kind"] == "event"
    return events


def _time(text: str, where: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text[:40]!a} is no time", where=where, fix="write it like 2026-01-31T12:00") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
