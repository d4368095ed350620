# ruff: noqa: S608 - statements are made of numbers and of names of ours
"""Search inside PostgreSQL: ``retrieval.ports.Index`` over the tables of ``postgres_index``.

Every statement names the permitted classes, always; row-level security stands behind it as a second wall. The tables
that are ranked are open to a statement that says it ranks (``mainstay.ranking``), since a check row by row would cost
more than the ranking, but each of these statements joins ``document``, whose wall stands: with the predicate left out
they would still find nothing that is not the asker's.

How it is searched follows from the size of the permitted set, not from what the planner guesses. Meaning: the permitted
rows are sorted by distance, exactly, while that is cheaper than walking the graph past those that are not permitted;
above, HNSW with strict iterative scan. Words: the permitted rows are scored, while they are few; above, the postings of
the rare words give candidates with an upper bound each, best first, until no other row can be better (MaxScore), and
the candidates are looked up inside the scope. Both are exact. A list is never short: what the graph leaves open is
searched exactly.

Statements are made of numbers alone and sent as one message, in the simple protocol: round trips are most of what a
small search costs, and a plan is made for these very numbers each time.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from mainstay.corpus.index import NOTHING, Hits, analyzer
from mainstay.corpus.index.metadata import plain, tagged
from mainstay.models.embedders import EmbedderIdentity
from mainstay.retrieval.ports import Inside, Lists
from mainstay.storage.postgres import PostgresDatabase
from mainstay.storage.postgres_index import (
    HNSW_DIMS,
    K1,
    SPACE,
    SPAN,
    STEPS,
    clean,
    fact_of,
    table_of,
    terms_of,
    vector_text,
)
from mainstay.types import Filter, Scope

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_FEW: Final = 12_000  # permitted rows whose words are all scored
_ALWAYS: Final = 4_000  # permitted rows sorted exactly however small the corpus
_SORTED: Final = 2_000  # rows sorted exactly cost as much as the graph at this many, times the corpus, under the root
_EF: Final = 100
_SCANNED: Final = 40_000
_READ: Final = 80_000  # postings read at first: those of the rarest words
_MOST_READ: Final = 3_000_000
_LOOKED_UP: Final = 4_000  # candidates a statement
_KEPT: Final = 5_000  # candidates in order; behind them the whole permitted set is scored
_UP: Final = 1.00001  # what sums in single precision may be off, added to bounds
_HELD: Final = 500  # scopes whose metadata values are remembered
_RANKING: Final = (
    "SET LOCAL mainstay.ranking = 'on'; SET LOCAL enable_memoize = off; SET LOCAL hnsw.iterative_scan = 'strict_order';"
    f" SET LOCAL hnsw.ef_search = {_EF}; SET LOCAL hnsw.max_scan_tuples = {_SCANNED}; "
)
_GRAPH: Final = "SET LOCAL enable_sort = off; "  # sorting all rows is never what is wanted where the graph was chosen
_LOOKUPS: Final = "".join(f"SET LOCAL enable_{way} = off; " for way in ("hashjoin", "mergejoin", "material"))


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Chunks, and chunks with a vector, by class; as of a line of the change log."""

    newest: int
    at: float
    cost: float
    by_class: Mapping[int, tuple[int, int]]
    held: int


