"""The index itself: one writer makes snapshots, any number of readers search them.

A snapshot is a tuple of parts, swapped by reference; a reader keeps the one it started with. Changes form small parts
in memory. Neighbours of similar size are to become one (each part at least three times as long as the next), which
keeps parts few and leaves out what is gone. ``apply`` itself merges only what is short, so that taking in a change
costs what the change costs; ``compact`` merges the rest, and ``save`` writes files. Both work on the snapshot they find
and hold no one up: searches and changes go on, and what happened meanwhile is carried over when the result is put in
place. A part that has grown long goes to a file at once, so that a long load does not fill memory.

One process at a time may write to a folder; others open it with ``writes=False`` and keep what they apply in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, assert_never

import numpy as np
from numpy.typing import NDArray

from mainstay.corpus.index import files, search, segment, vectors
from mainstay.corpus.index.changes import Change, PutDocument, RemoveDocument, Row, SetClass, SetVectors
from mainstay.corpus.index.metadata import Scalar
from mainstay.corpus.index.part import Part, Renewal, grouped, joined, one, unchanged
from mainstay.corpus.index.search import Hits, Permitted
from mainstay.corpus.index.vectors import Layer
from mainstay.errors import Invalid
from mainstay.types import Filter, Scope

_LONG: Final = 25_000  # rows from which a part goes to a file without waiting for ``save``
_BUILT_AT_ONCE: Final = 16_000  # rows of one segment made from changes
_TRIES: Final = 5  # at opening files that another process may be replacing
_QUICK: Final = 4_000  # rows of a merge that ``apply`` does itself: some fifty CPU milliseconds


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """What a reader sees: parts, oldest first, and the change they stand at."""

    parts: tuple[Part, ...] = ()
    applied: int = 0


class SearchIndex:
    """Exact search over rows of documents, permission first. See the package for the rules."""

    def __init__(
        self, folder: Path | None, *, dims: int, fingerprint: str, writes: bool = True, k1: float = 0.9, b: float = 0.4
    ) -> None:
        self._folder, self._dims, self._fingerprint = folder if writes else None, dims, fingerprint
        self._k1, self._b = k1, b
        self._writing = threading.Lock()  # held while a snapshot takes the place of another
        self._keeping = threading.RLock()  # held by the one that merges or saves
        self._snapshot = Snapshot()

    @classmethod
    def open(
        cls,
        folder: Path | None,
        *,
        dims: int,
        fingerprint: str,
        writes: bool = True,
        k1: float = 0.9,
        b: float = 0.4,
    ) -> SearchIndex:
        """The index of a folder (None: in memory only).

        ``fingerprint`` names the analyzer and the embedder. When the folder holds nothing, another fingerprint, other
        dimensions or damage of any kind, the index is empty and ``applied`` is 0: replay the changes from the truth.
        With ``writes`` off the files are read but never written, and ``save`` does nothing.
        """
        index = cls(folder, dims=dims, fingerprint=fingerprint, writes=writes, k1=k1, b=b)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for _ in range(_TRIES):
                try:
                    index._snapshot = index._load(folder)
                except FileNotFoundError:  # another process may just have replaced this state by the next
                    continue
                except (files.DamagedError, OSError, ValueError, KeyError, TypeError, AttributeError):
                    pass
                break
        return index

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def applied(self) -> int:
        """The number of the last change applied; 0 when empty."""
        return self._snapshot.applied

    @property
    def dims(self) -> int:
        """The length of the vectors."""
        return self._dims

    def __len__(self) -> int:
        return sum(part.alive_rows for part in self._snapshot.parts)

    def vectors_missing(self) -> int:
        """Rows that are found by words only, because their vector has not arrived."""
        return sum(part.alive_rows - part.vectors for part in self._snapshot.parts)

    def stats(self) -> dict[str, int]:
        """Figures for an operator, over the whole index: never for a reader, who may know only of his scope."""
        parts = self._snapshot.parts
        stored = _all_files(self._snapshot)
        return {
            "documents": sum(int(part.alive.sum()) for part in parts),
            "rows": sum(part.alive_rows for part in parts),
            "rows_gone": sum(len(part) - part.alive_rows for part in parts),
            "vectors": sum(part.vectors for part in parts),
            "postings": sum(len(part.segment.rows) for part in parts),
            "parts": len(parts),
            "parts_in_memory": sum(part.segment.file is None for part in parts),
            "file_bytes": sum(one.size for one in stored),
            "applied": self._snapshot.applied,
        }

    def permitted(self, scope: Scope, filters: Sequence[Filter] = ()) -> Permitted:
        """The rows this scope may read and the filters leave, in the present snapshot."""
        return search.permitted(self._snapshot.parts, scope.classes, filters)

    def lexical(self, text: str, permitted: Permitted, k: int) -> Hits:
        """The k best permitted rows by BM25 with the scope's own statistics."""
        return search.lexical(text, permitted, k, k1=self._k1, b=self._b)

    def lexical_scores(self, seqs: NDArray[np.int64], text: str, permitted: Permitted) -> NDArray[np.float64]:
        """BM25 scores of given rows; 0 where nothing fits or the row is not permitted."""
        return search.lexical_scores(seqs, text, permitted, k1=self._k1, b=self._b)

    def dense(self, vector: NDArray[np.float32], permitted: Permitted, k: int) -> Hits:
        """The k best permitted rows by dot product, exactly."""
        self._fits(np.asarray(vector).reshape(1, -1))
        return search.dense(np.asarray(vector, np.float32).reshape(-1), permitted, k)

    def dense_scores(
        self, seqs: NDArray[np.int64], vector: NDArray[np.float32], permitted: Permitted
    ) -> NDArray[np.float64]:
        """Exact dot products of given rows; NaN where there is no vector or no permission."""
        self._fits(np.asarray(vector).reshape(1, -1))
        return search.dense_scores(seqs, np.asarray(vector, np.float32).reshape(-1), permitted)

    def metadata_values(self, scope: Scope, key: str, *, limit: int | None = None) -> dict[Scalar, int]:
        """The (most frequent) distinct values of a key in the scope, with the number of documents that have each."""
        return search.metadata_values(self.permitted(scope), key, limit)

    @staticmethod
    def no_hits() -> Hits:
        """An empty list, for fusion with the other one."""
        return search.NOTHING

    def metadata_keys(self, scope: Scope) -> list[str]:
        """The metadata keys that occur in the scope."""
        return search.metadata_keys(self.permitted(scope))

    # --- writing -----------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change], *, applied: int) -> None:
        """Takes these changes in, in order, as one step: a reader sees none or all of them."""
        plan = _Plan()
        for change in changes:
            plan.note(change)
        for vector in plan.all_vectors():
            self._fits(vector.reshape(1, -1))
        with self._writing:
            parts = plan.changed(self._snapshot.parts)
            for puts in plan.batches():
                parts = self._tidied((*parts, _built(puts, self._dims)))
            self._snapshot = Snapshot(parts=self._tidied(parts), applied=applied)

    @property
    def untidy(self) -> bool:
        """Whether ``compact`` would find something to do."""
        return any(_uneven(group) for group in grouped(self._snapshot.parts))

    def compact(self) -> None:
        """Makes one part out of neighbours of similar size, and anew those that are mostly gone."""
        with self._keeping:
            for group in grouped(self._snapshot.parts):
                if _uneven(group):
                    self._put_in_place(self._renewed(group))

    def save(self) -> int:
        """Makes the present state durable and says which it was; a kill at any moment leaves the state before or this."""
        if self._folder is None:
            return self.applied
        with self._keeping:
            self.compact()
            snapshot = self._snapshot
            saved: list[Part] = []
            for run in _runs(snapshot.parts):
                renewal = one(run, self._dims) if len(run) > 1 else unchanged(run[0])
                renewal = replace(renewal, part=_stored(renewal.part, self._folder))
                saved.append(renewal.part)
                self._put_in_place(renewal)
            snapshot = replace(snapshot, parts=tuple(saved))
            state = files.write(self._folder, "state", _state(snapshot))
            named = [state, *_all_files(snapshot)]
            for stored in named:
                files.sync(self._folder / stored.name)
            files.replace_manifest(self._folder, self._manifest(snapshot, state))
            with self._writing:  # a file that is not named yet may belong to what is in memory
                known = {stored.name for stored in (*named, *_all_files(self._snapshot))}
                files.sweep(self._folder, {files.MANIFEST, *known})
            return snapshot.applied

    def _renewed(self, group: Sequence[Part]) -> Renewal:
        renewal = (
            joined(group[0], self._dims) if len(group) == 1 and not group[0].wasteful() else one(group, self._dims)
        )
        return replace(renewal, part=self._long(renewal.part))

    def _put_in_place(self, renewal: Renewal) -> None:
        """Swaps old parts for the new one, brought up to date; when they are no longer there, nothing happens."""
        if renewal.old == (renewal.part,):
            return
        with self._writing:
            parts = self._snapshot.parts
            wanted = [id(part.segment) for part in renewal.old]
            at = [i for i, part in enumerate(parts) if id(part.segment) in wanted]
            if len(at) == len(wanted):  # neighbours stay neighbours
                new = renewal.brought_up(parts[at[0] : at[-1] + 1])
                parts = (*parts[: at[0]], new, *parts[at[-1] + 1 :])
                self._snapshot = replace(self._snapshot, parts=parts)

    def _fits(self, rows: NDArray[Any]) -> None:
        if rows.shape[1] != self._dims:
            raise Invalid(f"a vector has {rows.shape[1]} numbers, the index has {self._dims}", where="search index")
        if not np.isfinite(rows).all():
            raise Invalid("a vector holds a number that is not finite", where="search index")

    def _tidied(self, parts: Iterable[Part]) -> tuple[Part, ...]:
        """The parts without empty ones; what can be merged at little cost is merged."""
        tidied: list[Part] = []
        for group in grouped(parts, _QUICK):
            quick = sum(map(len, group)) <= _QUICK
            tidied += [self._renewed(group).part] if quick and _uneven(group) else group
        return tuple(tidied)

    def _long(self, part: Part) -> Part:
        if self._folder is None or len(part) < _LONG:
            return part
        try:
            return _stored(part, self._folder)
        except OSError:  # a full disk: the part stays in memory
            return part

    def _manifest(self, snapshot: Snapshot, state: files.Stored) -> dict[str, Any]:
        named = [state, *_all_files(snapshot)]
        return {
            "format": files.FORMAT,
            "fingerprint": self._fingerprint,
            "dims": self._dims,
            "applied": snapshot.applied,
            "files": {stored.name: [stored.size, stored.crc] for stored in named},
            "state": state.name,
            "parts": [[stored.name for stored in _files(part)] for part in snapshot.parts],
        }

    def _load(self, folder: Path) -> Snapshot:
        manifest = files.read_manifest(folder)
        if (manifest["fingerprint"], manifest["dims"]) != (self._fingerprint, self._dims):
            raise files.DamagedError("made for something else")
        stored = {name: files.Stored(name=name, size=s, crc=c) for name, (s, c) in manifest["files"].items()}
        for known in stored.values():
            files.check(folder, known)
        state = files.read(folder, stored[manifest["state"]]).arrays
        parts = [
            _loaded(folder, [stored[name] for name in names], state, i) for i, names in enumerate(manifest["parts"])
        ]
        return Snapshot(parts=tuple(parts), applied=int(manifest["applied"]))


