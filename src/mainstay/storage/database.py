"""Connections to the one truth: many readers, writers in turn, and a schema that is always the one this program knows.

SQLite in ``sqlite.py``, PostgreSQL in ``postgres.py``; ``open_database`` chooses by the address. Everything else in
this folder is written once, in SQLAlchemy Core.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sqlalchemy import Connection, Table, delete, insert, select

from mainstay.errors import Conflict, Invalid, Unavailable
from mainstay.settings import Settings
from mainstay.storage.schema import fact, job
from mainstay.types import Scope
from mainstay.workflows.ports import Fence

Dialect = Literal["sqlite", "postgresql"]
DIALECTS: tuple[Dialect, ...] = ("sqlite", "postgresql")
UNFINISHED = "transfer:progress"  # the fact that stands in a database while a service is being copied into it


class Database(Protocol):
    """The SQL database of one service.

    ``read()`` gives a connection on a stable snapshot. With a ``scope`` PostgreSQL's row-level security shows only what
    that scope may read, whatever the statement says; without, it is maintenance that returns no text to anybody.

    ``write()`` gives one that commits when it is left without an error. ``alone`` keeps every other such writer out
    until then, in all processes: the change log's order is the order of commits, and what was read before writing
    still holds. Without it only row locks protect: for queues, traces, and the like. ``durable=False`` is for what a
    power cut may take (spans, the time a key was last used). With a ``fence`` nothing is written unless the job still
    belongs to its worker.

    Errors: Unavailable when the database is locked, full, too slow or not reachable; Invalid when it is not ours or is
    newer; Conflict when a fence says no.
    """

    where: str
    revision: int
    found: int  # the revision that was there before opening brought it up to date; 0: nothing

    @property
    def dialect(self) -> Dialect: ...

    def read(self, scope: Scope | None = None) -> AbstractContextManager[Connection]: ...

    def write(
        self, *, alone: bool = True, durable: bool = True, fence: Fence | None = None
    ) -> AbstractContextManager[Connection]: ...

    def ping(self) -> None:
        """Proves that reading works; raises Unavailable otherwise."""

    def integrity(self) -> str:
        """``ok``, or what is damaged."""

    def now(self, connection: Connection) -> int:
        """The time by which leases run, in microseconds: one clock for all who share the database."""

    def notify(self, connection: Connection, topic: str) -> None:
        """Wake who waits for ``topic``, once this transaction has committed: a hint, which may get lost."""

    def wait(self, topic: str, timeout_s: float) -> bool:
        """Wait for a hint about ``topic`` or until the time is over; whether there was one."""

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a database is, and how patiently it is asked. ``url`` is a file's path or ``postgresql://user@host/name``.

    ``schema`` is the PostgreSQL schema that holds the service: one service, one tenant, one schema.
    """

    url: str
    schema: str = "mainstay"
    pool: int = 10
    statement_timeout_s: float = 10.0
    lock_timeout_s: float = 5.0


def address_of(settings: Settings) -> Address:
    """Where the settings keep the truth."""
    held = settings.service.database
    return Address(
        url=settings.database,
        schema=held.schema,
        pool=held.pool,
        statement_timeout_s=held.statement_timeout_s,
        lock_timeout_s=held.lock_timeout_s,
    )


def dialect_of(url: str) -> Dialect:
    """Which database an address means."""
    if url.startswith(("postgresql:", "postgres:", "postgresql+")):
        return "postgresql"
    if "://" in url and not url.startswith("sqlite:"):
        raise Invalid(
            f"{url.partition('://')[0][:40]}:// is neither a file nor PostgreSQL",
            where="database",
            fix="write a file's path, or postgresql://user:password@host/name",
        )
    return "sqlite"


def open_database(address: Address, *, migrate: bool = True, unfinished: bool = False) -> Database:
    """Connect, and bring the schema up to date. ``migrate=False`` refuses an older schema instead of changing it.

    A database into which a service is still being copied is refused unless ``unfinished``: some of its rules are missing.
    """
    opened = _opened(address, migrate=migrate)
    try:
        if not unfinished:
            with opened.read() as connection:
                if connection.scalar(select(fact.c.value).where(fact.c.name == UNFINISHED)) is not None:
                    raise Unavailable(
                        "a service is being copied into this database",
                        where=opened.where,
                        fix="wait for mainstay migrate --to, or run it again if it was interrupted",
                    )
    except BaseException:
        opened.close()
        raise
    return opened


def _opened(address: Address, *, migrate: bool) -> Database:
    if dialect_of(address.url) == "postgresql":
        from mainstay.storage.postgres import PostgresDatabase  # its driver is an extra

        return PostgresDatabase(address, migrate=migrate)
    from mainstay.storage.sqlite import SqliteDatabase  # neither database brings the other's driver

    return SqliteDatabase(address.url, migrate=migrate)


def upsert(connection: Connection, table: Table) -> Any:
    """``INSERT`` with ``on_conflict_do_nothing`` and ``on_conflict_do_update``, which both databases have."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as dialect_insert  # the same words in another module
    else:
        from sqlalchemy.dialects.sqlite import insert as dialect_insert  # type: ignore[assignment]  # the same words

    return dialect_insert(table)


def check_fence(connection: Connection, fence: Fence) -> None:
    """Raises Conflict unless the job is still run under this token.

    ``FOR SHARE`` conflicts with the update that hands the job to another worker, so that the answer holds until this
    transaction ends. (``FOR KEY SHARE`` would not.)
    """
    held = connection.scalar(
        select(job.c.token)
        .where(job.c.job_id == fence.job_id, job.c.token == fence.token, job.c.state == "running")
        .with_for_update(read=True)
    )
    if held is None:
        raise Conflict(
            f"job {fence.job_id} belongs to another worker now", fix="nothing to do: that one goes on with it"
        )


def put_fact(connection: Connection, name: str, value: str) -> None:
    """Set a fact inside an open transaction that is ``alone``."""
    connection.execute(delete(fact).where(fact.c.name == name))
    connection.execute(insert(fact).values(name=name, value=value))
