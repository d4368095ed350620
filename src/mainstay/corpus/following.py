"""Keeps the search index equal to the truth by following its change log.

Every search first looks at the newest line of the log (a point read); what is new is applied before the search runs, so
a change made by another process counts at the next query. One request at a time does that; those that waited for it find
it done. Merging and saving are done beside the requests, by a thread that lives only as long as there is work. Only
the process that holds the folder's lock writes index files.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from mainstay.corpus.index import Change, PutDocument, RemoveDocument, Row, SearchIndex, SetClass, SetVectors
from mainstay.corpus.index.analyzer import ANALYZER
from mainstay.corpus.ports import IndexFeed
from mainstay.models.embedders import EmbedderIdentity

DOCUMENTS_AT_ONCE = 1000
LOTS_PER_MERGE = 8
LINES_AT_ONCE = 50_000  # of the log: a document that changed often in them is read once
SAVE_AFTER_CHANGES = 2000


class IndexFollower:
    """The search index of one embedder, never behind the truth when ``current()`` returns it."""

    def __init__(self, feed: IndexFeed, made_by: EmbedderIdentity, folder: Path | None) -> None:
        self._feed, self._made_by = feed, made_by
        self._refreshing, self._saving = threading.Lock(), threading.Lock()
        self._keeping = threading.Lock()  # held while the thread beside the requests lives
        self._own = folder / made_by.digest[:16] if folder else None
        self._lock_file = _lock(self._own) if self._own else None
        self._index = SearchIndex.open(
            self._own,
            dims=made_by.dims,
            fingerprint=self._fingerprint,
            writes=self._lock_file is not None,
        )
        self._saved = self._index.applied

    @property
    def _fingerprint(self) -> str:
        return f"{ANALYZER}:{self._made_by.digest}"

    @property
    def made_by(self) -> EmbedderIdentity:
        return self._made_by

    def current(self) -> SearchIndex:
        """The index with every change applied that was committed when this was asked."""
        newest = self._feed.newest_change()
        if newest != self._index.applied:
            with self._refreshing:
                if newest < self._index.applied and self._feed.newest_change() < self._index.applied:
                    self._start_anew()
                    newest = self._feed.newest_change()
                self._catch_up(newest)
        return self._index

    def _start_anew(self) -> None:
        """The truth is older than the index, as after a restored backup: what was applied may never have happened."""
        with self._keeping, self._saving:  # what still works for the old one would remove the new one's files
            writes = self._lock_file is not None
            self._index = SearchIndex(self._own, dims=self._made_by.dims, fingerprint=self._fingerprint, writes=writes)
            self._saved = -1

    def _catch_up(self, newest: int) -> None:
        while self._index.applied < newest:
            log = self._feed.changes_after(self._index.applied, LINES_AT_ONCE)
            if not log:
                break
            kinds: dict[int, set[str]] = {}
            for line in log:
                kinds.setdefault(line.document, set()).add(line.kind)
            numbers = list(kinds)
            for start in range(0, len(numbers), DOCUMENTS_AT_ONCE):
                some = numbers[start : start + DOCUMENTS_AT_ONCE]
                last = start + DOCUMENTS_AT_ONCE >= len(numbers)
                # Until the last lot is in, the index says it is where it was: applying lines again does no harm.
                applied = log[-1].n if last else self._index.applied
                self._index.apply(self._changes({number: kinds[number] for number in some}), applied=applied)
                if start // DOCUMENTS_AT_ONCE % LOTS_PER_MERGE == LOTS_PER_MERGE - 1:
                    self._index.compact()  # a long load: to merge beside it would only make it longer
            self._keep()

    def _keep(self) -> None:
        """Sees to it that the index is merged, and saved when it is time, beside the requests."""
        due = self._lock_file is not None and self._index.applied - self._saved >= SAVE_AFTER_CHANGES
        if (due or self._index.untidy) and self._keeping.acquire(blocking=False):
            threading.Thread(target=self._kept, args=(due,), name="index").start()

    def _kept(self, due: bool) -> None:
        try:
            self._index.compact()
            if due:
                self.save()
        finally:
            self._keeping.release()

    def _changes(self, kinds: Mapping[int, set[str]]) -> list[Change]:
        """What is to be done about these documents, by the kinds of their lines, to bring them to today's state."""
        numbers = list(kinds)
        today = self._feed.indexed(numbers)
        vectors = self._feed.vectors(self._made_by, numbers)
        changes: list[Change] = []
        for number, kind in kinds.items():
            held = today.get(number)
            if held is None:
                changes.append(RemoveDocument(document=number))
            elif "put" in kind:
                rows = [Row(seq=seq, text=text, vector=vectors.get(seq)) for seq, text in held.rows]
                changes.append(PutDocument(document=number, class_id=held.class_id, metadata=held.metadata, rows=rows))
            else:
                if "access" in kind:
                    changes.append(SetClass(document=number, class_id=held.class_id))
                made = [(seq, vectors[seq]) for seq, _ in held.rows if seq in vectors]
                if "vectors" in kind and made:
                    rows_of = np.stack([row for _, row in made])
                    changes.append(SetVectors(seqs=[seq for seq, _ in made], vectors=rows_of))
        return changes

    def save(self) -> None:
        """Write the index files, if this process is the one that may."""
        with self._saving:
            index = self._index
            if self._lock_file is None or index.applied == self._saved:
                return
            try:
                self._saved = index.save()
            except OSError:  # a full disk: the files are a copy of the truth, the next start reads that again
                return

    def close(self) -> None:
        with self._refreshing, self._keeping:  # a thread that is at work ends first
            self.save()
            with self._saving:
                if self._lock_file is not None:
                    self._lock_file.close()
                    self._lock_file = None


def _lock(folder: Path) -> IO[bytes] | None:
    folder.mkdir(parents=True, exist_ok=True)
    lock_file = (folder / "lock").open("ab")
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock_file.close()
        return None
    return lock_file
