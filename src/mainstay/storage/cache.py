"""Kept answers in SQL, their sources, and what was learnt about them.

Vectors of kept questions are held in memory, a matrix for each place, and brought up to date at each look by what was
added since; the truth stays in the database: every candidate is opened there, its sources checked against the documents
as they are at that moment, before its text goes anywhere.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import BindParameter, Connection, Row, and_, bindparam, delete, func, insert, select, update

from mainstay.models.cache.answers import dumps, loads
from mainstay.models.cache.ports import Entry, Label, Near, Source, Wording
from mainstay.storage.database import Database
from mainstay.storage.hot import Hot
from mainstay.storage.rows import micros, moment
from mainstay.storage.schema import cache_audit, cached_answer, cached_source, document
from mainstay.types import Clock, Scope

_MANY = 500
_OVERLAP_US = 10_000_000  # rows of another process may carry a time a little before what was read last
_PLACES = 64
_TRIM_EVERY = 32  # puts between looks at how many there are
_PENDING = 10_000


class _Place:
    """The vectors of one place, growing."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.known: set[str] = set()
        self.questions: list[str] = []
        self.reads: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.codes: dict[str, int] = {}
        self.vectors: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self.newest = 0

    def add(self, rows: Sequence[Any]) -> None:
        fresh = [(row, np.frombuffer(row.vector, "<f4")) for row in rows if row.entry_id not in self.known]
        fresh = [(row, vector) for row, vector in fresh if not self.ids or len(vector) == self.vectors.shape[1]]
        if not fresh:
            return
        needed = len(self.ids) + len(fresh)
        if needed > len(self.vectors):
            grown = np.zeros((max(64, needed, 2 * len(self.vectors)), len(fresh[0][1])), np.float32)
            grown[: len(self.ids)] = self.vectors[: len(self.ids)] if self.ids else 0
            self.vectors = grown
            self.reads = np.concatenate([self.reads, np.zeros(len(grown) - len(self.reads), np.int32)])
        for row, vector in fresh:
            self.vectors[len(self.ids)] = vector
            self.reads[len(self.ids)] = self.codes.setdefault(row.read_set, len(self.codes))
            self.ids.append(row.entry_id)
            self.known.add(row.entry_id)
            self.questions.append(row.question)

    def drop(self, gone: set[str]) -> None:
        keep = [at for at, entry_id in enumerate(self.ids) if entry_id not in gone]
        self.vectors = np.ascontiguousarray(self.vectors[keep])
        self.ids = [self.ids[at] for at in keep]
        self.known = set(self.ids)
        self.questions = [self.questions[at] for at in keep]
        self.reads = self.reads[keep]

    def nearest(
        self, read_set: str, vector: npt.NDArray[np.float32], least: float, limit: int
    ) -> list[tuple[str, str, float]]:
        if read_set not in self.codes or not self.ids or self.vectors.shape[1] != len(vector):
            return []
        rows = np.flatnonzero(self.reads[: len(self.ids)] == self.codes[read_set])
        whole = len(rows) == len(self.ids)
        scores = (self.vectors[: len(self.ids)] if whole else self.vectors[rows]) @ vector
        near = np.flatnonzero(scores >= least)
        near = near[np.argsort(-scores[near], kind="stable")][:limit]
        return [(self.ids[rows[i]], self.questions[rows[i]], min(1.0, float(scores[i]))) for i in near]


class SqlCache:
    """``models.cache.ports.CacheStore`` over either database."""

    def __init__(self, database: Database, clock: Clock, *, in_memory: int = 20_000) -> None:
        """``in_memory`` bounds the vectors held in this process."""
        self._db, self._clock, self._most = database, clock, in_memory
        self._lock = threading.Lock()
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._pending: Counter[str] = Counter()
        self._puts = 0

    # -- reading -------------------------------------------------------------------------------------------------------

    def exact(self, place: str, exact: str, *, at: datetime, scope: Scope) -> Entry | None:
        with self._db.read(scope) as connection:
            row = _EXACT.run(connection, {"at_place": place, "asked": exact, "now": micros(at)}).first()
            return _entry(row) if row is not None and _good(connection, row.entry_id, row.sources, scope) else None

    def open(self, entry_id: str, *, at: datetime, scope: Scope) -> Entry | None:
        wanted = select(cached_answer).where(cached_answer.c.entry_id == entry_id, cached_answer.c.expires > micros(at))
        with self._db.read(scope) as connection:
            row = connection.execute(wanted).first()
            return _entry(row) if row is not None and _good(connection, row.entry_id, row.sources, scope) else None

    def still_good(self, entry_id: str, *, scope: Scope) -> bool:
        with self._db.read(scope) as connection:
            count = connection.scalar(select(cached_answer.c.sources).where(cached_answer.c.entry_id == entry_id))
            return count is not None and _good(connection, entry_id, count, scope)

    def current(self, sources: Sequence[Source], *, scope: Scope) -> bool:
        with self._db.read(scope) as connection:
            return bool(sources) and _current(connection, sources, scope)

    def near(
        self,
        place: str,
        read_set: str,
        vector: npt.NDArray[np.float32],
        *,
        least: float,
        limit: int,
        at: datetime,
    ) -> list[Near]:
        with self._db.read() as connection:
            held = self._refreshed(connection, place)
            while True:
                with self._lock:
                    found = held.nearest(read_set, vector, least, limit)
                if not found:
                    return []
                ids = [entry_id for entry_id, _, _ in found]
                asked = {"now": micros(at), **{f"e{n}": entry_id for n, entry_id in enumerate(ids)}}
                there = {row[0] for row in _there(len(ids)).run(connection, asked)}
                if len(there) == len(ids):
                    return [Near(entry_id=i, question=question, similarity=score) for i, question, score in found]
                with self._lock:
                    held.drop(set(ids) - there)

    def _refreshed(self, connection: Connection, place: str) -> _Place:
        """The vectors of a place with what was added since the last look. Nothing waits for the database under the lock."""
        with self._lock:
            held = self._places.setdefault(place, _Place())
            self._places.move_to_end(place)
            newest = held.newest
        since = _SINCE.run(
            connection, {"at_place": place, "since": newest - _OVERLAP_US, "most": self._most}
        ).fetchall()
        with self._lock:
            known = held.known
            unknown = [entry_id for entry_id, _ in reversed(since) if entry_id not in known]
        rows: list[Any] = []
        for start in range(0, len(unknown), _MANY):
            some = unknown[start : start + _MANY]
            rows += _vectors(len(some)).run(connection, {f"e{n}": entry_id for n, entry_id in enumerate(some)})
        with self._lock:
            held.add(rows)
            if since:
                held.newest = max(held.newest, since[0][1])  # the newest comes first
            if len(held.ids) > self._most:
                held.drop(set(held.ids[: len(held.ids) - self._most]))
            others = [name for name in self._places if name != place]
            while others and (len(others) >= _PLACES or sum(len(p.ids) for p in self._places.values()) > self._most):
                del self._places[others.pop(0)]
        return held

    # -- writing -------------------------------------------------------------------------------------------------------

    def put(self, entry: Entry, sources: Sequence[Source], *, most: int) -> bool:
        with self._lock:
            used, self._pending = self._pending, Counter()
            self._puts += 1
            trim = self._puts % _TRIM_EVERY == 1
        with self._db.write(alone=False, durable=False) as connection:
            _count(connection, used)
            if not _current(connection, sources, None):
                return False
            _SAME_GONE.run(connection, {"at_place": entry.place, "asked": entry.exact})
            _PUT.run(
                connection,
                {
                    "entry_id": entry.entry_id,
                    "place": entry.place,
                    "exact": entry.exact,
                    "read_set": entry.read_set,
                    "question": entry.question,
                    "vector": None if entry.vector is None else entry.vector.astype("<f4").tobytes(),
                    "answer": dumps(entry.answer),
                    "owner": entry.owner,
                    "sources": len(set(sources)),
                    "hits": 0,
                    "created": micros(entry.created),
                    "expires": micros(entry.expires),
                },
            )
            _PUT_SOURCE.run_many(
                connection,
                [
                    {"entry_id": entry.entry_id, "doc_id": s.document, "version": s.version}
                    for s in sorted_once(sources)
                ],
            )
            if trim:
                _trim(connection, most, entry.entry_id)
        return True

    def used(self, entry_id: str) -> None:
        with self._lock:
            if len(self._pending) < _PENDING:
                self._pending[entry_id] += 1

    def forget(self, entry_id: str) -> None:
        with self._db.write(alone=False) as connection:
            connection.execute(delete(cached_answer).where(cached_answer.c.entry_id == entry_id))

    def forget_person(self, principal: str) -> int:
        with self._db.write(alone=False) as connection:
            return int(connection.execute(delete(cached_answer).where(cached_answer.c.owner == principal)).rowcount)

    def clear(self) -> int:
        with self._db.write(alone=False) as connection:
            gone = int(connection.execute(delete(cached_answer)).rowcount)
        with self._lock:
            self._places.clear()
            self._pending.clear()
        return gone

    def prune(self, *, at: datetime, labels_before: datetime) -> int:
        with self._db.write(alone=False) as connection:
            connection.execute(delete(cache_audit).where(cache_audit.c.at < micros(labels_before)))
            gone = connection.execute(delete(cached_answer).where(cached_answer.c.expires <= micros(at))).rowcount
        return int(gone)

    # -- what was learnt -----------------------------------------------------------------------------------------------

    def add_label(self, label: Label) -> None:
        with self._db.write(alone=False, durable=False) as connection:
            connection.execute(
                insert(cache_audit).values(
                    audit_id=self._clock.new_id("aud"),
                    entry_id=label.entry_id,
                    family=label.family,
                    asked=label.asked,
                    wording=label.wording,
                    similarity=label.similarity,
                    agreed=int(label.agreed),
                    served=int(label.served),
                    at=micros(label.at),
                )
            )

    def labels(self, family: str, *, limit: int) -> list[Label]:
        return self._labelled(select(cache_audit).where(cache_audit.c.family == family).limit(limit))

    def labels_of(self, entry_id: str) -> list[Label]:
        return self._labelled(select(cache_audit).where(cache_audit.c.entry_id == entry_id).limit(_MANY))

    def _labelled(self, wanted: Any) -> list[Label]:
        with self._db.read() as connection:
            rows = connection.execute(wanted.order_by(cache_audit.c.at.desc(), cache_audit.c.audit_id.desc()))
            return [_label(row) for row in rows]

    def counts(self) -> Mapping[str, int]:
        with self._db.read() as connection:
            entries = connection.scalar(select(func.count()).select_from(cached_answer)) or 0
            labels, agreed = connection.execute(
                select(func.count(), func.coalesce(func.sum(cache_audit.c.agreed), 0)).select_from(cache_audit)
            ).one()
        return {"entries": entries, "labels": labels, "labels_agreed": int(agreed)}


_HERE = cached_answer.c.place == bindparam("at_place")
_SAME = and_(_HERE, cached_answer.c.exact == bindparam("asked"))
_EXACT = Hot(
    select(cached_answer)
    .where(_SAME, cached_answer.c.expires > bindparam("now"))
    .order_by(cached_answer.c.created.desc())
    .limit(1)
)
_SINCE = Hot(
    select(cached_answer.c.entry_id, cached_answer.c.created)
    .where(_HERE, cached_answer.c.vector.is_not(None), cached_answer.c.created >= bindparam("since"))
    .order_by(cached_answer.c.created.desc())
    .limit(bindparam("most")),
    by_place=True,
)
_SAME_GONE = Hot(delete(cached_answer).where(_SAME))
_PUT = Hot(insert(cached_answer), columns=cached_answer.c.keys())
_PUT_SOURCE = Hot(insert(cached_source), columns=cached_source.c.keys())


@cache
def _vectors(count: int) -> Hot:
    wanted = (cached_answer.c.entry_id, cached_answer.c.read_set, cached_answer.c.question, cached_answer.c.vector)
    return Hot(select(*wanted).where(cached_answer.c.entry_id.in_([bindparam(f"e{n}") for n in range(count)])))


@cache
def _there(count: int) -> Hot:
    names: list[BindParameter[str]] = [bindparam(f"e{n}") for n in range(count)]
    wanted = (cached_answer.c.entry_id.in_(names), cached_answer.c.expires > bindparam("now"))
    return Hot(select(cached_answer.c.entry_id).where(*wanted), by_place=True)


