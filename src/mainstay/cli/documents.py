"""ingest, sync, documents, quality."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from mainstay.access.acl import parse_acl, parse_principal
from mainstay.app import App
from mainstay.cli.common import (
    OPERATOR,
    actor,
    as_json,
    as_user,
    opened,
    printable,
    progress,
    put_json,
    table,
    typed_metadata,
)
from mainstay.corpus.ingest import API_SOURCE, Report
from mainstay.corpus.ports import AccessRule, DocumentRecord
from mainstay.corpus.quality import examine
from mainstay.corpus.sources import SourceSettings, origin_of
from mainstay.errors import Conflict, Invalid, MainstayError, NotFound
from mainstay.settings import parse_rules
from mainstay.shapes import explanation_view, job_view
from mainstay.workflows.ports import Job

detached = click.option(
    "--detach", is_flag=True, help="Leave it to a worker: print the job's id and do not wait (see: mainstay jobs)."
)


@click.command(
    help="Read folders or files into the service. Repeating it is harmless: only what changed is read again."
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--access",
    "access",
    multiple=True,
    metavar="PRINCIPAL",
    help="Who may read it where nothing nearer is stated: public, user:NAME, group:NAME. Repeatable.",
)
@click.option("--source", "name", help="Name of the source [default: the folder's name].")
@click.option(
    "--rules",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with access, exclude and rules by pattern, as under sources: in mainstay.yaml.",
)
@click.option("--delete-all", is_flag=True, help="Accept that a source that held documents is empty now.")
@detached
@as_json
def ingest(
    paths: Sequence[Path],
    access: Sequence[str],
    name: str | None,
    rules: Path | None,
    delete_all: bool,
    detach: bool,
    json_: bool,
) -> None:
    if name is not None and len(paths) > 1:
        raise Invalid("--source names one path, but several are given", fix="ingest them one by one")
    with opened() as app:
        reports: list[Report] = []
        jobs: list[Job] = []
        for path in paths:
            if not path.exists():
                raise Invalid("does not exist", where=str(path), fix="name a folder or a file")
            source = app.remember_source(_source_settings(path, access, name, rules)).name
            if detach:
                jobs.append(app.ask_for_sync(source, delete_all=delete_all, requested_by=OPERATOR.principal))
            else:
                reports.append(_sync(app, source, delete_all))
        if detach:
            _put_jobs(jobs, json_)
            return
        _embed(app)
        warned = _unstated(app, reports)
    _put_reports(reports, json_, warned)


def _source_settings(path: Path, access: Sequence[str], name: str | None, rules: Path | None) -> SourceSettings:
    source = name or re.sub(r"[^\w.-]+", "-", path.resolve().name).strip("-")[:64] or "files"
    if not re.fullmatch(r"[\w.-]{1,64}", source) or source == API_SOURCE:
        raise Invalid(f"{source!r} can not name a source", where="--source", fix="use letters, digits, - . _")
    settings = SourceSettings(name=source, folder=str(path.resolve()))
    if rules is not None:
        settings = replace(parse_rules(rules), name=source, folder=str(path.resolve()))
    if access:
        parse_acl(list(access), "--access")
        settings = replace(settings, access=list(access))
    return settings


@click.command(help="Bring all sources up to date: what was added, changed, moved, deleted, and whose access changed.")
@click.argument("names", nargs=-1)
@click.option("--delete-all", is_flag=True, help="Accept that a source that held documents is empty now.")
@detached
@as_json
def sync(names: Sequence[str], delete_all: bool, detach: bool, json_: bool) -> None:
    failed = False
    with opened() as app:
        wanted = list(names) or app.source_names()
        if not wanted:
            raise NotFound(
                "no sources", where="mainstay.yaml", fix="add one under sources:, or run: mainstay ingest FOLDER"
            )
        if detach:
            asked = [app.ask_for_sync(name, delete_all=delete_all, requested_by=OPERATOR.principal) for name in wanted]
            _put_jobs(asked, json_)
            return
        reports = []
        for name in wanted:
            try:
                reports.append(_sync(app, name, delete_all))
            except MainstayError as error:
                if len(wanted) == 1:
                    raise
                click.echo(f"mainstay: {name}: {error.line()}", err=True)
                failed = True
        _embed(app)
        warned = _unstated(app, reports)
        orphans = app.orphans()
    _put_reports(reports, json_, warned)
    for name, count in orphans.items():
        click.secho(
            f"{name}: named nowhere, but {count} documents of it answer; mainstay documents remove --source {name}",
            fg="yellow",
            err=True,
        )
    if failed:
        click.get_current_context().exit(3)


def _sync(app: App, source: str, delete_all: bool) -> Report:
    with progress(f"reading {source}") as bar:
        return app.sync_now(source, watch=bar, delete_all=delete_all)


def _embed(app: App) -> None:
    with progress("embedding") as bar:
        app.embed_now(watch=bar)
    app.prepare_search()


def _put_jobs(jobs: Sequence[Job], json_: bool) -> None:
    if json_:
        put_json([job_view(job) for job in jobs])
        return
    for job in jobs:
        click.echo(job.job_id)


def _unstated(app: App, reports: Sequence[Report]) -> dict[str, int]:
    """How many documents of each source nobody but administrators can read because no access is stated."""
    scope = app.gate.scope(OPERATOR)
    return {
        report.source: sum(
            not held.acl.allow
            for held in app.documents.records(scope=scope, source_name=report.source, limit=1_000_000)
        )
        for report in reports
    }


def _put_reports(reports: Sequence[Report], json_: bool, private: dict[str, int]) -> None:
    if json_:
        put_json([{**vars(report), "private": private[report.source]} for report in reports])
        return
    for report in reports:
        counts = [
            f"{count} {what}"
            for what, count in (
                ("added", report.added),
                ("changed", report.changed),
                ("moved", report.moved),
                ("removed", report.removed),
                ("with other access", report.access_changed),
                ("unchanged", report.unchanged),
                ("of them not read", len(report.quarantined)),
            )
            if count
        ]
        click.echo(f"{report.source}: {', '.join(counts) or 'nothing to do'}")
        for path, reason in sorted(report.quarantined.items()):
            click.secho(f"  not read: {path}: {reason}", fg="yellow", err=True)
        for problem in report.problems:
            click.secho(f"  {problem}", fg="yellow", err=True)
        if private[report.source]:
            click.secho(
                f"  {private[report.source]} documents state no access: only administrators can find them"
                " (add .access.yaml, access: in the source, or --access)",
                fg="yellow",
                err=True,
            )


@click.group(help="List, show, remove documents; see and change access.")
def documents() -> None:
    pass


@documents.command("list", help="Documents that the asker may read.")
@as_user
@click.option("--source", help="Only of this source.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1))
@as_json
def documents_list(user: str | None, source: str | None, limit: int, json_: bool) -> None:
    with opened() as app:
        scope = app.gate.scope(actor(app, user))
        held = app.documents.records(scope=scope, source_name=source, limit=limit)
    held.sort(key=lambda record: (record.source, record.path))
    if json_:
        put_json(held)
    else:
        table(
            [
                (r.doc_id, r.source, r.path, r.title[:40], r.chunks, r.status, " ".join(r.acl.allow) or "private")
                for r in held
            ],
            ("id", "source", "path", "title", "pieces", "state", "access"),
        )


@documents.command("show", help="One document: facts, findings, text.")
@click.argument("document")
@as_user
@click.option("--text", "with_text", is_flag=True, help="Print the stored text.")
@as_json
def documents_show(document: str, user: str | None, with_text: bool, json_: bool) -> None:
    with opened() as app:
        scope = app.gate.scope(actor(app, user))
        record = _one(app, document, user)
        stored = app.documents.text(record.doc_id, record.version, scope=scope)
    text = stored[0] if stored else ""
    if json_:
        put_json({**vars(record), "text": text} if with_text else record)
        return
    click.secho(record.title, bold=True)
    for name, value in (
        ("id", record.doc_id),
        ("version", record.version),
        ("source", f"{record.source}: {record.path}"),
        ("type", record.media_type),
        ("language", record.language),
        ("modified", record.modified),
        ("state", record.status + (f": {record.reason}" if record.reason else "")),
        ("pieces", record.chunks),
        (
            "access",
            f"allow {', '.join(record.acl.allow) or 'nobody'}; deny {', '.join(record.acl.deny) or 'nobody'} ({record.origin})",
        ),
    ):
        click.echo(f"  {name:10} {value}")
    for key, held in sorted(record.metadata.items()):
        click.echo(f"  {key:10} {typed_metadata(held)}")
    for kind, detail in record.findings:
        click.secho(f"  finding    {kind}: {detail}", fg="yellow")
    if with_text:
        click.echo()
        click.echo(text)


def _one(app: App, document: str, user: str | None) -> DocumentRecord:
    found = app.documents.find(document, scope=app.gate.scope(actor(app, user)))
    if not found:
        raise NotFound("no such document", where=document, fix="see: mainstay documents list")
    if len(found) > 1:
        raise Conflict(
            f"{len(found)} sources hold this path", where=document, fix="use the id: mainstay documents list"
        )
    return found[0]


@documents.command(
    "remove",
    help="Delete documents with all their versions. Those of a folder come back at the next sync, unless the file is gone.",
)
@click.argument("names", nargs=-1, metavar="DOCUMENT...")
@click.option("--source", help="Remove a source that is no longer wanted, with all its documents.")
def documents_remove(names: Sequence[str], source: str | None) -> None:
    if not names and source is None:
        raise Invalid("nothing is named", where="documents remove", fix="name documents, or --source")
    with opened() as app:
        if source is not None:
            click.echo(f"removed {app.forget_source(source)}")
        if not names:
            return
        held = [_one(app, name, None) for name in names]
        removed = app.documents.remove([record.doc_id for record in held], app.clock.now())
    click.echo(f"removed {removed}")


@documents.command(
    "access", help="Why somebody may or may not read a document; with --set, change the rule of a pushed document."
)
@click.argument("document")
@as_user
@click.option("--why", "person", metavar="USER", help="Every step from this person to the answer, through all groups.")
@click.option(
    "--set", "principals", multiple=True, metavar="PRINCIPAL", help="Who may read it from now on. Repeatable."
)
@click.option(
    "--deny",
    "denied",
    multiple=True,
    metavar="PRINCIPAL",
    help="Who may not, whatever else holds. With --set. Repeatable.",
)
@as_json
def documents_access(
    document: str,
    user: str | None,
    person: str | None,
    principals: Sequence[str],
    denied: Sequence[str],
    json_: bool,
) -> None:
    with opened() as app:
        record = _one(app, document, None)
        if principals or denied:
            if record.source != API_SOURCE:
                raise Conflict(
                    f"its access is stated in its source ({record.origin})",
                    where=record.path,
                    fix="change it there and run: mainstay sync",
                )
            allow = list(principals) or list(record.acl.allow)  # with --deny alone, who was allowed stays so
            acl = parse_acl({"allow": allow, "deny": list(denied)}, "--set")
            app.documents.set_access(record.doc_id, AccessRule(origin=origin_of(acl), acl=acl), app.clock.now())
            record = _one(app, document, None)
        decision = None if user is None else app.gate.explain(actor(app, user), record.acl)
        named = None if person is None else parse_principal(person if ":" in person else f"user:{person}", "--why")
        why = None if named is None else app.why(record.acl, named)
    if json_:
        shown = {"document": record.doc_id, "path": record.path, "origin": record.origin, "access": record.acl}
        if decision:
            shown |= {"as": user, "decision": decision}
        if why is not None:
            shown |= {"why": explanation_view(record, why, curator=True)}
        put_json(shown)
        return
    click.echo(
        f"{record.path}: allow {', '.join(record.acl.allow) or 'nobody'}; deny {', '.join(record.acl.deny) or 'nobody'}"
    )
    click.echo(f"  stated at {record.origin}")
    if decision is not None:
        click.echo(f"  {user} {'may' if decision.visible else 'may not'} read it: {decision.reason}")
    for line in why.lines() if why is not None else ():
        click.echo(f"  {printable(line, 2000)}")


@documents.command(
    "reembed", help="Make new vectors with the embedder of mainstay.yaml; searches go on with the old ones meanwhile."
)
def documents_reembed() -> None:
    with opened() as app, progress("embedding") as bar:
        identity = app.reembed(progress=bar)
    click.echo(f"in force: {identity.name} ({identity.precision}, {identity.dims} numbers, {identity.digest[:12]})")


@click.command(
    help="Findings about the documents: near-duplicates, bad pieces, missing dates, hidden text, unread files."
)
@as_user
@click.option("--kind", help="Only this kind.")
@as_json
def quality(user: str | None, kind: str | None, json_: bool) -> None:
    with opened() as app:
        issues = examine(app.documents, scope=app.gate.scope(actor(app, user)), now=app.clock.now())
    issues = [issue for issue in issues if kind in (None, issue.kind)]
    if json_:
        put_json(issues)
    elif not issues:
        click.echo("nothing found")
    else:
        table(
            [(issue.kind, " ~ ".join(issue.documents), issue.detail[:100]) for issue in issues],
            ("kind", "document", "why"),
        )
        click.echo(f"{len(issues)} findings", err=True)
