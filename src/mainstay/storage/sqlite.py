"""SQLite: write-ahead log, readers beside one writer, commits shared by writers who wait together.

**Group commit.** A durable commit waits for the disk. Writers that queue up meanwhile run one after the other inside
one transaction, each in a savepoint of its own, and one commit serves them all; none returns before it. A writer that
fails takes back its own savepoint alone.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from mainstay.errors import Invalid, MainstayError, Unavailable
from mainstay.storage import migrations
from mainstay.storage.database import check_fence
from mainstay.storage.hot import at_once
from mainstay.types import Scope
from mainstay.workflows.ports import Fence

BUSY_TIMEOUT_S = 30.0
_MAGIC = b"SQLite format 3\0"
MAX_GROUP = 64
MAX_GROUP_S = 0.05
_FIXES = {
    "full": "free disk space",
    "disk I/O": "look at the disk: it may be full or failing",
    "readonly": "make it and its folder writable",
    "unable to open": "make its folder exist and be writable",
}
_DAMAGED = ("decode to UTF-8", "unsupported file format", "malformed")
_SYNCED = "synchronous"  # what a pooled connection was last told
_RESTORE = "keep the file and bring back a backup: mainstay restore BACKUP --force"


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

    def __init__(self, url: str, *, migrate: bool = True, time_ns: Callable[[], int] = time.time_ns) -> None:
        """``time_ns`` is the clock that leases run by."""
        self._time_ns = time_ns
        self.path = Path(url.removeprefix("sqlite:///"))
        self.where = str(self.path)
        created = not there(self.path)
        if created:
            if not migrate:
                raise migrations.Older(0, where=self.where)
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds every text
            _create(self.path)
        self.revision = revision_of(self.path)  # by reading: a service opens beside a writer that takes its time
        self.found = 0 if created else self.revision
        self._engine = _engine(self.path)
        self._turn = threading.Lock()  # held by the writer whose turn it is
        self._queue = threading.Lock()  # guards the two counts
        self._waiting = {True: 0, False: 0}  # writers waiting for their turn: durable ones, others
        self._group: _Group | None = None
        self._hints: dict[str, threading.Event] = {}
        if self.revision < migrations.newest():
            try:
                with self.write() as connection:
                    self.revision = migrations.migrate(connection, where=self.where, change=migrate)
            except BaseException:
                self._engine.dispose()
                raise

    @contextmanager
    def read(self, scope: Scope | None = None) -> Iterator[Connection]:  # noqa: ARG002 - SQLite has no second wall
        with _translated(self.path), self._engine.connect() as connection:
            # One snapshot for everything read inside. Straight to the driver: it touches no file, and there are many.
            driver: Any = connection.connection.driver_connection
            driver.execute("BEGIN")
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
                at_once(group.connection, f"SAVEPOINT {name}")
                try:
                    if fence is not None:
                        check_fence(group.connection, fence)
                    yield group.connection
                    # Fails when SQLite has ended the transaction and the writer has not heard of it.
                    at_once(group.connection, f"RELEASE {name}")
                except BaseException:
                    self._take_back(group, name)
                    raise
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
        taken = False
        try:
            taken = self._turn.acquire()
        finally:
            with self._queue:
                self._waiting[durable] -= 1
            if not taken:  # interrupted (Ctrl-C): the open group may have been left to this writer to commit
                self._settle()

    def _settle(self) -> None:
        with self._turn:
            if self._group is not None and not self._worth_waiting(self._group):
                self._commit(self._group)

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
                wanted = "FULL" if durable else "NORMAL"
                if connection.info.get(_SYNCED) != wanted:
                    connection.info.pop(_SYNCED, None)
                    at_once(connection, f"PRAGMA synchronous={wanted}")
                    connection.info[_SYNCED] = wanted
                connection.begin()  # for SQLAlchemy, whose ``commit`` it takes
                at_once(connection, "BEGIN IMMEDIATE")
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
            at_once(group.connection, f"ROLLBACK TO {name}")
            at_once(group.connection, f"RELEASE {name}")
        except DatabaseError:
            group.failure = self._lost()

    def _lost(self) -> Unavailable:
        return Unavailable("the database took the changes back", where=self.where, fix="free disk space")

    def _commit(self, group: _Group) -> None:
        self._group = None
        try:
            # SQLite ends a transaction by itself when the disk is full: committing nothing would succeed.
            driver: Any = group.connection.connection.driver_connection
            if group.failure is None and not driver.in_transaction:
                group.failure = self._lost()
            if group.failure is None:
                group.connection.commit()
        except BaseException as error:  # noqa: BLE001 - every writer of the group must hear of it
            group.failure = error
            self._end(group)
        finally:
            try:
                group.connection.close()
            finally:
                group.committed.set()

    def _end(self, group: _Group) -> None:
        """After a commit that failed SQLAlchemy takes the transaction for ended, but for SQLite it may be open still."""
        try:
            driver: Any = group.connection.connection.driver_connection
            driver.rollback()
        except Exception:  # noqa: BLE001 - a connection in an unknown state must not be used again
            group.connection.invalidate()

    def ping(self) -> None:
        with self.read() as connection:
            connection.exec_driver_sql("SELECT 1 FROM fact LIMIT 1").all()

    def integrity(self) -> str:
        with self.read() as connection:
            return integrity(connection)

    def now(self, connection: Connection) -> int:  # noqa: ARG002 - the port's
        # One machine, one clock; SQLite's own date functions differ between the versions we support.
        return self._time_ns() // 1000

    def notify(self, connection: Connection, topic: str) -> None:  # noqa: ARG002 - the port's
        self._hint(topic).set()  # the waiter looks a moment early at worst, and again when its time is over

    def wait(self, topic: str, timeout_s: float) -> bool:
        hint = self._hint(topic)
        told = hint.wait(timeout_s)
        hint.clear()
        return told

    def _hint(self, topic: str) -> threading.Event:
        return self._hints.setdefault(topic, threading.Event())

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        reason = str(error.orig)
        if any(part in reason for part in _DAMAGED):
            raise Invalid(f"the database is damaged ({reason})", where=str(path), fix=_RESTORE) from None
        fix = next((fix for part, fix in _FIXES.items() if part in reason), "try again, or look who holds it open")
        raise Unavailable(f"the database does not answer ({reason})", where=str(path), fix=fix) from None
    except IntegrityError:
        raise
    except DatabaseError as error:
        raise Invalid(f"the database is damaged, or none ({error.orig})", where=str(path), fix=_RESTORE) from None


def revision_of(path: Path) -> int:
    """The schema's number in a file of ours. Errors: Invalid for any other file, which stays as it is."""
    engine = _engine(path, log=False)
    try:
        with _translated(path), engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            at = migrations.revision(connection, str(path), change=False)
    finally:
        engine.dispose()
    if at == 0:
        raise Invalid(
            "the file holds no tables",
            where=str(path),
            fix=f"put back its {path.name}-wal if it was copied without, or restore a backup, or remove it to begin anew",
        )
    return at


