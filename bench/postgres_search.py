"""Search inside PostgreSQL on the corpus of ``search.py``: for ``search.OTHERS``.

The server is the one the tests use, with enough memory for what it searches. CPU is that of this process and of all the
server's processes together.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text
from tests.support import databases

from mainstay.models.embedders import EmbedderIdentity
from mainstay.retrieval import fusion
from mainstay.retrieval.search import SearchSettings
from mainstay.storage.database import Address, open_database
from mainstay.storage.postgres import PostgresDatabase
from mainstay.storage.postgres_index import PostgresIndex
from mainstay.storage.postgres_search import PostgresSearch
from mainstay.types import Scope

WEIGHT = 0.5
ROWS_PER_DOCUMENT = 5
LISTED = SearchSettings().candidates


class Corpus(Protocol):
    """Rows with text, vector and class; and questions about them."""

    @property
    def name(self) -> str: ...
    @property
    def texts(self) -> list[str]: ...
    @property
    def vectors(self) -> NDArray[np.float32]: ...
    @property
    def classes(self) -> NDArray[np.int64]: ...
    @property
    def questions(self) -> list[str]: ...
    @property
    def asked(self) -> NDArray[np.float32]: ...


def identity(corpus: Corpus) -> EmbedderIdentity:
    return EmbedderIdentity(name="bench", digest="b" * 64, precision="fp32", dims=corpus.vectors.shape[1])


def named(scope: Scope) -> Scope:
    """The scope with a principal for each of its classes, for row-level security to know it by."""
    return Scope(principals=frozenset(f"group:{n}" for n in scope.classes), classes=scope.classes, digest=scope.digest)


def load(url: str, corpus: Corpus, rows_per_document: int = ROWS_PER_DOCUMENT) -> PostgresDatabase:
    """The service's database with this corpus, searchable."""
    database = open_database(Address(url=url))
    assert isinstance(database, PostgresDatabase)
    made_by = identity(corpus)
    count, step = len(corpus.texts), rows_per_document
    numbers = range(-(-count // step))
    classes = sorted(set(corpus.classes.tolist()))
    vectors = corpus.vectors.astype("<f4")
    walled = ("document", "chunk", "vector")
    with database.maintenance() as connection:
        for table in walled:  # COPY does not go through the wall
            connection.exec_driver_sql(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        _copy(connection, "acl_class", ((n, f"c{n}", json.dumps([f"group:{n}"]), "[]", 1) for n in classes))
        _copy(connection, "acl_grant", ((n, f"group:{n}", 0) for n in classes))
        _copy(
            connection,
            "document (number, doc_id, source, path, uri, title, media_type, version, raw_digest, class_id, own_access,"
            " metadata, language, created, updated, size, status, reason, findings, recipe)",
            (
                (n, f"doc_{n:024}", "bench", f"folder/{n}.md", f"file:///folder/{n}.md", f"title {n}", "text/markdown",
                 f"{n:064x}", f"{n:064x}", int(corpus.classes[n * step]), "", json.dumps(metadata(n)), "en", 1, 1, 1000,
                 "ready", "", "[]", "r")
                for n in numbers
            ),
        )  # fmt: skip
        _copy(
            connection,
            'chunk (seq, chunk_id, document, ord, start, "end", heading_path, section_start, section_end, prefix, text)',
            (
                (i + 1, f"chk_{i:024}", i // step, i % step, 0, len(words), "[]", 0, len(words), "", words)
                for i, words in enumerate(corpus.texts)
            ),
        )
        _copy(connection, "embedder", ((made_by.digest, "bench", "fp32", made_by.dims, 1),))
        _copy(
            connection,
            "vector (embedder, seq, e)",
            ((made_by.digest, i + 1, r"\\x" + row.tobytes().hex()) for i, row in enumerate(vectors)),
        )
        for table in walled:
            connection.exec_driver_sql(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    PostgresIndex(database).fill(made_by)
    return database


def sizes(database: PostgresDatabase) -> dict[str, float]:
    """Megabytes of what is derived for search, by kind; the vectors' graph is in theirs."""
    with database.read() as connection:
        rows = connection.execute(
            text(
                "SELECT relname, pg_total_relation_size(c.oid) FROM pg_class AS c JOIN pg_namespace AS n"
                " ON n.oid = relnamespace WHERE nspname = current_schema() AND relkind = 'r' AND relname LIKE 'search%'"
            )
        ).all()
    return {name.removeprefix("search_").partition("_")[0]: size / 1e6 for name, size in rows}


def metadata(n: int) -> dict[str, object]:
    return {"year": 2000 + n % 25, "department": f"department {n % 40}", "title": f"title {n}"}


def _copy(connection: Connection, table: str, rows: Iterable[Sequence[object]]) -> None:
    held: Any = connection.connection.dbapi_connection
    lines = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    held.cursor().execute(f"COPY {table} FROM STDIN", stream=io.BytesIO(lines.encode()))


Search = Callable[[NDArray[np.float32], str, Scope], NDArray[np.int64]]
SIZES: dict[str, float] = {}  # megabytes of the corpus opened last


@contextmanager
def opened(corpus: Corpus, _: Path) -> Iterator[Search]:
    """A hybrid query over this corpus: (vector, text, scope) to row numbers, best first."""
    databases._OPTIONS = "-c fsync=off -c shared_buffers=1GB -c max_wal_size=4GB"  # the tests' own is for small corpora
    server = databases.server()
    _SERVED_BY.append(int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0]))
    url = server.fresh()
    database = load(url, corpus)
    SIZES.clear()
    SIZES.update(sizes(database))
    index = PostgresSearch(database, identity(corpus))

    def search(vector: NDArray[np.float32], words: str, scope: Scope) -> NDArray[np.int64]:
        found = index.permitted(named(scope)).lists(words, vector, LISTED)
        return fusion.convex(
            found.meaning,
            found.words,
            weight=WEIGHT,
            dense_scores=found.meaning_scores,
            lexical_scores=found.word_scores,
        ).seqs

    index.sizes()  # counted once, not in the first query
    try:
        yield search
    finally:
        database.close()
        server.drop(url)


def clock() -> float:
    """CPU seconds of this process and the server's, without what it takes to look."""
    start = time.process_time()
    ticks, now = 0, 0.0
    for server in set(_SERVED_BY):
        held = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, held[11:15]))  # its own, and that of processes that ended
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                if stat.read_text().rpartition(")")[2].split()[1] == str(server):
                    now += int((stat.parent / "schedstat").read_text().split()[0]) / 1e9
            except OSError:  # it ended while we looked
                continue
    _LOOKING[0] += time.process_time() - start
    return time.process_time() - _LOOKING[0] + now + ticks / os.sysconf("SC_CLK_TCK")


_SERVED_BY: list[int] = []
_LOOKING = [0.0]
