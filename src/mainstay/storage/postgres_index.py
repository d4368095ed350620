# ruff: noqa: S608 - statements are made of numbers and of names of ours
"""What PostgreSQL keeps to search by: words, vectors and metadata as tables derived from documents.

Nothing here is truth: ``fill`` makes all of it again. The tables belong to the service's own schema, so every number
in them is of one tenant.

- ``search_words``: one row a chunk with its words as a sparse vector; a number of the vector is what BM25 gives a word
  there before it is weighed. The exact score of a row is one inner product.
- ``search_posting``: one row per word and part, with the chunks that have it, four bytes each. A part is what one
  transaction added; parts of the same size are joined, sixteen to one, so that there are few.
- ``search_vector_<digest>``: the vectors of one embedder as half precision, with their HNSW graph.
- ``search_fact``: metadata, a row per value.

Writers are alone in the service (``Database.write``): parts can be joined without care for others, and the numbers of
chunks are committed in order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text

from mainstay.corpus.index import analyzer
from mainstay.corpus.index.metadata import Tagged, values_of
from mainstay.errors import Invalid
from mainstay.models.embedders import EmbedderIdentity
from mainstay.storage.database import put_fact
from mainstay.storage.postgres import ALONE, PostgresDatabase
from mainstay.storage.rows import load_metadata
from mainstay.types import MetaValue

K1: Final = 0.9
B: Final = 0.4
USUAL_LENGTH: Final = 150
"""Terms of a chunk of the usual size: what BM25 compares lengths with. A constant, and not the mean of the corpus, so
that a row's numbers stay right when others come and go, and tell nothing of them."""
SPACE: Final = 1_000_000_000  # places of a sparse vector: the most there can be
STEPS: Final = 2047  # of a word's worth in a posting, rounded up: a bound, the row itself has it exactly
SPAN: Final = 1 << 20  # chunk numbers under one base, so that joining parts is putting bytes one after the other
HNSW_DIMS: Final = 4000
_JOINED: Final = 16
_LEVELS: Final = 2  # joined inside the transaction that adds; larger parts are left to ``tidy``
_LARGE: Final = 50_000  # chunks of a part that is not joined any more
_LAYOUT: Final = f"1:{analyzer.ANALYZER}"
_MADE: Final = "search:made"  # the fact with the layout of what is there; with a "?" some of it is missing
_MADE_NOW: Final = text(f"SELECT value FROM fact WHERE name = '{_MADE}'")
_AT_ONCE: Final = 1000  # rows a transaction, since other writers wait meanwhile
_HALF: Final = 65504.0

_GATE = "(SELECT current_setting('mainstay.access', true)) = 'all'"
_RANKING = "(SELECT current_setting('mainstay.ranking', true)) = 'on'"
"""A statement that ranks says so, and joins ``document``, whose own wall stands: see ``postgres_search``."""
_OF_DOCUMENT = "(SELECT current_setting('mainstay.access', true)) = 'scope' AND document_is_visible(document)"
# The documents in scope are found once a statement: metadata is read many rows at a time.
_IN_SCOPE = "(SELECT current_setting('mainstay.access', true)) = 'scope' AND document IN (SELECT number FROM document)"

_TABLES: Final = (
    f"""CREATE TABLE search_words (
      seq BIGINT PRIMARY KEY REFERENCES chunk ON DELETE CASCADE,
      document INTEGER NOT NULL,
      words sparsevec({SPACE}) NOT NULL
    ) WITH (toast_tuple_target = 8160)""",
    "ALTER TABLE search_words ALTER words SET STORAGE MAIN",
    "CREATE INDEX search_words_by_document ON search_words (document)",
    """CREATE TABLE search_part (
      part BIGINT PRIMARY KEY, level INTEGER NOT NULL, chunks INTEGER NOT NULL, seqs BYTEA NOT NULL
    )""",
    """CREATE TABLE search_posting (
      term INTEGER NOT NULL, part BIGINT NOT NULL, n INTEGER NOT NULL, top INTEGER NOT NULL, codes BYTEA NOT NULL
    )""",
    "ALTER TABLE search_posting ALTER codes SET STORAGE EXTERNAL",
    "CREATE INDEX search_posting_by_term ON search_posting (term)",
    "CREATE INDEX search_posting_by_part ON search_posting (part)",
    """CREATE TABLE search_fact (
      document INTEGER NOT NULL REFERENCES document ON DELETE CASCADE,
      key TEXT NOT NULL, tag TEXT NOT NULL, spelled TEXT NOT NULL,
      folded TEXT, amount NUMERIC, number DOUBLE PRECISION, day INTEGER
    )""",
    "CREATE INDEX search_fact_by_document ON search_fact (document)",
    "CREATE INDEX search_fact_by_key ON search_fact (key, left(folded, 100))",
)