class PostgresSearch:
    """The index of one embedder's vectors. One per process, for all threads."""

    def __init__(self, database: PostgresDatabase, made_by: EmbedderIdentity, *, patience: float = 20.0) -> None:
        """``patience``: sizes are counted anew when documents changed, but not before this many times what counting
        cost has passed."""
        self._db, self.made_by = database, made_by
        self.table = table_of(made_by)
        self._patience = patience
        self._lock = threading.Lock()
        self._sizes: _Sizes | None = None
        self._values: OrderedDict[tuple[str, str | None, int | None], tuple[tuple[int, str], Any]] = OrderedDict()
        self._has_table = False

    # -- the port ------------------------------------------------------------------------------------------------------

    def permitted(self, scope: Scope, filters: Sequence[Filter] = ()) -> Inside:
        """What the scope may read and the filters leave."""
        if not filters:
            return _InDatabase(self, scope)
        where = ["d.class_id = ANY(CAST(:classes AS INT[]))"]
        given: dict[str, object] = {"classes": _array(scope.classes)}
        for i, wanted in enumerate(filters):
            where.append(_condition(wanted, f"f{i}", given))
        vectors = f"LEFT JOIN {self.table} AS x ON x.seq = w.seq" if self.has_table() else ""
        counted = "x.seq" if vectors else "NULL"
        with self._db.read(scope) as connection:
            connection.exec_driver_sql("SET LOCAL mainstay.ranking = 'on'")
            rows = connection.execute(
                text(
                    f"SELECT d.number, count(w.seq), count({counted}) FROM document AS d"
                    f" LEFT JOIN search_words AS w ON w.document = d.number {vectors}"
                    f" WHERE {' AND '.join(where)} GROUP BY d.number"
                ),
                given,
            ).all()
        return _InDatabase(
            self,
            scope,
            documents=tuple(row[0] for row in rows if row[1]),
            counts=(sum(row[1] for row in rows), sum(row[2] for row in rows)),
        )

    def metadata_keys(self, scope: Scope) -> Sequence[str]:
        """The metadata keys that occur in the scope."""

        def read(connection: Connection) -> list[str]:
            rows = connection.execute(
                text(
                    "SELECT k.key FROM (SELECT DISTINCT key FROM search_fact) AS k WHERE EXISTS (SELECT FROM search_fact AS f"
                    " JOIN document AS d ON d.number = f.document"
                    " WHERE f.key = k.key AND d.class_id = ANY(CAST(:classes AS INT[])))"
                ),
                {"classes": _array(scope.classes)},
            )
            return sorted(rows.scalars())

        return list(self._remembered(scope, None, None, read))

    def metadata_values(
        self, scope: Scope, key: str, *, limit: int | None = None
    ) -> Mapping[str | int | float | bool | date, int]:
        """The (most frequent) distinct values of a key in the scope, with the number of documents that have each."""

        def read(connection: Connection) -> dict[str | int | float | bool | date, int]:
            rows = connection.execute(
                text(
                    "SELECT f.tag, f.spelled, count(*) FROM search_fact AS f JOIN document AS d ON d.number = f.document"
                    " WHERE f.key = :key AND d.class_id = ANY(CAST(:classes AS INT[])) GROUP BY f.tag, f.spelled"
                ),
                {"key": clean(key), "classes": _array(scope.classes)},
            )
            found = [((row[0], json.loads(row[1])), row[2]) for row in rows]
            found.sort(key=lambda item: (-item[1], item[0][0], item[0][1]))
            out: dict[str | int | float | bool | date, int] = {}
            for value, count in found[:limit]:
                out[plain(value)] = out.get(plain(value), 0) + count
            return out

        return dict(self._remembered(scope, key, limit, read))

    def _remembered(self, scope: Scope, key: str | None, limit: int | None, read: Any) -> Any:
        """What ``read`` gives, kept until documents change."""
        name = (scope.digest or _array(scope.classes), key, limit)
        with self._db.read(scope) as connection:
            row = connection.exec_driver_sql(
                "SELECT coalesce(max(n), 0), (SELECT value FROM fact WHERE name = 'search:made') FROM change"
            ).one()
            newest = (int(row[0]), str(row[1]))  # tables that are made anew change without a line in the log
            with self._lock:
                held = self._values.get(name)
                if held is not None and held[0] == newest:
                    self._values.move_to_end(name)
                    return held[1]
            connection.exec_driver_sql("SET LOCAL mainstay.ranking = 'on'")
            value = read(connection)
        with self._lock:
            self._values[name] = (newest, value)
            if len(self._values) > _HELD:
                self._values.popitem(last=False)
        return value

    # -- sizes ---------------------------------------------------------------------------------------------------------

    def has_table(self) -> bool:
        """Whether this embedder has made a vector yet."""
        if not self._has_table:
            with self._db.read() as connection:
                self._has_table = connection.scalar(text("SELECT to_regclass(:name)"), {"name": self.table}) is not None
        return self._has_table

    def sizes(self, newest: int | None = None, *, about: bool = False) -> _Sizes:
        """Sizes by class as of this line of the change log (None: the newest one), if it is time to count again.

        ``about``: whatever is known, for a choice that old sizes do not harm.
        """
        held = self._sizes
        if held is not None and (about or held.newest == newest):
            return held
        with self._lock:
            held = self._sizes
            if held is None or time.monotonic() - held.at >= self._patience * held.cost:
                self._sizes = self._counted(held)
            assert self._sizes is not None
            return self._sizes

    def _counted(self, held: _Sizes | None) -> _Sizes:
        start = time.monotonic()
        vectors = f"LEFT JOIN {self.table} AS x ON x.seq = w.seq" if self.has_table() else ""
        with self._db.read() as connection:
            newest = int(connection.exec_driver_sql("SELECT max(n) FROM change").scalar() or 0)
            if held is not None and held.newest == newest:
                return held
            rows = connection.exec_driver_sql(
                f"SELECT d.class_id, count(*), count({'x.seq' if vectors else 'NULL'}) FROM search_words AS w"
                f" JOIN document AS d ON d.number = w.document {vectors} GROUP BY d.class_id"
            ).all()
        by_class = {row[0]: (row[1], row[2]) for row in rows}
        now = time.monotonic()
        every = sum(count for count, _ in by_class.values())
        return _Sizes(newest=newest, at=now, cost=now - start, by_class=by_class, held=every)

    def read(self, scope: Scope) -> Any:
        """A transaction inside the scope."""
        return self._db.read(scope)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A question as numbers: how often it has each term, its vector as text, how many rows are wanted."""

    terms: Mapping[int, int]
    vector: str | None
    k: int


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row of either list with both scores."""

    seq: int
    near: bool
    said: bool
    lexical: float
    dense: float | None