@cache
def _sources_now(count: int, *, locked: bool) -> Hot:
    there = (
        select(document.c.doc_id, document.c.version, document.c.class_id)
        .where(document.c.doc_id.in_([bindparam(f"d{n}") for n in range(count)]), document.c.status == "ready")
        .order_by(document.c.doc_id)
    )
    return Hot(there.with_for_update(read=True) if locked else there)


def forget_documents(connection: Connection, doc_ids: Sequence[str]) -> None:
    """Delete every kept answer that any version of these documents went into, in the transaction that changes or deletes them.

    To be called after the rows of ``document`` were changed: who keeps an answer at the same time holds those rows, so
    that either it sees the change, or we see its answer.
    """
    for start in range(0, len(doc_ids), _MANY):
        made_of = select(cached_source.c.entry_id).where(cached_source.c.doc_id.in_(doc_ids[start : start + _MANY]))
        connection.execute(delete(cached_answer).where(cached_answer.c.entry_id.in_(made_of)))


def sorted_once(sources: Sequence[Source]) -> list[Source]:
    """Each source once, always in the same order: two who lock documents never wait for each other in a circle."""
    return sorted(set(sources), key=lambda source: (source.document, source.version))


def _good(connection: Connection, entry_id: str, sources: int, scope: Scope) -> bool:
    rows = connection.execute(
        select(document.c.class_id)
        .join(
            cached_source,
            (cached_source.c.doc_id == document.c.doc_id) & (cached_source.c.version == document.c.version),
        )
        .where(cached_source.c.entry_id == entry_id, document.c.status == "ready")
    ).all()
    return sources > 0 and len(rows) == sources and all(row.class_id in scope.classes for row in rows)


def _current(connection: Connection, sources: Sequence[Source], scope: Scope | None) -> bool:
    """Whether all are there unchanged, and inside the scope where one is given; without one, they stay so until we commit."""
    wanted = sorted_once(sources)
    for start in range(0, len(wanted), _MANY):
        some = wanted[start : start + _MANY]
        names = {f"d{n}": source.document for n, source in enumerate(some)}
        rows = _sources_now(len(some), locked=scope is None).run(connection, names).fetchall()
        there = {(row.doc_id, row.version) for row in rows if scope is None or row.class_id in scope.classes}
        if not all((source.document, source.version) in there for source in some):
            return False
    return True


def _count(connection: Connection, used: Counter[str]) -> None:
    for entry_id, times in sorted(used.items()):
        connection.execute(
            update(cached_answer).where(cached_answer.c.entry_id == entry_id).values(hits=cached_answer.c.hits + times)
        )


def _trim(connection: Connection, most: int, newest: str) -> None:
    """Down to nine tenths once there are too many: the least used first, of those the oldest; never the newest."""
    held = connection.scalar(select(func.count()).select_from(cached_answer)) or 0
    if held <= most:
        return
    least = (
        select(cached_answer.c.entry_id)
        .where(cached_answer.c.entry_id != newest)
        .order_by(cached_answer.c.hits, cached_answer.c.created, cached_answer.c.entry_id)
        .limit(held - max(1, most * 9 // 10))
    )
    connection.execute(delete(cached_answer).where(cached_answer.c.entry_id.in_(least)))


def _entry(row: Row[Any]) -> Entry | None:
    """None for an answer that another version of this program wrote and this one can not read."""
    try:
        answer = loads(row.answer)
    except (ValueError, KeyError, TypeError):
        return None
    created, expires = moment(row.created), moment(row.expires)
    assert created is not None
    assert expires is not None
    return Entry(
        entry_id=row.entry_id,
        place=row.place,
        exact=row.exact,
        read_set=row.read_set,
        question=row.question,
        vector=None if row.vector is None else np.frombuffer(row.vector, "<f4"),
        answer=answer,
        owner=row.owner,
        created=created,
        expires=expires,
    )


def _label(row: Row[Any]) -> Label:
    at = moment(row.at)
    assert at is not None
    return Label(
        entry_id=row.entry_id,
        family=row.family,
        asked=row.asked,
        wording=Wording(row.wording),
        similarity=row.similarity,
        agreed=bool(row.agreed),
        served=bool(row.served),
        at=at,
    )