@dataclass(frozen=True, kw_only=True)
class Filled:
    """How far ``fill`` is: chunks (or vectors) done, and how many there are."""

    what: str
    done: int
    of: int


class PostgresIndex:
    """The writing side: ``storage.documents.DerivedRows``, and making it all anew."""

    def __init__(self, database: PostgresDatabase) -> None:
        """Makes the tables where there are none. Raises Invalid where the server has no pgvector of this age."""
        self._db = database
        self._tables: set[str] = set()
        with database.maintenance() as connection:
            _require_vector(connection, database.where)
        with database.read() as connection:
            standing = _standing(connection)
        if standing != _LAYOUT:
            with database.write() as connection:
                self._make(connection)

    def _make(self, connection: Connection) -> None:
        """The tables, in place of those of another layout; another process may have been faster."""
        if _standing(connection) == _LAYOUT:
            return
        _drop_all(connection)
        for statement in _TABLES:
            connection.exec_driver_sql(statement)
        _wall(connection, "search_words", _OF_DOCUMENT)
        # Metadata is text that people read: no statement ranks it, and its wall opens for none.
        _wall(connection, "search_fact", _IN_SCOPE, ranked=False)
        for table in ("search_posting", "search_part"):
            _wall(connection, table, "false")
        empty = not connection.scalar(text("SELECT EXISTS (SELECT FROM document)"))
        put_fact(connection, _MADE, _LAYOUT if empty else f"{_LAYOUT}?")

    # -- DerivedRows ---------------------------------------------------------------------------------------------------

    def put_document(self, connection: Connection, number: int, metadata: Mapping[str, MetaValue]) -> None:
        """The metadata of one document, in place of what was there."""
        connection.execute(text("DELETE FROM search_fact WHERE document = :number"), {"number": number})
        _add_facts(connection, [(number, metadata)])

    def add(self, connection: Connection, rows: Sequence[tuple[int, int, str]]) -> None:
        """New chunks: (seq, document, words to index)."""
        if rows:
            _add_words(connection, rows)
            _join(connection, _LEVELS)

    def add_vectors(
        self,
        connection: Connection,
        made_by: EmbedderIdentity,
        seqs: Sequence[int],
        documents: Sequence[int],
        rows: npt.NDArray[np.float32],
    ) -> None:
        """Vectors of chunks, in place of what was there."""
        table = self.table(connection, made_by)
        for start in range(0, len(seqs), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            _put_vectors(connection, table, seqs[some], documents[some], rows[some])

    def drop_vectors(self, connection: Connection, *, keep: EmbedderIdentity) -> None:
        """Forget the vectors of every other embedder."""
        kept = table_of(keep)
        for table in _vector_tables(connection):
            if table != kept:
                connection.exec_driver_sql(f"DROP TABLE {table}")
                self._tables.discard(table)

    def table(self, connection: Connection, made_by: EmbedderIdentity, *, indexed: bool = True) -> str:
        """The table of an embedder's vectors, made at its first use."""
        table = table_of(made_by)
        if table not in self._tables:
            if table not in _vector_tables(connection):
                connection.exec_driver_sql(
                    f"""CREATE TABLE {table} (
                      seq BIGINT PRIMARY KEY REFERENCES chunk ON DELETE CASCADE,
                      document INTEGER NOT NULL,
                      e halfvec({made_by.dims}) NOT NULL
                    )"""
                )
                connection.exec_driver_sql(f"ALTER TABLE {table} ALTER e SET STORAGE {_storage(made_by.dims)}")
                connection.exec_driver_sql(f"CREATE INDEX {table}_by_document ON {table} (document)")
                _wall(connection, table, _OF_DOCUMENT)
                if indexed:
                    _graph(connection, table, made_by)
            # Only what is committed may be remembered: a transaction that fails takes its table back.
            else:
                self._tables.add(table)
        return table

    # -- making it anew ------------------------------------------------------------------------------------------------

    def complete(self) -> bool:
        """Whether everything that was there before these tables is in them."""
        with self._db.read() as connection:
            return bool(connection.scalar(_MADE_NOW) == _LAYOUT)

    def chunks(self) -> int:
        """How many chunks are in them."""
        with self._db.read() as connection:
            return int(connection.scalar(text("SELECT count(*) FROM search_words")) or 0)

    def fill(self, made_by: EmbedderIdentity | None = None, progress: Callable[[Filled], None] | None = None) -> None:
        """Make whatever is missing: after a service was moved here, or searched in another way until now.

        In lots, each a transaction: it may be interrupted, and goes on where it was. Others may write meanwhile.
        """
        tell = progress or (lambda _: None)
        self._fill_facts()
        for filled in self._fill_words():
            tell(filled)
        if made_by is not None:
            for filled in self._fill_vectors(made_by):
                tell(filled)
        with self._db.maintenance() as connection:
            swept = [
                "document",
                "acl_grant",
                "search_words",
                "search_posting",
                "search_fact",
                *_vector_tables(connection),
            ]
            held: Any = connection.connection.dbapi_connection
            held.rollback()
            held.autocommit = True  # VACUUM wants no transaction around it
            for table in swept:
                held.cursor().execute(f"VACUUM (ANALYZE) {table}")
            held.autocommit = False
        with self._alone() as connection:  # nobody writes between the last look and the word that all is there
            for some in _lots(_factless(connection), _AT_ONCE):
                _file(connection, some)
            if not connection.scalar(text(f"SELECT EXISTS (SELECT FROM chunk AS c WHERE {_WORDLESS})")):
                put_fact(connection, _MADE, _LAYOUT)

    def lacks(self) -> bool:
        """Whether chunks are missing though all was said to be there, which is then taken back."""
        with self._db.write() as connection:
            missing = connection.scalar(text(f"SELECT EXISTS (SELECT FROM chunk AS c WHERE {_WORDLESS})"))
            if missing:
                put_fact(connection, _MADE, f"{_LAYOUT}?")
        return bool(missing)

    def _fill_facts(self) -> None:
        with self._db.read() as connection:
            numbers = _factless(connection)
        for some in _lots(numbers, _AT_ONCE):
            with self._alone() as connection:
                _file(connection, some)

    def _fill_words(self) -> Iterator[Filled]:
        missing = "FROM chunk AS c WHERE NOT EXISTS (SELECT FROM search_words AS w WHERE w.seq = c.seq)"
        with self._db.read() as connection:
            every = int(connection.scalar(text(f"SELECT count(*) {missing}")) or 0)
        done = 0
        while every:
            with self._alone() as connection:
                rows = connection.execute(
                    text(f"SELECT c.seq, c.document, c.prefix, c.text {missing} ORDER BY c.seq LIMIT {_AT_ONCE}")
                ).all()
                if not rows:
                    break
                indexed = [(r.seq, r.document, f"{r.prefix}\n{r.text}" if r.prefix else r.text) for r in rows]
                _add_words(connection, indexed)
                done += len(rows)
            yield Filled(what="words", done=done, of=max(every, done))
        self._packed()

    def _fill_vectors(self, made_by: EmbedderIdentity) -> Iterator[Filled]:
        table = table_of(made_by)
        with self._alone() as connection:
            fresh = table not in _vector_tables(connection)
            self.table(connection, made_by, indexed=False)
        missing = (
            "FROM vector AS v JOIN chunk AS c ON c.seq = v.seq WHERE v.embedder = :digest"
            f" AND NOT EXISTS (SELECT FROM {table} AS x WHERE x.seq = v.seq)"
        )
        given = {"digest": made_by.digest}
        with self._db.read() as connection:
            every = int(connection.scalar(text(f"SELECT count(*) {missing}"), given) or 0)
        if fresh or every > _AT_ONCE:  # a graph is made much faster at once than row by row
            with self._alone() as connection:
                connection.exec_driver_sql(f"DROP INDEX IF EXISTS {table}_near")
        done, after = 0, -1
        while every:
            with self._alone() as connection:
                rows = connection.execute(
                    text(f"SELECT v.seq, c.document, v.e {missing} AND v.seq > :after ORDER BY v.seq LIMIT {_AT_ONCE}"),
                    {**given, "after": after},
                ).all()
                if not rows:
                    break
                stacked = np.stack([np.frombuffer(row.e, "<f4") for row in rows])
                _put_vectors(connection, table, [r.seq for r in rows], [r.document for r in rows], stacked)
                after, done = rows[-1].seq, done + len(rows)
            yield Filled(what="vectors", done=done, of=max(every, done))
        with self._db.maintenance() as connection:
            _graph(connection, table, made_by)

    def tidy(self, *, everything: bool = False) -> int:
        """Join parts, and make those anew of which much is gone (``everything``: anything); returns how many were.

        What is deleted is not found any more from that moment; this is when its words leave the postings too.
        """
        with self._db.maintenance() as connection:
            parts = connection.execute(text("SELECT part, chunks FROM search_part ORDER BY part")).all()
        anew = 0
        for row in parts:
            with self._alone() as connection:
                live = _live(connection, row.part)
                if live is not None and len(live) < row.chunks * (1.0 if everything else 0.8):
                    _anew(connection, row.part, live)
                    anew += 1
        self._packed()
        return anew

    def _packed(self) -> None:
        more = True
        while more:
            with self._alone() as connection:
                more = _pack(connection)

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        """A transaction without time-outs that keeps other writers out, as ``Database.write`` does."""
        with self._db.maintenance() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key, hashtext(current_schema()))"), {"key": ALONE})
            yield connection


