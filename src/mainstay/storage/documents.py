"""Documents, their versions, chunks and vectors, and the change log that derived indexes follow."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Integer, Row, bindparam, cast, delete, func, insert, select, update

from mainstay.access.acl import Acl
from mainstay.corpus.ports import AccessRule, Changed, DocumentRecord, IndexedDocument, Known, Prepared, Surroundings
from mainstay.errors import Conflict
from mainstay.models.embedders import EmbedderIdentity
from mainstay.records.audit import AuditEntry
from mainstay.records.audit.events import MAX_LIST
from mainstay.storage.access import class_for
from mainstay.storage.audit import append
from mainstay.storage.cache import forget_documents
from mainstay.storage.database import Database, put_fact
from mainstay.storage.facts import Facts
from mainstay.storage.hot import Hot
from mainstay.storage.rows import dump_metadata, dumps, load_metadata, micros, moment
from mainstay.storage.schema import (
    acl_class,
    change,
    chunk,
    document,
    document_version,
    embedder,
    fact,
    source,
    vector,
)
from mainstay.types import MetaValue, Passage, Scope
from mainstay.workflows.ports import Fence

T = TypeVar("T")
_MANY = 500  # bound parameters a statement: far below every database's limit


class DerivedRows(Protocol):
    """What a database derives from documents, to search by, in the transaction that changes them.

    What is deleted needs no word: foreign keys take it along.
    """

    def put_document(self, connection: Connection, number: int, metadata: Mapping[str, MetaValue]) -> None: ...

    def add(self, connection: Connection, rows: Sequence[tuple[int, int, str]]) -> None:
        """New chunks: (seq, document, words to index)."""

    def add_vectors(
        self,
        connection: Connection,
        made_by: EmbedderIdentity,
        seqs: Sequence[int],
        documents: Sequence[int],
        rows: npt.NDArray[np.float32],
    ) -> None: ...

    def drop_vectors(self, connection: Connection, *, keep: EmbedderIdentity) -> None: ...


class SqlDocuments:
    """``corpus.ports.Documents`` and ``corpus.ports.IndexFeed`` over SQL."""

    def __init__(
        self,
        database: Database,
        *,
        index: DerivedRows | None = None,
        fence: Fence | None = None,
        facts: Facts | None = None,
    ) -> None:
        """``index`` is what the database itself keeps to search by; ``fence`` the job all writing is done for; ``facts``
        those that others in this process look at too."""
        self.facts = facts or Facts(database)
        self._db, self._index, self._fence = database, index, fence
        self._salt: bytes | None = None  # never changes once it is there

    def under(self, fence: Fence) -> SqlDocuments:
        """The same documents, written to only while the fence holds: Conflict afterwards."""
        return SqlDocuments(self._db, index=self._index, fence=fence, facts=self.facts)

    def _write(self) -> AbstractContextManager[Connection]:
        return self._db.write(fence=self._fence)

    # -- the truth: writing --------------------------------------------------------------------------------------------

    def salt(self) -> bytes:
        """A random value made once for this service: document ids can not be guessed from paths."""
        if self._salt is None:
            self._salt = self._stored_salt()
        return self._salt

    def _stored_salt(self) -> bytes:
        with self._write() as connection:
            value = connection.scalar(select(fact.c.value).where(fact.c.name == "salt"))
            if value is None:
                value = secrets.token_hex(32)
                connection.execute(insert(fact).values(name="salt", value=value))
            return bytes.fromhex(value)

    def set_salt(self, salt: bytes) -> None:
        """Fix the salt of an empty service: for tests and for restoring one."""
        with self._write() as connection:
            if connection.scalar(select(func.count()).select_from(document)):
                raise Conflict("documents exist already: their ids depend on the salt")
            connection.execute(delete(fact).where(fact.c.name == "salt"))
            connection.execute(insert(fact).values(name="salt", value=salt.hex()))
        self._salt = salt

    def known(self, source_name: str, path: str | None = None) -> dict[str, Known]:
        """Every path of a source (or this one), with what decides whether it must be read again."""
        wanted = (
            select(document, acl_class.c.origin, acl_class.c.allow, acl_class.c.deny)
            .join(acl_class)
            .where(document.c.source == source_name)
        )
        if path is not None:
            wanted = wanted.where(document.c.path == path)
        with self._db.read() as connection:
            rows = connection.execute(wanted)
            return {
                row.path: Known(
                    doc_id=row.doc_id,
                    path=row.path,
                    raw_digest=row.raw_digest,
                    origin=row.origin,
                    acl=_acl(row),
                    own_access=_own_access(row.own_access),
                    recipe=row.recipe,
                    quarantined=row.reason if row.status == "quarantined" else "",
                )
                for row in rows
            }

    def taken_ids(self, ids: Sequence[str]) -> set[str]:
        """Which of these document ids exist."""
        with self._db.read() as connection:
            taken: set[str] = set()
            for some in _batches(ids):
                taken.update(connection.scalars(select(document.c.doc_id).where(document.c.doc_id.in_(some))))
            return taken

    def put(self, documents: Sequence[Prepared], at: datetime) -> None:
        """Keep these documents, replacing what their ids held; one transaction."""
        said: list[AuditEntry] = []
        with self._write() as connection:
            for prepared in documents:
                self._put(connection, prepared, at, said)
            append(connection, *said)

    def _put(self, connection: Connection, prepared: Prepared, at: datetime, said: list[AuditEntry]) -> None:
        held = connection.execute(
            select(document.c.number, document.c.created).where(document.c.doc_id == prepared.doc_id)
        ).first()
        number = held.number if held else _take(connection, "document")
        values: dict[str, Any] = {
            "source": prepared.source,
            "path": prepared.path,
            "uri": prepared.uri,
            "title": prepared.title,
            "media_type": prepared.media_type,
            "version": prepared.version,
            "raw_digest": prepared.raw_digest,
            "class_id": class_for(connection, prepared.rule.origin, prepared.rule.acl, at, said),
            "own_access": "" if prepared.own_access is None else _dump_acl(prepared.own_access),
            "metadata": dump_metadata(prepared.metadata),
            "language": prepared.language,
            "modified": micros(prepared.modified),
            "updated": micros(at),
            "size": prepared.size,
            "status": "quarantined" if prepared.quarantined else "ready",
            "reason": prepared.quarantined,
            "findings": dumps(prepared.findings),
            "recipe": prepared.recipe,
        }
        if held:
            connection.execute(update(document).where(document.c.number == number).values(values))
            forget_documents(connection, [prepared.doc_id])
            _drop_chunks(connection, [number])
        else:
            connection.execute(
                insert(document).values(number=number, doc_id=prepared.doc_id, created=micros(at), **values)
            )
        if self._index is not None:
            self._index.put_document(connection, number, prepared.metadata)
        if not prepared.quarantined:
            self._put_text(connection, number, values["class_id"], prepared, at)
        _log(connection, "put", [number], at)

    def _put_text(self, connection: Connection, number: int, class_id: int, prepared: Prepared, at: datetime) -> None:
        same = (document_version.c.doc_id == prepared.doc_id) & (document_version.c.version == prepared.version)
        held = connection.execute(update(document_version).where(same).values(class_id=class_id))
        if held.rowcount == 0:
            connection.execute(
                insert(document_version).values(
                    doc_id=prepared.doc_id,
                    version=prepared.version,
                    text=prepared.text,
                    pages=dumps(prepared.pages),
                    class_id=class_id,
                    created=micros(at),
                )
            )
        if prepared.pieces:
            first = _take(connection, "chunk", len(prepared.pieces))
            connection.execute(
                insert(chunk),
                [
                    {
                        "seq": first + ord_,
                        "chunk_id": piece.chunk_id,
                        "document": number,
                        "ord": ord_,
                        "start": piece.start,
                        "end": piece.end,
                        "page": piece.page,
                        "heading_path": dumps(piece.heading_path),
                        "section_start": piece.section_start,
                        "section_end": piece.section_end,
                        "prefix": piece.prefix,
                        "text": piece.text,
                    }
                    for ord_, piece in enumerate(prepared.pieces)
                ],
            )
            if self._index is not None:
                words = [(piece.prefix, piece.text) for piece in prepared.pieces]
                self._index.add(
                    connection, [(first + ord_, number, words_to_index(*held)) for ord_, held in enumerate(words)]
                )

    def move(self, doc_id: str, *, path: str, uri: str, rule: AccessRule, at: datetime) -> None:
        """The same document under another path: its id, version and chunks stay."""
        said: list[AuditEntry] = []
        with self._write() as connection:
            held = connection.execute(
                select(document.c.number, document.c.path, document.c.class_id).where(document.c.doc_id == doc_id)
            ).first()
            if held is None:
                return
            class_id = class_for(connection, rule.origin, rule.acl, at, said)
            connection.execute(
                update(document)
                .where(document.c.number == held.number)
                .values(path=path, uri=uri, class_id=class_id, updated=micros(at))
            )
            _restate(connection, [held.number])
            _log(connection, "access", [held.number], at)
            if class_id != held.class_id:
                said.append(_access_entry(doc_id, rule, at, moved_from=held.path))
            append(connection, *said)

    def apply_access(self, source_name: str, rules: Mapping[str, AccessRule], at: datetime) -> int:
        """Bring the access of these paths to these rules, all at once; returns how many documents changed class.

        A rule whose text changed is one row however many documents stand under it.
        """
        said: list[AuditEntry] = []
        with self._write() as connection:
            in_order = sorted(set(rules.values()), key=lambda rule: rule.origin)
            class_ids = {rule: class_for(connection, rule.origin, rule.acl, at, said) for rule in in_order}
            rows = connection.execute(
                select(document.c.number, document.c.doc_id, document.c.path, document.c.class_id).where(
                    document.c.source == source_name
                )
            ).all()
            moved: dict[int, list[int]] = {}
            names: dict[AccessRule, list[str]] = {}
            for row in rows:
                if row.path in rules and class_ids[rules[row.path]] != row.class_id:
                    moved.setdefault(class_ids[rules[row.path]], []).append(row.number)
                    names.setdefault(rules[row.path], []).append(row.doc_id)
            for class_id, numbers in moved.items():
                for some in _batches(numbers):
                    connection.execute(
                        update(document)
                        .where(document.c.number.in_(some))
                        .values(class_id=class_id, updated=micros(at))
                    )
                _restate(connection, numbers)
                _log(connection, "access", numbers, at)
            said += [_moved_entry(source_name, rule, sorted(held), at) for rule, held in names.items()]
            append(connection, *said)
            return sum(len(numbers) for numbers in moved.values())

    def set_access(self, doc_id: str, rule: AccessRule, at: datetime) -> None:
        """Give one document a rule of its own."""
        said: list[AuditEntry] = []
        with self._write() as connection:
            number = connection.scalar(select(document.c.number).where(document.c.doc_id == doc_id))
            if number is not None:
                connection.execute(
                    update(document)
                    .where(document.c.number == number)
                    .values(
                        class_id=class_for(connection, rule.origin, rule.acl, at, said),
                        own_access=_dump_acl(rule.acl),
                        updated=micros(at),
                    )
                )
                _restate(connection, [number])
                _log(connection, "access", [number], at)
                append(connection, *said, _access_entry(doc_id, rule, at))

    def remove(self, doc_ids: Sequence[str], at: datetime) -> int:
        """Delete documents with every version, chunk and vector of theirs; returns how many there were."""
        with self._write() as connection:
            removed = 0
            said: list[AuditEntry] = []
            for some in _batches(doc_ids):
                rows = connection.execute(_DELETED.where(document.c.doc_id.in_(some))).all()
                numbers = [row.number for row in rows]
                said += [_deleted_entry(row, at) for row in rows]
                _drop_chunks(connection, numbers)
                connection.execute(delete(document_version).where(document_version.c.doc_id.in_(some)))
                connection.execute(delete(document).where(document.c.number.in_(numbers)))
                forget_documents(connection, some)
                _log(connection, "remove", numbers, at)
                removed += len(numbers)
            append(connection, *said)
            return removed

    def note_sync(
        self,
        name: str,
        *,
        kind: str,
        root: str,
        state: str,
        detail: str,
        at: datetime,
        done: Mapping[str, int] | None = None,
    ) -> None:
        """Record how a source's last synchronisation went. ``done`` counts what it did: if anything, the audit log hears of it."""
        with self._write() as connection:
            held = connection.execute(delete(source).where(source.c.name == name).returning(source.c.state)).first()
            connection.execute(
                insert(source).values(name=name, kind=kind, root=root, state=state, detail=detail, synced_at=micros(at))
            )
            counts = {what: count for what, count in (done or {}).items() if count}
            if counts or held is None or held.state != state:
                details = {**counts, "kind": kind, "state": state, "problems": detail.count("\n") + 1 if detail else 0}
                entry = AuditEntry(action="source.synced", subject=f"source:{name}", at=at, details=details)
                append(connection, entry)

    def count_by_source(self) -> dict[str, int]:
        """How many documents each source holds."""
        with self._db.read() as connection:
            rows = connection.execute(
                select(document.c.source, func.count().label("documents")).group_by(document.c.source)
            )
            return {row.source: row.documents for row in rows}

    def forget_source(self, name: str, at: datetime) -> None:
        """Forget that a source was ever synchronised or remembered."""
        with self._write() as connection:
            connection.execute(delete(source).where(source.c.name == name))
            connection.execute(delete(fact).where(fact.c.name == f"source:{name}"))
            append(connection, AuditEntry(action="source.forgotten", subject=f"source:{name}", at=at))

    # -- the truth: reading, always inside a Scope ---------------------------------------------------------------------

    def sources(self) -> list[dict[str, object]]:
        """Each source: name, kind, root, state, detail, synced_at."""
        with self._db.read() as connection:
            return [
                {**row._mapping, "synced_at": moment(row.synced_at)}
                for row in connection.execute(select(source).order_by(source.c.name))
            ]

    def records(
        self, *, scope: Scope, source_name: str | None = None, limit: int = 1000, after: str = ""
    ) -> list[DocumentRecord]:
        """Documents in the scope in the order of their ids, after a given id."""
        wanted = _records().where(document.c.doc_id > after).order_by(document.c.doc_id)
        if source_name is not None:
            wanted = wanted.where(document.c.source == source_name)
        found: list[DocumentRecord] = []
        with self._db.read(scope) as connection:
            for row in connection.execute(wanted.execution_options(yield_per=500)):
                if row.class_id in scope.classes:
                    found.append(_record(row))
                    if len(found) == limit:
                        break
        return found

    def record(self, doc_id: str, *, scope: Scope) -> DocumentRecord | None:
        """One document, or None when it does not exist or is out of scope: the caller can not tell which."""
        with self._db.read(scope) as connection:
            row = connection.execute(_records().where(document.c.doc_id == doc_id)).first()
            return _record(row) if row is not None and row.class_id in scope.classes else None

    def find(self, path_or_id: str, *, scope: Scope) -> list[DocumentRecord]:
        """Documents of this id or path inside the scope."""
        with self._db.read(scope) as connection:
            rows = connection.execute(
                _records()
                .where((document.c.doc_id == path_or_id) | (document.c.path == path_or_id))
                .order_by(document.c.doc_id)
            )
            return [_record(row) for row in rows if row.class_id in scope.classes]

    def text(self, doc_id: str, version: str, *, scope: Scope) -> tuple[str, tuple[tuple[int, int, int], ...]] | None:
        """The stored text of one version and its pages as (page, start, end).

        None outside the scope, which must hold the document as it is and the version as it was.
        """
        with self._db.read(scope) as connection:
            row = connection.execute(
                select(
                    document_version.c.text,
                    document_version.c.pages,
                    document_version.c.class_id.label("then"),
                    document.c.class_id,
                )
                .join(document, document.c.doc_id == document_version.c.doc_id)
                .where(document_version.c.doc_id == doc_id, document_version.c.version == version)
            ).first()
            if row is None or row.class_id not in scope.classes or row.then not in scope.classes:
                return None
            return row.text, tuple((page, start, end) for page, start, end in json.loads(row.pages))

    def passages(self, seqs: Sequence[int], *, scope: Scope) -> Mapping[int, Passage]:
        """The chunks of these numbers that the scope may read *now*: the last check before text reaches anybody."""
        found: dict[int, _Row] = {}
        with self._db.read(scope) as connection:
            for some in _batches(seqs):
                values = {f"s{n}": seq for n, seq in enumerate(some)}
                rows: Sequence[Any] = _these_passages(len(some)).run(connection, values).fetchall()
                found.update((row[0], row[1:]) for row in rows if row[-1] in scope.classes)
        return _Passages(found)

    def around(self, chunk_ids: Sequence[str], reach: int, *, most_chars: int, scope: Scope) -> dict[str, Surroundings]:
        """These chunks with up to ``reach`` more before and after each, inside its section and the scope; one statement.

        A chunk is missing here that is gone, or would become longer than ``most_chars``.
        """
        found: dict[str, Surroundings] = {}
        with self._db.read(scope) as connection:
            for some in _batches(chunk_ids):
                values = {"reach": reach, "most": most_chars, **{f"c{n}": held for n, held in enumerate(some)}}
                rows: Sequence[Any] = _around(len(some)).run(connection, values).fetchall()
                for name, version, start, end, text, now, then in rows:
                    # The document as it is and the version as it was, like ``text``.
                    if now in scope.classes and then in scope.classes and len(text) == end - start:
                        found[name] = Surroundings(version=version, start=start, end=end, text=text)
        return found

    def neighbours(self, chunk_id: str, reach: int, *, scope: Scope) -> list[Passage]:
        """The chunks up to ``reach`` before and after this one in its document, in order, itself included."""
        with self._db.read(scope) as connection:
            here = connection.execute(select(chunk.c.document, chunk.c.ord).where(chunk.c.chunk_id == chunk_id)).first()
            if here is None:
                return []
            rows = connection.execute(
                _passages()
                .where(chunk.c.document == here.document, chunk.c.ord.between(here.ord - reach, here.ord + reach))
                .order_by(chunk.c.ord)
            )
            return [_passage(row) for row in rows if row.class_id in scope.classes]

    def chunks_of(self, doc_id: str, *, scope: Scope) -> list[Passage]:
        """Every chunk of one document, in order."""
        with self._db.read(scope) as connection:
            rows = connection.execute(_passages().where(document.c.doc_id == doc_id).order_by(chunk.c.ord))
            return [_passage(row) for row in rows if row.class_id in scope.classes]

    # -- what derived indexes follow -----------------------------------------------------------------------------------

    def newest_change(self) -> int:
        with self._db.read() as connection:
            return _NEWEST.run(connection).scalar() or 0

    def changes_after(self, n: int, limit: int = 10_000) -> list[Changed]:
        """The change log after line ``n``, oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(select(change).where(change.c.n > n).order_by(change.c.n).limit(limit))
            return [Changed(n=row.n, kind=row.kind, document=row.document) for row in rows]

    def indexed(self, numbers: Sequence[int]) -> dict[int, IndexedDocument]:
        """Today's rows of these documents; a number that is missing in the result is gone."""
        found: dict[int, IndexedDocument] = {}
        with self._db.read() as connection:
            for some in _batches(numbers):
                rows: dict[int, list[tuple[int, str]]] = {}
                for row in connection.execute(
                    select(chunk.c.document, chunk.c.seq, chunk.c.prefix, chunk.c.text)
                    .where(chunk.c.document.in_(some))
                    .order_by(chunk.c.seq)
                ):
                    rows.setdefault(row.document, []).append((row.seq, words_to_index(row.prefix, row.text)))
                for held in connection.execute(
                    select(document.c.number, document.c.class_id, document.c.metadata).where(
                        document.c.number.in_(some)
                    )
                ):
                    found[held.number] = IndexedDocument(
                        number=held.number,
                        class_id=held.class_id,
                        metadata=load_metadata(held.metadata),
                        rows=tuple(rows.get(held.number, ())),
                    )
        return found

    def vectors(self, made_by: EmbedderIdentity, numbers: Sequence[int]) -> dict[int, npt.NDArray[np.float32]]:
        """Vectors by ``seq`` of all chunks of these documents that ``made_by`` has embedded."""
        found: dict[int, npt.NDArray[np.float32]] = {}
        with self._db.read() as connection:
            for some in _batches(numbers):
                rows = connection.execute(
                    select(vector.c.seq, vector.c.e)
                    .join(chunk, chunk.c.seq == vector.c.seq)
                    .where(vector.c.embedder == made_by.digest, chunk.c.document.in_(some))
                )
                found.update((row.seq, np.frombuffer(row.e, dtype="<f4")) for row in rows)
        return found

    def without_vector(self, made_by: EmbedderIdentity, limit: int) -> list[tuple[int, str]]:
        """Chunks that still wait for a vector of ``made_by``: (seq, words to embed)."""
        made = select(vector.c.seq).where(vector.c.embedder == made_by.digest, vector.c.seq == chunk.c.seq)
        with self._db.read() as connection:
            rows = connection.execute(
                select(chunk.c.seq, chunk.c.prefix, chunk.c.text)
                .where(~made.exists())
                .order_by(chunk.c.seq)
                .limit(limit)
            )
            return [(row.seq, words_to_index(row.prefix, row.text)) for row in rows]

    def put_vectors(
        self, made_by: EmbedderIdentity, seqs: Sequence[int], rows: npt.NDArray[np.float32], at: datetime
    ) -> None:
        """Keep vectors with the identity of what made them; chunks that are gone by now are skipped."""
        if rows.shape != (len(seqs), made_by.dims):
            raise Conflict(
                f"vectors of shape {rows.shape} are not {len(seqs)} rows of {made_by.name} ({made_by.dims} numbers)"
            )
        with self._write() as connection:
            _register(connection, made_by, at)
            documents: dict[int, int] = {}
            for some in _batches(seqs):
                there = connection.execute(select(chunk.c.seq, chunk.c.document).where(chunk.c.seq.in_(some)))
                documents.update((row.seq, row.document) for row in there)
            for some in _batches(list(documents)):
                connection.execute(delete(vector).where(vector.c.embedder == made_by.digest, vector.c.seq.in_(some)))
            kept = [
                {"embedder": made_by.digest, "seq": seq, "e": row.astype("<f4").tobytes()}
                for seq, row in zip(seqs, rows, strict=True)
                if seq in documents
            ]
            if kept:
                connection.execute(insert(vector), kept)
                if self._index is not None:
                    at_ = [n for n, seq in enumerate(seqs) if seq in documents]
                    there_ = [seqs[n] for n in at_]
                    self._index.add_vectors(connection, made_by, there_, [documents[seq] for seq in there_], rows[at_])
                _log(connection, "vectors", sorted(set(documents.values())), at)

    def embedding_progress(self, made_by: EmbedderIdentity) -> tuple[int, int]:
        """(chunks embedded by ``made_by``, chunks in all)."""
        with self._db.read() as connection:
            done = connection.scalar(
                select(func.count()).select_from(vector).where(vector.c.embedder == made_by.digest)
            )
            return done or 0, connection.scalar(select(func.count()).select_from(chunk)) or 0

    def embedders(self) -> list[EmbedderIdentity]:
        """Whose vectors are kept."""
        with self._db.read() as connection:
            rows = connection.execute(select(embedder).order_by(embedder.c.created))
            return [EmbedderIdentity(name=r.name, digest=r.digest, precision=r.precision, dims=r.dims) for r in rows]

    def drop_vectors(self, *, keep: EmbedderIdentity) -> None:
        """Forget the vectors of every other embedder."""
        with self._write() as connection:
            connection.execute(delete(vector).where(vector.c.embedder != keep.digest))
            connection.execute(delete(embedder).where(embedder.c.digest != keep.digest))
            if self._index is not None:
                self._index.drop_vectors(connection, keep=keep)

    def fact(self, name: str) -> str | None:
        return self.facts.read(name)[name]

    def set_fact(self, name: str, value: str) -> None:
        with self._write() as connection:
            put_fact(connection, name, value)
        self.facts.read(name)


