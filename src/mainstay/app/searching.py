"""What is searched: the embedded index, or PostgreSQL itself once its tables are whole."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mainstay.app.embedding import Embedders
from mainstay.corpus.following import IndexFollower
from mainstay.errors import Invalid
from mainstay.models.embedders import Embedder
from mainstay.storage.database import Database
from mainstay.storage.documents import DerivedRows, SqlDocuments
from mainstay.types import Clock

if TYPE_CHECKING:
    from mainstay.retrieval.ports import Index
    from mainstay.storage.postgres_index import PostgresIndex
    from mainstay.storage.postgres_search import PostgresSearch

INDEX = "index"  # the kind of the jobs that fill the database's tables
TABLES_LOOKED_AT_S = 5.0  # how long what the database searches by is believed to be whole


def search_tables(database: Database, engine: str) -> PostgresIndex | None:
    """What PostgreSQL searches by, where the settings let it search and it can."""
    if database.dialect != "postgresql":
        return None
    from mainstay.storage.postgres import PostgresDatabase  # the driver is for those who use it
    from mainstay.storage.postgres_index import PostgresIndex, forsake  # the same

    assert isinstance(database, PostgresDatabase)
    if engine != "exact":
        try:
            return PostgresIndex(database)
        except Invalid:
            if engine == "database":
                raise
    forsake(database)
    return None


def forsaken(database: Database) -> DerivedRows | None:
    """What stands in for tables that PostgreSQL has, and does not search by."""
    if database.dialect != "postgresql":
        return None
    from mainstay.storage.postgres_index import Forsaken  # loaded already

    return Forsaken()


class Searching:
    """The index in force, with the embedder that made it. ``folder`` keeps the files of the embedded one."""

    def __init__(
        self,
        *,
        database: Database,
        tables: PostgresIndex | None,
        documents: SqlDocuments,
        embedders: Embedders,
        clock: Clock,
        folder: Path,
    ) -> None:
        self.tables = tables
        self._database, self._documents, self._embedders = database, documents, embedders
        self._clock, self._folder = clock, folder
        self._serving: tuple[IndexFollower, Embedder] | None = None
        self._in_database: PostgresSearch | None = None
        self._whole_at = float("-inf")
        self._switching = threading.Lock()

    def close(self) -> None:
        """Write the index files."""
        if self._serving is not None:
            self._serving[0].close()

    def tables_whole(self) -> bool:
        """Whether the database's tables can answer: until then the kernel does, and nothing is missing meanwhile."""
        if self.tables is None:
            return False
        if self._clock.monotonic() - self._whole_at > TABLES_LOOKED_AT_S:
            if not self.tables.complete():
                return False
            self._whole_at = self._clock.monotonic()
        return True

    def prepare(self) -> int:
        """Bring what is searched up to date with the truth, now; returns how many chunks it holds."""
        if self.tables is None:
            return len(self.serving()[0].current())
        if not self.tables.complete():
            self.tables.fill(self._embedders.in_force())
        return self.tables.chunks()

    def searched(self) -> tuple[Index | IndexFollower, Embedder]:
        """What is searched now, and the embedder that made its vectors."""
        if not self.tables_whole():
            return self.serving()
        embedder = self._embedders.current()
        held = self._in_database
        if held is None or held.made_by != embedder.identity:
            from mainstay.storage.postgres import PostgresDatabase  # loaded already
            from mainstay.storage.postgres_search import PostgresSearch  # for those who use it

            assert isinstance(self._database, PostgresDatabase)
            held = self._in_database = PostgresSearch(self._database, embedder.identity)
        return held, embedder

    def serving(self) -> tuple[IndexFollower, Embedder]:
        """The embedded index in force and the embedder that made it; a change of embedder by any process takes effect
        here."""
        embedder = self._embedders.current()
        with self._switching:
            if self._serving is None or self._serving[0].made_by != embedder.identity:
                fresh = IndexFollower(self._documents, embedder.identity, self._folder)
                fresh.current()
                if self._serving is not None:
                    self._serving[0].close()
                self._serving = (fresh, embedder)
            return self._serving