def _files(part: Part) -> list[files.Stored]:
    """The files of a part: the segment's, then each layer's."""
    every = [part.segment.file, *(layer.block.file for layer in part.layers)]
    return [stored for stored in every if stored is not None]


def _all_files(snapshot: Snapshot) -> list[files.Stored]:
    return [stored for part in snapshot.parts for stored in _files(part)]


def _uneven(group: Sequence[Part]) -> bool:
    """Whether a group that ``grouped`` made is not one good part already."""
    return len(group) > 1 or group[0].wasteful() or group[0].layered()


def _runs(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts, those in memory that stand together as one run."""
    runs: list[list[Part]] = []
    for part in parts:
        if runs and part.segment.file is None and runs[-1][-1].segment.file is None:
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def _stored(part: Part, folder: Path) -> Part:
    """The part with everything in files; what already is stays where it is."""
    held = part.segment if part.segment.file is not None else segment.save(folder, part.segment)
    layers = tuple(
        layer if layer.block.file is not None else replace(layer, block=vectors.save(folder, layer.block))
        for layer in part.layers
    )
    if held is part.segment and all(new is old for new, old in zip(layers, part.layers, strict=True)):
        return part
    return replace(part, segment=held, layers=layers)


def _state(snapshot: Snapshot) -> dict[str, NDArray[Any]]:
    """What may change beside the segments, as arrays of one small file."""
    out: dict[str, NDArray[Any]] = {}
    for i, part in enumerate(snapshot.parts):
        out[f"{i}.classes"], out[f"{i}.alive"] = part.classes, part.alive
        for j, layer in enumerate(part.layers):
            if layer.holds is not None:
                out[f"{i}.{j}.holds"] = layer.holds
    return out


def _loaded(folder: Path, stored: Sequence[files.Stored], state: Mapping[str, NDArray[Any]], i: int) -> Part:
    layers = tuple(
        Layer(block=vectors.load(folder, one), holds=state.get(f"{i}.{j}.holds")) for j, one in enumerate(stored[1:])
    )
    held = segment.load(folder, stored[0])
    return Part(segment=held, classes=state[f"{i}.classes"], alive=state[f"{i}.alive"], layers=layers)


def _built(puts: Sequence[PutDocument], dims: int) -> Part:
    """A part of new documents."""
    ordered = sorted(puts, key=lambda put: put.document)
    made = segment.build(ordered)
    rows = [row for put in ordered for row in put.rows]
    having = np.array([i for i, row in enumerate(rows) if row.vector is not None], np.int32)
    layers: tuple[Layer, ...] = ()
    if len(having):
        stacked = np.empty((len(having), dims), np.float32)
        for to, i in enumerate(having):
            stacked[to] = rows[i].vector
        layers = (Layer(block=vectors.code(having, stacked)),)
    classes = np.array([put.class_id for put in ordered], np.int64)
    return Part(segment=made, classes=classes, alive=np.ones(len(ordered), np.bool_), layers=layers)


@dataclass(eq=False)
class _Plan:
    """What a list of changes comes to: per document the last word counts."""

    puts: dict[int, PutDocument] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    classes: dict[int, int] = field(default_factory=dict)
    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def note(self, change: Change) -> None:
        match change:
            case PutDocument():
                self.puts[change.document] = change
                self.gone.add(change.document)
                self.classes.pop(change.document, None)
                for row in change.rows:
                    if row.seq < 1:
                        raise Invalid(f"row number {row.seq} is not above zero", where="search index")
                    self.vectors.pop(row.seq, None)
            case RemoveDocument():
                self.puts.pop(change.document, None)
                self.gone.add(change.document)
                self.classes.pop(change.document, None)
            case SetClass():
                put = self.puts.get(change.document)
                if put is not None:
                    self.puts[change.document] = replace(put, class_id=change.class_id)
                else:
                    self.classes[change.document] = change.class_id
            case SetVectors():
                if len(change.seqs) != len(change.vectors):
                    raise Invalid(f"{len(change.seqs)} rows, {len(change.vectors)} vectors", where="search index")
                self.vectors.update(zip(map(int, change.seqs), change.vectors, strict=True))
            case _:
                assert_never(change)

    def all_vectors(self) -> Iterable[NDArray[np.float32]]:
        """Every vector named, to be checked before anything is done."""
        yield from self.vectors.values()
        yield from (row.vector for put in self.puts.values() for row in put.rows if row.vector is not None)

    def batches(self) -> Iterable[list[PutDocument]]:
        """The documents to put, with vectors that came after them, in lots of a bounded number of rows."""
        lot: list[PutDocument] = []
        rows = 0
        for put in self.puts.values():
            lot.append(self._with_vectors(put))
            rows += len(put.rows)
            if rows >= _BUILT_AT_ONCE:
                yield lot
                lot, rows = [], 0
        if lot:
            yield lot

    def _with_vectors(self, put: PutDocument) -> PutDocument:
        if not any(row.seq in self.vectors for row in put.rows):
            return put
        rows = [Row(seq=row.seq, text=row.text, vector=self.vectors.get(row.seq, row.vector)) for row in put.rows]
        return replace(put, rows=rows)

    def changed(self, parts: Sequence[Part]) -> tuple[Part, ...]:
        """The parts after everything but the new documents."""
        gone = np.array(sorted(self.gone), np.int64)
        seqs = np.array(sorted(self.vectors), np.int64)
        return tuple(self._vectors(self._moved(_without(part, gone)), seqs) for part in parts)

    def _moved(self, part: Part) -> Part:
        places = {part.segment.place(document): to for document, to in self.classes.items()}
        return part.moved({place: to for place, to in places.items() if place is not None and part.alive[place]})

    def _vectors(self, part: Part, seqs: NDArray[np.int64]) -> Part:
        if not len(seqs):
            return part
        rows = part.segment.locate(seqs)
        standing = np.repeat(part.alive, part.segment.counts)
        found = np.flatnonzero(rows >= 0)
        found = found[standing[rows[found]]]
        if not len(found):
            return part
        return part.with_vectors(rows[found], np.array([self.vectors[seq] for seq in seqs[found].tolist()], np.float32))


def _without(part: Part, gone: NDArray[np.int64]) -> Part:
    held = part.segment.documents
    if not len(gone) or not len(held):
        return part
    at = np.minimum(np.searchsorted(held, gone), len(held) - 1)
    places = at[(held[at] == gone) & part.alive[at]]
    return part.without(places.tolist())
