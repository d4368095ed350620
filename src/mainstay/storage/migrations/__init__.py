"""Numbered steps from the oldest schema to today's: ``NNNN_name.sql``, run in order inside one transaction.

Plain SQL, because the steps are a promise to be read years later without this program. ``{blob}`` stands for the database's
type of bytes; everything else is written in SQL both databases understand.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from sqlalchemy import Connection, inspect, text

from mainstay.errors import Invalid

_BLOB = {"sqlite": "BLOB", "postgresql": "BYTEA"}


def steps() -> Iterator[tuple[int, str, str]]:
    """(number, name, SQL) of each step, in order."""
    for entry in sorted(files(__name__).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            number, _, name = entry.name.removesuffix(".sql").partition("_")
            yield int(number), name, entry.read_text(encoding="utf-8")


def migrate(connection: Connection, *, where: str) -> int:
    """Bring the database to today's schema and return its number.

    Errors: Invalid when a newer program wrote it, or when it holds tables that are not Mainstay's.
    """
    at = _revision(connection, where)
    for number, _name, sql in steps():
        if number > at:
            for statement in sql.format(blob=_BLOB[connection.dialect.name]).split(";"):
                if statement.strip():
                    connection.exec_driver_sql(statement)
            connection.execute(text("UPDATE schema_revision SET number = :number"), {"number": number})
            at = number
    return at


def _revision(connection: Connection, where: str) -> int:
    tables = set(inspect(connection).get_table_names())
    if "schema_revision" not in tables:
        if tables:
            raise Invalid(
                "a database of some other program",
                where=where,
                fix="name another file under database: in mainstay.yaml",
            )
        connection.exec_driver_sql("CREATE TABLE schema_revision (number INTEGER NOT NULL)")
        connection.exec_driver_sql("INSERT INTO schema_revision VALUES (0)")
    at = int(connection.exec_driver_sql("SELECT number FROM schema_revision").scalar_one())
    newest = max(number for number, _, _ in steps())
    if at > newest:
        raise Invalid(
            f"written by a newer Mainstay (schema {at}, this one knows {newest})",
            where=where,
            fix="upgrade this program",
        )
    return at
