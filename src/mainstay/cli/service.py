"""init, check, serve, doctor."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import click

from mainstay.cli.common import as_json, opened, put_json
from mainstay.errors import Conflict, MainstayError
from mainstay.prompts.loader import load as load_prompts
from mainstay.settings import AGREEMENT_FILE, SERVICE_FILE, Contradictory, Settings, load, service_folder

MIN_FREE_BYTES = 1024**3
_FORGET = "mainstay documents remove --source"
_WRITTEN = (
    (f"scaffold/{SERVICE_FILE}", SERVICE_FILE),
    (f"scaffold/{AGREEMENT_FILE}", AGREEMENT_FILE),
    ("scaffold/queries.yaml", "queries/queries.yaml"),
    ("prompts/builtin/answer.md", "prompts/answer.md"),
    (
        "scaffold/access.yaml",
        "documents/.access.yaml.example",
    ),  # by that name it is no rule: an empty one closes the folder
)


@click.command(help="Write a commented service folder: settings, agreement, prompts, queries.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
def init(directory: Path) -> None:
    there = [target for _, target in _WRITTEN if (directory / target).exists()]
    if there:
        raise Conflict(
            f"{there[0]} is there already", where=str(directory), fix="nothing was written: choose another folder"
        )
    for folder in (directory, directory / "prompts", directory / "queries", directory / "documents"):
        folder.mkdir(parents=True, exist_ok=True)
    package = files("mainstay")
    for name, target in _WRITTEN:
        (directory / target).write_text(package.joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
    ignored = directory / ".gitignore"
    lines = ignored.read_text(encoding="utf-8") if ignored.exists() else ""
    if "data/" not in lines.splitlines():
        ignored.write_text(f"{lines}data/\n", encoding="utf-8")
    click.echo(f"wrote {directory}/: {SERVICE_FILE}, {AGREEMENT_FILE}, prompts/, queries/, documents/")
    click.echo("who may read documents is said in documents/.access.yaml: see documents/.access.yaml.example")
    click.echo('next: put documents into documents/, then run: mainstay sync; mainstay ask "..."; mainstay serve')


@click.command(
    help="Check settings, agreement and prompts without starting. Exit code 2 and one line for the first mistake of a file;"
    " exit code 1 and a line for each contradiction of an agreement that can not be kept."
)
def check() -> None:
    folder = service_folder(click.get_current_context().obj["folder"])
    try:
        settings = load(folder)
    except Contradictory as error:
        for mistake in error.mistakes:
            click.echo(f"mainstay: {mistake.line()}", err=True)
        click.get_current_context().exit(1)
    prompts = load_prompts(folder / "prompts")
    click.echo(f"{folder}: settings, agreement and {len(prompts)} prompts are right")
    for source in settings.service.sources:
        if not (folder / source.folder).exists():
            click.secho(f"  source {source.name}: {folder / source.folder} does not exist yet", fg="yellow", err=True)


@click.command(help="Serve the HTTP API and the page until stopped.")
@click.option("--host", help="Address to listen on [default: listen.host of mainstay.yaml].")
@click.option("--port", type=click.IntRange(0, 65535), help="Port [default: listen.port].")
def serve(host: str | None, port: int | None) -> None:
    from mainstay.web.server import serve as run  # brings FastAPI, half a second that no other command should pay

    with opened() as app:
        listen = app.settings.service.listen
        run(app, host or listen.host, listen.port if port is None else port)


@click.command(help="Look at this machine and service and say what is wrong.")
@as_json
def doctor(json_: bool) -> None:
    folder = service_folder(click.get_current_context().obj["folder"])
    checks = [*_machine(folder), *_service(folder)]
    if json_:
        put_json([{"check": name, "ok": ok, "detail": detail} for name, ok, detail in checks])
    else:
        for name, ok, detail in checks:
            click.secho(f"{'ok  ' if ok else 'LOOK'} ", fg="green" if ok else "red", nl=False)
            click.echo(f"{name}: {detail}")
    if not all(ok for _, ok, _ in checks):
        click.get_current_context().exit(1)


_Check = tuple[str, bool, str]


def _machine(folder: Path) -> list[_Check]:
    free = shutil.disk_usage(folder).free if folder.exists() else 0
    onnx = version("onnxruntime") if find_spec("onnxruntime") else ""
    return [
        ("python", sys.version_info >= (3, 11), sys.version.split()[0]),
        ("sqlite", sqlite3.sqlite_version_info >= (3, 37), sqlite3.sqlite_version),
        ("disk", free > MIN_FREE_BYTES, f"{free / 1024**3:.1f} GB free"),
        (
            "onnxruntime",
            True,
            onnx or "not installed: minilm runs on numpy, half as fast (pip install 'mainstay[minilm]')",
        ),
    ]


def _service(folder: Path) -> list[_Check]:
    try:
        settings = load(folder)
    except MainstayError as error:
        return [("settings", False, error.line())]
    checks: list[_Check] = [("settings", True, str(folder / SERVICE_FILE))]
    try:
        with opened() as app:
            intact = app.database.integrity()
            checks.append(
                ("database", intact == "ok", f"{app.database.where} (schema {app.database.revision}): {intact}")
            )
            if intact != "ok" and app.database.dialect == "sqlite":
                return [*checks, ("service", False, "damaged: run mainstay restore BACKUP --force")]
            checks.append(("sandbox", True, f"parsing is guarded by: {', '.join(app.sandbox.guards())}"))
            embedder = app.embedder()
            done, total = app.documents.embedding_progress(embedder.identity)
            checks.append(
                (
                    "embedder",
                    True,
                    f"{embedder.identity.name}, {embedder.identity.dims} numbers; {done} of {total} pieces have vectors",
                )
            )
            wrong = app.ledger.check()
            checks.append(("ledger", not wrong, "; ".join(wrong[:3]) or "every total is the sum of its entries"))
            wanted = app.wanted_embedder().identity
            if wanted != embedder.identity:
                checks.append(
                    ("embedder", False, f"mainstay.yaml asks for {wanted.name}: run mainstay documents reembed")
                )
            held = app.prepare_search()
            checks.append(("index", held == total, f"{held} pieces, searched by: {app.search_engine}"))
            checks.extend(_sources(settings, app.documents.sources()))
            checks.extend(
                (f"source {name}", False, f"named nowhere, but {count} documents of it answer: {_FORGET} {name}")
                for name, count in app.orphans().items()
            )
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)  # with PostgreSQL nothing may be in it yet
        private = settings.data.stat().st_mode & 0o077 == 0
        advice = "for its owner alone" if private else f"others may read it: chmod 700 {settings.data}"
        checks.append(("data folder", private, advice))
    except MainstayError as error:
        checks.append(("service", False, error.line()))
    except OSError as error:
        checks.append(("service", False, f"{error.filename or settings.data}: {error.strerror}"))
    return checks


def _sources(settings: Settings, known: list[dict[str, object]]) -> list[_Check]:
    synced = {str(held["name"]): held for held in known}
    checks: list[_Check] = []
    for source in settings.service.sources:
        held = synced.get(source.name)
        there = (settings.folder / source.folder).exists()
        detail = (
            f"{held['state']} at {held['synced_at']:%Y-%m-%d %H:%M}"
            if held
            else "never synchronised: run mainstay sync"
        )
        checks.append(
            (f"source {source.name}", there and held is not None, detail if there else "its folder does not exist")
        )
    return checks