class _InDatabase:
    """``retrieval.ports.Inside``."""

    def __init__(
        self,
        search: PostgresSearch,
        scope: Scope,
        documents: tuple[int, ...] | None = None,
        counts: tuple[int, int] | None = None,
    ) -> None:
        self._search, self._scope, self._documents, self._counts = search, scope, documents, counts
        self._newest: int | None = None

    # -- sizes ---------------------------------------------------------------------------------------------------------

    def _in_scope(self, *, about: bool = False) -> tuple[int, int]:
        by_class = self._search.sizes(self._newest, about=about).by_class
        found = [by_class[number] for number in self._scope.classes if number in by_class]
        return sum(count for count, _ in found), sum(count for _, count in found)

    @property
    def count(self) -> int:
        """Rows in here."""
        return self._counts[0] if self._counts is not None else self._in_scope()[0]

    @property
    def without_vector(self) -> int:
        """Rows in here that are found by words only."""
        count, vectors = self._counts if self._counts is not None else self._in_scope()
        return count - vectors

    @property
    def cut_off(self) -> int:
        """Rows the scope keeps out: for operators alone."""
        sizes = self._search.sizes(self._newest)
        return sizes.held - self._in_scope()[0]

    # -- searching -----------------------------------------------------------------------------------------------------

    def lists(self, text: str, vector: npt.NDArray[np.float32] | None, k: int) -> Lists:
        """The k best rows by words, and with a vector by meaning."""
        with_vectors = vector is not None and self._search.has_table()
        asked = _Asked(
            terms=analyzer.distinct(terms_of(text).tolist()),
            vector=vector_text(np.asarray(vector, np.float32).reshape(-1)) if with_vectors else None,
            k=k,
        )
        rows: dict[int, _Row] = {}
        if k > 0 and self._scope.classes and self._documents != () and (asked.terms or asked.vector):
            rows = self._found(asked)
        said = sorted((r for r in rows.values() if r.said and r.lexical > 0.0), key=lambda r: (-r.lexical, r.seq))[:k]
        near = sorted((r for r in rows.values() if r.near and r.dense is not None), key=lambda r: (-_dense(r), r.seq))
        return Lists(
            words=_hits([(r.seq, r.lexical) for r in said]),
            meaning=_hits([(r.seq, _dense(r)) for r in near[:k]]),
            word_scores=lambda seqs: np.array([rows[s].lexical if s in rows else 0.0 for s in seqs.tolist()], float),
            meaning_scores=lambda seqs: np.array(
                [_dense(rows[s]) if s in rows else np.nan for s in seqs.tolist()], float
            ),
        )

    def _found(self, asked: _Asked) -> dict[int, _Row]:
        """The rows of both lists, in one snapshot."""
        search = self._search
        count, vectors = self._counts if self._counts is not None else self._in_scope(about=True)
        held = max(search.sizes(about=True).held, count, 1)
        sorted_exactly = count <= _ALWAYS or count * count <= _SORTED * held or search.made_by.dims > HNSW_DIMS
        with search.read(self._scope) as connection:
            if asked.terms and count > _FEW:
                weighed = self._weighed(connection, asked)
            else:
                weighed = None
            found = self._ranked(connection, asked, weighed, exactly=sorted_exactly, share=count / held)
            near = sum(row.near for row in found.values())
            if asked.vector is not None and not sorted_exactly and near < min(asked.k, vectors):
                again = self._ranked(connection, asked, weighed, exactly=True, share=count / held)
                found = {**again, **{seq: row for seq, row in found.items() if seq not in again}}
        return found

    def _permitted(self) -> str:
        """The permission predicate over ``document AS d``: never left out."""
        inside = f"d.class_id = ANY('{_array(self._scope.classes)}'::int[])"
        return inside if self._documents is None else f"{inside} AND d.number = ANY('{_array(self._documents)}'::int[])"

    def _ranked(
        self,
        connection: Connection,
        asked: _Asked,
        weighed: _Weighed | None,
        *,
        exactly: bool,
        share: float,
    ) -> dict[int, _Row]:
        """Rows of the lists. With ``weighed``, words come from candidates, until no other row can be better."""
        found: dict[int, _Row] = {}
        sent, first = 0, True
        size = 0 if weighed is None else weighed.likely(asked.k, share)
        while True:
            candidates = None if weighed is None else weighed.seqs[sent : sent + size]
            for row in self._asked(connection, asked, weighed, candidates, near=first, exactly=exactly):
                before = found.get(row.seq)
                found[row.seq] = row if before is None else _Row(
                    seq=row.seq, near=row.near or before.near, said=row.said or before.said, lexical=row.lexical, dense=row.dense
                )  # fmt: skip
            first = False
            if weighed is None:
                return found
            sent = min(sent + size, len(weighed.seqs))
            best = sorted((row.lexical for row in found.values() if row.said and row.lexical > 0), reverse=True)
            bar = best[asked.k - 1] if len(best) >= asked.k else 0.0
            reach = weighed.reach(sent)
            if reach <= 0.0 or reach < bar:
                return found
            if sent < len(weighed.seqs):
                size = min(max(weighed.above(bar) - sent, 64), _LOOKED_UP)
            else:
                weighed, sent = self._widened(connection, weighed), 0
                size = 0 if weighed is None else weighed.likely(asked.k, share)

    def _widened(self, connection: Connection, weighed: _Weighed) -> _Weighed | None:
        """The same with the next word's postings read; None where scoring every permitted row is the better way."""
        terms = weighed.next()
        if terms is None:
            return None
        rows = _sent(
            connection,
            f"SELECT term, part, codes FROM search_posting WHERE term = {terms}",
        )
        return weighed.with_codes([(row[0], row[1], row[2]) for row in rows])

    def _weighed(self, connection: Connection, asked: _Asked) -> _Weighed:
        """The words' weights, and the postings of the rare ones."""
        listed = ",".join(map(str, asked.terms))
        rows = _sent(
            connection,
            f"{_RANKING}SELECT sum(chunks) FROM search_part; WITH t AS MATERIALIZED (SELECT term, sum(n) AS n, max(top) AS top"
            f" FROM search_posting WHERE term = ANY('{{{listed}}}'::int[]) GROUP BY term),"
            " r AS (SELECT *, sum(n) OVER (ORDER BY n, term) AS upto, row_number() OVER (ORDER BY n, term) AS nth FROM t)"
            " SELECT r.term, r.n, r.top, p.part, p.codes FROM r LEFT JOIN search_posting AS p"
            f" ON p.term = r.term AND (r.upto <= {_READ} OR r.nth = 1 AND r.n <= {_MOST_READ})",
        )
        total = int(rows[0][0] or 0)
        words: dict[int, _Word] = {}
        for term, n, top, _, _ in rows[1:]:
            rarity = math.log1p(max(total - int(n) + 0.5, 0.0) / (int(n) + 0.5))
            words[term] = _Word(term=term, n=int(n), top=top / STEPS, weight=asked.terms[term] * rarity * (K1 + 1.0))
        codes = [(row[0], row[3], row[4]) for row in rows[1:] if row[3] is not None]
        return _Weighed.of(tuple(words.values()), codes)

    def _asked(
        self,
        connection: Connection,
        asked: _Asked,
        weighed: _Weighed | None,
        candidates: Ints | None,
        *,
        near: bool,
        exactly: bool,
    ) -> list[_Row]:
        """One statement: both lists, and both scores of every row in them."""
        table, k, permitted = self._search.table, asked.k, self._permitted()
        inside = "ANY(ARRAY(SELECT number FROM inside))"
        scoped = f"inside AS MATERIALIZED (SELECT d.number FROM document AS d WHERE {permitted})"
        # Looked up row by row, in the order of the rows: a join would be the planner's to turn round.
        may = f".document AND {permitted}) IS NOT NULL"
        near_may, said_may = (f"(SELECT d.number FROM document AS d WHERE d.number = {row}{may}" for row in "sw")
        parts, wide = [], False
        query = "(SELECT q FROM asked)"
        if weighed is not None:
            query = f"'{weighed.query()}'::sparsevec"
        elif asked.terms:
            parts.append(f"asked AS MATERIALIZED ({_weights(asked.terms)})")
        vector = f"'{asked.vector}'::halfvec" if asked.vector is not None else ""
        lists = []
        if vector and near:
            if exactly:
                parts.append(
                    f"near AS MATERIALIZED (SELECT s.seq FROM {table} AS s WHERE s.document = {inside}"
                    f" ORDER BY -(s.e <#> {vector}) DESC, s.seq LIMIT {k})"
                )
            else:
                wide = True
                parts.append(
                    f"near AS MATERIALIZED (SELECT s.seq FROM {table} AS s WHERE {near_may}"
                    f" ORDER BY s.e <#> {vector} LIMIT {k})"
                )
            lists.append("near")
        if asked.terms and (candidates is None or len(candidates)):
            if candidates is None:
                rows = f"search_words AS w WHERE w.document = {inside}"
            else:
                rows = (
                    f"unnest('{_array(candidates.tolist())}'::bigint[]) AS c (seq) JOIN search_words AS w ON w.seq = c.seq"
                    f" WHERE {said_may}"
                )
            parts.append(
                f"said AS MATERIALIZED (SELECT w.seq FROM {rows} ORDER BY w.words <#> {query}, w.seq LIMIT {k})"
            )
            lists.append("said")
        if not lists:
            return []
        if any(inside in part for part in parts):
            parts.insert(0, scoped)
        parts.append(f"either AS ({' UNION '.join(f'SELECT seq FROM {name}' for name in lists)})")
        lexical = f"-(w.words <#> {query})" if asked.terms else "0.0::float8"
        dense = f"-(x.e <#> {vector})" if vector else "NULL::float8"
        has = {
            name: f"EXISTS (SELECT FROM {name} WHERE {name}.seq = b.seq)" if name in lists else "false"
            for name in ("near", "said")
        }
        joined = f" LEFT JOIN {table} AS x ON x.seq = b.seq" if vector else ""
        statement = (
            f"WITH {', '.join(parts)} SELECT b.seq, {has['near']}, {has['said']}, {lexical}, {dense}"
            f" FROM either AS b JOIN search_words AS w ON w.seq = b.seq{joined}"
        )
        shape = _GRAPH if wide else ""
        found = _sent(connection, f"{_RANKING}{_LOOKUPS}{shape}SELECT max(n) FROM change; {statement}")
        self._newest = int(found[0][0] or 0)
        return [_Row(seq=r[0], near=r[1], said=r[2], lexical=float(r[3]), dense=r[4]) for r in found[1:]]


