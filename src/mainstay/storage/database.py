"""Connections to the one truth: many readers, one writer, and a schema that is always the one this program knows."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from mainstay.errors import Invalid, Unavailable
from mainstay.storage import migrations

BUSY_TIMEOUT_S = 30.0
_FIXES = {
    "full": "free disk space",
    "readonly": "make its folder writable",
    "unable to open": "make its folder exist and be writable",
}


class Database:
    """The SQL database of one service.

    ``read()`` gives a connection on a stable snapshot; ``write()`` gives one inside ``BEGIN IMMEDIATE``, one writer
    at a time in this
    process and, through SQLite's own lock, one at a time on the machine. Leaving ``write()`` without an error commits.

    Errors: Unavailable when the database is locked, full or not reachable; Invalid when the file is not ours or is newer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds every text
        self._engine = _sqlite_engine(path)
        self._writing = threading.Lock()
        try:
            with self.write() as connection:
                self.revision = migrations.migrate(connection, where=str(path))
        except BaseException:
            self._engine.dispose()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _translated(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")  # one snapshot for everything read inside
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self._writing, _translated(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def ping(self) -> None:
        """Proves that reading works; raises Unavailable otherwise."""
        with self.read() as connection:
            connection.exec_driver_sql("SELECT 1 FROM fact LIMIT 1").all()

    def integrity(self) -> str:
        """``ok``, or what is damaged."""
        with self.read() as connection:
            return str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        reason = str(error.orig)
        fix = next((fix for part, fix in _FIXES.items() if part in reason), "try again, or look who holds it open")
        raise Unavailable(f"the database does not answer ({reason})", where=str(path), fix=fix) from None
    except IntegrityError:
        raise
    except DatabaseError as error:
        raise Invalid(f"not a usable database ({error.orig})", where=str(path), fix="restore a backup") from None


def _sqlite_engine(path: Path) -> Engine:
    # SQLAlchemy's own pooling hands a connection to one thread at a time; sqlite3's check would only forbid that hand-over.
    engine = create_engine(
        f"sqlite+pysqlite:///{path}", connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S}, pool_size=16
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = (
            None  # we say BEGIN ourselves: sqlite3's implicit transactions can not be IMMEDIATE
        )
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-16384",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine
