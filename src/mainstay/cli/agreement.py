"""agreement: show, diff, approve, status, export, import."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import yaml

from mainstay.agreement import Agreement
from mainstay.agreement.attainment import ClauseStanding, standing
from mainstay.agreement.burning import promotion_blocked
from mainstay.agreement.openslo import exported, imported
from mainstay.agreement.sense import contradictions
from mainstay.agreement.terms import Objective, seconds
from mainstay.agreement.versions import PREFIX, content, difference, digest, restored
from mainstay.agreement.wording import described
from mainstay.app import App
from mainstay.cli.common import as_json, opened, plain, printable, put_json
from mainstay.errors import Conflict, Invalid
from mainstay.records.alerts import Alert
from mainstay.settings import (
    AGREEMENT_FILE,
    MAX_FILE_BYTES,
    Contradictory,
    load,
    model_facts,
    read_agreement,
    service_folder,
)
from mainstay.storage.agreements import Approval

_SIGNS = {"tightens": ("+", "green"), "loosens": ("-", "red"), "changes": ("~", "yellow")}
_STATES = {
    "met": ("kept", "green"),
    "missed": ("MISSED", "red"),
    "too_little_data": ("too little data", "yellow"),
    "informative": ("", None),
}


@click.group(help="What the service promises and permits: show, diff, approve, status; OpenSLO in and out.")
def agreement() -> None:
    pass


@agreement.command("show", help="The agreement in force in plain words, its digest, and who approved it.")
@as_json
def agreement_show(json_: bool) -> None:
    with opened() as app:
        held = app.settings.agreement
        named = digest(held)
        approvals = app.agreements.approvals(named)
        versions = app.agreements.versions()
    if json_:
        put_json(
            {
                "digest": named,
                "agreement": plain(held),
                "approvals": approvals,
                "versions": [{"digest": one.digest, "first_seen": one.first_seen} for one in versions],
            }
        )
        return
    for section, lines in described(held):
        click.secho(section, bold=True)
        for line in lines:
            click.echo(f"  {printable(line, 2000)}")
    click.echo()
    click.echo(f"{named}: {'' if approvals else 'approved by nobody yet'}".rstrip(": ") + (":" if approvals else ""))
    for approval in approvals:
        click.echo(f"  {_approved(approval)}")


def _approved(held: Approval) -> str:
    note = f": {printable(held.note, 500)}" if held.note else ""
    return f"approved by {printable(held.name)}, {printable(held.role)}, {held.at:%Y-%m-%d %H:%M} UTC{note}"


@agreement.command(
    "diff",
    help="Explain a change in words. OLD and NEW are files or digests of versions that were in force; left out, OLD is the"
    " version approved last (or seen last), and NEW is agreement.yaml. + promises more or permits less, - the reverse, ~ is"
    " only different.",
)
@click.argument("old", metavar="[OLD]", required=False)
@click.argument("new", metavar="[NEW]", required=False)
@as_json
def agreement_diff(old: str | None, new: str | None, json_: bool) -> None:
    with opened() as app:
        before = _version(app, old) if old else _last(app)
        after = _version(app, new) if new else app.settings.agreement
    changes = difference(before, after)
    if json_:
        put_json({"old": digest(before), "new": digest(after), "changes": changes})
        return
    click.echo(f"{digest(before)} -> {digest(after)}", err=True)
    for change in changes:
        sign, colour = _SIGNS[change.effect]
        click.secho(f"{sign} {printable(change.sentence, 2000)}", fg=colour)
    if not changes:
        same = digest(before) == digest(after)
        click.echo(
            "nothing changed"
            if same
            else "the same promises: this version of Mainstay only knows more clauses, with their defaults"
        )


def _version(app: App, named: str) -> Agreement:
    if named.startswith(PREFIX) and not Path(named).exists():
        return restored(app.agreements.find(named).content)
    return read_agreement(Path(named))


def _last(app: App) -> Agreement:
    """The version approved last, else the one seen last that is not today's, else today's."""
    for approval in app.agreements.approvals():
        held = app.agreements.version(approval.digest)
        if held is not None:
            return restored(held.content)
    today = digest(app.settings.agreement)
    for version in app.agreements.versions():
        if version.digest != today:
            return restored(version.content)
    return app.settings.agreement


@agreement.command("approve", help="Record that somebody stands for agreement.yaml as it is now.")
@click.option("--as", "name", required=True, metavar="NAME", help="Who approves.")
@click.option("--role", required=True, help="In which role: head of service, data protection officer, ...")
@click.option("--note", default="", help="What else is to be remembered.")
@as_json
def agreement_approve(name: str, role: str, note: str, json_: bool) -> None:
    with opened() as app:
        held = app.settings.agreement
        app.agreements.seen(digest(held), content(held))
        approval = app.agreements.approve(digest(held), name, role, note)
    if json_:
        put_json(approval)
    else:
        click.echo(f"{approval.digest} {_approved(approval)}")


@agreement.command(
    "status",
    help="Where each clause stands: target, now with its 95 % interval, what is left of its budget, and how fast the error"
    " budget goes (1: it is spent when the window ends).",
)
@click.option("--since", metavar="28d", help="Look at this window instead of each objective's own.")
@click.option("--check", is_flag=True, help="Exit code 1 if a clause is missed.")
@as_json
def agreement_status(since: str | None, check: bool, json_: bool) -> None:
    window = None
    if since is not None:
        held = seconds(since, "--since")
        if held > 3660 * 86_400:
            raise Invalid(f"--since {since} is longer than ten years")
        window = timedelta(seconds=held)
    with opened() as app:
        measures = app.measures
        named = digest(app.settings.agreement)
        approvals = app.agreements.approvals(named)
        clauses = standing(app.settings.agreement, measures, measures, app.clock.now(), since=window)
        alarms = app.alarming.store.open_alerts()
    missed = [one for one in clauses if one.state == "missed"]
    if json_:
        put_json(
            {
                "digest": named,
                "approvals": len(approvals),
                "clauses": [_view(one) for one in clauses],
                "alerts": _alarms(alarms),
            }
        )
    else:
        _status(clauses)
        for alarm in alarms:
            taken = f", taken by {printable(alarm.acknowledged_by)}" if alarm.acknowledged_by else ""
            since = f"{alarm.opened:%Y-%m-%d %H:%M} UTC"
            click.secho(
                f"{alarm.severity}: {printable(alarm.objective)} burns since {since}{taken}", fg="red", bold=True
            )
        click.echo()
        who = _approved(approvals[0]) if approvals else "approved by nobody yet: mainstay agreement approve"
        click.secho(f"{named}, {who}", dim=True)
    if check and missed:
        click.get_current_context().exit(1)


@agreement.command(
    "gate",
    help="Whether something new may go into service: exit code 1, and why, while an objective with blocks_promotion has spent its"
    " error budget or burns it so fast that it pages. For whatever releases.",
)
@as_json
def agreement_gate(json_: bool) -> None:
    with opened() as app:
        held = app.settings.agreement
        blocked = promotion_blocked(held, app.measures, app.clock.now())
    gates = [one.name for one in held.objectives if one.blocks_promotion]
    if json_:
        put_json({"open": not blocked, "objectives": gates, "blocked": blocked})
    else:
        for one in blocked:
            click.echo(f"{printable(one.objective)}: {printable(one.why)}")
        if not blocked:
            click.echo("open" if gates else "open: no objective says blocks_promotion")
    if blocked:
        click.get_current_context().exit(1)


def _alarms(alerts: Sequence[Alert]) -> list[dict[str, Any]]:
    return [
        {
            "id": one.id,
            "objective": one.objective,
            "severity": one.severity,
            "opened": one.opened,
            "taken": one.acknowledged_by,
        }
        for one in alerts
    ]


def _view(held: ClauseStanding) -> dict[str, Any]:
    """A standing as JSON: what is without bound is null."""
    shown: dict[str, Any] = plain(held)
    for name, value in shown.items():
        if isinstance(value, float) and not math.isfinite(value):
            shown[name] = None
    burn = {name: value if value is None or math.isfinite(value) else None for name, value in held.burn.items()}
    return {**shown, "burn": burn}


def _status(clauses: Sequence[ClauseStanding]) -> None:
    headings = ("", "clause", "target", "now", "95 % interval", "budget left", "burn 1h 6h 3d")
    rows = [
        (
            _STATES[held.state][0],
            printable(held.words),
            held.target_text,
            held.value_text,
            held.interval_text,
            "" if held.budget_left is None else _left(held.budget_left),
            " ".join(_burn(held.burn[name]) for name in held.burn) if held.events else "",
        )
        for held in clauses
    ]
    widths = [max(len(row[n]) for row in (headings, *rows)) for n in range(len(headings))]
    click.secho("  ".join(cell.ljust(width) for cell, width in zip(headings, widths, strict=True)).rstrip(), bold=True)
    for held, row in zip(clauses, rows, strict=True):
        state, colour = _STATES[held.state]
        rest = "  ".join(cell.ljust(width) for cell, width in zip(row[1:], widths[1:], strict=True)).rstrip()
        click.secho(state.ljust(widths[0]), fg=colour, bold=held.state == "missed", nl=False)
        click.echo(f"  {rest}")
        for note in (held.note, "so far: too few events to be sure" if _unsure(held) else ""):
            if note:
                click.secho(f"{'':{widths[0]}}    {printable(note, 500)}", dim=True)


def _unsure(held: ClauseStanding) -> bool:
    return held.clause.startswith("objectives.") and held.state in ("met", "missed") and not held.sure


def _left(share: float) -> str:
    return "spent" if not math.isfinite(share) or share <= 0 else f"{share * 100:.1f} %"


def _burn(rate: float | None) -> str:
    if rate is None:
        return "-"
    return "∞" if not math.isfinite(rate) else f"{rate:.1f}"


@agreement.command(
    "export", help="Print the objectives as OpenSLO v1 documents. What has no shape there is listed on standard error."
)
@click.option("--openslo", is_flag=True, help="As OpenSLO v1: the one format there is.")
def agreement_export(openslo: bool) -> None:  # noqa: ARG001 - says what the one format is, for those who read scripts
    settings = load(service_folder(click.get_current_context().obj["folder"]))
    said = exported(settings.agreement, settings.service.name)
    click.echo(yaml.safe_dump_all(said.documents, sort_keys=False, allow_unicode=True), nl=False)
    _left_out(said.left_out)


@agreement.command(
    "import",
    help="Read the objectives of an OpenSLO v1 file and print them for agreement.yaml. What has no shape here is listed on"
    " standard error. Exit code 1 when nothing could be read.",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--unit", type=click.Choice(["ms", "s"]), default="ms", show_default=True, help="The unit of the file's thresholds."
)
@click.option("--write", is_flag=True, help="Put them into agreement.yaml in place of its objectives.")
def agreement_import(file: Path, unit: str, write: bool) -> None:
    said = imported(_documents(file), unit_ms=1000.0 if unit == "s" else 1.0)
    _left_out(said.left_out)
    if not said.objectives:
        click.echo("mainstay: no objective could be read", err=True)
        click.get_current_context().exit(1)
    block = _block(said.objectives)
    if not write:
        click.echo(block, nl=False)
        return
    target = service_folder(click.get_current_context().obj["folder"]) / AGREEMENT_FILE
    kept = {held.name for held in said.objectives}
    gone = [held.name for held in read_agreement(target).objectives if held.name not in kept] if target.exists() else []
    _replace(target, block)
    if gone:
        click.echo(f"mainstay: no longer promised: {', '.join(gone)}", err=True)
    click.echo(f"{target}: {len(said.objectives)} objectives; see: mainstay agreement diff")


def _documents(file: Path) -> list[Any]:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise Invalid(f"larger than {MAX_FILE_BYTES} bytes", where=str(file))
    try:
        return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid(f"not YAML: {getattr(error, 'problem', None) or type(error).__name__}", where=str(file)) from None


def _left_out(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        click.echo(f"left out: {printable(sentence, 500)}", err=True)


def _block(objectives: Sequence[Objective]) -> str:
    rows = []
    for held in objectives:
        target = int(held.target) if held.target.is_integer() else held.target
        row: dict[str, Any] = {"name": held.name, "measure": held.measure, "target": target, "window": held.window}
        row |= {name: value for name, value in (("team", held.team), ("door", held.door)) if value}
        row |= {"enter_mode": str(held.enter_mode)} if held.enter_mode else {}
        row |= {"alert": held.alert} if held.alert != "auto" else {}
        rows.append(row | ({"blocks_promotion": True} if held.blocks_promotion else {}))
    return yaml.safe_dump({"objectives": rows}, sort_keys=False, allow_unicode=True)


def _replace(target: Path, block: str) -> None:
    """Put the block in place of the file's objectives, every other line as it is; nothing is written that contradicts
    itself. Errors: Invalid, Conflict."""
    text = target.read_text(encoding="utf-8") if target.is_file() else ""
    lines = text.splitlines(keepends=True)
    first, last = _where(text, str(target))
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    fresh = target.with_name(f".{target.name}.new")
    fresh.write_text("".join([*lines[:first], block, *lines[last:]]), encoding="utf-8")
    try:
        facts = model_facts(_service(target.parent))
        wrong = contradictions(read_agreement(fresh), facts)
        if wrong:
            raise Conflict(
                f"{wrong[0].what} ({wrong[0].key})", where=str(target), fix=f"nothing was written; {wrong[0].fix}"
            )
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _service(folder: Path) -> Any:
    try:
        return load(folder).service
    except Contradictory as error:
        raise Conflict(
            "agreement.yaml contradicts itself already",
            where=error.where,
            fix="see mainstay check; nothing was written",
        ) from None


def _where(text: str, where: str) -> tuple[int, int]:
    """The lines (from, up to) that hold ``objectives``; the end of the file when there are none."""
    end = len(text.splitlines())
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise Invalid(f"not YAML: {getattr(error, 'problem', None) or error}", where=where) from None
    if root is None:
        return end, end
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise Invalid("it is written in braces", where=where, fix="put the objectives there by hand")
    for key, value in root.value:
        if getattr(key, "value", None) == "objectives":
            return key.start_mark.line, _last_line(value) + 1
    return end, end


def _last_line(node: yaml.Node) -> int:
    """The last line of a value: a block ends where its last item does, not at the comments after it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        inner = node.value[-1]
        return _last_line(inner[1] if isinstance(inner, tuple) else inner)
    return int(node.end_mark.line) - (node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line)