# -- words -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Word:
    """A word of the question: how many chunks have it, and what it adds at most."""

    term: int
    n: int
    top: float
    weight: float

    @property
    def most(self) -> float:
        return self.weight * self.top


@dataclass(frozen=True, kw_only=True, eq=False)
class _Weighed:
    """Candidates, best first by what their read words add at most."""

    words: tuple[_Word, ...]
    codes: tuple[tuple[int, int, bytes], ...]  # (word, part, postings) of the words that were read
    seqs: Ints
    bounds: Floats
    left: float  # what a candidate can have that is not among these

    @classmethod
    def of(cls, words: tuple[_Word, ...], codes: Sequence[tuple[int, int, bytes]]) -> _Weighed:
        weights = {word.term: word.weight for word in words}
        every, sums = _summed([(np.frombuffer(held, "<i4"), part, weights[term]) for term, part, held in codes])
        left = 0.0
        if len(sums) > _KEPT:
            at = np.argpartition(sums, len(sums) - _KEPT - 1)
            left = float(sums[at[len(sums) - _KEPT - 1]]) * _UP
            every, sums = every[at[len(sums) - _KEPT :]], sums[at[len(sums) - _KEPT :]]
        bounds = sums.astype(np.float64) * _UP
        order = np.lexsort((every, -bounds))
        return cls(words=words, codes=tuple(codes), seqs=every[order], bounds=bounds[order], left=left)

    def with_codes(self, codes: Sequence[tuple[int, int, bytes]]) -> _Weighed:
        """The same with these postings added."""
        return _Weighed.of(self.words, [*self.codes, *codes])

    @cached_property
    def rest(self) -> float:
        """What the words that were not read can add."""
        read = {term for term, _, _ in self.codes}
        return sum(word.most for word in self.words if word.term not in read)

    def reach(self, sent: int) -> float:
        """What a row that was not looked up can have at most."""
        return self.rest + (float(self.bounds[sent]) if sent < len(self.bounds) else self.left)

    def above(self, bar: float) -> int:
        """How many candidates may be better than this."""
        return int(np.searchsorted(-self.bounds, -(bar - self.rest), side="right"))

    def likely(self, k: int, share: float) -> int:
        """How many candidates to look up first: as many as hold k permitted ones, and those close behind them."""
        enough = min(len(self.bounds), int(1.2 * k / share) + 16)
        if not enough:
            return 0
        return min(max(enough, self.above(float(self.bounds[enough - 1]) + 0.7 * self.rest)), _LOOKED_UP)

    def next(self) -> int | None:
        """The rarest word not read yet; None when there is none, or reading on is no use."""
        read = {term for term, _, _ in self.codes}
        unread = sorted((word for word in self.words if word.term not in read), key=lambda word: word.n)
        return unread[0].term if unread and unread[0].n <= _MOST_READ and not self.left else None

    def query(self) -> str:
        ordered = sorted(self.words, key=lambda word: word.term)
        return "{" + ",".join(f"{word.term}:{word.weight:.9g}" for word in ordered) + f"}}/{SPACE}"


