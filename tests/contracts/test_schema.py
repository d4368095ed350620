"""The schema is a promise: today's equals the sum of the migrations, and what older programs left becomes today's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool
from tests.contracts.worlds import NEW_TABLES, address, frozen
from tests.support.databases import skip_without_postgres

from mainstay.errors import Invalid
from mainstay.storage import migrations
from mainstay.storage.database import DIALECTS, Address, open_database
from mainstay.storage.postgres import parsed
from mainstay.storage.schema import acl_grant, document, fact, job, metadata
from mainstay.storage.sums import Shape, sum_of

RELEASED = [1, 2, 4, 5, 6, 7, 8, 9]  # revisions that change tables of both databases
# What a migration of PostgreSQL adds there alone: nothing of it is in today's common schema.
POSTGRESQL_ALONE = {"document_permitted"}


@pytest.fixture(params=DIALECTS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Address]:
    """An empty database."""
    skip_without_postgres(request.param)
    with address(request.param, tmp_path) as at:
        yield at


def plain(at: Address, schema: str = "mainstay") -> Engine:
    """Connections that know nothing of our rules."""
    if not at.url.startswith("postgresql"):
        return create_engine(f"sqlite:///{at.url}", poolclass=NullPool)
    arguments = parsed(at.url)[1]
    engine = create_engine("postgresql+pg8000://", connect_args=arguments, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        cursor.execute(
            f"SELECT set_config('search_path', '{schema}', false), set_config('mainstay.access', 'all', false)"
        )
        connection.commit()

    return engine


def shape(connection: Connection) -> dict[str, Any]:
    """Tables, columns with type and nullability, keys and indexes."""
    inspector = inspect(connection)
    return {
        table: {
            "columns": sorted((c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)),
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "unique": sorted(tuple(u["column_names"]) for u in inspector.get_unique_constraints(table)),
            "indexes": sorted(
                (i["name"] or "", tuple(i["column_names"]), bool(i["unique"]))
                for i in inspector.get_indexes(table)
                if "duplicates_constraint" not in i and i["name"] not in POSTGRESQL_ALONE
            ),
            "foreign": sorted(
                (tuple(f["constrained_columns"]), f["referred_table"], str(f["options"].get("ondelete")))
                for f in inspector.get_foreign_keys(table)
            ),
        }
        for table in metadata.tables
    }


def test_the_sum_of_migrations_is_the_schema(place: Address, tmp_path: Path) -> None:
    open_database(place).close()
    engine = plain(place)
    with engine.connect() as connection:
        migrated = shape(connection)
        tables = set(inspect(connection).get_table_names())
    assert tables == {*metadata.tables, "schema_revision"}
    engine.dispose()
    with address(engine.dialect.name, tmp_path, "fresh") as other:
        fresh = plain(other)
        with fresh.begin() as connection:
            metadata.create_all(connection)
            assert migrated == shape(connection)
        fresh.dispose()


def test_the_partial_index_of_jobs(place: Address) -> None:
    """An index with a condition, which inspection of SQLite does not show: by what it does."""
    database = open_database(place)
    with database.write() as connection:
        row = {column.name: 0 if "INT" in str(column.type) else "" for column in job.columns}
        connection.execute(
            job.insert(), [{**row, "job_id": f"done {n}", "key": "k", "state": "done"} for n in range(2)]
        )
        connection.execute(
            job.insert(), [{**row, "job_id": f"free {n}", "key": "", "state": "ready"} for n in range(2)]
        )
        connection.execute(job.insert(), {**row, "job_id": "one", "key": "k", "state": "ready"})
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(job.insert(), {**row, "job_id": "two", "key": "k", "state": "running"})
    database.close()


def test_migrating_again_changes_nothing(place: Address) -> None:
    first = open_database(place)
    assert (first.found, first.revision) == (0, migrations.newest())
    first.close()
    engine = plain(place)
    with engine.connect() as connection:
        before = shape(connection)
    again = open_database(place)
    assert again.found == again.revision == migrations.newest()
    again.close()
    with engine.connect() as connection:
        assert shape(connection) == before
    engine.dispose()


@pytest.mark.parametrize("released", [held for held in RELEASED if held < migrations.newest()])
def test_every_released_revision_becomes_todays_with_its_data(place: Address, released: int) -> None:
    engine = plain(place)
    with engine.begin() as connection:
        for number in (held for held in RELEASED if held <= released):
            # The rows of the first four fit all of these; from then on each are as their own program wrote them.
            migrations.migrate(connection, where=place.url, upto=max(number, min(released, NEW_TABLES)))
            for statement in frozen(number, connection.dialect.name):
                connection.exec_driver_sql(statement)
        vector = b"\0\x0a\xff'"
        mark = "%s" if connection.dialect.name == "postgresql" else "?"
        connection.exec_driver_sql(f"INSERT INTO vector VALUES ('e1', 1, {mark})", (vector,))
        inspector = inspect(connection)
        shapes = [
            Shape(name=table, columns=columns, key=tuple(inspector.get_pk_constraint(table)["constrained_columns"]))
            for table in inspector.get_table_names()
            if table in metadata.tables
            for columns in [tuple(column["name"] for column in inspector.get_columns(table))]
        ]
        before = {held.name: sum_of(connection, held) for held in shapes}
    assert all(total.rows for total in before.values()), "the frozen data has a row in every table"
    with (
        engine.connect() as connection,
        pytest.raises(migrations.Older, match=f"{released}, not {migrations.newest()}"),
    ):
        migrations.migrate(connection, where="", change=False)
    database = open_database(place)
    assert (database.found, database.revision) == (released, migrations.newest())
    with database.read() as connection:
        assert {held.name: sum_of(connection, held) for held in shapes} == before
        grants = {tuple(row) for row in connection.execute(select(acl_grant))}
        assert grants == {
            (1, "group:finance", 0),
            (1, 'user:ann"o', 0),
            (2, "public", 0),
            (2, "group:finance", 1),
            (2, "user:böb", 1),
        }
        assert connection.scalar(select(document.c.size)) == 2**40
    with database.write() as connection:  # and it can be used
        connection.execute(fact.insert().values(name="new", value="x"))
    database.close()
    engine.dispose()


def test_every_revision_of_before_has_frozen_data() -> None:
    """A new step that changes tables of both databases freezes the data of the revision before it."""
    common = {number for number, _, _ in migrations.steps()}
    assert common <= set(RELEASED), "add a revision_N.sql with what that revision added, and its number to RELEASED"


def test_two_processes_make_a_new_service_at_once(place: Address) -> None:
    code = (
        "import sys\n"
        "from mainstay.storage.database import Address, open_database\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "opened = open_database(Address(url=sys.argv[1]))\n"
        "print(opened.revision)\n"
        "opened.close()\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, place.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for child in both:
        assert child.stdout is not None
        child.stdout.readline()
    for child in both:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in both:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        assert out.strip() == str(migrations.newest())
    open_database(place, migrate=False).close()


def test_a_newer_revision_is_refused(place: Address) -> None:
    open_database(place).close()
    engine = plain(place)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE schema_revision SET number = 999")
    with pytest.raises(Invalid, match="newer Mainstay"):
        open_database(place)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT number FROM schema_revision").scalar_one() == 999
    engine.dispose()


def test_the_tables_of_some_other_program_are_left_alone(place: Address) -> None:
    engine = plain(place)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE invoices (number INTEGER)")
    with pytest.raises(Invalid, match="some other program"):
        open_database(place)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["invoices"]
    engine.dispose()


def test_an_empty_database_is_not_changed_by_looking(place: Address) -> None:
    with pytest.raises(migrations.Older):
        open_database(place, migrate=False)
    assert not Path(place.url).exists()
    open_database(place).close()
    open_database(place, migrate=False).close()
