"""demo: the sample company, asked by two people, then served."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

import click

from mainstay.access.keys import READER, Permission
from mainstay.app import App, open_app
from mainstay.cli.common import progress, show_answer
from mainstay.errors import Conflict
from mainstay.evaluation import load_queries
from mainstay.people_file import import_people
from mainstay.records.traces import Search

QUESTION = "How large is the salary increase budget for 2026?"
ASKERS = (("alice", "Alice, finance"), ("bram", "Bram, engineering"))
CARETAKER = ("hugo", "Hugo, administrator: the console shows everybody's requests, alerts, access, audit")
SETTINGS = """\
# The sample company. See docs/tutorial.md for what to try.
name: Harbourline Logistics
data: data
listen: {{host: 127.0.0.1, port: {port}}}
identity: {{anonymous: allow}}   # the page shows public documents to everybody
sources:
  - {{name: company, folder: company}}
"""


@click.command(help="Try the sample company: ingest it, ask one question as two people, serve the page.")
@click.option("--once", is_flag=True, help="Stop after the printed answers.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("mainstay-demo"),
    show_default=True,
    help="Where the sample service folder goes.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
def demo(once: bool, directory: Path, port: int) -> None:
    write_demo(directory, port)
    with open_app(directory.resolve()) as app:
        fill_demo(app, directory)
        for name, who in ASKERS:
            click.secho(f"\n{who}, asks: {QUESTION}\n", bold=True)
            show_answer(app.answer_as(QUESTION, name))
        click.echo(
            f"\nThe same question, two people, two answers: each sees what their groups may read. Folder: {directory}"
        )
        if once:
            return
        ask_around(app, directory)
        for name, who in (*ASKERS, CARETAKER):
            scopes = (*READER, *((Permission.ADMIN,) if (name, who) == CARETAKER else ()))
            _key, text = app.keyring.create(f"user:{name}", name="demo", scopes=map(str, scopes))
            click.echo(f"key for {who}: {text}", err=True)
        from mainstay.web.server import serve  # brings FastAPI, which --once does without

        serve(app, "127.0.0.1", port)


def write_demo(directory: Path, port: int = 8080) -> None:
    """The service folder of the sample company, its documents beside the settings; what is there already stays."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()) and not (directory / "people.yaml").exists():
        raise Conflict("not empty, and not the sample company", where=str(directory), fix="choose another --dir")
    with as_file(files("mainstay") / "demo") as sample:
        for name in ("company", "queries"):
            if not (directory / name).exists():
                shutil.copytree(sample / name, directory / name)
        if not (directory / "people.yaml").exists():
            shutil.copyfile(sample / "people.yaml", directory / "people.yaml")
    settings = directory / "mainstay.yaml"
    if not settings.exists():
        settings.write_text(SETTINGS.format(port=port), encoding="utf-8")


def ask_around(app: App, directory: Path) -> None:
    """The known questions, once, as the people who would ask them: so that the console has something to show."""
    known = load_queries(directory / "queries")
    if len(app.traces.search(Search(limit=len(known))).traces) < len(known):
        with progress("asking the known questions") as bar:
            for n, query in enumerate(known, 1):
                app.answer_as(query.question, query.asker)
                if bar is not None:
                    bar(n, len(known), query.id)


def fill_demo(app: App, directory: Path) -> None:
    """People, documents and vectors of the sample company."""
    people = import_people(app.people, directory / "people.yaml")
    with progress("reading the sample company") as bar:
        report = app.synchronise(app.source("company"), progress=bar)
    with progress("embedding") as bar:
        app.embed_waiting(progress=bar)
    app.prepare_search()
    documents = report.added + report.changed + report.unchanged
    click.echo(f"Harbourline Logistics: {documents} documents, {people.users or 8} people", err=True)
    for path, reason in sorted(report.quarantined.items()):
        click.echo(f"  not read: {path}: {reason}", err=True)