def _summed(postings: Sequence[tuple[npt.NDArray[np.int32], int, float]]) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Each chunk number of these (postings, part, weight) once, with what it gets from all of them."""
    bases = {part // SPAN for _, part, _ in postings}
    seqs, sums = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for base in sorted(bases):  # a table of sums for each: no number occurs twice in one word's postings of a part
        mine = [(codes, weight) for codes, part, weight in postings if part // SPAN == base]
        table = np.zeros((max(int(codes.max()) for codes, _ in mine) >> 11) + 1, np.float32)
        for codes, weight in mine:
            table[codes >> 11] += (codes & STEPS) * np.float32(weight / STEPS)
        at = np.flatnonzero(table)
        seqs.append(at + np.int64(base * SPAN))
        sums.append(table[at])
    return np.concatenate(seqs), np.concatenate(sums)


def _weights(terms: Mapping[int, int]) -> str:
    """The question as a sparse vector, weighed by the tenant's statistics: SQL for one value ``q``."""
    listed = ", ".join(f"({term}, {times})" for term, times in terms.items())
    rarity = "ln(1.0::float8 + greatest(c.total - p.n + 0.5, 0) / (p.n + 0.5))"
    return (
        f"SELECT coalesce('{{' || string_agg(p.term || ':' || (p.times * {rarity} * {K1 + 1.0})::float8, ',' ORDER BY p.term)"
        f" || '}}/{SPACE}', '{{}}/{SPACE}')::sparsevec AS q FROM"
        f" (SELECT s.term, t.times, s.n FROM (SELECT term, sum(n)::float8 AS n FROM search_posting"
        f" WHERE term = ANY('{_array(terms)}'::int[]) GROUP BY term) AS s JOIN (VALUES {listed}) AS t (term, times)"
        " ON t.term = s.term) AS p,"
        " (SELECT sum(chunks)::float8 AS total FROM search_part) AS c"
    )


