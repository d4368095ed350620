"""The schema is a promise: today's equals the sum of the migrations, and running them again changes nothing."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Inspector, create_engine, inspect

from mainstay.storage import migrations
from mainstay.storage.database import Address, open_database
from mainstay.storage.schema import metadata


def shape(inspector: Inspector) -> dict[str, object]:
    """Tables, columns with type and nullability, keys and indexes."""
    return {
        table: {
            "columns": sorted((c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)),
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "unique": sorted(tuple(u["column_names"]) for u in inspector.get_unique_constraints(table)),
            "indexes": sorted((i["name"] or "", tuple(i["column_names"])) for i in inspector.get_indexes(table)),
            "foreign": sorted(
                (tuple(f["constrained_columns"]), f["referred_table"]) for f in inspector.get_foreign_keys(table)
            ),
        }
        for table in inspector.get_table_names()
        if table != "schema_revision"
    }


def test_the_sum_of_migrations_is_the_schema(tmp_path: Path) -> None:
    database = open_database(Address(url=str(tmp_path / "migrated.db")))
    with database.read() as connection:
        migrated = shape(inspect(connection))
    database.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    metadata.create_all(engine)
    assert migrated == shape(inspect(engine))
    engine.dispose()


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    first = open_database(Address(url=str(tmp_path / "a.db")))
    revision = first.revision
    first.close()
    again = open_database(Address(url=str(tmp_path / "a.db")))
    assert again.revision == revision == max(number for number, _, _ in migrations.steps())
    again.close()