def words_to_index(prefix: str, text: str) -> str:
    """What search sees of a chunk: its context line, then its text."""
    return f"{prefix}\n{text}" if prefix else text


def _batches(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[i : i + _MANY] for i in range(0, len(items), _MANY))


def _take(connection: Connection, counter: str, count: int = 1) -> int:
    """The first of ``count`` new numbers. Counters only grow: a number that is gone is never given again."""
    name = f"counter:{counter}"
    held = connection.scalar(select(fact.c.value).where(fact.c.name == name))
    first = int(held or 0) + 1
    if held is None:
        connection.execute(insert(fact).values(name=name, value=str(count)))
    else:
        connection.execute(update(fact).where(fact.c.name == name).values(value=str(first + count - 1)))
    return first


def _restate(connection: Connection, numbers: Sequence[int]) -> None:
    """The current texts of these documents stand under the class that their documents stand under now."""
    current = (document_version.c.doc_id == document.c.doc_id) & (document_version.c.version == document.c.version)
    for some in _batches(numbers):
        now = select(document.c.class_id).where(current).scalar_subquery()
        there = select(document.c.number).where(current, document.c.number.in_(some)).exists()
        connection.execute(update(document_version).where(there).values(class_id=now))


def _log(connection: Connection, kind: str, numbers: Sequence[int], at: datetime) -> None:
    if numbers:
        first = _take(connection, "change", len(numbers))
        connection.execute(
            insert(change),
            [{"n": first + i, "kind": kind, "document": number, "at": micros(at)} for i, number in enumerate(numbers)],
        )