# -- filters -----------------------------------------------------------------------------------------------------------


def _condition(wanted: Filter, name: str, given: dict[str, object]) -> str:
    """A filter over ``document AS d`` with the rules of ``corpus.index.metadata.Column``; values go into ``given``."""
    given[f"{name}_key"] = clean(wanted.key)
    ranged = wanted.at_least is not None or wanted.at_most is not None
    fits = []
    if not wanted.any_of and not ranged:
        fits.append("true")
    for i, value in enumerate(wanted.any_of):
        fits += _equal(value, f"{name}_{i}", given)
    if ranged:
        fits += _within(wanted, name, given)
    if not fits:
        return "false"
    return (
        f"EXISTS (SELECT FROM search_fact AS f WHERE f.document = d.number AND f.key = :{name}_key"
        f" AND ({' OR '.join(fits)}))"
    )


def _equal(value: object, name: str, given: dict[str, object]) -> list[str]:
    held = tagged(value)
    if held is None:
        return []
    tag, _, folded, amount, _, day = fact_of(held)
    fits = []
    if folded is not None:
        given[f"{name}_folded"] = folded
        fits.append(f"(f.tag = 's' AND f.folded = :{name}_folded)")
    if day is not None:
        given[f"{name}_day"] = day
        fits.append(f"f.day = CAST(:{name}_day AS INT)")
    if amount is not None:
        given[f"{name}_amount"] = amount
        tags = "f.tag = 'b'" if tag == "b" else "f.tag IN ('i', 'f')"
        fits.append(f"({tags} AND f.amount = CAST(:{name}_amount AS NUMERIC))")
    return fits


def _within(wanted: Filter, name: str, given: dict[str, object]) -> list[str]:
    """Both ends included; a bound of a type that has no order with a value leaves the value out."""
    bounds = [
        (sign, tagged(bound)) for sign, bound in ((">=", wanted.at_least), ("<=", wanted.at_most)) if bound is not None
    ]
    facts = []
    for sign, bound in bounds:
        if bound is None:
            return []
        facts.append((sign, fact_of(bound)))
    fits = []
    for column, at, cast in (("number", 4, "DOUBLE PRECISION"), ("day", 5, "INT"), ("folded", 2, "TEXT")):
        if any(fact[at] is None for _, fact in facts):
            continue
        tests = []
        for i, (sign, fact) in enumerate(facts):
            given[f"{name}_{column}_{i}"] = fact[at]
            # Code points, as the embedded index has it: a language's own order would depend on the server.
            order = ' COLLATE "C"' if column == "folded" else ""
            tests.append(f"f.{column}{order} {sign} CAST(:{name}_{column}_{i} AS {cast})")
        fits.append(f"({' AND '.join(tests)})")
    return fits


# -- talking -----------------------------------------------------------------------------------------------------------


def _sent(connection: Connection, message: str) -> list[list[Any]]:
    """The rows of all statements of a message, one after the other. Made of numbers and names of ours alone."""
    held = connection.connection.dbapi_connection
    try:
        context = held.execute_simple(message)  # type: ignore[union-attr]  # pg8000's own
    except Exception as error:  # the driver's errors, in the shape in which SQLAlchemy gives them
        raise DBAPIError("search", {}, error) from error
    return context.rows or []


def _array(values: Iterable[int]) -> str:
    return (
        "{" + ",".join(map(str, sorted(map(int, values)) if isinstance(values, frozenset) else map(int, values))) + "}"
    )


def _dense(row: _Row) -> float:
    return math.nan if row.dense is None else float(row.dense)


def _hits(rows: Sequence[tuple[int, float]]) -> Hits:
    if not rows:
        return NOTHING
    return Hits(seqs=np.array([seq for seq, _ in rows], np.int64), scores=np.array([score for _, score in rows], float))