def copy_database(path: Path, target: Path) -> None:
    """Write a consistent copy of a database beside its readers and writers (SQLite's ``VACUUM INTO``)."""
    engine = _engine(path)
    try:
        with _translated(path), engine.connect() as connection:
            connection.execute(text("VACUUM INTO :target"), {"target": str(target)})
    finally:
        engine.dispose()


def integrity(connection: Connection) -> str:
    """``ok``, or what SQLite finds damaged, in one line."""
    try:
        said = connection.exec_driver_sql("PRAGMA integrity_check(3)").scalars().all()
    except DatabaseError as error:
        if isinstance(error, OperationalError) and not any(part in str(error.orig) for part in _DAMAGED):
            raise
        said = [str(error.orig)]
    return "; ".join(" ".join(str(line).split()) for line in said)


def there(path: Path) -> bool:
    """Whether a file is there that SQLite may open. Errors: Invalid for what it would take for a new database.

    SQLite throws the log of an empty file away, and would play a stranded log into a file it does not belong to.
    """
    log = path.with_name(f"{path.name}-wal")
    with _told(path):
        if path.is_dir():
            raise Invalid(
                "a folder, not a database", where=str(path), fix="name a file under database: in mainstay.yaml"
            )
        if not path.exists():
            if log.exists() and log.stat().st_size:
                raise Invalid(
                    f"the database is gone, but its {log.name} is here",
                    where=str(path),
                    fix="put both back, or restore a backup, or move that file away to begin anew",
                )
            return False
        if path.stat().st_size == 0:
            raise Invalid(
                "an empty file (0 bytes), not a database",
                where=str(path),
                fix="run: mainstay restore BACKUP --force; or remove it to begin anew",
            )
        if not is_database(path):
            raise Invalid("damaged, or not a database", where=str(path), fix=_RESTORE)
    return True


def is_database(path: Path) -> bool:
    """Whether a file begins as SQLite's do. Looked at first: SQLite removes a log that it finds beside any other file."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _create(path: Path) -> None:
    """A new database appears whole, with its schema, or not at all: one without tables is a damaged one ever after."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with _translated(path):
            engine = _engine(made)
            try:
                with engine.connect() as connection:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                    migrations.migrate(connection, where=str(path))
                    connection.commit()
            finally:
                engine.dispose()  # folds the log into the file
        with _told(path):
            try:
                path.hardlink_to(made)  # unlike renaming, never over what another process made meanwhile
            except FileExistsError:
                return
            except OSError:  # a file system without links
                made.rename(path)
            sync_folder(path.parent)
    finally:
        for left in (made, *(made.with_name(f"{made.name}-{end}") for end in ("wal", "shm"))):
            left.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """A name in a folder survives a power cut once the folder was synced."""
    with suppress(OSError):  # not every file system can
        held = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(held)
        finally:
            os.close(held)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"can not be reached ({error.strerror})",
            where=str(path),
            fix="make it and its folder readable and writable",
        ) from None


def _again(failure: BaseException) -> BaseException:
    """The failure of the shared commit, for one more of those it concerns."""
    if isinstance(failure, DatabaseError | MainstayError):
        return failure
    return Unavailable(f"the database did not commit ({failure})", fix="try again")


def _engine(path: Path, *, log: bool = True) -> Engine:
    """Connections to a file; without ``log`` it is not brought to keep a write-ahead log: it may not be ours."""
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
            *(("journal_mode=WAL",) if log else ()),
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-16384",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine
