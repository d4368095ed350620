"""migrate, backup, restore."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import click

from mainstay.cli.common import as_json, operator, printable, progress, put_json, table
from mainstay.clock import SystemClock
from mainstay.errors import Conflict
from mainstay.records.audit import AuditEntry, By, acting
from mainstay.settings import Settings, expanded, load, service_folder
from mainstay.storage import backup as backups
from mainstay.storage.audit import append
from mainstay.storage.database import Address, Database, address_of, dialect_of, open_database
from mainstay.storage.migrations import Older, newest
from mainstay.storage.transfer import Transfer, transfer

_PASSWORD = "MAINSTAY_DATABASE_PASSWORD"  # noqa: S105 - a variable's name
pg_bin = click.option(
    "--pg-bin",
    "tools",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where PostgreSQL's pg_dump and pg_restore are [default: on the PATH].",
)


def _settings() -> Settings:
    return load(service_folder(click.get_current_context().obj["folder"]))


@click.command(
    help="Bring the database's schema up to this program's. With --to, copy the whole service into another, empty "
    "database: verified in the end, and continued where it was when it is interrupted and run again. Stop "
    "serving first."
)
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 when the schema is older.")
@click.option(
    "--to",
    "url",
    metavar="URL",
    help="postgresql://user:password@host/name, or a file. '${NAME}' is read from the environment.",
)
@click.option("--schema", metavar="NAME", default="mainstay", show_default=True, help="PostgreSQL's schema, with --to.")
@as_json
def migrate(check: bool, url: str | None, schema: str, json_: bool) -> None:
    settings = _settings()
    if url is None:
        _migrate(address_of(settings), check, json_)
        return
    if check:
        raise click.UsageError("--check and --to do not go together.")
    target = Address(url=_target(url, settings), schema=schema)
    source = open_database(address_of(settings))
    try:
        opened = open_database(target, unfinished=True)
        try:
            done = _copy(source, opened)
        finally:
            opened.close()
    finally:
        source.close()
    _report(source, opened, done, _line(url, target), json_)


def _migrate(address: Address, check: bool, json_: bool) -> None:
    try:
        opened = open_database(address, migrate=not check)
    except Older as older:
        if json_:
            put_json({"from": older.at, "to": newest(), "due": True})
        else:
            click.echo(f"{older.where}: schema {older.at}, this program's is {newest()}: run mainstay migrate")
        click.get_current_context().exit(1)
    opened.close()
    if json_:
        put_json({"from": opened.found, "to": opened.revision, "due": False})
    elif opened.found == opened.revision:
        click.echo(f"{opened.where}: schema {opened.revision}, up to date")
    else:
        click.echo(f"{opened.where}: schema {opened.found} -> {opened.revision}")


def _target(url: str, settings: Settings) -> str:
    """The address to copy to. A file is meant from where the user stands."""
    where = expanded(url, "--to")
    if dialect_of(where) == "sqlite":
        where = str(Path(where.removeprefix("sqlite:///")).absolute())
        if Path(where).resolve() == Path(settings.database).resolve():
            raise Conflict("this is the database the service has already", where=where, fix="name another one")
    return where


def _copy(source: Database, target: Database) -> Transfer:
    with progress("copying") as bar:
        return transfer(source, target, progress=bar)


def _report(source: Database, target: Database, done: Transfer, line: str, json_: bool) -> None:
    if json_:
        put_json(
            {
                "from": source.where,
                "to": target.where,
                "revision": target.revision,
                "resumed": done.resumed,
                "tables": {name: {"rows": held.rows, "checksum": held.hex} for name, held in done.tables.items()},
                "mended": done.mended,
                "settings": line,
            }
        )
        return
    table([(name, held.rows, held.hex[:16]) for name, held in done.tables.items()], ("table", "rows", "checksum"))
    for name, count in done.mended.items():
        click.echo(f"{name}: {count} rows held U+0000, which PostgreSQL can not keep: it is U+FFFD now", err=True)
    click.echo(f"\n{target.where}: equal to {source.where}, row for row. Put into mainstay.yaml:\n\n{line}\n")


def _line(given: str, target: Address) -> str:
    """The line for mainstay.yaml. A password that was written out is not printed, but named as a variable."""
    if dialect_of(target.url) == "sqlite":
        return f"database: {{url: '{target.url}'}}"
    if "${" not in given:
        held = urlsplit(given)
        if held.password:
            host = held.netloc.rpartition("@")[2]
            given = held._replace(netloc=f"{held.username}:${{{_PASSWORD}}}@{host}").geturl()
    return f"database: {{url: '{given}', schema: {target.schema}}}"


@click.command(
    help="Keep the whole service in one new file (or in a folder, under a name of its own), while it runs: the database, "
    "settings, agreement, prompts, queries. Whoever has the file can read every document."
)
@click.argument("target", type=click.Path(path_type=Path))
@pg_bin
@as_json
def backup(target: Path, tools: Path | None, json_: bool) -> None:
    settings = _settings()
    _noted(settings, target)
    with progress("checking what was copied") as bar:
        written, manifest = backups.take(settings, target, tools=tools, progress=bar)
    if json_:
        put_json(
            {
                "file": str(written),
                "bytes": written.stat().st_size,
                "dialect": manifest.dialect,
                "revision": manifest.revision,
                "tables": {name: held.rows for name, (_, held) in manifest.tables.items()},
                "files": sorted(manifest.files),
            }
        )
        return
    documents = manifest.tables["document"][1].rows
    click.echo(
        f"{written}: {documents} documents, {len(manifest.files)} files of settings, "
        f"{written.stat().st_size / 1e6:.1f} MB; bring it back with: mainstay restore {written} --into DIR"
    )


def _noted(settings: Settings, target: Path) -> None:
    """A copy of everything leaves: the audit log says so first, where the schema is one that has a log."""
    try:
        database = open_database(address_of(settings), migrate=False, unfinished=True)
    except Older:
        return
    try:
        entry = AuditEntry(
            action="export.backup", subject="service:mainstay", at=SystemClock().now(), details={"target": target.name}
        )
        with acting(By(principal=operator())), database.write(alone=False) as connection:
            append(connection, entry)
    finally:
        database.close()


@click.command(
    help="Bring a service back from a file made by `mainstay backup`: into its folder, or into a new one. Everything is "
    "verified before anything is replaced."
)
@click.argument("file", metavar="BACKUP", type=click.Path(path_type=Path))
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The service folder to bring it into [default: as for every command].",
)
@click.option("--force", is_flag=True, help="Replace the database that is there; it is kept beside the new one.")
@pg_bin
@as_json
def restore(file: Path, into: Path | None, force: bool, tools: Path | None, json_: bool) -> None:
    folder = into or service_folder(click.get_current_context().obj["folder"])
    with progress("verifying") as bar:
        done = backups.restore(file, folder, force=force, tools=tools, progress=bar)
    held = done.manifest
    if json_:
        put_json(
            {
                "folder": str(folder),
                "database": done.database,
                "created": held.created,
                "revision": held.revision,
                "tables": {name: total.rows for name, (_, total) in held.tables.items()},
                "replaced": done.aside,
                "written": done.written,
                "kept": done.kept,
            }
        )
        return
    click.echo(
        f"{folder}: {printable(held.name)} as of {printable(held.created)}, "
        f"{held.tables['document'][1].rows} documents, verified"
    )
    if done.aside:
        click.echo(f"what was there is kept: {done.aside}; remove it when you are sure", err=True)
    for name in done.kept:
        click.echo(f"{name} differs from the backup's and was left as it is", err=True)