_DELETED = select(document.c.number, document.c.doc_id, document.c.source, document.c.path, document.c.version)


def _deleted_entry(row: Any, at: datetime) -> AuditEntry:
    """What the audit log hears of a document that goes: which it was, and where it stood."""
    return AuditEntry(
        action="document.deleted",
        subject=f"document:{row.doc_id}",
        at=at,
        before={"version": row.version},
        details={"source": row.source, "path": row.path},
    )


def _access_entry(doc_id: str, rule: AccessRule, at: datetime, *, moved_from: str = "") -> AuditEntry:
    """One document whose access changed; what its rule says, the log holds under the rule's place."""
    more = {"moved_from": moved_from} if moved_from else {}
    after = {"allow": list(rule.acl.allow), "deny": list(rule.acl.deny)}
    return AuditEntry(
        action="document.access",
        subject=f"document:{doc_id}",
        at=at,
        after=after,
        details={"rule": rule.origin, **after, **more},
    )


def _moved_entry(source_name: str, rule: AccessRule, doc_ids: Sequence[str], at: datetime) -> AuditEntry:
    """Documents that came under another rule together: how many, the first of them, and a hash over all."""
    return AuditEntry(
        action="documents.access",
        subject=f"source:{source_name}",
        at=at,
        after=list(doc_ids),
        details={"rule": rule.origin, "documents": len(doc_ids), "first": list(doc_ids[:MAX_LIST])},
    )