def _live(connection: Connection, part: int) -> list[int] | None:
    """The chunks of a part that are still there; None when the part is not."""
    held = connection.scalar(text("SELECT seqs FROM search_part WHERE part = :part"), {"part": part})
    if held is None:
        return None
    there = connection.execute(
        text("SELECT seq FROM chunk WHERE seq = ANY(CAST(:seqs AS BIGINT[])) ORDER BY seq"),
        {"seqs": _ints(np.frombuffer(held, "<i8").tolist())},
    )
    return list(there.scalars())


def _anew(connection: Connection, part: int, live: Sequence[int]) -> None:
    """A part made again of the chunks that are still there."""
    for table in ("search_posting", "search_part"):
        connection.execute(text(f"DELETE FROM {table} WHERE part = :part"), {"part": part})
    indexed = []
    for some in _lots(live, _AT_ONCE):
        rows = connection.execute(
            text("SELECT prefix, text FROM chunk WHERE seq = ANY(CAST(:seqs AS BIGINT[])) ORDER BY seq"),
            {"seqs": _ints(some)},
        )
        indexed += [_analysed(f"{row.prefix}\n{row.text}" if row.prefix else row.text) for row in rows]
    if live:
        _add_postings(connection, live, indexed)


_WORDLESS: Final = "NOT EXISTS (SELECT FROM search_words AS w WHERE w.seq = c.seq)"


def _factless(connection: Connection) -> Sequence[int]:
    """Documents that have metadata and no row of it."""
    return (
        connection.execute(
            text(
                "SELECT number FROM document AS d WHERE d.metadata <> '{}'"
                " AND NOT EXISTS (SELECT FROM search_fact AS f WHERE f.document = d.number)"
            )
        )
        .scalars()
        .all()
    )


def _file(connection: Connection, numbers: Sequence[int]) -> None:
    """The metadata of these documents, in place of what was there."""
    given = {"some": _ints(numbers)}
    rows = connection.execute(
        text("SELECT number, metadata FROM document WHERE number = ANY(CAST(:some AS INT[]))"), given
    ).all()
    connection.execute(text("DELETE FROM search_fact WHERE document = ANY(CAST(:some AS INT[]))"), given)
    _add_facts(connection, [(row.number, load_metadata(row.metadata)) for row in rows])


def _standing(connection: Connection) -> str | None:
    """The layout of the tables that are there. The fact alone proves nothing: it may have come from another database."""
    made = connection.scalar(_MADE_NOW)
    there = connection.scalar(text("SELECT to_regclass('search_words')")) is not None
    return made.removesuffix("?") if made is not None and there else None


class Forsaken:
    """``storage.documents.DerivedRows`` of a process that is searched in another way: says with each change that the
    tables are not complete any more, should others believe it."""

    def put_document(self, connection: Connection, number: int, metadata: Mapping[str, MetaValue]) -> None:  # noqa: ARG002
        made = connection.scalar(_MADE_NOW)
        if made is not None:
            if not made.endswith("?"):
                put_fact(connection, _MADE, f"{made}?")
            if connection.scalar(text("SELECT to_regclass('search_fact')")) is not None:
                connection.execute(text("DELETE FROM search_fact WHERE document = :number"), {"number": number})

    def add(self, connection: Connection, rows: Sequence[tuple[int, int, str]]) -> None:
        """Said by ``put_document`` already."""

    def add_vectors(
        self,
        connection: Connection,
        made_by: EmbedderIdentity,  # noqa: ARG002 - the port's
        seqs: Sequence[int],  # noqa: ARG002 - the port's
        documents: Sequence[int],  # noqa: ARG002 - the port's
        rows: npt.NDArray[np.float32],  # noqa: ARG002 - the port's
    ) -> None:
        made = connection.scalar(_MADE_NOW)
        if made is not None and not made.endswith("?"):
            put_fact(connection, _MADE, f"{made}?")

    def drop_vectors(self, connection: Connection, *, keep: EmbedderIdentity) -> None:
        """What is left over does no harm."""


def forsake(database: PostgresDatabase) -> None:
    """The service is searched in another way from now on: what is there will not be complete any more.

    New chunks will be missing, which ``fill`` sees. Metadata that changes keeps its row's number, so it is forgotten.
    """
    with database.read() as connection:
        made = connection.scalar(_MADE_NOW)
        if made is None or _standing(connection) is None:
            return
        kept = connection.scalar(text("SELECT EXISTS (SELECT FROM search_fact)"))
    if kept or not made.endswith("?"):
        with database.write() as connection:
            connection.execute(text("DELETE FROM search_fact"))
            put_fact(connection, _MADE, f"{made.removesuffix('?')}?")


def table_of(made_by: EmbedderIdentity) -> str:
    """The name of an embedder's table."""
    digest = made_by.digest[:12].lower()
    if not digest or not set(digest) <= set("0123456789abcdef"):
        raise Invalid(f"{made_by.digest!r} is not the digest of an embedder", where="search")
    return f"search_vector_{digest}"


def worth(times: npt.NDArray[Any], length: int) -> npt.NDArray[np.float64]:
    """What BM25 gives a term that stands so many times in a chunk of this length, before it is weighed: below 1."""
    return np.asarray(times / (times + K1 * (1.0 - B + B * length / USUAL_LENGTH)))


def terms_of(words: str) -> npt.NDArray[np.int64]:
    """The places of a text's terms in the sparse vector, as often as each stands there.

    Two terms sharing a place would read as one word (chance 0.1 % for a term among a million); it could not show a
    forbidden row, because every row found is looked up inside the scope.
    """
    return np.asarray(np.frombuffer(analyzer.keys(words), np.uint64) % np.uint64(SPACE) + np.uint64(1), np.int64)


