"""export: what leaves the service in a form of its own. Each export is itself in the audit log."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from mainstay.app import App
from mainstay.cli.common import OPERATOR, as_json, opened, put_json
from mainstay.errors import Conflict
from mainstay.records.audit import AuditEntry
from mainstay.records.decisions import visible_decision
from mainstay.records.explaining import explained
from mainstay.settings import load, service_folder
from mainstay.shapes import decision_view
from mainstay.types import Scope


@click.group(
    help="What leaves the service in a form of its own: the record of a decision, rules for Prometheus, a dashboard for Grafana."
)
def export() -> None:
    pass


@export.command(
    help="How one request was answered, in plain words: what was asked, looked at and left out, who wrote it at which "
    "cost, which rules were applied, what the person was told, and the proof. From its record alone."
)
@click.argument("request_id")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it into this new file.")
@click.option("--why", default="", help="The reason: kept in the audit log.")
@as_json
def decision(request_id: str, out: Path | None, why: str, json_: bool) -> None:
    if out is not None and out.exists():
        raise Conflict("is there already", where=str(out), fix="name another file")
    with opened() as app:
        held = visible_decision(app.decisions, request_id, OPERATOR)
        proof = app.decisions.proof(request_id)
        text = explained(
            held, proof, _titles(app, [one.document for one in held.record.passages] if held.record else [])
        )
        details = {"event": held.n, "form": "json" if json_ else "text", "file": out.name if out else ""}
        about = held.record.asked_by if held.record and held.record.asked_by.startswith("user:") else ""
        entry = AuditEntry(
            action="export.decision",
            subject=f"request:{request_id}",
            at=app.clock.now(),
            why=why,
            details=details,
            owner=about,
        )
        app.audit.record(entry)
        shown = {**decision_view(held, proof), "text": text}
    if out is not None:
        content = json.dumps(shown, ensure_ascii=False, indent=2) + "\n" if json_ else text
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
        click.echo(f"written to {out}")
    elif json_:
        put_json(shown)
    else:
        click.echo(text, nl=False)


def _titles(app: App, documents: list[str]) -> dict[str, str]:
    """The titles of documents that are still there, with an operator's rights."""
    scope: Scope = app.gate.scope(OPERATOR)
    found = {}
    for doc_id in dict.fromkeys(documents):
        held = app.documents.record(doc_id, scope=scope)
        if held is not None:
            found[doc_id] = held.title
    return found


@export.command(
    "prometheus-rules",
    help="The objectives as recording and alert rules for Prometheus, as YAML. See docs/howto/alerts.md.",
)
def rules() -> None:
    import yaml  # only this command writes YAML

    from mainstay.exporting import counted, prometheus_rules  # with the one above

    settings = load(service_folder(click.get_current_context().obj["folder"]))
    click.echo(
        yaml.safe_dump(prometheus_rules(settings.agreement), sort_keys=False, allow_unicode=True, width=10_000),
        nl=False,
    )
    left = [held.name for held in settings.agreement.objectives if held not in counted(settings.agreement)]
    for name in left:
        click.echo(f"left out: {name}: nobody counts its events in /metrics; mainstay alerts has it", err=True)


@export.command("grafana", help="A dashboard for Grafana over these figures, as JSON to be imported.")
def grafana() -> None:
    from mainstay.exporting import grafana_dashboard  # only this command draws one

    settings = load(service_folder(click.get_current_context().obj["folder"]))
    put_json(grafana_dashboard(settings.agreement, settings.service.name))
