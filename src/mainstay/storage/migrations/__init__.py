"""Numbered steps from the oldest schema to today's: ``NNNN_name.sql``, run in order inside one transaction.

Plain SQL, because the steps are a promise to be read years later without this program. ``{blob}`` and ``{float}`` stand
for the database's types of bytes and of 64-bit floats; a file ``NNNN_name.sqlite.sql`` or ``NNNN_name.postgresql.sql``
runs after the common one of its number, on that database alone. A statement ends with ``;`` at the end of a line; inside
``$$ ... $$`` it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from sqlalchemy import Connection, inspect, text

from mainstay.errors import Invalid

_TYPES = {
    "sqlite": {"{blob}": "BLOB", "{float}": "DOUBLE"},
    "postgresql": {"{blob}": "BYTEA", "{float}": "DOUBLE PRECISION"},
}


class Older(Invalid):
    """The schema is older than this program, and was not to be changed. ``at`` is its number."""

    def __init__(self, at: int, *, where: str) -> None:
        self.at = at
        super().__init__(
            f"the schema is older than this program ({at}, not {newest()})", where=where, fix="run: mainstay migrate"
        )


def steps(dialect: str | None = None) -> Iterator[tuple[int, str, str]]:
    """(number, name, SQL) of each step, in order, for one database or (None) what is common to both."""
    for entry in sorted(files(__name__).iterdir(), key=lambda entry: (entry.name[:4], entry.name.count("."))):
        if entry.name.endswith(".sql"):
            stem, _, only = entry.name.removesuffix(".sql").partition(".")
            number, _, name = stem.partition("_")
            if only in ("", dialect):
                yield int(number), name, entry.read_text(encoding="utf-8")


def newest() -> int:
    """The revision this program knows."""
    return max(number for dialect in _TYPES for number, _, _ in steps(dialect))


def migrate(connection: Connection, *, where: str, change: bool = True, upto: int | None = None) -> int:
    """Bring the database to today's schema (or to ``upto``: for tests of what old programs left) and return its number.

    Errors: Invalid when a newer program wrote it, when it holds tables that are not Mainstay's; Older when it is older and
    ``change`` is not wanted.
    """
    at = revision(connection, where, change=change)
    goal = newest() if upto is None else upto
    if at < goal and not change:
        raise Older(at, where=where)
    dialect = connection.dialect.name
    for number, _name, step in steps(dialect):
        sql = step
        if at < number <= goal:
            for mark, type_ in _TYPES[dialect].items():
                sql = sql.replace(mark, type_)
            for statement in statements(sql):
                connection.exec_driver_sql(statement.replace("%", "%%") if dialect == "postgresql" else statement)
    if at < goal:
        connection.execute(text("UPDATE schema_revision SET number = :number"), {"number": goal})
    return max(at, goal)


def statements(sql: str) -> Iterator[str]:
    """The statements of a step."""
    lines: list[str] = []
    quoted = False
    for line in sql.splitlines():
        if not quoted and line.lstrip().startswith("--"):
            continue
        quoted ^= line.count("$$") % 2 == 1
        lines.append(line)
        if line.rstrip().endswith(";") and not quoted:
            yield "\n".join(lines).rstrip().removesuffix(";")
            lines = []
    if "".join(lines).strip():
        yield "\n".join(lines)


def revision(connection: Connection, where: str, *, change: bool = True) -> int:
    """The number of the schema that is there, 0 for an empty database."""
    # Named, because the connection's default was looked up before the service's schema was made.
    schema = connection.scalar(text("SELECT current_schema()")) if connection.dialect.name == "postgresql" else None
    tables = set(inspect(connection).get_table_names(schema))
    if "schema_revision" not in tables:
        if tables:
            raise Invalid(
                "a database of some other program",
                where=where,
                fix="name another one under database: in mainstay.yaml",
            )
        if not change:
            return 0
        connection.exec_driver_sql("CREATE TABLE schema_revision (number INTEGER NOT NULL)")
        connection.exec_driver_sql("INSERT INTO schema_revision VALUES (0)")
    numbers = connection.exec_driver_sql("SELECT number FROM schema_revision").scalars().all()
    if len(numbers) != 1:
        raise Invalid("schema_revision does not hold one number", where=where, fix="restore a backup")
    at = int(numbers[0])
    if at > newest():
        raise Invalid(
            f"written by a newer Mainstay (schema {at}, this one knows {newest()})",
            where=where,
            fix="upgrade this program",
        )
    return at
