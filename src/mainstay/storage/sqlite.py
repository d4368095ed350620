"""SQLite: write-ahead log, readers beside one writer, commits shared by writers who wait together.

**Group commit.** A durable commit waits for the disk. Writers that queue up meanwhile run one after the other inside
one transaction, each in a savepoint of its own, and one commit serves them all; none returns before it. A writer that
fails takes back its own savepoint alone.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from mainstay.errors import Invalid, MainstayError, Unavailable
from mainstay.storage import migrations
from mainstay.storage.database import check_fence
from mainstay.types import Scope
from mainstay.workflows.ports import Fence

BUSY_TIMEOUT_S = 30.0
MAX_GROUP = 64
MAX_GROUP_S = 0.05
_FIXES = {
    "full": "free disk space",
    "disk I/O": "look at the disk: it may be full or failing",
    "readonly": "make its folder writable",
    "unable to open": "make its folder exist and be writable",
}


class _Group:
    """Writers whose changes are committed together."""

    def __init__(self, connection: Connection, *, durable: bool) -> None:
        self.connection, self.durable = connection, durable
        self.begun = time.monotonic()
        self.members = 0
        self.committed = threading.Event()
        self.failure: BaseException | None = None


class SqliteDatabase:
    """``storage.database.Database`` over one file."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, url: str, *, migrate: bool = True) -> None:
        self.path = Path(url.removeprefix("sqlite:///"))
        self.where = str(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds every text
        self._engine = _engine(self.path)
        self._turn = threading.Lock()  # held by the writer whose turn it is
        self._queue = threading.Lock()  # guards the two counts
        self._waiting = {True: 0, False: 0}  # writers waiting for their turn: durable ones, others
        self._group: _Group | None = None
        self._hints: dict[str, threading.Event] = {}
        try:
            with self.write() as connection:
                self.revision = migrations.migrate(connection, where=self.where, change=migrate)
        except BaseException:
            self._engine.dispose()
            raise

    @contextmanager
    def read(self, scope: Scope | None = None) -> Iterator[Connection]:  # noqa: ARG002 - SQLite has no second wall
        with _translated(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")  # one snapshot for everything read inside
            yield connection

    @contextmanager
    def write(
        self,
        *,
        alone: bool = True,  # noqa: ARG002 - every writer of a file is alone
        durable: bool = True,
        fence: Fence | None = None,
    ) -> Iterator[Connection]:
        with _translated(self.path):
            self._take_turn(durable=durable)
            group: _Group | None = None
            try:
                group = self._joined(durable=durable)
                name = f"writer_{group.members}"
                group.connection.exec_driver_sql(f"SAVEPOINT {name}")
                try:
                    if fence is not None:
                        check_fence(group.connection, fence)
                    yield group.connection
                except BaseException:
                    self._take_back(group, name)
                    raise
                group.connection.exec_driver_sql(f"RELEASE {name}")
                group.members += 1
            finally:
                if group is not None and not self._worth_waiting(group):
                    self._commit(group)
                self._turn.release()
            group.committed.wait()
            if group.failure is not None:
                raise _again(group.failure)

    def _take_turn(self, *, durable: bool) -> None:
        with self._queue:
            self._waiting[durable] += 1
        self._turn.acquire()
        with self._queue:
            self._waiting[durable] -= 1

    def _joined(self, *, durable: bool) -> _Group:
        """The open group, or a new one: who must be durable does not join one that is not."""
        group = self._group
        if group is not None and durable and not group.durable:
            self._commit(group)
            group = None
        if group is None:
            connection = self._engine.connect()
            try:
                # The journal is synced at each commit, or (NORMAL) only before it is folded into the file.
                connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except BaseException:
                connection.close()
                raise
            group = self._group = _Group(connection, durable=durable)
        return group

    def _worth_waiting(self, group: _Group) -> bool:
        """Whether somebody is waiting who can still share this commit."""
        if group is not self._group:
            return True  # committed already
        with self._queue:
            others = self._waiting[False] + (self._waiting[True] if group.durable else 0)
            barred = 0 if group.durable else self._waiting[True]
        young = time.monotonic() - group.begun < MAX_GROUP_S
        return others > 0 and not barred and group.members < MAX_GROUP and young and group.failure is None

    def _take_back(self, group: _Group, name: str) -> None:
        """Undo one writer's changes. A full disk makes SQLite end the whole transaction: then nobody's changes stand."""
        try:
            group.connection.exec_driver_sql(f"ROLLBACK TO {name}")
            group.connection.exec_driver_sql(f"RELEASE {name}")
        except DatabaseError as error:
            group.failure = error

    def _commit(self, group: _Group) -> None:
        self._group = None
        try:
            # SQLite ends a transaction by itself when the disk is full: committing nothing would succeed.
            driver: Any = group.connection.connection.driver_connection
            if group.failure is None and not driver.in_transaction:
                group.failure = Unavailable(
                    "the database took the changes back", where=self.where, fix="free disk space"
                )
            if group.failure is None:
                group.connection.commit()
        except BaseException as error:  # noqa: BLE001 - every writer of the group must hear of it
            group.failure = error
        finally:
            try:
                group.connection.close()
            finally:
                group.committed.set()

    def ping(self) -> None:
        with self.read() as connection:
            connection.exec_driver_sql("SELECT 1 FROM fact LIMIT 1").all()

    def integrity(self) -> str:
        with self.read() as connection:
            return str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())

    def now(self, connection: Connection) -> int:  # noqa: ARG002 - the port's
        # One machine, one clock; SQLite's own date functions differ between the versions we support.
        return time.time_ns() // 1000

    def notify(self, connection: Connection, topic: str) -> None:  # noqa: ARG002 - the port's
        self._hint(topic).set()  # the waiter looks a moment early at worst, and again when its time is over

    def wait(self, topic: str, timeout_s: float) -> bool:
        hint = self._hint(topic)
        told = hint.wait(timeout_s)
        hint.clear()
        return told

    def _hint(self, topic: str) -> threading.Event:
        return self._hints.setdefault(topic, threading.Event())

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy beside running readers and writers (SQLite's ``VACUUM INTO``)."""
        with _translated(target), self._engine.connect() as connection:
            connection.execute(text("VACUUM INTO :target"), {"target": str(target)})

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
        raise Invalid(
            f"not a usable database ({error.orig})", where=str(path), fix="run: mainstay restore BACKUP"
        ) from None


def _again(failure: BaseException) -> BaseException:
    """The failure of the shared commit, for one more of those it concerns."""
    if isinstance(failure, DatabaseError | MainstayError):
        return failure
    return Unavailable(f"the database did not commit ({failure})", fix="try again")


def _engine(path: Path) -> Engine:
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