def _drop_chunks(connection: Connection, numbers: Sequence[int]) -> None:
    gone = select(chunk.c.seq).where(chunk.c.document.in_(numbers))
    connection.execute(delete(vector).where(vector.c.seq.in_(gone)))
    connection.execute(delete(chunk).where(chunk.c.document.in_(numbers)))


def _register(connection: Connection, made_by: EmbedderIdentity, at: datetime) -> None:
    held: Row[Any] | None = connection.execute(select(embedder).where(embedder.c.digest == made_by.digest)).first()
    if held is None:
        connection.execute(
            insert(embedder).values(
                digest=made_by.digest,
                name=made_by.name,
                precision=made_by.precision,
                dims=made_by.dims,
                created=micros(at),
            )
        )
    elif (held.precision, held.dims) != (made_by.precision, made_by.dims):
        raise Conflict(
            f"vectors of {made_by.name} are kept as {held.precision}/{held.dims}, not {made_by.precision}/{made_by.dims}"
        )


def _acl(row: Row[Any]) -> Acl:
    return Acl(tuple(json.loads(row.allow)), tuple(json.loads(row.deny)))


def _own_access(text: str) -> Acl | None:
    if not text:
        return None
    allow, deny, inherits = json.loads(text)
    return Acl(tuple(allow), tuple(deny), inherits)


