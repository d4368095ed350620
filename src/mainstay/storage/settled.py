"""A database as it will be in a moment: what this process still holds back is written before anybody reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Connection

from mainstay.storage.database import Database, Dialect
from mainstay.types import Scope
from mainstay.workflows.ports import Fence


class Settled:
    """``storage.database.Database`` for whoever must read what was recorded just now (``records.recorder``)."""

    def __init__(self, database: Database, settle: Callable[[], object]) -> None:
        self._db, self._settle = database, settle
        self.where, self.revision, self.found = database.where, database.revision, database.found

    @property
    def dialect(self) -> Dialect:
        return self._db.dialect

    @contextmanager
    def read(self, scope: Scope | None = None) -> Iterator[Connection]:
        self._settle()
        with self._db.read(scope) as connection:
            yield connection

    def write(
        self, *, alone: bool = True, durable: bool = True, fence: Fence | None = None
    ) -> AbstractContextManager[Connection]:
        return self._db.write(alone=alone, durable=durable, fence=fence)

    def ping(self) -> None:
        self._db.ping()

    def integrity(self) -> str:
        return self._db.integrity()

    def now(self, connection: Connection) -> int:
        return self._db.now(connection)

    def notify(self, connection: Connection, topic: str) -> None:
        self._db.notify(connection, topic)

    def wait(self, topic: str, timeout_s: float) -> bool:
        return self._db.wait(topic, timeout_s)

    def close(self) -> None:
        self._db.close()