def _analysed(words: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """A chunk's terms, ascending, each once, and what each is worth."""
    every = terms_of(words)
    terms, times = np.unique(every, return_counts=True)
    return terms, worth(times, len(every))


def _add_words(connection: Connection, rows: Sequence[tuple[int, int, str]]) -> None:
    seqs = [seq for seq, _, _ in rows]
    indexed = [_analysed(words) for _, _, words in rows]
    sparse = [
        "{" + ",".join(map("%d:%.7g".__mod__, zip(terms.tolist(), worths.tolist(), strict=True))) + f"}}/{SPACE}"
        for terms, worths in indexed
    ]
    connection.execute(
        text(
            "INSERT INTO search_words (seq, document, words) SELECT seq, document, words::sparsevec FROM"
            " unnest(CAST(:seqs AS BIGINT[]), CAST(:documents AS INT[]), CAST(:words AS TEXT[])) AS t (seq, document, words)"
        ),
        {"seqs": _ints(seqs), "documents": _ints([number for _, number, _ in rows]), "words": _texts(sparse)},
    )
    _add_postings(connection, seqs, indexed)


def _add_postings(
    connection: Connection, seqs: Sequence[int], indexed: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]
) -> None:
    """Parts with these chunks, one for each base they touch."""
    numbers = np.array(seqs, np.int64)
    for base in np.unique(numbers // SPAN).tolist():
        at = np.flatnonzero(numbers // SPAN == base).tolist()
        mine = [seqs[i] for i in at]
        terms = np.concatenate([indexed[i][0] for i in at])
        worths = np.concatenate([indexed[i][1] for i in at])
        counts = [len(indexed[i][0]) for i in at]
        codes = (np.repeat(numbers[at] - base * SPAN, counts) << 11) | np.ceil(worths * STEPS).astype(np.int64)
        order = np.lexsort((codes, terms))
        terms, codes = terms[order], codes[order].astype("<i4")
        first = np.flatnonzero(np.diff(terms, prepend=-1))
        upto = np.append(first[1:], len(terms)).tolist()
        tops = np.maximum.reduceat(codes & STEPS, first).tolist() if len(first) else []
        held = codes.tobytes().hex()
        connection.execute(
            text(
                "INSERT INTO search_posting (term, part, n, top, codes) SELECT term, :part, n, top, decode(codes, 'hex')"
                " FROM unnest(CAST(:terms AS INT[]), CAST(:n AS INT[]), CAST(:tops AS INT[]), CAST(:codes AS TEXT[]))"
                " AS t (term, n, top, codes)"
            ),
            {
                "part": min(mine),
                "terms": _ints(terms[first].tolist()),
                "n": _ints([b - a for a, b in zip(first.tolist(), upto, strict=True)]),
                "tops": _ints(tops),
                "codes": "{" + ",".join(held[8 * a : 8 * b] for a, b in zip(first.tolist(), upto, strict=True)) + "}",
            },
        )
        connection.execute(
            text("INSERT INTO search_part (part, level, chunks, seqs) VALUES (:part, :level, :chunks, :seqs)"),
            {
                "part": min(mine),
                "level": _level(len(mine)),
                "chunks": len(mine),
                "seqs": np.array(mine, "<i8").tobytes(),
            },
        )


def _level(chunks: int) -> int:
    """How large a part is: each level is sixteen times the one below."""
    level = 0
    while chunks >= 8 * _JOINED ** (level + 1):
        level += 1
    return level


def _join(connection: Connection, levels: int) -> None:
    """Join parts where there are as many of a level as there may be. Bytes are put one after the other."""
    while True:
        row = connection.execute(
            text(
                f"SELECT level, part / {SPAN} AS base FROM search_part WHERE level < :levels"
                f" GROUP BY level, part / {SPAN} HAVING count(*) >= {_JOINED} ORDER BY level LIMIT 1"
            ),
            {"levels": levels},
        ).first()
        if row is None:
            return
        parts = connection.execute(
            text("SELECT part, chunks FROM search_part WHERE level = :level AND part / :span = :base ORDER BY part"),
            {"level": row.level, "span": SPAN, "base": row.base},
        ).all()
        chunks = sum(part.chunks for part in parts)
        _put_together(connection, [part.part for part in parts], max(_level(chunks), row.level + 1))


def _put_together(connection: Connection, parts: Sequence[int], level: int) -> None:
    """One part out of these, all under one base."""
    for source, columns, grouped in (
        ("search_posting", "term, sum(n), max(top), string_agg(codes, '' ORDER BY part)", "term, n, top, codes"),
        ("search_part", f"{level}, sum(chunks), string_agg(seqs, '' ORDER BY part)", "level, chunks, seqs"),
    ):
        connection.execute(
            text(
                f"WITH gone AS (DELETE FROM {source} WHERE part = ANY(CAST(:parts AS BIGINT[])) RETURNING *)"
                f" INSERT INTO {source} (part, {grouped}) SELECT CAST(:first AS BIGINT), {columns} FROM gone"
                + (" GROUP BY term" if source == "search_posting" else "")
            ),
            {"parts": _ints(parts), "first": min(parts)},
        )


def _pack(connection: Connection) -> bool:
    """Join parts, whatever their level, up to the size where that pays no more; whether there is more to do."""
    rows = connection.execute(
        text(f"SELECT part, part / {SPAN} AS base, chunks FROM search_part WHERE chunks < {_LARGE} ORDER BY part")
    ).all()
    lot: list[Any] = []
    for row in rows:
        if lot and (row.base != lot[0].base or sum(one.chunks for one in lot) >= _LARGE):
            if len(lot) > 1:
                break
            lot = []
        lot.append(row)
    if len(lot) < 2:
        return False
    _put_together(connection, [one.part for one in lot], _level(sum(one.chunks for one in lot)))
    return True


def _put_vectors(
    connection: Connection, table: str, seqs: Sequence[int], documents: Sequence[int], rows: npt.NDArray[np.float32]
) -> None:
    connection.execute(
        text(
            f"INSERT INTO {table} (seq, document, e) SELECT seq, document, e::halfvec FROM"
            " unnest(CAST(:seqs AS BIGINT[]), CAST(:documents AS INT[]), CAST(:rows AS TEXT[])) AS t (seq, document, e)"
            " ON CONFLICT (seq) DO UPDATE SET e = excluded.e"
        ),
        {
            "seqs": _ints(seqs),
            "documents": _ints(documents),
            "rows": _texts([vector_text(row) for row in rows]),
        },
    )


def vector_text(vector: npt.NDArray[np.float32]) -> str:
    """A vector as PostgreSQL reads it. Five figures are more than half precision has."""
    if not np.isfinite(vector).all():
        raise Invalid("a vector holds a number that is not finite", where="search index")
    return "[" + ",".join(map("%.5g".__mod__, np.clip(vector, -_HALF, _HALF).tolist())) + "]"


def _graph(connection: Connection, table: str, made_by: EmbedderIdentity) -> None:
    if made_by.dims <= HNSW_DIMS:
        connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '1GB'")
        connection.exec_driver_sql(
            f"CREATE INDEX IF NOT EXISTS {table}_near ON {table} USING hnsw (e halfvec_ip_ops)"
            " WITH (m = 16, ef_construction = 128)"
        )


def _storage(dims: int) -> str:
    """Inline where a row still fits a page."""
    return "PLAIN" if dims <= 2000 else "EXTERNAL"


def _wall(connection: Connection, table: str, visible: str, *, ranked: bool = True) -> None:
    connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    connection.exec_driver_sql(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    connection.exec_driver_sql(f"CREATE POLICY everything ON {table} USING ({_GATE})")
    opened = f"{_RANKING} OR " if ranked else ""
    connection.exec_driver_sql(f"CREATE POLICY visible ON {table} FOR SELECT USING ({opened}{visible})")


def _vector_tables(connection: Connection) -> list[str]:
    return list(
        connection.execute(
            text(
                "SELECT relname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace"
                " WHERE nspname = current_schema() AND relkind = 'r' AND relname LIKE 'search\\_vector\\_%'"
            )
        ).scalars()
    )


def _drop_all(connection: Connection) -> None:
    for table in ("search_words", "search_part", "search_posting", "search_fact", *_vector_tables(connection)):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")


def _require_vector(connection: Connection, where: str) -> None:
    version = connection.scalar(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
    if version is None:
        available = connection.scalar(text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"))
        fix = "as superuser, run in this database: CREATE EXTENSION vector" if available else "install pgvector 0.8"
        raise Invalid("searching in PostgreSQL needs pgvector", where=where, fix=f"{fix}; or set search.engine: exact")
    if tuple(map(int, version.split(".")[:2])) < (0, 8):
        raise Invalid(
            f"pgvector {version} is too old", where=where, fix="ALTER EXTENSION vector UPDATE, to 0.8 or newer"
        )
    # Types must be found, and a misspelt setting would be a warning only and fall back to losing results.
    connection.exec_driver_sql("SELECT '[1]'::halfvec")
    connection.exec_driver_sql("SET LOCAL hnsw.iterative_scan = 'strict_order'")
    took = connection.exec_driver_sql("SHOW hnsw.iterative_scan").scalar_one()
    if took != "strict_order":
        raise Invalid("pgvector does not scan iteratively", where=where, fix="install pgvector 0.8 or newer")


# -- metadata ----------------------------------------------------------------------------------------------------------


def _add_facts(connection: Connection, documents: Iterable[tuple[int, Mapping[str, MetaValue]]]) -> None:
    rows = [
        (number, key, *fact_of(value)) for number, held in documents for key in held for value in values_of(held[key])
    ]
    if not rows:
        return
    columns = list(zip(*rows, strict=True))
    connection.execute(
        text(
            "INSERT INTO search_fact (document, key, tag, spelled, folded, amount, number, day) SELECT * FROM"
            " unnest(CAST(:document AS INT[]), CAST(:key AS TEXT[]), CAST(:tag AS TEXT[]),"
            " CAST(:spelled AS TEXT[]), CAST(:folded AS TEXT[]), CAST(:amount AS NUMERIC[]),"
            " CAST(:number AS DOUBLE PRECISION[]), CAST(:day AS INT[]))"
        ),
        {
            "document": _ints(columns[0]),
            **{
                name: _texts(column)
                for name, column in zip(
                    ("key", "tag", "spelled", "folded", "amount", "number", "day"), columns[1:], strict=True
                )
            },
        },
    )


Fact = tuple[str, str, str | None, str | None, str | None, str | None]


def fact_of(value: Tagged) -> Fact:
    """A value as a row has it: its type, its JSON, and what it is compared by. The rules are ``metadata.Column``'s."""
    tag, held = value
    folded = clean(str(held).casefold()) if tag == "s" else None
    amount = number = day = None
    if tag in "if":
        exact = Fraction(held)
        amount = _decimal(exact)
        try:
            number = repr(float(exact))
        except OverflowError:
            number = None
    elif tag == "b":
        amount = str(int(bool(held)))
    elif len(str(held)) == 10:
        try:
            day = str(date.fromisoformat(str(held)).toordinal())
        except ValueError:
            day = None
    return tag, clean(json.dumps(held, ensure_ascii=True)), folded, amount, number, day


def _decimal(value: Fraction) -> str | None:
    """A number written out exactly: a float's denominator is a power of two, so that it ends."""
    digits = value.denominator.bit_length() - 1
    scaled = abs(value.numerator) * 10**digits // value.denominator
    written = str(scaled).rjust(digits + 1, "0")
    whole, rest = (written[:-digits], written[-digits:]) if digits else (written, "")
    return ("-" if value < 0 else "") + whole + (f".{rest}" if rest else "")


def clean(value: str) -> str:
    """Text that PostgreSQL can hold: it has no NUL and no half characters."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


# -- values as text ----------------------------------------------------------------------------------------------------


def _ints(values: Iterable[int]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


def _texts(values: Iterable[object]) -> str:
    return "{" + ",".join(_quoted(value) for value in values) + "}"


def _quoted(value: object) -> str:
    if value is None:
        return "NULL"
    return '"' + clean(str(value)).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lots(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))