def _dump_acl(acl: Acl) -> str:
    return dumps([acl.allow, acl.deny, acl.inherits])


def _records() -> Any:
    chunks = select(func.count()).select_from(chunk).where(chunk.c.document == document.c.number).scalar_subquery()
    return select(document, acl_class.c.origin, acl_class.c.allow, acl_class.c.deny, chunks.label("chunks")).join(
        acl_class
    )


def _record(row: Row[Any]) -> DocumentRecord:
    created, updated = moment(row.created), moment(row.updated)
    assert created is not None
    assert updated is not None
    return DocumentRecord(
        doc_id=row.doc_id,
        source=row.source,
        path=row.path,
        uri=row.uri,
        title=row.title,
        media_type=row.media_type,
        version=row.version,
        metadata=load_metadata(row.metadata),
        language=row.language,
        modified=moment(row.modified),
        created=created,
        updated=updated,
        size=row.size,
        chunks=row.chunks,
        status=row.status,
        reason=row.reason,
        findings=tuple((kind, detail) for kind, detail in json.loads(row.findings)),
        origin=row.origin,
        acl=_acl(row),
    )


_Row = Sequence[Any]
_PASSAGE = (
    chunk.c.chunk_id,
    document.c.doc_id,
    document.c.version,
    document.c.title,
    document.c.uri,
    chunk.c.text,
    chunk.c.start,
    chunk.c.end,
    chunk.c.page,
    chunk.c.heading_path,
    chunk.c.section_start,
    chunk.c.section_end,
    document.c.language,
    document.c.modified,
    document.c.metadata,
    document.c.class_id,
)


def _passages() -> Any:
    return select(chunk.c.seq, *_PASSAGE).join(document, document.c.number == chunk.c.document)


@cache
def _these_passages(count: int) -> Hot:
    return Hot(_passages().where(chunk.c.seq.in_([bindparam(f"s{n}") for n in range(count)])))


@cache
def _around(count: int) -> Hot:
    beside = chunk.alias("beside")
    reach = bindparam("reach", type_=chunk.c.ord.type)
    start, end = func.min(beside.c.start), func.max(beside.c.end)
    spans = (
        select(chunk.c.chunk_id, chunk.c.document, start.label("first"), end.label("last"))
        .join(
            beside,
            (beside.c.document == chunk.c.document) & beside.c.ord.between(chunk.c.ord - reach, chunk.c.ord + reach),
        )
        .where(
            chunk.c.chunk_id.in_([bindparam(f"c{n}") for n in range(count)]),
            beside.c.start >= chunk.c.section_start,
            beside.c.end <= chunk.c.section_end,
        )
        .group_by(chunk.c.chunk_id, chunk.c.document)
        .subquery()
    )
    version = document_version
    return Hot(
        select(
            spans.c.chunk_id,
            document.c.version,
            spans.c.first,
            spans.c.last,
            func.substr(version.c.text, cast(spans.c.first + 1, Integer), cast(spans.c.last - spans.c.first, Integer)),
            document.c.class_id,
            version.c.class_id.label("then"),
        )
        .join(document, document.c.number == spans.c.document)
        .join(version, (version.c.doc_id == document.c.doc_id) & (version.c.version == document.c.version))
        .where(spans.c.last - spans.c.first <= bindparam("most", type_=chunk.c.end.type))
    )


_NEWEST = Hot(select(func.max(change.c.n)))


class _Passages(Mapping[int, Passage]):
    """Passages by number, each put together when it is asked for: a search reads many and shows a few."""

    def __init__(self, rows: Mapping[int, _Row]) -> None:
        self._rows = rows

    def __getitem__(self, seq: int) -> Passage:
        return _passage_of(self._rows[seq])

    def __contains__(self, seq: object) -> bool:
        return seq in self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _passage(row: Row[Any]) -> Passage:
    return _passage_of(row[1:])


def _passage_of(row: _Row) -> Passage:
    """The passage of a row of ``_PASSAGE``."""
    (chunk_id, doc_id, version, title, uri, text, start, end, page, path, first, last, language, modified, held, _) = (
        row
    )
    return Passage(
        chunk=chunk_id,
        document=doc_id,
        version=version,
        title=title,
        uri=uri,
        text=text,
        start=start,
        end=end,
        page=page,
        heading_path=_heading_path(path),
        section_start=first,
        section_end=last,
        language=language,
        modified=moment(modified),
        metadata=dict(_metadata(held)),
    )


@lru_cache(maxsize=4_096)
def _heading_path(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


@lru_cache(maxsize=1_024)
def _metadata(text: str) -> Mapping[str, MetaValue]:
    return load_metadata(text)
